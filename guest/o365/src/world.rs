//! What the plugin may touch, as traits: the real imports are passed in by `lib.rs`, fakes by tests.
//!
//! The types mirror the WIT files, so that everything but `lib.rs` builds natively without a
//! generated binding.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Timestamp = i64;

/// A request as the plugin sends it; the host adds the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: crate::url::Url,
}

/// The methods this API needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Starts and stops subscriptions; without a body.
    Post,
}

/// The beginning of an answer; its body is still to be read.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// All headers; names compare without case.
    pub headers: Vec<(String, String)>,
    /// The body, piece by piece.
    pub body: Box<dyn Body>,
}

impl Response {
    /// The values of a header, by a name in any case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A body that arrives.
pub trait Body {
    /// The next piece; `None` at the end. Waits until something is there.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken>;
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The host does not let the plugin talk to this address.
    Denied(String),
    /// The network failed.
    Transport(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "refused by the host: {reason}"),
            Self::Transport(reason) => f.write_str(reason),
        }
    }
}

/// Requests, several of them at once.
pub trait Http {
    /// Sends a request and names it by a number; the answer comes out of `wait`.
    fn send(&mut self, request: &Request) -> u64;
    /// Waits for the next answer of any request sent; `None` when none is outstanding.
    fn wait(&mut self) -> Option<(u64, Result<Response, Broken>)>;
    /// Drops every outstanding request.
    fn abandon(&mut self);
}

/// The time.
pub trait Clock {
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Waits.
    fn sleep(&self, milliseconds: u64);
}

/// The stream's values; staged by the host.
pub trait State {
    /// The value under a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Puts a value under a key; the error says which limit it met.
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String>;
}

/// Where events go.
pub trait Output {
    /// Hands over a batch; waits while everything downstream is full.
    fn emit(&mut self, batch: Batch) -> Result<(), Refusal>;
    /// Hands over a record that could not become an event.
    fn reject(&mut self, body: &[u8], reason: &str) -> Result<(), Refusal>;
    /// Whether the call should come to an end.
    fn draining(&self) -> bool;
}

/// Why the host takes no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The call is being stopped.
    Closed,
    /// The batch breaks a rule: a defect of this plugin.
    Invalid(String),
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For whoever debugs the plugin.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be; the plugin goes on.
    Warn,
    /// An alarm.
    Error,
}

/// Lines and numbers for the operator.
pub trait Log {
    /// Writes a line.
    fn line(&self, level: Level, message: &str, fields: &[(&str, &str)]);
    /// Adds to a counter.
    fn count(&self, name: &str, add: u64);
}

/// Everything at once.
pub struct World<'a> {
    /// Requests.
    pub http: &'a mut dyn Http,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The stream's values.
    pub state: &'a mut dyn State,
    /// Where events go.
    pub output: &'a mut dyn Output,
    /// Lines and numbers.
    pub log: &'a dyn Log,
}

/// One event's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Bytes of the id.
    pub id_length: u32,
    /// Bytes of the body.
    pub body_length: u32,
    /// Content hash, independent of member order.
    pub fingerprint: u64,
    /// When it happened.
    pub time: Timestamp,
}

/// Events handed over together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Ids and bodies, one after the other.
    pub bytes: Vec<u8>,
    /// Their lengths.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// Ids and bodies, in order.
    pub fn events(&self) -> impl Iterator<Item = (&[u8], &[u8], &Entry)> {
        let mut rest = &self.bytes[..];
        self.entries.iter().map(move |entry| {
            let (id, behind) = rest.split_at((entry.id_length as usize).min(rest.len()));
            let (body, behind) = behind.split_at((entry.body_length as usize).min(behind.len()));
            rest = behind;
            (id, body, entry)
        })
    }
}

/// What the host grants to one call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes in a batch of more than one event.
    pub batch_bytes: u32,
    /// Most events in a batch.
    pub batch_events: u32,
    /// Most bytes of one event's body.
    pub event_bytes: u32,
    /// Most splits of one `discover`.
    pub splits: u32,
    /// When the host ends the call.
    pub deadline: Timestamp,
}

/// One feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its content type.
    pub name: String,
    /// Streams with one key share one quota.
    pub quota_key: String,
}

/// One content blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its content id.
    pub id: String,
    /// What `read` needs.
    pub payload: Vec<u8>,
    /// When it became available.
    pub created: Timestamp,
    /// When it goes.
    pub expires: Option<Timestamp>,
}

/// Time whose content can no longer be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Its first instant.
    pub since: Timestamp,
    /// The first instant behind it.
    pub until: Timestamp,
    /// Why it is lost.
    pub reason: String,
}

/// When to call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// Not before.
    At(Timestamp),
}

/// What one `discover` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Blobs, new and known alike.
    pub splits: Vec<Split>,
    /// When to call again.
    pub next: Next,
    /// Everything before it has been listed.
    pub watermark: Option<Timestamp>,
    /// What can no longer be listed.
    pub gaps: Vec<Gap>,
}

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This blob, or this call of `discover`.
    Split,
    /// This content type.
    Stream,
    /// The whole tenant.
    Tenant,
}

/// Why a call could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Try again.
    Retry {
        /// Not before so many milliseconds; else as the host likes.
        after_ms: Option<u64>,
        /// What waits.
        affects: Scope,
        /// For the operator.
        reason: String,
    },
    /// The blob is gone for good.
    SplitLost(String),
    /// A permission is missing.
    Unauthorised(String),
    /// A person must act.
    Misconfigured(String),
    /// Stopped by the host.
    Cancelled,
    /// A defect of this plugin.
    Internal(String),
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Refused.
    Error,
    /// Told.
    Warning,
}

/// A finding about a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How serious.
    pub severity: Severity,
    /// JSON Pointer to the place.
    pub pointer: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// What became of one event of a transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One event.
    Keep,
    /// So many events.
    Many(u32),
    /// Left out on purpose.
    Drop(String),
    /// Could not be handled.
    Reject(String),
}
