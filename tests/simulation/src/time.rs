//! The one time of a simulation: virtual, never the machine's, and seen through a wall clock that may be wrong.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use sluicegate::clock::{Clock, millis};
use tokio::time::Instant;

/// When every simulation begins: a Saturday, 2026-01-03T08:00:00Z.
pub const START_MS: i64 = 1_767_427_200_000;

/// One minute.
pub const MINUTE_MS: i64 = 60_000;

/// One hour.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// True time, which outlives crashes, and the wall clock that the code under test reads.
#[derive(Debug)]
pub struct VirtualClock {
    /// True time when the running life began, or now when nothing runs.
    since_ms: AtomicI64,
    begun: Mutex<Option<Instant>>,
    skew_ms: AtomicI64,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self {
            since_ms: AtomicI64::new(START_MS),
            begun: Mutex::default(),
            skew_ms: AtomicI64::new(0),
        }
    }
}

impl VirtualClock {
    /// A life begins; called inside its runtime, whose time is paused.
    pub fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The life is over; called inside its runtime.
    pub fn end(&self) {
        self.since_ms.store(self.true_ms(), Ordering::Relaxed);
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets time pass while nothing runs.
    pub fn pass(&self, ms: i64) {
        self.since_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// True time.
    pub fn true_ms(&self) -> i64 {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        self.since_ms.load(Ordering::Relaxed) + begun.map_or(0, |begun| millis(begun.elapsed()))
    }

    /// Sets how far the wall clock is ahead of true time.
    pub fn set_skew(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::Relaxed);
    }

    /// How far the wall clock is ahead of true time.
    pub fn skew(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        self.true_ms() + self.skew()
    }
}
