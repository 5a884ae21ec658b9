//! When to try again, and how long to stay away: back-off with jitter, per split, stream and tenant.
//!
//! Throttling and refused credentials never use up a split's attempts; only a failure of the split itself does.

use std::time::Duration;

use crate::source::Failure;

/// Attempts after which a split is set aside. Each waits longer than the one before, about a minute in all.
pub const QUARANTINE_AFTER: u32 = 6;

/// First and longest wait of a split that fails.
const SPLIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// First and longest wait of a quarantined split: it is tried until it expires.
const QUARANTINED: (Duration, Duration) = (
    Duration::from_secs(15 * 60),
    Duration::from_secs(6 * 60 * 60),
);

/// First and longest wait of a stream whose listing fails.
const STREAM: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

/// How soon a stream without permission asks again: consent given in the portal heals it without a restart.
const UNAUTHORISED: Duration = Duration::from_secs(15 * 60);

/// How soon a wrong set-up is looked at again.
const MISCONFIGURED: Duration = Duration::from_secs(60 * 60);

/// What has to happen to a stream after a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Only the split waits.
    None,
    /// The stream waits.
    Stream(Duration),
    /// The whole tenant waits.
    Tenant(Duration),
}

/// `first * 2^attempt`, at most `longest`, between half and the whole of it.
pub fn backoff((first, longest): (Duration, Duration), attempt: u32) -> Duration {
    let full = first
        .saturating_mul(2_u32.saturating_pow(attempt.min(24)))
        .min(longest);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// The wait of a split that has failed `attempts` times, this one included.
pub fn split_wait(attempts: u32, after: Option<Duration>) -> Duration {
    let own = backoff(SPLIT, attempts.saturating_sub(1));
    after.map_or(own, |after| after.max(SPLIT.0).min(QUARANTINED.1))
}

/// The wait of a stream of which nothing can be read, after so many such waits in a row.
pub fn storm_wait(blows: u32) -> Duration {
    backoff(STREAM, blows)
}

/// The wait of a quarantined split.
pub fn quarantine_wait(attempts: u32) -> Duration {
    backoff(QUARANTINED, attempts.saturating_sub(QUARANTINE_AFTER))
}

/// Whose turn it is to wait after a failure, and how long; `failures` counts those in a row before it.
pub fn pause(failure: &Failure, failures: u32) -> Pause {
    use crate::source::Scope;
    match failure {
        Failure::Retry { after, affects, .. } => {
            let wait = after.unwrap_or_else(|| backoff(STREAM, failures));
            let wait = wait.clamp(STREAM.0, UNAUTHORISED.max(MISCONFIGURED));
            match affects {
                Scope::Split => Pause::None,
                Scope::Stream => Pause::Stream(wait),
                Scope::Tenant => Pause::Tenant(wait),
            }
        }
        Failure::Unauthorised(_) => Pause::Stream(UNAUTHORISED),
        Failure::Misconfigured(_) => Pause::Stream(MISCONFIGURED),
        Failure::SplitLost(_) | Failure::Cancelled => Pause::None,
        Failure::Internal(_) | Failure::Fault(_) => Pause::None,
    }
}

/// The wait of a stream whose listing failed, whatever the failure's reach.
pub fn discover_wait(failure: &Failure, failures: u32) -> Duration {
    match pause(failure, failures) {
        Pause::Stream(wait) | Pause::Tenant(wait) => wait,
        Pause::None => backoff(STREAM, failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Scope;

    #[test]
    fn waits_grow_and_stay_within_their_bounds() {
        for attempt in 0..40 {
            let wait = backoff(SPLIT, attempt);
            assert!(
                wait >= SPLIT.0 / 2 && wait <= SPLIT.1,
                "{attempt}: {wait:?}"
            );
        }
        assert!(split_wait(1, None) <= SPLIT.0);
        assert_eq!(
            split_wait(1, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert!(quarantine_wait(QUARANTINE_AFTER) >= QUARANTINED.0 / 2);
    }

    #[test]
    fn only_what_reaches_further_than_a_split_pauses_more() {
        let retry = |affects| Failure::Retry {
            after: Some(Duration::from_secs(9)),
            affects,
            reason: String::new(),
        };
        assert_eq!(pause(&retry(Scope::Split), 0), Pause::None);
        assert_eq!(
            pause(&retry(Scope::Stream), 0),
            Pause::Stream(Duration::from_secs(9))
        );
        assert_eq!(
            pause(&retry(Scope::Tenant), 0),
            Pause::Tenant(Duration::from_secs(9))
        );
        assert_eq!(pause(&Failure::Fault(String::new()), 0), Pause::None);
        assert_eq!(
            pause(&Failure::Unauthorised(String::new()), 0),
            Pause::Stream(UNAUTHORISED)
        );
    }
}
