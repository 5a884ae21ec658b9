//! Whether streams move: health by progress, not by errors.
//!
//! A stream is unhealthy when content that was found is not delivered, or when nothing more is listed, for too long. An
//! error that was logged, a tenant in which nothing happens, and a backlog of a week that is worked off steadily are
//! none of that. The judgement is pure: the ledger says how far a stream is and when it last moved, the caller says
//! what time it is, so a running collector and `sluicegate state` beside it judge alike.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{millis, span};
use crate::event::StreamKey;
use crate::ledger::progress::{Front, Progress};

/// Listings in a row that may bring nothing further, whatever their interval: one may fail and be tried again.
const LISTINGS: i64 = 4;

/// Longest interval that counts: a source that wants to be asked in a thousand years is one that stands still.
const INTERVAL_MS: i64 = 24 * 60 * 60 * 1_000;

/// When standing still is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Undelivered content that is older has to move.
    pub max_age: Duration,
    /// Undelivered content that expires sooner has to move, and content in quarantine must not come so near.
    pub near_expiry: Duration,
    /// Content that has to move may stand still for so long.
    pub stall_timeout: Duration,
    /// The watermark may stand still for so long, or for a few listings when they are rarer.
    pub listing_timeout: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_age: Duration::from_hours(1),
            near_expiry: Duration::from_hours(12),
            stall_timeout: Duration::from_mins(10),
            listing_timeout: Duration::from_mins(30),
        }
    }
}

/// How a stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It moves, or has nothing to do.
    #[default]
    Ok,
    /// It does not.
    Unhealthy {
        /// Why, a sentence each; at least one.
        reasons: Vec<String>,
    },
}

impl Health {
    /// Whether it moves.
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }

    /// Why it is unhealthy; none when it is not.
    pub fn reasons(&self) -> &[String] {
        match self {
            Self::Ok => &[],
            Self::Unhealthy { reasons } => reasons,
        }
    }

    /// One word for machines.
    pub fn name(&self) -> &'static str {
        if self.is_ok() { "ok" } else { "unhealthy" }
    }
}

/// Judges a stream. `watched_ms` is since when this run has been at work on it: a stream that was never listed cannot
/// be blamed for the time before.
pub fn judge(
    progress: &Progress,
    thresholds: &Thresholds,
    watched_ms: Option<i64>,
    now_ms: i64,
) -> Health {
    let judged = [
        unlisted(progress, thresholds, watched_ms, now_ms),
        grown_old(progress, thresholds, now_ms),
        expiring(progress, thresholds, now_ms),
        expiring_in_quarantine(progress, thresholds, now_ms),
    ];
    let reasons: Vec<String> = judged.into_iter().flatten().collect();
    if reasons.is_empty() {
        Health::Ok
    } else {
        Health::Unhealthy { reasons }
    }
}

fn unlisted(
    progress: &Progress,
    thresholds: &Thresholds,
    watched_ms: Option<i64>,
    now_ms: i64,
) -> Option<String> {
    let trouble = progress.trouble.as_ref();
    let because = trouble.map_or(String::new(), |trouble| {
        format!(": {}: {}", trouble.kind, trouble.reason)
    });
    // A source without watermarks says nothing but that it could list.
    let moved_ms = progress.advanced_ms.or(progress.listed_ms);
    let first_ms = watched_ms
        .into_iter()
        .chain(trouble.map(|trouble| trouble.since_ms))
        .min();
    let Some(since_ms) = moved_ms.or(first_ms) else {
        return Some(format!("it was never listed{because}"));
    };
    let interval_ms = match (progress.listed_ms, progress.next_ms) {
        (Some(listed_ms), Some(next_ms)) => next_ms.saturating_sub(listed_ms).min(INTERVAL_MS),
        _ => 0,
    };
    let patience_ms = millis(thresholds.listing_timeout).max(interval_ms.saturating_mul(LISTINGS));
    let still_ms = now_ms.saturating_sub(since_ms);
    let what = match moved_ms {
        Some(_) => "listing has not advanced",
        None => "it could not be listed",
    };
    (still_ms > patience_ms).then(|| format!("{what} for {}{because}", span(still_ms)))
}

fn grown_old(progress: &Progress, thresholds: &Thresholds, now_ms: i64) -> Option<String> {
    let oldest = progress.oldest?;
    let age_ms = now_ms.saturating_sub(oldest.at_ms);
    let still_ms = stalled(oldest, thresholds, now_ms)?;
    let (age, still) = (span(age_ms), span(still_ms));
    (age_ms > millis(thresholds.max_age)).then(|| {
        format!("the oldest undelivered content is {age} old and has not moved for {still}")
    })
}

fn expiring(progress: &Progress, thresholds: &Thresholds, now_ms: i64) -> Option<String> {
    let first = progress.expiring?;
    let when = near(first.at_ms, thresholds, now_ms)?;
    let still = span(stalled(first, thresholds, now_ms)?);
    Some(format!(
        "undelivered content {when} and has not moved for {still}"
    ))
}

fn expiring_in_quarantine(
    progress: &Progress,
    thresholds: &Thresholds,
    now_ms: i64,
) -> Option<String> {
    let when = near(progress.quarantine_expires_ms?, thresholds, now_ms)?;
    Some(format!("content in quarantine {when}"))
}

/// For how long nothing has moved, when that is too long.
fn stalled(front: Front, thresholds: &Thresholds, now_ms: i64) -> Option<i64> {
    let still_ms = now_ms.saturating_sub(front.since_ms);
    (still_ms > millis(thresholds.stall_timeout)).then_some(still_ms)
}

/// What to say of an expiry that is near.
fn near(expires_ms: i64, thresholds: &Thresholds, now_ms: i64) -> Option<String> {
    let left_ms = expires_ms.saturating_sub(now_ms);
    let said = match left_ms {
        left if left <= 0 => "has expired".to_owned(),
        left => format!("expires in {}", span(left)),
    };
    (left_ms <= millis(thresholds.near_expiry)).then_some(said)
}

/// The health of the streams at work in this process, as last judged. Streams come and go with their tenants.
#[derive(Debug, Default)]
pub struct Watch {
    thresholds: Thresholds,
    streams: Mutex<BTreeMap<StreamKey, Watched>>,
}

#[derive(Debug)]
struct Watched {
    since_ms: i64,
    /// How often it is at work; twice while a tenant is restarted and the one before it still ends.
    at_work: usize,
    health: Health,
}

/// A stream is at work as long as this lives.
#[derive(Debug)]
pub struct AtWork {
    watch: Arc<Watch>,
    stream: StreamKey,
}

/// A stream whose health has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub stream: StreamKey,
    /// What it is now.
    pub health: Health,
}

impl Watch {
    /// Watches no stream yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            streams: Mutex::default(),
        }
    }

    /// Watches a stream from now on.
    pub fn begin(self: &Arc<Self>, stream: StreamKey, now_ms: i64) -> AtWork {
        let mut streams = self.lock();
        let watched = streams.entry(stream.clone()).or_insert(Watched {
            since_ms: now_ms,
            at_work: 0,
            health: Health::Ok,
        });
        watched.at_work += 1;
        AtWork {
            watch: self.clone(),
            stream,
        }
    }

    /// Judges every stream at work by what the ledger says of all; returns those that have changed between healthy
    /// and unhealthy.
    pub fn look(&self, progress: Vec<(StreamKey, Progress)>, now_ms: i64) -> Vec<Change> {
        let progress: BTreeMap<_, _> = progress.into_iter().collect();
        // One that the ledger does not know has not even failed yet.
        let unknown = Progress::default();
        let mut changes = Vec::new();
        for (stream, watched) in self.lock().iter_mut() {
            let progress = progress.get(stream).unwrap_or(&unknown);
            let since_ms = Some(watched.since_ms);
            let health = judge(progress, &self.thresholds, since_ms, now_ms);
            if health.is_ok() != watched.health.is_ok() {
                changes.push(Change {
                    stream: stream.clone(),
                    health: health.clone(),
                });
            }
            watched.health = health;
        }
        changes
    }

    /// The health of every stream at work.
    pub fn streams(&self) -> Vec<(StreamKey, Health)> {
        let streams = self.lock();
        let health = |(key, watched): (&StreamKey, &Watched)| (key.clone(), watched.health.clone());
        streams.iter().map(health).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamKey, Watched>> {
        // Nothing in here can fail half-way.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut streams = self.watch.lock();
        if let Some(watched) = streams.get_mut(&self.stream) {
            watched.at_work -= 1;
            if watched.at_work == 0 {
                streams.remove(&self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests;
