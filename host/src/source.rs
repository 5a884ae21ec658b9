//! What the engine asks of a source, be it a sandboxed component or a simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::Event;
use crate::ledger::{Loss, Split};

/// One feed of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Streams with one key share one upstream quota.
    pub quota_key: String,
    /// Where a first listing starts, when another collector was there before; else the config decides.
    pub since_ms: Option<i64>,
}

/// When a source wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// Not before this time: milliseconds since the epoch.
    At(i64),
}

/// What one `discover` found, with the state it staged.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Found splits, new and known alike.
    pub splits: Vec<Split>,
    /// When to ask again.
    pub next: Next,
    /// Everything available before this has been listed.
    pub watermark_ms: Option<i64>,
    /// Stretches that can no longer be listed: since, until, reason.
    pub gaps: Vec<Loss>,
    /// Changes to the stream's state: `None` deletes the key.
    pub state: BTreeMap<String, Option<Vec<u8>>>,
}

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One split.
    Split,
    /// One stream.
    Stream,
    /// The whole tenant.
    Tenant,
}

/// Why a call could not do its work; the engine acts on the case, people read the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Transient.
    Retry {
        /// Not before so much time has passed; without it the engine's back-off decides.
        after: Option<Duration>,
        /// What has to wait.
        affects: Scope,
        /// Why.
        reason: String,
    },
    /// The split can never be read.
    SplitLost(String),
    /// A credential or permission is missing.
    Unauthorised(String),
    /// A person has to change something.
    Misconfigured(String),
    /// Stopped because the host asked for it.
    Cancelled,
    /// The plugin reports a defect of its own.
    Internal(String),
    /// The sandbox ended the call: a trap, or a limit that was reached. Names the limit.
    Fault(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, .. } => formatter.write_str(reason),
            Self::SplitLost(reason)
            | Self::Unauthorised(reason)
            | Self::Misconfigured(reason)
            | Self::Internal(reason)
            | Self::Fault(reason) => formatter.write_str(reason),
            Self::Cancelled => formatter.write_str("cancelled"),
        }
    }
}

/// Nothing more is taken: the run is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Where a `read` hands its events over.
#[async_trait]
pub trait Output: Send + Sync {
    /// Takes a batch over; waits while everything downstream is full.
    async fn emit(&self, events: Vec<Event>) -> Result<(), Closed>;

    /// Keeps a record that could not become an event.
    async fn reject(&self, body: Bytes, reason: String) -> Result<(), Closed>;

    /// Whether the run is stopping.
    fn draining(&self) -> bool;
}

/// One tenant's source.
#[async_trait]
pub trait Source: Send + Sync {
    /// The feeds that the config asks for.
    async fn streams(&self) -> Result<Vec<Stream>, Failure>;

    /// Lists what there is to read, given the stream's committed state.
    async fn discover(
        &self,
        stream: &Stream,
        state: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure>;

    /// Reads one split from its beginning. `attempt` counts earlier failures.
    async fn read(
        &self,
        stream: &Stream,
        split: &Split,
        attempt: u32,
        output: Arc<dyn Output>,
    ) -> Result<(), Failure>;

    /// Waits until a credential that was refused may be accepted, such as after its file has
    /// changed. Never ends where nothing was refused.
    async fn renewed(&self) {
        std::future::pending::<()>().await;
    }
}
