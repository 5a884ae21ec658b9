//! How far a stream is, by walking through all of its splits.

use super::{Entry, Phase, Stream};
use crate::ledger::progress::{Backlog, Front, Progress};

impl Stream {
    pub(super) fn progress(&self) -> Progress {
        let created = self
            .pending(false)
            .map(|entry| (entry, entry.split.created_ms));
        let expires = |quarantined| {
            let entries = self.pending(quarantined);
            entries.filter_map(|entry| Some((entry, entry.split.expires_ms?)))
        };
        Progress {
            watermark_ms: self.watermark_ms,
            advanced_ms: self.advanced_ms,
            listed_ms: self.listed_ms,
            next_ms: self.next_ms,
            trouble: self.trouble.clone(),
            oldest: front(created, self.oldest_moved_ms),
            expiring: front(expires(false), self.expiring_moved_ms),
            quarantine_expires_ms: expires(true).map(|(_, expires_ms)| expires_ms).min(),
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        Backlog {
            pending: self.pending(false).count() as u64,
            quarantined: self.pending(true).count() as u64,
        }
    }

    /// Splits were delivered, of which the first became available and the first to expire expires at these times.
    pub(super) fn moved(&mut self, (created_ms, expires_ms): (i64, Option<i64>), now_ms: i64) {
        if self
            .pending(false)
            .all(|entry| entry.split.created_ms >= created_ms)
        {
            self.oldest_moved_ms = Some(now_ms);
        }
        let before = |expires_ms| {
            let mut expiries = self
                .pending(false)
                .filter_map(|entry| entry.split.expires_ms);
            expiries.any(|other_ms| other_ms < expires_ms)
        };
        if expires_ms.is_some_and(|expires_ms| !before(expires_ms)) {
            self.expiring_moved_ms = Some(now_ms);
        }
    }

    fn pending(&self, quarantined: bool) -> impl Iterator<Item = &Entry> {
        self.splits.values().filter(move |entry| {
            !matches!(entry.phase, Phase::Delivered | Phase::Lost)
                && entry.quarantined == quarantined
        })
    }
}

/// The first in an order.
fn front<'a>(
    entries: impl Iterator<Item = (&'a Entry, i64)>,
    moved_ms: Option<i64>,
) -> Option<Front> {
    let (entry, at_ms) = entries.min_by_key(|(entry, at_ms)| (*at_ms, entry.found))?;
    let found = (entry.split.created_ms, Some(entry.discovered_ms));
    Some(Front::new(at_ms, found, moved_ms))
}
