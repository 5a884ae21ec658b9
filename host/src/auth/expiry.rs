//! How long a certificate still lives, and when people are told.
//!
//! A certificate's end is known for a year and still surprises everybody, so it is announced three
//! times, and said aloud at every sign-in once it has come.

use super::certificate::Validity;

/// Days before its end at which a certificate is announced: time to order a new one, time to put it
/// in place, and the last call before a weekend.
pub const WARN_DAYS: [i64; 3] = [30, 14, 3];

const DAY_MS: i64 = 86_400_000;

/// Where a certificate stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Far from its end.
    #[default]
    Fine,
    /// So many of [`WARN_DAYS`] have been passed.
    Soon(usize),
    /// It has expired.
    Over,
}

impl Validity {
    /// Where the certificate stands at this moment.
    pub fn stage(self, now_ms: i64) -> Stage {
        if now_ms > self.until_ms {
            return Stage::Over;
        }
        let passed = WARN_DAYS
            .iter()
            .filter(|days| self.until_ms - now_ms <= **days * DAY_MS)
            .count();
        if passed == 0 {
            Stage::Fine
        } else {
            Stage::Soon(passed)
        }
    }

    /// Whole days until its end; negative when that has passed.
    pub fn days_left(self, now_ms: i64) -> i64 {
        (self.until_ms - now_ms).div_euclid(DAY_MS)
    }

    /// What to say about it now, if anything: without a full stop.
    pub fn sentence(self, now_ms: i64) -> Option<String> {
        let end = crate::engine::rfc3339(self.until_ms);
        if now_ms < self.from_ms {
            let from = crate::engine::rfc3339(self.from_ms);
            return Some(format!("the certificate is not valid before {from}"));
        }
        match (self.stage(now_ms), self.days_left(now_ms)) {
            (Stage::Fine, _) => None,
            (Stage::Soon(_), 0) => Some(format!("the certificate expires today, at {end}")),
            (Stage::Soon(_), days) => Some(format!(
                "the certificate expires in {days} day(s), at {end}"
            )),
            (Stage::Over, _) => Some(format!("the certificate has expired, at {end}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_announced_three_times_and_then_said() {
        let until_ms = 1_000 * DAY_MS;
        let validity = Validity {
            from_ms: 0,
            until_ms,
        };
        for (before_ms, stage, words) in [
            (31 * DAY_MS, Stage::Fine, None),
            (30 * DAY_MS + 1, Stage::Fine, None),
            (30 * DAY_MS, Stage::Soon(1), Some("in 30 day(s)")),
            (14 * DAY_MS + 1, Stage::Soon(1), Some("in 14 day(s)")),
            (14 * DAY_MS, Stage::Soon(2), Some("in 14 day(s)")),
            (3 * DAY_MS, Stage::Soon(3), Some("in 3 day(s)")),
            (DAY_MS - 1, Stage::Soon(3), Some("expires today")),
            (0, Stage::Soon(3), Some("expires today")),
            (
                -1,
                Stage::Over,
                Some("has expired, at 1972-09-27T00:00:00Z"),
            ),
        ] {
            let now_ms = until_ms - before_ms;
            assert_eq!(validity.stage(now_ms), stage, "{before_ms}");
            let sentence = validity.sentence(now_ms);
            assert_eq!(sentence.is_some(), words.is_some(), "{before_ms}");
            if let (Some(sentence), Some(words)) = (sentence, words) {
                assert!(sentence.contains(words), "{before_ms}: {sentence}");
            }
        }
        let early = validity.sentence(-1).unwrap();
        assert!(early.contains("not valid before 1970-01-01"), "{early}");
    }
}
