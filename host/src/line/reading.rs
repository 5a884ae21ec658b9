//! A split on its way through the line, with the times of which its lag is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::event::{Event, StreamKey};
use crate::ledger::{SplitKey, Taken};
use crate::metrics::lag::{self, EventLag};
use crate::telemetry::trace::Attempt;

/// One attempt to read a split.
#[derive(Debug)]
pub struct Reading {
    /// Which.
    pub split: SplitKey,
    /// When its content became available.
    pub created_ms: i64,
    /// When the ledger first knew of it.
    pub discovered_ms: Option<i64>,
    /// What is told of it, if anything.
    pub trace: Option<Arc<Attempt>>,
    /// When the earliest of its new events happened; `i64::MAX` before there is one.
    earliest_ms: AtomicI64,
}

impl Reading {
    /// The attempt that begins now.
    pub fn new(stream: &StreamKey, taken: &Taken) -> Self {
        Self {
            split: SplitKey {
                stream: stream.clone(),
                id: taken.split.id.clone(),
            },
            created_ms: taken.split.created_ms,
            discovered_ms: taken.discovered_ms,
            trace: None,
            earliest_ms: AtomicI64::new(i64::MAX),
        }
    }

    /// The same attempt, of which this is told.
    #[must_use]
    pub fn traced(mut self, trace: Option<Arc<Attempt>>) -> Self {
        self.trace = trace;
        self
    }

    /// When the earliest of its new events happened.
    pub fn earliest_ms(&self) -> Option<i64> {
        // What was noted before the split was finished is seen: batches are handed in before that.
        Some(self.earliest_ms.load(Ordering::Relaxed)).filter(|earliest| *earliest < i64::MAX)
    }

    /// Takes note of events that are new.
    pub(super) fn note(&self, events: &[Event]) -> Option<EventLag> {
        let (lag, earliest_ms) = EventLag::of(events, self.created_ms)?;
        self.earliest_ms.fetch_min(earliest_ms, Ordering::Relaxed);
        Some(lag)
    }

    /// The parts of its lag, once it was acknowledged.
    pub(super) fn parts(&self, acknowledged_ms: i64) -> lag::Parts {
        lag::parts(
            self.earliest_ms(),
            self.created_ms,
            self.discovered_ms,
            Some(acknowledged_ms),
        )
    }
}
