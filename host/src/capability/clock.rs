//! The clock a plugin sees: the host's own, so that a simulated time reaches the plugins too.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};

use crate::clock::SharedClock;

/// What plugins can tell apart. They have no use for finer time, and attacks on neighbours would.
const RESOLUTION: Duration = Duration::from_millis(1);

/// `wasi:clocks/wall-clock`.
pub struct WallClock(pub SharedClock);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now_ms()).unwrap_or(0))
    }
}

/// `wasi:clocks/monotonic-clock`, from the start of the call.
pub struct MonotonicClock(pub Instant);

impl HostMonotonicClock for MonotonicClock {
    fn resolution(&self) -> u64 {
        u64::try_from(RESOLUTION.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        let millis = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        millis.saturating_mul(1_000_000)
    }
}
