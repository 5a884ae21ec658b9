//! The component's surface: exports to logic, traits of `world` to imports.
//!
//! The only file that names generated bindings. It decides nothing; each function converts.

mod bindings {
    #![allow(
        clippy::all,
        clippy::pedantic,
        missing_docs,
        unused_qualifications,
        reason = "generated code"
    )]
    wit_bindgen::generate!({
        inline: "
            package sluicegate:o365;
            world component {
                include sluicegate:plugin/source-plugin@0.1.0;
                include sluicegate:plugin/transform-plugin@0.1.0;
            }
        ",
        path: "../../wit",
        world: "sluicegate:o365/component",
        generate_all,
    });
}

use std::collections::VecDeque;

use bindings::exports::sluicegate::plugin::{source as export, transform as export_transform};
use bindings::sluicegate::plugin::{log, output, state, types as wit};
use bindings::wasi::clocks::{monotonic_clock, wall_clock};
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use bindings::wasi::io::poll::poll;
use bindings::wasi::io::streams::{InputStream, StreamError};

use crate::world::{self, Broken, Failure};

/// Most bytes taken from a body at once; the host splits larger answers anyway.
const READ_BYTES: u64 = 256 * 1024;
/// A listing may wait behind others and the service gives no promise; the host has its own limit.
const FIRST_BYTE_TIMEOUT_NS: u64 = 120_000_000_000;

struct Component;

bindings::export!(Component with_types_in bindings);

impl export::Guest for Component {
    fn describe() -> wit::Descriptor {
        descriptor()
    }

    fn check_config(config: String) -> Vec<wit::Diagnostic> {
        diagnostics(crate::config::check(&config, crate::config::Use::Source))
    }

    fn streams(config: String) -> Result<Vec<export::Stream>, wit::Failure> {
        begin();
        let streams = crate::discover::streams(&config).map_err(failure)?;
        let convert = |stream: world::Stream| export::Stream {
            name: stream.name,
            quota_key: stream.quota_key,
        };
        Ok(streams.into_iter().map(convert).collect())
    }

    fn discover(
        config: String,
        stream: String,
        limits: wit::Limits,
    ) -> Result<export::Discovery, wit::Failure> {
        begin();
        let mut http = Client::default();
        let found = {
            let mut world = world::World {
                http: &mut http,
                clock: &Host,
                state: &mut Host,
                output: &mut Host,
                log: &Host,
            };
            crate::discover::discover(&mut world, &config, &stream, self::limits(limits))
        };
        found.map(discovery).map_err(failure)
    }

    fn read(
        config: String,
        stream: String,
        split: export::Split,
        limits: wit::Limits,
    ) -> Result<(), wit::Failure> {
        begin();
        let split = world::Split {
            id: split.id,
            payload: split.payload,
            created: split.created,
            expires: split.expires,
        };
        let mut http = Client::default();
        let mut world = world::World {
            http: &mut http,
            clock: &Host,
            state: &mut Host,
            output: &mut Host,
            log: &Host,
        };
        crate::read::read(&mut world, &config, &stream, &split, self::limits(limits))
            .map_err(failure)
    }
}

impl export_transform::Guest for Component {
    fn describe() -> wit::Descriptor {
        descriptor()
    }

    fn check_config(config: String) -> Vec<wit::Diagnostic> {
        diagnostics(crate::config::check(&config, crate::config::Use::Transform))
    }

    fn apply(
        config: String,
        batch: wit::Batch,
        limits: wit::Limits,
    ) -> Result<export_transform::Applied, wit::Failure> {
        begin();
        let entry = |entry: wit::Entry| world::Entry {
            id_length: entry.id_length,
            body_length: entry.body_length,
            fingerprint: entry.fingerprint,
            time: entry.time,
        };
        let batch = world::Batch {
            bytes: batch.bytes,
            entries: batch.entries.into_iter().map(entry).collect(),
        };
        let (output, verdicts) =
            crate::transform::apply(&config, &batch, self::limits(limits)).map_err(failure)?;
        let verdict = |verdict| match verdict {
            world::Verdict::Keep => export_transform::Verdict::Keep,
            world::Verdict::Many(count) => export_transform::Verdict::Many(count),
            world::Verdict::Drop(reason) => export_transform::Verdict::Drop(reason),
            world::Verdict::Reject(reason) => export_transform::Verdict::Reject(reason),
        };
        Ok(export_transform::Applied {
            output: self::batch(output),
            verdicts: verdicts.into_iter().map(verdict).collect(),
        })
    }
}

/// Memory that most calls need. Each growth costs the host a system call and more, so it is one growth.
const HEAP_BYTES: usize = 768 * 1024;

/// What every call begins with. Without the hook a panic reaches the host as a bare trap, without
/// its text.
fn begin() {
    static BEGUN: std::sync::Once = std::sync::Once::new();
    BEGUN.call_once(|| {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(HEAP_BYTES)));
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let message = info.payload_as_str().unwrap_or("panic");
            log::log(log::Level::Error, message, &[("panic_at".into(), place)]);
        }));
    });
}

fn descriptor() -> wit::Descriptor {
    wit::Descriptor {
        name: "o365".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        config_schema: crate::config::SCHEMA.into(),
    }
}

fn diagnostics(found: Vec<world::Diagnostic>) -> Vec<wit::Diagnostic> {
    let convert = |finding: world::Diagnostic| wit::Diagnostic {
        severity: match finding.severity {
            world::Severity::Error => wit::Severity::Error,
            world::Severity::Warning => wit::Severity::Warning,
        },
        pointer: finding.pointer,
        what: finding.what,
        help: finding.help,
    };
    found.into_iter().map(convert).collect()
}

fn limits(limits: wit::Limits) -> world::Limits {
    world::Limits {
        batch_bytes: limits.batch_bytes,
        batch_events: limits.batch_events,
        event_bytes: limits.event_bytes,
        splits: limits.splits,
        deadline: limits.deadline,
    }
}

fn discovery(found: world::Discovery) -> export::Discovery {
    let split = |split: world::Split| export::Split {
        id: split.id,
        payload: split.payload,
        created: split.created,
        expires: split.expires,
        weight: 1,
    };
    let gap = |gap: world::Gap| export::Gap {
        since: gap.since,
        until: gap.until,
        reason: gap.reason,
    };
    export::Discovery {
        splits: found.splits.into_iter().map(split).collect(),
        next: match found.next {
            world::Next::Again => export::Next::Again,
            world::Next::At(time) => export::Next::At(time),
        },
        watermark: found.watermark,
        gaps: found.gaps.into_iter().map(gap).collect(),
    }
}

fn failure(failure: Failure) -> wit::Failure {
    match failure {
        Failure::Retry {
            after_ms,
            affects,
            reason,
        } => wit::Failure::Retry(wit::Retry {
            after_ms,
            affects: match affects {
                world::Scope::Split => wit::Scope::Split,
                world::Scope::Stream => wit::Scope::Stream,
                world::Scope::Tenant => wit::Scope::Tenant,
            },
            reason,
        }),
        Failure::SplitLost(reason) => wit::Failure::SplitLost(reason),
        Failure::Unauthorised(reason) => wit::Failure::Unauthorised(reason),
        Failure::Misconfigured(reason) => wit::Failure::Misconfigured(reason),
        Failure::Cancelled => wit::Failure::Cancelled,
        Failure::Internal(reason) => wit::Failure::Internal(reason),
    }
}

fn batch(batch: world::Batch) -> wit::Batch {
    let entry = |entry: world::Entry| wit::Entry {
        id_length: entry.id_length,
        body_length: entry.body_length,
        fingerprint: entry.fingerprint,
        time: entry.time,
    };
    wit::Batch {
        bytes: batch.bytes,
        entries: batch.entries.into_iter().map(entry).collect(),
    }
}

/// The host's imports that need no memory of their own.
struct Host;

impl world::Clock for Host {
    fn now(&self) -> world::Timestamp {
        let now = wall_clock::now();
        let seconds = i64::try_from(now.seconds).unwrap_or(i64::MAX / 1000 - 1);
        seconds * 1000 + i64::from(now.nanoseconds / 1_000_000)
    }

    fn sleep(&self, milliseconds: u64) {
        monotonic_clock::subscribe_duration(milliseconds.saturating_mul(1_000_000)).block();
    }
}

impl world::State for Host {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        state::get(key)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        state::set(key, value).map_err(|refusal| match refusal {
            state::Refusal::Quota(which) => which,
            state::Refusal::ReadOnly => "this call may only read".into(),
        })
    }
}

impl world::Output for Host {
    fn emit(&mut self, batch: world::Batch) -> Result<(), world::Refusal> {
        output::emit(&self::batch(batch)).map_err(refusal)
    }

    fn reject(&mut self, body: &[u8], reason: &str) -> Result<(), world::Refusal> {
        output::reject(body, reason).map_err(refusal)
    }

    fn draining(&self) -> bool {
        output::draining()
    }
}

fn refusal(refusal: output::Refusal) -> world::Refusal {
    match refusal {
        output::Refusal::Closed => world::Refusal::Closed,
        output::Refusal::Invalid(rule) => world::Refusal::Invalid(rule),
    }
}

impl world::Log for Host {
    fn line(&self, level: world::Level, message: &str, fields: &[(&str, &str)]) {
        let level = match level {
            world::Level::Debug => log::Level::Debug,
            world::Level::Info => log::Level::Info,
            world::Level::Warn => log::Level::Warn,
            world::Level::Error => log::Level::Error,
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        log::log(level, message, &fields.iter().map(own).collect::<Vec<_>>());
    }

    fn count(&self, name: &str, add: u64) {
        log::count(name, add);
    }
}

/// Requests over `wasi:http`, several of them at once.
#[derive(Default)]
struct Client {
    last: u64,
    pending: Vec<(u64, FutureIncomingResponse)>,
    /// Requests that failed before they left.
    failed: VecDeque<(u64, Broken)>,
}

impl world::Http for Client {
    fn send(&mut self, request: &world::Request) -> u64 {
        self.last += 1;
        match start(request) {
            Ok(future) => self.pending.push((self.last, future)),
            Err(broken) => self.failed.push_back((self.last, broken)),
        }
        self.last
    }

    fn wait(&mut self) -> Option<(u64, Result<world::Response, Broken>)> {
        if let Some((id, broken)) = self.failed.pop_front() {
            return Some((id, Err(broken)));
        }
        if self.pending.is_empty() {
            return None;
        }
        loop {
            let pollables: Vec<_> = self.pending.iter().map(|(_, f)| f.subscribe()).collect();
            let ready = poll(&pollables.iter().collect::<Vec<_>>());
            drop(pollables);
            for index in ready {
                let index = index as usize;
                let Some(answer) = self.pending.get(index).and_then(|(_, f)| f.get()) else {
                    continue;
                };
                let (id, _) = self.pending.swap_remove(index);
                let answer = match answer {
                    Ok(Ok(response)) => response_of(&response),
                    Ok(Err(code)) => Err(broken(&code)),
                    Err(()) => Err(Broken::Transport("the answer was taken already".into())),
                };
                return Some((id, answer));
            }
        }
    }

    fn abandon(&mut self) {
        self.pending.clear();
        self.failed.clear();
    }
}

fn start(request: &world::Request) -> Result<FutureIncomingResponse, Broken> {
    let refused = |()| Broken::Transport("the request could not be built".into());
    let post = request.method == world::Method::Post;
    let mut headers = vec![("accept".to_owned(), b"application/json".to_vec())];
    if post {
        // Servers of this family answer 411 to a POST that does not say how long it is.
        headers.push(("content-length".to_owned(), b"0".to_vec()));
    }
    let headers = Fields::from_list(&headers)
        .map_err(|error| Broken::Transport(format!("header refused: {error:?}")))?;
    let outgoing = OutgoingRequest::new(headers);
    outgoing
        .set_method(if post { &Method::Post } else { &Method::Get })
        .map_err(refused)?;
    let scheme = if request.url.secure {
        Scheme::Https
    } else {
        Scheme::Http
    };
    outgoing.set_scheme(Some(&scheme)).map_err(refused)?;
    outgoing
        .set_authority(Some(&request.url.authority))
        .map_err(refused)?;
    outgoing
        .set_path_with_query(Some(&request.url.path))
        .map_err(refused)?;
    let body = outgoing.body().map_err(refused)?;
    let options = RequestOptions::new();
    // A host without this option keeps its own limit, which is fine.
    let _ = options.set_first_byte_timeout(Some(FIRST_BYTE_TIMEOUT_NS));
    let future = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| broken(&code))?;
    OutgoingBody::finish(body, None).map_err(|code| broken(&code))?;
    Ok(future)
}

fn broken(code: &ErrorCode) -> Broken {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
            Broken::Denied(format!("{code:?}"))
        }
        other => Broken::Transport(format!("{other:?}")),
    }
}

fn response_of(response: &IncomingResponse) -> Result<world::Response, Broken> {
    let text =
        |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
    let headers = response.headers().entries().into_iter().map(text).collect();
    let status = response.status();
    let gone = |()| Broken::Transport("the body was taken already".into());
    let body = response.consume().map_err(gone)?;
    let stream = body.stream().map_err(gone)?;
    let body = Incoming {
        stream,
        _body: body,
    };
    Ok(world::Response {
        status,
        headers,
        body: Box::new(body),
    })
}

/// A body that arrives; the stream must go before what it comes from.
struct Incoming {
    stream: InputStream,
    _body: IncomingBody,
}

impl world::Body for Incoming {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        match self.stream.blocking_read(READ_BYTES) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(error)) => Err(http_error_code(&error)
                .map_or_else(
                    || Broken::Transport(error.to_debug_string()),
                    |code| broken(&code),
                )),
        }
    }
}
