//! What was listed against what the ledger says of it. Pure.

use std::collections::HashMap;

use super::listing::Listed;
use crate::ledger::sqlite::view::{SplitRow, Standing};

/// A split that was listed and of which the ledger knows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub id: String,
    pub created_ms: i64,
}

/// One stream's splits, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many were listed.
    pub listed: usize,
    /// How many of those are delivered.
    pub delivered: usize,
    /// Listed and not in the ledger, although the collector has listed past them: the difference.
    pub missing: Vec<Found>,
    /// In the ledger and not delivered yet, listed or not.
    pub pending: Vec<SplitRow>,
    /// Listed, and newer than what the collector has listed.
    pub unlisted: Vec<Found>,
    /// Set aside, listed or not.
    pub quarantined: Vec<SplitRow>,
    /// Listed, and declared lost.
    pub lost: Vec<SplitRow>,
}

impl Verdict {
    /// Tells apart what was listed; `rows` is what the ledger knows of the same range, and everything before
    /// `watermark_ms` has been listed by the collector.
    pub fn of(
        listed: &Listed,
        mut rows: HashMap<String, SplitRow>,
        watermark_ms: Option<i64>,
    ) -> Self {
        let mut verdict = Self {
            listed: listed.len(),
            ..Self::default()
        };
        for split in listed.values() {
            let Some(row) = rows.remove(&split.id) else {
                let found = Found {
                    id: split.id.clone(),
                    created_ms: split.created_ms,
                };
                // A stream that the collector never listed has no excuse.
                if watermark_ms.is_some_and(|watermark_ms| split.created_ms >= watermark_ms) {
                    verdict.unlisted.push(found);
                } else {
                    verdict.missing.push(found);
                }
                continue;
            };
            match row.standing {
                Standing::Delivered => verdict.delivered += 1,
                Standing::Lost => verdict.lost.push(row),
                Standing::Pending => verdict.pending.push(row),
                Standing::Quarantined => verdict.quarantined.push(row),
            }
        }
        // What waits must not be overlooked because the service lists it no more.
        for row in rows.into_values() {
            match row.standing {
                Standing::Pending => verdict.pending.push(row),
                Standing::Quarantined => verdict.quarantined.push(row),
                Standing::Delivered | Standing::Lost => {}
            }
        }
        let oldest_first = |rows: &mut Vec<SplitRow>| {
            rows.sort_by(|one, other| {
                (one.created_ms, &one.key.id).cmp(&(other.created_ms, &other.key.id))
            });
        };
        oldest_first(&mut verdict.pending);
        oldest_first(&mut verdict.quarantined);
        oldest_first(&mut verdict.lost);
        verdict
            .missing
            .sort_by(|one, other| (one.created_ms, &one.id).cmp(&(other.created_ms, &other.id)));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamKey;
    use crate::ledger::{Split, SplitKey};

    fn listed(splits: &[(&str, i64)]) -> Listed {
        let split = |(id, created_ms): &(&str, i64)| {
            let split = Split {
                id: (*id).into(),
                payload: Vec::new(),
                created_ms: *created_ms,
                expires_ms: None,
                weight: 1,
            };
            (split.id.clone(), split)
        };
        splits.iter().map(split).collect()
    }

    fn rows(rows: &[(&str, Standing)]) -> HashMap<String, SplitRow> {
        let row = |(id, standing): &(&str, Standing)| {
            let row = SplitRow {
                key: SplitKey {
                    stream: StreamKey::new("contoso", "Audit.General"),
                    id: (*id).into(),
                },
                standing: *standing,
                reading: false,
                attempts: 0,
                created_ms: 1,
                expires_ms: None,
                next_try_ms: 0,
                reason: String::new(),
            };
            (row.key.id.clone(), row)
        };
        rows.iter().map(row).collect()
    }

    fn ids(rows: &[SplitRow]) -> Vec<&str> {
        rows.iter().map(|row| &*row.key.id).collect()
    }

    fn found(found: &[Found]) -> Vec<&str> {
        found.iter().map(|found| &*found.id).collect()
    }

    #[test]
    fn every_split_is_told_apart() {
        let listed = listed(&[
            ("a", 1),
            ("b", 2),
            ("c", 3),
            ("d", 4),
            ("gone", 5),
            ("new", 10),
        ]);
        let rows = rows(&[
            ("a", Standing::Delivered),
            ("b", Standing::Pending),
            ("c", Standing::Quarantined),
            ("d", Standing::Lost),
            ("waits", Standing::Pending),
            ("aside", Standing::Quarantined),
            ("old", Standing::Delivered),
            ("past", Standing::Lost),
        ]);
        let verdict = Verdict::of(&listed, rows, Some(10));
        assert_eq!((verdict.listed, verdict.delivered), (6, 1));
        assert_eq!(ids(&verdict.pending), ["b", "waits"]);
        assert_eq!(ids(&verdict.quarantined), ["aside", "c"]);
        assert_eq!(ids(&verdict.lost), ["d"]);
        assert_eq!(found(&verdict.missing), ["gone"]);
        assert_eq!(found(&verdict.unlisted), ["new"]);
    }

    #[test]
    fn a_stream_that_was_never_listed_is_missing_as_a_whole() {
        let verdict = Verdict::of(&listed(&[("a", 1)]), HashMap::new(), None);
        assert_eq!(found(&verdict.missing), ["a"]);
    }
}
