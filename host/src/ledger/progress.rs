//! How far a stream is, in times that tell whether it moves.
//!
//! All of them are kept with the splits, so a running collector, its next run and a command that looks from outside
//! come to the same judgement ([`crate::health`]). Content in quarantine stands apart: it is known not to move.

use super::Trouble;

/// How far a stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything available before this has been listed.
    pub watermark_ms: Option<i64>,
    /// When the watermark last moved.
    pub advanced_ms: Option<i64>,
    /// When the stream was last listed.
    pub listed_ms: Option<i64>,
    /// When it was to be listed next, then.
    pub next_ms: Option<i64>,
    /// Why it cannot be listed now.
    pub trouble: Option<Trouble>,
    /// The oldest content that is neither delivered nor in quarantine: when it became available.
    pub oldest: Option<Front>,
    /// The content that expires first and is neither delivered nor in quarantine: when it expires.
    pub expiring: Option<Front>,
    /// The soonest expiry in quarantine.
    pub quarantine_expires_ms: Option<i64>,
}

/// How many splits of a stream are not delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Found, and waiting or being read.
    pub pending: u64,
    /// Set aside.
    pub quarantined: u64,
}

/// What is first in an order of undelivered splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Where it stands in that order.
    pub at_ms: i64,
    /// Since when nothing has moved there: since this split was found, or since the last one before it was delivered.
    pub since_ms: i64,
}

impl Front {
    /// The front at `at_ms`, of a split that became available and was found at these times, when `moved_ms` is when a
    /// split was last delivered from there. A split found by an older version may be as old as its content.
    pub(super) fn new(
        at_ms: i64,
        (created_ms, discovered_ms): (i64, Option<i64>),
        moved_ms: Option<i64>,
    ) -> Self {
        let found_ms = discovered_ms.unwrap_or(created_ms);
        Self {
            at_ms,
            since_ms: moved_ms.map_or(found_ms, |moved_ms| moved_ms.max(found_ms)),
        }
    }
}
