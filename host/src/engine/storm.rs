//! Tells a split that fails from an origin that fails: many failures without a success are nobody's own.
//!
//! While an origin is down every split would use up its attempts within a minute and be set aside, thousands at once.
//! So after enough failures in a row the stream waits as a whole, and no split's attempts count until one is read.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row, of whatever splits, that are taken for trouble at the origin. Above the attempts of a single
/// split, so that a stream with one bad split sets that one aside.
const FAILURES: u32 = 24;

#[derive(Debug, Default)]
pub(super) struct Storm {
    failures: AtomicU32,
    blows: AtomicU32,
}

impl Storm {
    /// A split was read.
    pub fn over(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.blows.store(0, Ordering::Relaxed);
    }

    /// A split was not. `Some` when that is not its own fault: how often in a row the stream has waited before.
    pub fn blow(&self) -> Option<u32> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        (failures > FAILURES).then(|| self.blows.load(Ordering::Relaxed))
    }

    /// The stream waits once more.
    pub fn wait(&self) {
        self.blows.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_the_origins_until_something_is_read() {
        let storm = Storm::default();
        for _ in 0..FAILURES {
            assert_eq!(storm.blow(), None);
        }
        assert_eq!(storm.blow(), Some(0));
        storm.wait();
        assert_eq!(storm.blow(), Some(1));
        storm.over();
        assert_eq!(storm.blow(), None);
    }
}
