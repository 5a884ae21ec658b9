//! What became of the requests of one tenant.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is what was asked for, or leads elsewhere (1xx to 3xx).
    Ok,
    /// The credential was not accepted (401).
    Unauthorised,
    /// We were too fast; the limiter slowed down.
    Throttled,
    /// Any other 4xx.
    ClientError,
    /// Any other 5xx.
    ServerError,
    /// There was no answer.
    NoAnswer,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Unauthorised,
        Self::Throttled,
        Self::ClientError,
        Self::ServerError,
        Self::NoAnswer,
    ];

    /// What it is called wherever it is exported.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unauthorised => "unauthorised",
            Self::Throttled => "throttled",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::NoAnswer => "no_answer",
        }
    }

    /// What an answer is; `throttled` says that the limiter took it for a complaint.
    pub fn of(status: StatusCode, throttled: bool) -> Self {
        match status.as_u16() {
            _ if throttled => Self::Throttled,
            401 => Self::Unauthorised,
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
            _ => Self::Ok,
        }
    }
}

/// Requests by outcome, in the order of [`Outcome::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts(pub [u64; Outcome::ALL.len()]);

impl AddAssign for RequestCounts {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub struct Requests([AtomicU64; Outcome::ALL.len()]);

impl Requests {
    /// Counts a request.
    pub fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All of them so far.
    pub fn counts(&self) -> RequestCounts {
        RequestCounts(std::array::from_fn(|index| {
            self.0[index].load(Ordering::Relaxed)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of = |status, throttled| {
            Outcome::of(StatusCode::from_u16(status).unwrap(), throttled).name()
        };
        assert_eq!([of(200, false), of(302, false)], ["ok"; 2]);
        assert_eq!(of(401, false), "unauthorised");
        assert_eq!(
            [of(429, true), of(403, true), of(503, true)],
            ["throttled"; 3]
        );
        assert_eq!([of(403, false), of(404, false)], ["client_error"; 2]);
        assert_eq!([of(500, false), of(599, false)], ["server_error"; 2]);
        let requests = Requests::default();
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| requests.add(outcome));
        }
        assert_eq!(requests.counts(), RequestCounts([1, 2, 3, 4, 5, 6]));
    }
}
