//! What was found, what was delivered, what was lost: the memory that survives a crash.
//!
//! A split goes `discovered -> reading -> delivered -> forgotten`, or `quarantined`, or `lost`. A discovery is
//! committed with the stream's state in one transaction. The identities of delivered events, the positions of
//! sinks and the delivered splits are committed in one transaction, in the order in which the line handed them
//! over; what stands here is therefore durable in every sink, and what does not is read again.
//!
//! A trait, so that a second backend can serve many machines; nothing here says SQLite.

pub mod memory;
pub mod progress;
pub mod sqlite;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::error::Error;
use crate::event::{Identity, StreamKey};
use progress::{Backlog, Progress};

/// A split as the source described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Its identity in the stream.
    pub id: String,
    /// What the source needs to read it; opaque.
    pub payload: Vec<u8>,
    /// When its content became available: milliseconds since the epoch.
    pub created_ms: i64,
    /// When the origin forgets it.
    pub expires_ms: Option<i64>,
    /// Expected cost; 1 is usual.
    pub weight: u32,
}

/// A split that was taken to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The split.
    pub split: Split,
    /// When the ledger first knew of it; not known of splits that an older version has found.
    pub discovered_ms: Option<i64>,
    /// How often reading it has failed so far.
    pub attempts: u32,
    /// Whether it is in quarantine: tried slowly, reported.
    pub quarantined: bool,
}

/// A split's place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SplitKey {
    /// Its stream.
    pub stream: StreamKey,
    /// Its identity in the stream.
    pub id: String,
}

/// Content that is known to be lost: declared, never silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Of which stream.
    pub stream: StreamKey,
    /// The split, when one was known.
    pub split: Option<String>,
    /// From when (content time): milliseconds since the epoch.
    pub since_ms: i64,
    /// Until when.
    pub until_ms: i64,
    /// Why.
    pub reason: String,
    /// When it was declared.
    pub declared_ms: i64,
}

/// What one `discover` found, ready to be committed.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Splits, new and known alike.
    pub splits: Vec<Split>,
    /// The stream's state as staged by the call: `None` deletes the key.
    pub state: BTreeMap<String, Option<Vec<u8>>>,
    /// Everything available before this has been listed.
    pub watermark_ms: Option<i64>,
    /// When the stream is to be listed next; `None` when at once.
    pub next_ms: Option<i64>,
    /// Stretches that can no longer be listed.
    pub gaps: Vec<Loss>,
}

impl Found {
    /// Whether it only keeps state and asks to be called again: nothing has been listed by that.
    fn is_only_state(&self) -> bool {
        let found = !self.splits.is_empty() || !self.gaps.is_empty() || self.watermark_ms.is_some();
        !self.state.is_empty() && !found && self.next_ms.is_none()
    }
}

/// How events of one stream fared, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed over by the source, rejected records included.
    pub read: u64,
    /// Acknowledged by every sink.
    pub delivered: u64,
    /// Known already and not sent again.
    pub duplicates: u64,
    /// Left out by a stage, on purpose.
    pub dropped: u64,
    /// Kept as dead letters.
    pub dead_lettered: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.dropped += other.dropped;
        self.dead_lettered += other.dead_lettered;
    }
}

/// A split of which every event is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which.
    pub split: SplitKey,
    /// When the earliest of its new events happened; `None` when none was new.
    pub event_ms: Option<i64>,
}

/// A piece of the line that every sink has acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Identities of source events that need not be delivered again, by tenant.
    pub identities: Vec<(StreamKey, Vec<Identity>)>,
    /// Splits of which every event stands in this commit or an earlier one.
    pub delivered: Vec<Delivered>,
    /// Where each sink's durable output ends, such as a file's length; by a name of the sink's choice.
    pub positions: BTreeMap<String, u64>,
    /// What to add to the streams' counts.
    pub counts: Vec<(StreamKey, Counts)>,
}

/// What a failed read means for its split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setback {
    /// Back to `discovered`; not before this time. The attempt counts.
    Retry {
        /// Earliest next attempt.
        not_before_ms: i64,
        /// Why; kept for the operator.
        reason: String,
    },
    /// Back to `discovered` at once, and the attempt does not count (shutdown, tenant-wide trouble).
    Released,
    /// Kept apart, tried slowly until it expires.
    Quarantine {
        /// Earliest next attempt.
        not_before_ms: i64,
        /// Why.
        reason: String,
    },
    /// Gone for good: recorded as a declared loss.
    Lost {
        /// Why.
        reason: String,
    },
}

/// How many splits of a stream stand in which state, and what is known of its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// Found and not being read.
    pub discovered: u64,
    /// Being read.
    pub reading: u64,
    /// Delivered and still remembered.
    pub delivered: u64,
    /// Set aside.
    pub quarantined: u64,
    /// Declared losses.
    pub lost: u64,
    /// `created` of the oldest split not delivered.
    pub oldest_undelivered_ms: Option<i64>,
    /// The soonest expiry among splits not delivered.
    pub next_expiry_ms: Option<i64>,
    /// Everything available before this has been listed.
    pub watermark_ms: Option<i64>,
    /// Earliest time at which a waiting split may be tried again; `None` when none waits.
    pub next_due_ms: Option<i64>,
    /// Event counts since the stream was first seen.
    pub counts: Counts,
    /// When it was last listed.
    pub listed_ms: Option<i64>,
    /// Why it cannot be listed now.
    pub trouble: Option<Trouble>,
}

/// Why a stream cannot be listed: a permission, a setting, or the origin itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which kind, in one word: `unauthorised`, `misconfigured` or `failing`.
    pub kind: String,
    /// Why, for the operator.
    pub reason: String,
    /// Since when it has been of this kind.
    pub since_ms: i64,
}

/// The memory of one pipeline. Calls may come from many tasks at once.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// A stream's state as last committed.
    async fn state(&self, stream: &StreamKey) -> Result<BTreeMap<String, Vec<u8>>, Error>;

    /// Commits a discovery and its state in one transaction. Splits known already are left as they are.
    /// Returns how many were new.
    async fn discovered(&self, stream: &StreamKey, found: Found, now_ms: i64)
    -> Result<u64, Error>;

    /// Notes that the stream cannot be listed; its next discovery says that it can.
    async fn troubled(&self, stream: &StreamKey, trouble: Trouble) -> Result<(), Error>;

    /// Takes up to `limit` splits that are due at `now_ms` and marks them `reading`.
    ///
    /// Those that expire within `urgent_ms` come first, soonest first; then newest and oldest take turns, so
    /// that the live edge and the backlog are served side by side. A split past its expiry is taken as well:
    /// the origin has the last word.
    async fn take(
        &self,
        stream: &StreamKey,
        limit: usize,
        urgent_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Taken>, Error>;

    /// Puts a split that was taken back, aside or away.
    async fn setback(&self, split: &SplitKey, setback: Setback, now_ms: i64) -> Result<(), Error>;

    /// Which of these identities were committed as delivered for the tenant; one answer for each.
    async fn known(&self, tenant: &str, identities: &[Identity]) -> Result<Vec<bool>, Error>;

    /// Commits a piece of the line, durably, in one transaction.
    async fn commit(&self, commit: Commit, now_ms: i64) -> Result<(), Error>;

    /// The last committed position under a name.
    async fn position(&self, name: &str) -> Result<Option<u64>, Error>;

    /// How a stream stands.
    async fn status(&self, stream: &StreamKey) -> Result<StreamStatus, Error>;

    /// How far every stream is. Costs little even with thousands of streams and millions of splits.
    async fn progress(&self) -> Result<Vec<(StreamKey, Progress)>, Error>;

    /// How much of every stream is not delivered; streams of which everything is may be left out. Costs as much as
    /// there is of it, and nothing for what was delivered.
    async fn backlog(&self) -> Result<Vec<(StreamKey, Backlog)>, Error>;

    /// Every stream the ledger knows.
    async fn streams(&self) -> Result<Vec<StreamKey>, Error>;

    /// Declared losses, newest first, at most `limit`.
    async fn losses(&self, limit: usize) -> Result<Vec<Loss>, Error>;

    /// Splits in quarantine with the reason of the last failure, at most `limit`.
    async fn quarantine(&self, limit: usize) -> Result<Vec<(SplitKey, Taken, String)>, Error>;

    /// A number that changes when someone else has written to the ledger, such as an operator's `retry`.
    async fn touched(&self) -> Result<i64, Error>;

    /// Forgets delivered splits whose expiry lies `margin_ms` back and identities older than the horizon.
    async fn prune(&self, now_ms: i64) -> Result<(), Error>;
}

/// The name of the position (milliseconds since the epoch) at which a stream was handed over by another collector.
pub fn hand_over(stream: &StreamKey) -> String {
    format!("hand-over {}/{}", stream.tenant, stream.stream)
}

/// How long delivered and lost splits are remembered after they expired (or, without an expiry, after the
/// horizon): origins list a split a little longer than they serve it, and their clocks differ from ours.
pub const MARGIN_MS: i64 = 24 * 60 * 60 * 1000;

/// Identities are forgotten in whole days, so that forgetting a million costs as much as forgetting one.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The day in which an identity committed at `now_ms` is remembered.
fn day(now_ms: i64) -> i64 {
    now_ms.div_euclid(DAY_MS)
}

/// Whether everything of a day is older than the horizon.
fn day_is_over(day: i64, horizon_ms: i64, now_ms: i64) -> bool {
    (day + 1).saturating_mul(DAY_MS).saturating_add(horizon_ms) <= now_ms
}

/// Since when every delivered event is remembered, with a day to spare.
pub fn remembered_since(horizon_ms: i64, now_ms: i64) -> i64 {
    (day(now_ms.saturating_sub(horizon_ms)) + 1).saturating_mul(DAY_MS)
}

/// When a delivered or lost split may be forgotten.
fn forget_at_ms(expires_ms: Option<i64>, settled_ms: i64, horizon_ms: i64) -> i64 {
    let expires_ms = expires_ms.unwrap_or_else(|| settled_ms.saturating_add(horizon_ms));
    expires_ms.saturating_add(MARGIN_MS)
}

/// The earlier of two times that may be missing.
fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
