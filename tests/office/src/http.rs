//! Plays the office on loopback: real sockets, real time, faults as they look on a wire.
//!
//! Three listeners: the office (login and API on one origin), a host that is not its own and must
//! never see a token, and the control plane. HTTP/1.1 with keep-alive, and HTTP/2 by prior
//! knowledge.

mod play;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::control;
use crate::office::Office;
use crate::wire::{Reply, Request};
use play::{Dropped, PlayedBody, Socket};

/// The time of the server: the machine's, moved and perhaps faster.
#[derive(Clone, Debug)]
pub struct Clock {
    from_ms: i64,
    started: Instant,
    speed: f64,
    /// Shared by all copies: they show one time.
    moved_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the office meets real time"
    )]
    pub fn system() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let ms = now.map_or(0, |since| since.as_millis());
        Self::starting_at(i64::try_from(ms).unwrap_or(i64::MAX), 1.0)
    }

    /// A clock that shows this instant now and runs so many times as fast as the machine's.
    pub fn starting_at(from_ms: i64, speed: f64) -> Self {
        let moved_ms = Arc::new(AtomicI64::new(0));
        Self {
            from_ms,
            started: Instant::now(),
            speed,
            moved_ms,
        }
    }

    /// Moves the clock, and every copy of it, by so many milliseconds.
    pub fn advance(&self, ms: i64) {
        self.moved_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Milliseconds since 1970 UTC.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds since the server started are far below 2^53"
    )]
    pub fn now_ms(&self) -> i64 {
        let moved = self.from_ms + self.moved_ms.load(Ordering::Relaxed);
        moved + (self.started.elapsed().as_secs_f64() * self.speed * 1_000.0) as i64
    }
}

/// An office on loopback. Stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where tokens come from.
    pub login_url: String,
    /// Where the API is.
    pub resource_url: String,
    /// A host that is not the office's: a token seen here is leaked.
    pub foreign_url: String,
    /// Where the control plane is.
    pub control_url: String,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    office: Mutex<Office>,
    clock: Clock,
    in_flight: AtomicU64,
}

impl Shared {
    fn office(&self) -> MutexGuard<'_, Office> {
        // A panic in one request must not hide what the others would show.
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Office,
    Control,
}

impl Server {
    /// Opens the office at this address under the machine's time. Port 0 takes a free one.
    pub async fn start(office: Office, address: SocketAddr) -> io::Result<Self> {
        Self::start_with(office, address, Clock::system()).await
    }

    /// Opens the office under another clock, which must be the one it was built with.
    pub async fn start_with(
        mut office: Office,
        address: SocketAddr,
        clock: Clock,
    ) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = [
            (TcpListener::bind(address).await?, Role::Office),
            (TcpListener::bind(any).await?, Role::Office),
            (TcpListener::bind(any).await?, Role::Control),
        ];
        let mut urls = Vec::new();
        for (listener, _) in &listeners {
            urls.push(format!("http://{}", listener.local_addr()?));
        }
        office.set_origins(&urls[0], &urls[0], &urls[1]);
        let in_flight = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            office: Mutex::new(office),
            clock,
            in_flight,
        });
        let (stop, stopped) = watch::channel(false);
        for ((listener, role), url) in listeners.into_iter().zip(urls.clone()) {
            tokio::spawn(accept(
                listener,
                role,
                url.into(),
                Arc::clone(&shared),
                stopped.clone(),
            ));
        }
        Ok(Self {
            login_url: urls[0].clone(),
            resource_url: urls[0].clone(),
            foreign_url: urls[1].clone(),
            control_url: urls[2].clone(),
            shared,
            stop,
        })
    }

    /// Looks at the office, or changes it, between two requests.
    pub fn office<T>(&self, look: impl FnOnce(&mut Office, i64) -> T) -> T {
        look(&mut self.shared.office(), self.shared.clock.now_ms())
    }

    /// Stops listening and lets the requests in progress end.
    pub fn stop(&self) {
        // Nobody listens any more only when the server has already stopped.
        let _ = self.stop.send(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(
    listener: TcpListener,
    role: Role,
    origin: Arc<str>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: give the connections a moment to end.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                stream
            }
            _ = stopped.changed() => return,
        };
        let (origin, shared, stopped) = (Arc::clone(&origin), Arc::clone(&shared), stopped.clone());
        tokio::spawn(connection(stream, role, origin, shared, stopped));
    }
}

async fn connection(
    stream: TcpStream,
    role: Role,
    origin: Arc<str>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    // Small answers would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let leave = Arc::new(Notify::new());
    let socket = Socket::new(stream, Arc::clone(&reset));
    let asked = Arc::clone(&leave);
    let service = service_fn(move |request| {
        let (reset, leave) = (Arc::clone(&reset), Arc::clone(&asked));
        let (origin, shared) = (Arc::clone(&origin), Arc::clone(&shared));
        answer(request, role, origin, shared, (reset, leave))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Names in lower case are what HTTP/2 has; over HTTP/1.1 the service writes capitals.
    builder.http1().title_case_headers(true);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the client's affair, or one of the faults.
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
        // Over HTTP/1.1 the connection is closed behind the answer, over HTTP/2 this is GOAWAY.
        () = leave.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    request: hyper::Request<Incoming>,
    role: Role,
    origin: Arc<str>,
    shared: Arc<Shared>,
    (reset, leave): (Arc<AtomicBool>, Arc<Notify>),
) -> Result<hyper::Response<PlayedBody>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    let request = Request {
        method: parts.method.as_str().to_owned(),
        origin: origin.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(header).collect(),
        body,
    };
    let guard = InFlight::enter(&shared, role);
    let reply = if lacks_length(parts.version, &request) {
        Reply::json(411, r#"{"Message":"Length Required"}"#)
    } else {
        decide(&shared, role, &request)
    };
    if reply.transport.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(reply.transport.delay_ms)).await;
    }
    if reply.transport.close {
        leave.notify_one();
    }
    play::response(reply, reset, guard)
}

/// The service's front wants to know how long a body is, be it empty.
fn lacks_length(version: hyper::Version, request: &Request) -> bool {
    let told = ["content-length", "transfer-encoding"];
    version == hyper::Version::HTTP_11
        && request.method == "POST"
        && !told.iter().any(|name| request.find_header(name).is_some())
}

fn decide(shared: &Shared, role: Role, request: &Request) -> Reply {
    let now = shared.clock.now_ms();
    let mut office = shared.office();
    match role {
        Role::Control => control::handle(&mut office, &shared.clock, request),
        Role::Office => {
            office.saw_in_flight(shared.in_flight.load(Ordering::Relaxed));
            office.handle(now, request)
        }
    }
}

/// Counts a request from its arrival until its answer is sent or given up.
#[derive(Debug)]
struct InFlight(Option<Arc<Shared>>);

impl InFlight {
    fn enter(shared: &Arc<Shared>, role: Role) -> Self {
        if role == Role::Control {
            return Self(None);
        }
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Some(Arc::clone(shared)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
