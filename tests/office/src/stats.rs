//! What the office saw of its clients' manners, in numbers.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Counts since the office was opened.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests of any kind.
    pub requests: u64,
    /// Token requests.
    pub token_requests: u64,
    /// Pages listed.
    pub list_requests: u64,
    /// Fetches of blobs.
    pub fetch_requests: u64,
    /// Starts of subscriptions.
    pub start_requests: u64,
    /// Stops of subscriptions.
    pub stop_requests: u64,
    /// Blobs sent whole, repeats included.
    pub blobs_sent: u64,
    /// Most requests of one tenant in any minute.
    pub peak_per_minute: u64,
    /// Most requests answered at the same time (the HTTP server counts).
    pub peak_in_flight: u64,
    /// Requests to the API without a `PublisherIdentifier`.
    pub without_publisher: u64,
    /// Listings of more than 24 hours.
    pub wide_windows: u64,
    /// Starts within 15 minutes after another of the same type.
    pub hasty_starts: u64,
    /// Webhooks taken away by a start that did not name them.
    pub webhooks_removed: u64,
    /// Requests with a token that has expired, after it was refused once.
    pub expired_tokens_again: u64,
    /// Requests with a token that has expired or was revoked.
    pub expired_tokens: u64,
    /// Requests with an `Authorization` header on a host that is not the office.
    pub leaked_tokens: u64,
    /// Fetches of a blob that was already sent whole.
    pub repeated_downloads: u64,
    /// Fetches of a blob that had expired.
    pub expired_fetches: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults played, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.requests,
            "token_requests": self.token_requests,
            "list_requests": self.list_requests,
            "fetch_requests": self.fetch_requests,
            "start_requests": self.start_requests,
            "stop_requests": self.stop_requests,
            "blobs_sent": self.blobs_sent,
            "peak_per_minute": self.peak_per_minute,
            "peak_in_flight": self.peak_in_flight,
            "without_publisher": self.without_publisher,
            "wide_windows": self.wide_windows,
            "hasty_starts": self.hasty_starts,
            "webhooks_removed": self.webhooks_removed,
            "expired_tokens": self.expired_tokens,
            "expired_tokens_again": self.expired_tokens_again,
            "leaked_tokens": self.leaked_tokens,
            "repeated_downloads": self.repeated_downloads,
            "expired_fetches": self.expired_fetches,
            "statuses": self.statuses.iter().map(|(k, v)| (k.to_string(), *v))
                .collect::<BTreeMap<_, _>>(),
            "faults": self.faults,
        })
    }
}

/// Requests in the minute before now, per key.
#[derive(Debug, Default)]
pub(crate) struct Minutes(HashMap<String, VecDeque<i64>>);

impl Minutes {
    /// Counts a request and says how many there were in the minute that ends now.
    pub(crate) fn count(&mut self, key: &str, now: i64) -> u64 {
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), VecDeque::new());
        }
        let times = self
            .0
            .get_mut(key)
            .expect("inserted above when it was missing");
        while times.front().is_some_and(|first| *first <= now - 60_000) {
            times.pop_front();
        }
        times.push_back(now);
        times.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_slides() {
        let mut minutes = Minutes::default();
        let counts: Vec<_> = [0, 1, 59_999, 60_000, 60_001, 200_000]
            .map(|now| minutes.count("a", now))
            .to_vec();
        assert_eq!(counts, [1, 2, 3, 3, 3, 1]);
        assert_eq!(minutes.count("b", 0), 1);
    }
}
