//! Everything that can be said of the running pipelines, at one moment.
//!
//! Taken in one pass and held without any lock, so that whoever reads the answer slowly holds nothing up.

use std::sync::Arc;

use super::component::{SinkCounts, StageCounts};
use super::lag::StreamLag;
use super::process::Process;
use super::requests::RequestCounts;
use super::streams::StreamCounts;
use crate::event::StreamKey;
use crate::health::Health;
use crate::ledger::progress::{Backlog, Progress};
use crate::limiter::Pace;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken.
    pub now_ms: i64,
    /// When the process started.
    pub started_ms: i64,
    /// The process.
    pub process: Process,
    /// Its pipelines that run.
    pub pipelines: Vec<PipelineSnapshot>,
    /// What plugins count: plugin, counter, value.
    pub plugin_counters: Vec<(String, String, u64)>,
    /// Calls that the sandbox ended: plugin, what ended them, how many.
    pub faults: Vec<(String, &'static str, u64)>,
    /// Most memory that any call of a plugin has used.
    pub guest_peak_bytes: u64,
}

/// One pipeline.
#[derive(Clone, Debug, Default)]
pub struct PipelineSnapshot {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The source's plugin.
    pub plugin: String,
    /// SHA-256 of that plugin, in hex.
    pub plugin_digest: String,
    /// Sums over all streams since the start.
    pub all: StreamCounts,
    /// How often an emit had to wait for room.
    pub waited: u64,
    /// Bytes between a plugin's `emit` and the commit.
    pub held_bytes: u64,
    /// Most of them.
    pub room_bytes: u64,
    /// Why the ledger could not be asked; what only it knows is missing then.
    pub ledger_trouble: Option<String>,
    /// Why its file, as it is now, cannot be used, if it cannot.
    pub config_trouble: Option<String>,
    /// Spans of its traces that its collector did not get; `None` where nothing is traced.
    pub dropped_spans: Option<u64>,
    /// Its dead letters.
    pub dead_letters: DeadLetterSnapshot,
    /// Its tenants, by id.
    pub tenants: Vec<TenantSnapshot>,
    /// Its streams, by tenant and name.
    pub streams: Vec<StreamSnapshot>,
    /// Its stages, in order.
    pub stages: Vec<StageSnapshot>,
    /// Its sinks, in order.
    pub sinks: Vec<SinkSnapshot>,
}

/// The dead letters of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterSnapshot {
    /// How large their file is.
    pub bytes: u64,
    /// How large it may be.
    pub most_bytes: u64,
    /// Why they cannot be kept, if they cannot.
    pub trouble: Option<String>,
}

/// One tenant.
#[derive(Clone, Debug)]
pub struct TenantSnapshot {
    /// Its id.
    pub id: Arc<str>,
    /// Its requests that are over.
    pub requests: RequestCounts,
    /// How fast each of its quotas may be used.
    pub paces: Vec<(String, Pace)>,
    /// When its token ends.
    pub token_expires_ms: Option<i64>,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// Which.
    pub key: StreamKey,
    /// What became of its splits and events since the start.
    pub counts: StreamCounts,
    /// How late its events were since the start; `None` before the first.
    pub lag: Option<StreamLag>,
    /// How it is, while somebody works on it.
    pub health: Option<Health>,
    /// How far it is, where the ledger said so.
    pub progress: Option<Progress>,
    /// What is not delivered, where the ledger said so.
    pub backlog: Option<Backlog>,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct StageSnapshot {
    /// Its kind.
    pub kind: &'static str,
    /// What it did.
    pub counts: StageCounts,
}

/// One sink.
#[derive(Clone, Debug)]
pub struct SinkSnapshot {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// What it did.
    pub counts: SinkCounts,
}
