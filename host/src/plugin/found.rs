//! What a plugin says it found, checked before anything keeps it.
//!
//! Names become labels of metrics and parts of the ledger, times are subtracted from one another, reasons are logged:
//! what does not fit there is refused as a whole, with the rule that it breaks.

use std::collections::BTreeMap;

use crate::capability::log::{REASON_BYTES, escape};
use crate::capability::source_world::exports::sluicegate::plugin::source as exports;
use crate::event::StreamKey;
use crate::ledger::{Loss, Split};
use crate::source::{Discovery, Failure, Next, Stream};

/// Longest id of a split, and largest payload.
const SPLIT_ID_BYTES: usize = 1_024;
const SPLIT_PAYLOAD_BYTES: usize = 16 << 10;

/// Longest name of a stream, and most streams of a tenant.
const STREAM_NAME_BYTES: usize = 128;
const STREAMS: usize = 1_000;

/// Gaps that one listing may declare; each is said aloud.
const GAPS: usize = 1_000;

/// The end of the year 9999, the last that RFC 3339 can write. The first is 1970.
const LAST_MS: i64 = 253_402_300_799_999;

/// How far ahead of the clock a position may lie: clocks differ, but not by years.
const AHEAD_MS: i64 = 366 * 24 * 60 * 60 * 1_000;

/// The streams that a plugin names.
pub(super) fn streams(found: Vec<exports::Stream>) -> Result<Vec<Stream>, Failure> {
    if found.len() > STREAMS {
        let count = found.len();
        return refuse(format!(
            "it names {count} streams; at most {STREAMS} are allowed"
        ));
    }
    let mut streams: Vec<Stream> = Vec::with_capacity(found.len());
    for exports::Stream { name, quota_key } in found {
        if !is_name(&name) || streams.iter().any(|stream| stream.name == name) {
            let shown = escape(&name, STREAM_NAME_BYTES);
            return refuse(format!(
                "its stream name `{shown}` is empty, too long or not unique, or holds control characters"
            ));
        }
        if !quota_key.is_empty() && !is_name(&quota_key) {
            let shown = escape(&quota_key, STREAM_NAME_BYTES);
            return refuse(format!(
                "the quota key `{shown}` is too long or holds control characters"
            ));
        }
        streams.push(Stream {
            name,
            quota_key,
            since_ms: None,
        });
    }
    Ok(streams)
}

fn is_name(name: &str) -> bool {
    (1..=STREAM_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

/// What a listing found, at most `most` splits.
pub(super) fn discovery(
    stream: &StreamKey,
    found: exports::Discovery,
    state: BTreeMap<String, Option<Vec<u8>>>,
    most: u32,
    now_ms: i64,
) -> Result<Discovery, Failure> {
    let exports::Discovery {
        splits,
        next,
        watermark,
        gaps,
    } = found;
    let count = splits.len();
    if count > most as usize {
        return refuse(format!(
            "it found {count} splits; at most {most} are allowed (`limits.splits_per_call`)"
        ));
    }
    let count = gaps.len();
    if count > GAPS {
        return refuse(format!(
            "it declares {count} gaps; at most {GAPS} are allowed in one call"
        ));
    }
    if let Some(watermark) = watermark {
        is_time("the watermark", watermark)?;
        if watermark > now_ms.saturating_add(AHEAD_MS) {
            return refuse("its watermark lies more than a year ahead of the clock".into());
        }
    }
    let splits: Result<Vec<Split>, Failure> = splits.into_iter().map(split).collect();
    let gaps = gaps.into_iter().map(|gap| {
        is_time("the start of a gap", gap.since)?;
        is_time("the end of a gap", gap.until)?;
        Ok(Loss {
            stream: stream.clone(),
            split: None,
            since_ms: gap.since,
            until_ms: gap.until,
            reason: escape(&gap.reason, REASON_BYTES),
            declared_ms: now_ms,
        })
    });
    let gaps: Result<Vec<Loss>, Failure> = gaps.collect();
    Ok(Discovery {
        splits: splits?,
        next: match next {
            exports::Next::Again => Next::Again,
            // Any time is an answer to when to come back; those that cannot be written mean at once, or never.
            exports::Next::At(time) => Next::At(time.clamp(0, LAST_MS)),
        },
        watermark_ms: watermark,
        gaps: gaps?,
        state,
    })
}

fn split(split: exports::Split) -> Result<Split, Failure> {
    let exports::Split {
        id,
        payload,
        created,
        expires,
        weight,
    } = split;
    if !(1..=SPLIT_ID_BYTES).contains(&id.len()) || payload.len() > SPLIT_PAYLOAD_BYTES {
        return refuse(format!(
            "a split's id has 1 to {SPLIT_ID_BYTES} bytes and its payload at most {SPLIT_PAYLOAD_BYTES}; this one \
             has {} and {}",
            id.len(),
            payload.len()
        ));
    }
    is_time("when a split was created", created)?;
    if let Some(expires) = expires {
        is_time("when a split expires", expires)?;
    }
    Ok(Split {
        id,
        payload,
        created_ms: created,
        expires_ms: expires,
        weight,
    })
}

/// Refuses what no calendar of ours can write, and no subtraction survives.
fn is_time(what: &str, ms: i64) -> Result<(), Failure> {
    if (0..=LAST_MS).contains(&ms) {
        return Ok(());
    }
    refuse(format!(
        "{what} is {ms} ms; times lie between 1970 and 9999"
    ))
}

fn refuse<T>(rule: String) -> Result<T, Failure> {
    Err(Failure::Internal(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn empty() -> exports::Discovery {
        exports::Discovery {
            splits: Vec::new(),
            next: exports::Next::Again,
            watermark: None,
            gaps: Vec::new(),
        }
    }

    fn one_split(created: i64, expires: Option<i64>) -> exports::Discovery {
        let (id, payload, weight) = ("one".into(), Vec::new(), u32::MAX);
        let splits = vec![exports::Split {
            id,
            payload,
            created,
            expires,
            weight,
        }];
        exports::Discovery { splits, ..empty() }
    }

    fn gaps(count: usize, since: i64, until: i64) -> exports::Discovery {
        let reason = "\u{1b}[31m".repeat(1_000);
        let gap = exports::Gap {
            since,
            until,
            reason,
        };
        exports::Discovery {
            gaps: vec![gap; count],
            ..empty()
        }
    }

    fn watermark(ms: i64) -> exports::Discovery {
        exports::Discovery {
            watermark: Some(ms),
            ..empty()
        }
    }

    fn check(found: exports::Discovery) -> Result<Discovery, String> {
        let stream = StreamKey::new("t", "s");
        let state = BTreeMap::new();
        discovery(&stream, found, state, 10, NOW_MS).map_err(|failure| failure.to_string())
    }

    #[track_caller]
    fn refused(found: exports::Discovery, words: &str) {
        let said = check(found).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn times_that_no_calendar_has_are_refused() {
        for ms in [i64::MIN, -1, LAST_MS + 1, i64::MAX] {
            refused(one_split(ms, None), "when a split was created");
            refused(one_split(0, Some(ms)), "when a split expires");
            refused(gaps(1, ms, 0), "the start of a gap");
            refused(gaps(1, 0, ms), "the end of a gap");
            refused(watermark(ms), "the watermark");
        }
        check(one_split(0, Some(LAST_MS))).unwrap();
    }

    #[test]
    fn a_position_lies_at_most_a_year_ahead() {
        refused(watermark(NOW_MS + AHEAD_MS + 1), "a year ahead");
        check(watermark(NOW_MS + AHEAD_MS)).unwrap();
        check(watermark(0)).unwrap();
    }

    #[test]
    fn gaps_are_few_and_their_reasons_short() {
        refused(gaps(GAPS + 1, 1, 2), "1001 gaps");
        let kept = check(gaps(GAPS, 1, 2)).unwrap().gaps;
        assert!(kept.iter().all(|gap| gap.reason.len() <= REASON_BYTES));
        assert!(!kept[0].reason.contains('\u{1b}'));
    }

    #[test]
    fn when_to_come_back_is_always_a_time() {
        for (asked, kept) in [(i64::MIN, 0), (7, 7), (i64::MAX, LAST_MS)] {
            let next = exports::Next::At(asked);
            let found = check(exports::Discovery { next, ..empty() }).unwrap();
            assert_eq!(found.next, Next::At(kept));
        }
    }

    #[test]
    fn names_are_short_and_can_be_shown() {
        let named = |name: &str, quota_key: &str| {
            let (name, quota_key) = (name.to_owned(), quota_key.to_owned());
            streams(vec![exports::Stream { name, quota_key }])
        };
        let long = "x".repeat(1 << 20);
        for (name, quota_key) in [
            ("", "q"),
            ("a\nb", "q"),
            (&long, "q"),
            ("s", &long),
            ("s", "\u{1b}"),
        ] {
            let said = named(name, quota_key).unwrap_err().to_string();
            assert!(
                said.len() < 400 && !said.contains(char::is_control),
                "{said}"
            );
        }
        assert_eq!(named("s", "").unwrap().len(), 1);
        assert_eq!(named("Audit.Exchange", "Größe").unwrap().len(), 1);
    }
}
