//! Lists a stream from nothing, with a state that is thrown away.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::time_range::TimeRange;
use crate::ledger::Split;
use crate::schedule;
use crate::source::{Failure, Next, Source, Stream};

/// Failures in a row after which a stream is given up.
const FAILURES: u32 = 5;

/// Longest single wait; whoever waits for an audit wants to know why instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was listed, by id.
pub(super) type Listed = BTreeMap<String, Split>;

/// Everything of a range that the source lists now.
pub(super) async fn list(
    source: &dyn Source,
    stream: &Stream,
    range: TimeRange,
) -> Result<Listed, Failure> {
    let mut listed = Listed::new();
    let mut state: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut failures = 0;
    loop {
        let discovery = match source.discover(stream, state.clone()).await {
            Ok(discovery) => discovery,
            Err(failure) => {
                let wait = schedule::discover_wait(&failure, failures);
                failures += 1;
                if failures >= FAILURES || wait > PATIENCE {
                    return Err(failure);
                }
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        failures = 0;
        let (before, unchanged) = (listed.len(), discovery.state.is_empty());
        let splits = discovery.splits.into_iter();
        let within = splits.filter(|split| range.contains(split.created_ms));
        listed.extend(within.map(|split| (split.id.clone(), split)));
        for (key, value) in discovery.state {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
        // With nothing new and the same state the next call would do the same again, for ever.
        let stuck = unchanged && listed.len() == before;
        if stuck || discovery.next != Next::Again {
            return Ok(listed);
        }
    }
}
