//! The only place that asks for the time.
//!
//! Everything else takes a `Clock`, so that tests can stop it, turn it back, and live through a year in a second.
//! Waiting goes through tokio's timer, which tests pause as well.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall-clock time and waiting.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks for the time"
    )]
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }
}

/// Whole milliseconds of a duration, at most `i64::MAX`.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A stretch of time for people, in its two largest units: `45s`, `3m`, `2h05m`, `6d03h`.
pub fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let text = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    };
    if ms < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let seconds = |seconds: i64| span(seconds * 1_000);
        let texts = [0, 59, 60, 3_599, 3_600, 90_061, -7_260].map(seconds);
        assert_eq!(
            texts,
            ["0s", "59s", "1m", "59m", "1h00m", "1d01h", "-2h01m"]
        );
    }
}
