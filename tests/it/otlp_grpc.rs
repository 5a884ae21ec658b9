//! The real command against a collector by gRPC, whose protocol is another project's (tonic) and whose records are read
//! by the protocol's own numbers: every event is a record, what is rejected is found, what fails is sent again.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::receiver::taken_back;
use sluicegate_tests::{Delivered, Pipeline, Simulated, otlp};
use tokio::runtime::Runtime;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

use crate::http::{QUICK, dead_letters};
use crate::{folder, sluicegate};

#[derive(Default)]
struct State {
    events: Vec<Value>,
    complaints: Vec<String>,
    calls: usize,
    /// One in so many calls fails with another code each time.
    fails: Option<usize>,
    /// Rejects the records whose id ends with this.
    rejects: Option<char>,
    /// The one credential that is accepted.
    login: Option<&'static str>,
}

/// A collector; ends with the value.
struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Missing while it is stopped.
    runtime: Mutex<Option<Runtime>>,
}

impl Collector {
    fn start(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        let (address, runtime) = listen("127.0.0.1:0".parse().unwrap(), &state).unwrap();
        Self {
            address,
            state,
            runtime: Mutex::new(Some(runtime)),
        }
    }

    /// Stops it as a kill would, connections and all, or starts it again on its port.
    fn switch(&self, on: bool) {
        let mut runtime = self.runtime.lock().unwrap();
        *runtime = None;
        if on {
            *runtime = Some(taken_back(|| listen(self.address, &self.state)).1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn delivered(&self) -> Delivered {
        Delivered {
            events: self.state().events.clone(),
        }
    }

    fn pipeline(&self, name: &str, office: &Simulated, keys: &str) -> Pipeline {
        let address = self.address;
        Pipeline::o365(name, office).only(&format!(
            "otlp: {{ endpoint: 'http://{address}', protocol: grpc, {QUICK}, {keys} }}"
        ))
    }
}

/// Serves until the runtime is dropped.
fn listen(at: SocketAddr, state: &Arc<Mutex<State>>) -> std::io::Result<(SocketAddr, Runtime)> {
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(at))?;
    let address = listener.local_addr()?;
    let shared = state.clone();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = shared.clone();
            let service = service_fn(move |request| call(state.clone(), request));
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((address, runtime))
}

async fn call(
    state: Arc<Mutex<State>>,
    request: http::Request<Incoming>,
) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
    if request.uri().path() != "/opentelemetry.proto.collector.logs.v1.LogsService/Export" {
        return Ok(Status::unimplemented("no such method").into_http());
    }
    let mut grpc = tonic::server::Grpc::new(Plain).accept_compressed(CompressionEncoding::Gzip);
    Ok(grpc.unary(Logs(state), request).await)
}

/// The service itself.
struct Logs(Arc<Mutex<State>>);

impl tower_service::Service<Request<Bytes>> for Logs {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut state = self.0.lock().unwrap();
        ready(take(&mut state, &request).map(|answer| Response::new(answer.into())))
    }
}

fn take(state: &mut State, request: &Request<Bytes>) -> Result<Vec<u8>, Status> {
    let login = request.metadata().get("authorization");
    if state.login.is_some() && login.and_then(|login| login.to_str().ok()) != state.login {
        return Err(Status::unauthenticated("who are you?"));
    }
    state.calls += 1;
    if state
        .fails
        .is_some_and(|one_in| state.calls.is_multiple_of(one_in))
    {
        return Err(match state.calls % 4 {
            0 => Status::unavailable("not now"),
            1 => Status::resource_exhausted("a quota"),
            2 => Status::internal("a bug"),
            _ => Status::deadline_exceeded("too slow"),
        });
    }
    let events = otlp::events(request.get_ref()).map_err(|complaint| {
        state.complaints.push(complaint.clone());
        Status::internal(complaint)
    })?;
    let bad = |event: &Value| {
        let id = event["event"]["id"].as_str().unwrap_or_default();
        state.rejects.is_some_and(|end| id.ends_with(end))
    };
    let (rejected, taken): (Vec<_>, Vec<_>) = events.into_iter().partition(bad);
    state.events.extend(taken);
    Ok(match rejected.len() {
        0 => Vec::new(),
        some => otlp::rejected(some).into_bytes(),
    })
}

/// Messages as they are.
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let all = from.remaining();
        Ok(Some(from.copy_to_bytes(all)))
    }
}

#[test]
fn every_event_is_one_record_whatever_the_collector_answers_first() {
    let office = Simulated::start(
        Office::builder(181)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    for (name, keys) in [("plain", ""), ("packed", "compression: gzip")] {
        let collector = Collector::start(State {
            fails: Some(5),
            ..State::default()
        });
        let folder = folder();
        let pipeline = collector.pipeline(name, &office, keys);
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        ended
            .expect(0)
            .says(&["600 event(s) delivered", "0 dead letter(s)"]);
        let complaints = collector.state().complaints.clone();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let verdict = office.judge(&collector.delivered());
        assert!(
            verdict.is_clean() && verdict.owed == 600,
            "{name}: {verdict:?}"
        );
    }
}

#[test]
fn records_that_are_rejected_without_a_name_are_found_and_kept() {
    let office = Simulated::start(Office::builder(182).blobs(30).events_per_blob(10));
    let collector = Collector::start(State {
        rejects: Some('7'),
        ..State::default()
    });
    let folder = folder();
    let pipeline = collector.pipeline("rejected", &office, "");
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    let letters = dead_letters(folder.path(), "rejected");
    assert!((1..200).contains(&letters.len()), "{}", letters.len());
    ended
        .expect(0)
        .says(&[&format!("{} dead letter(s)", letters.len())]);
    let mut all = collector.delivered();
    all.events.extend(letters);
    let verdict = office.judge(&all);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert_eq!(verdict.owed, 300);
}

#[test]
fn a_credential_that_is_not_accepted_waits_says_so_and_heals() {
    let office = Simulated::start(Office::builder(183).blobs(10).events_per_blob(10));
    let collector = Collector::start(State {
        login: Some("Bearer c0ffee-c0ffee"),
        ..State::default()
    });
    let folder = folder();
    let token = folder.path().join("token");
    std::fs::write(&token, "wrong-wrong").unwrap();
    let keys = "auth: { strategy: bearer, token: { file: token } }";
    let pipeline = collector.pipeline("login", &office, keys);
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `auth`");
    assert!(collector.state().events.is_empty());
    std::fs::write(&token, "c0ffee-c0ffee").unwrap();
    let ended = running.end().expect(0);
    ended.says(&["UNAUTHENTICATED", "check `auth`", "100 event(s) delivered"]);
    let verdict = office.judge(&collector.delivered());
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    let office = patient_office(184);
    let collector = Collector::start(State::default());
    let folder = folder();
    torment(
        || sluicegate(&folder),
        &collector.pipeline("killed", &office, ""),
        |on| collector.switch(on),
        || collector.state().events.len(),
    );
    let complaints = collector.state().complaints.clone();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let verdict = office.judge(&collector.delivered());
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was under way at a kill or a stop comes again, and nothing else does.
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
}
