//! How late events are, in three parts that together lead from the event to its acknowledgement.
//!
//! ```text
//! event --origin--> available --listing--> discovered --reading, stages, sinks--> acknowledged
//! ```
//!
//! The first part is counted for every event that is new: what the service publishes again days later is known, not
//! late. The other two are counted for every split, at the commit that says it is delivered. All of it stays in memory,
//! for an exporter.
//!
//! For those who look from outside, the ledger keeps four times of each split instead: when the earliest of its new
//! events happened, and when it became available, was discovered and was delivered. The earliest event is the one
//! that waited longest, and for this one event the three parts add up to the whole. A mean or a histogram in each row
//! would be larger and belong to no event. Rows are kept until the split expires, so nothing else has to be written.
//! (A split that fails half-way and is read again counts what the second reading found new.)

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::histogram::Histogram;
use crate::event::{Event, StreamKey};

/// A part of the way from an event to its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From the event's own time until the origin made it available: nobody here can shorten it.
    Available,
    /// Until the ledger knew of it.
    Discovered,
    /// Until every sink had it and the ledger said so.
    Acknowledged,
}

impl Part {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Available, Self::Discovered, Self::Acknowledged];

    /// What it is called wherever it is exported.
    pub fn name(self) -> &'static str {
        match self {
            Self::Available => "event_to_available",
            Self::Discovered => "available_to_discovered",
            Self::Acknowledged => "discovered_to_acknowledged",
        }
    }
}

/// The parts of one split, in milliseconds; `None` where a time is not known.
pub type Parts = [Option<i64>; 3];

/// The parts between four times. Clocks differ: a difference below zero is none.
pub fn parts(
    event_ms: Option<i64>,
    available_ms: i64,
    discovered_ms: Option<i64>,
    acknowledged_ms: Option<i64>,
) -> Parts {
    let between = |from: Option<i64>, to: Option<i64>| Some(to?.saturating_sub(from?).max(0));
    [
        between(event_ms, Some(available_ms)),
        between(Some(available_ms), discovered_ms),
        between(discovered_ms, acknowledged_ms),
    ]
}

/// The first part of a batch's events.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventLag {
    histogram: Histogram,
    last_ms: i64,
}

impl EventLag {
    /// What has to be known of new events that became available at a time, with the earliest of their own times.
    /// `None` without events.
    pub fn of(events: &[Event], available_ms: i64) -> Option<(Self, i64)> {
        let mut earliest_ms = i64::MAX;
        let mut lag = Self::default();
        for event in events {
            earliest_ms = earliest_ms.min(event.time_ms);
            lag.last_ms = available_ms.saturating_sub(event.time_ms).max(0);
            lag.histogram.add(lag.last_ms);
        }
        (!events.is_empty()).then_some((lag, earliest_ms))
    }
}

/// One part as measured since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// All of them.
    pub histogram: Histogram,
    /// The last one, in milliseconds.
    pub last_ms: Option<i64>,
}

/// The lag of a stream, in the order of [`Part::ALL`].
pub type StreamLag = [Measured; 3];

/// The lag of every stream of a pipeline since it was started.
#[derive(Debug, Default)]
pub struct Lags(Mutex<BTreeMap<StreamKey, StreamLag>>);

impl Lags {
    /// Adds what one commit has acknowledged.
    pub fn add(
        &self,
        events: impl IntoIterator<Item = (StreamKey, EventLag)>,
        splits: impl IntoIterator<Item = (StreamKey, Parts)>,
    ) {
        let mut streams = self.lock();
        for (stream, lag) in events {
            let [available, ..] = streams.entry(stream).or_default();
            available.histogram += lag.histogram;
            available.last_ms = Some(lag.last_ms);
        }
        for (stream, [_, discovered, acknowledged]) in splits {
            let [_, to_discovered, to_acknowledged] = streams.entry(stream).or_default();
            to_discovered.add(discovered);
            to_acknowledged.add(acknowledged);
        }
    }

    /// Forgets the streams of tenants that `runs` denies.
    pub fn keep(&self, runs: impl Fn(&str) -> bool) {
        self.lock().retain(|key, _| runs(&key.tenant));
    }

    /// The lag of every stream of which something was acknowledged.
    pub fn streams(&self) -> Vec<(StreamKey, StreamLag)> {
        let streams = self.lock();
        streams
            .iter()
            .map(|(key, lag)| (key.clone(), *lag))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamKey, StreamLag>> {
        // Nothing in here can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    fn add(&mut self, ms: Option<i64>) {
        if let Some(ms) = ms {
            self.histogram.add(ms);
            self.last_ms = Some(ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Identity;

    fn event(time_ms: i64) -> Event {
        Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms,
            body: "{}".into(),
            identity: Identity([0; 16]),
        }
    }

    #[test]
    fn the_parts_of_one_event_add_up_to_the_whole() {
        let of = parts(Some(1_000), 61_000, Some(61_500), Some(70_000));
        assert_eq!(of, [Some(60_000), Some(500), Some(8_500)]);
        assert_eq!(of.into_iter().flatten().sum::<i64>(), 70_000 - 1_000);
    }

    #[test]
    fn what_is_not_known_is_no_part_and_clocks_that_differ_make_none_negative() {
        assert_eq!(parts(None, 5, None, Some(9)), [None; 3]);
        let skewed = parts(Some(7_000), 5_000, Some(4_000), Some(3_000));
        assert_eq!(skewed, [Some(0); 3]);
    }

    #[test]
    fn events_are_counted_one_by_one_and_splits_with_their_parts() {
        assert!(EventLag::of(&[], 9).is_none());
        let events = [3_000, 1_000, 20_000].map(event);
        let (lag, earliest_ms) = EventLag::of(&events, 10_000).unwrap();
        assert_eq!(earliest_ms, 1_000);
        let stream = StreamKey::new("contoso", "Audit.Exchange");
        let lags = Lags::default();
        let split = parts(Some(1_000), 10_000, Some(12_000), None);
        lags.add([(stream.clone(), lag)], [(stream.clone(), split)]);
        let [(key, [available, discovered, acknowledged])] = &lags.streams()[..] else {
            panic!("one stream");
        };
        assert_eq!(*key, stream);
        assert_eq!(
            (available.histogram.count(), available.histogram.sum_ms()),
            (3, 16_000)
        );
        assert_eq!(
            available.last_ms,
            Some(0),
            "the last event's clock is ahead"
        );
        assert_eq!(
            (discovered.histogram.count(), discovered.last_ms),
            (1, Some(2_000))
        );
        assert_eq!(*acknowledged, Measured::default());
    }
}
