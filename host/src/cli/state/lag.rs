//! The lag of a stream as its delivered splits tell it: the median and the longest of each part.

use serde_json::{Map, Value, json};

use crate::clock::span;
use crate::metrics::lag::{Part, Parts};

/// Splits that are looked at, those with the newest content: enough for a median of now, whatever the ledger keeps.
pub(super) const SPLITS: usize = 500;

/// The lag of some splits.
pub(super) struct Lag {
    splits: usize,
    /// In the order of [`Part::ALL`]: median and longest, where any split knows it.
    parts: [Option<(i64, i64)>; 3],
}

impl Lag {
    pub fn of(splits: &[Parts]) -> Self {
        let part = |index: usize| {
            let mut known: Vec<i64> = splits.iter().filter_map(|parts| parts[index]).collect();
            known.sort_unstable();
            // Of two in the middle the longer one.
            Some((*known.get(known.len() / 2)?, *known.last()?))
        };
        Self {
            splits: splits.len(),
            parts: [part(0), part(1), part(2)],
        }
    }

    /// Headings of [`Self::cells`].
    pub fn head() -> [String; 4] {
        let [available, discovered, acknowledged] =
            Part::ALL.map(|part| part.name().replace('_', " ").to_uppercase());
        ["SPLITS".into(), available, discovered, acknowledged]
    }

    /// For a table; `None` when nothing was delivered.
    pub fn cells(&self) -> Option<[String; 4]> {
        let part = |part: Option<(i64, i64)>| {
            part.map_or_else(
                || "-".into(),
                |(median, longest)| format!("{} / {}", span(median), span(longest)),
            )
        };
        let [available, discovered, acknowledged] = self.parts.map(part);
        let cells = [self.splits.to_string(), available, discovered, acknowledged];
        (self.splits > 0).then_some(cells)
    }

    pub fn json(&self) -> Value {
        let mut lag = Map::new();
        lag.insert("splits".into(), self.splits.into());
        for (part, measured) in Part::ALL.into_iter().zip(self.parts) {
            let value = measured.map(|(median_ms, longest_ms)| {
                json!({ "median_ms": median_ms, "longest_ms": longest_ms })
            });
            lag.insert(part.name().into(), value.into());
        }
        lag.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_longest_of_what_is_known() {
        let splits = [
            [Some(60_000), Some(1_000), Some(5_000)],
            [None, None, Some(65_000)],
            [Some(7_200_000), Some(3_000), Some(0)],
            [Some(120_000), None, Some(6_000)],
        ];
        let lag = Lag::of(&splits);
        let cells = lag.cells().unwrap();
        assert_eq!(cells, ["4", "2m / 2h00m", "3s / 3s", "6s / 1m"]);
        let expected = json!({
            "splits": 4,
            "event_to_available": { "median_ms": 120_000, "longest_ms": 7_200_000 },
            "available_to_discovered": { "median_ms": 3_000, "longest_ms": 3_000 },
            "discovered_to_acknowledged": { "median_ms": 6_000, "longest_ms": 65_000 },
        });
        assert_eq!(lag.json(), expected);
        assert_eq!(Lag::head()[1], "EVENT TO AVAILABLE");
    }

    #[test]
    fn without_a_delivery_there_is_no_lag() {
        let lag = Lag::of(&[]);
        assert!(lag.cells().is_none());
        assert!(lag.json()["event_to_available"].is_null());
        assert_eq!(Lag::of(&[[None; 3]]).cells().unwrap()[1], "-");
    }
}
