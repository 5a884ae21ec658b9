//! Durations counted by how long they were: fixed bounds, no allocation, in the shape that Prometheus reads.
//!
//! Adding one costs a few comparisons and an addition, so it can be done for every event; histograms of batches
//! are added up.

use std::ops::AddAssign;

/// Upper bounds in seconds, each included in its bucket. Seconds matter to what this program does itself; the service
/// makes content available after minutes to hours, sometimes days, and forgets it after seven of them.
pub const BOUNDS: [u64; 13] = [
    1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 21_600, 86_400, 259_200, 604_800,
];

/// How many durations fell into each bucket, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One for each bound, and one for what is longer than all of them.
    counts: [u64; BOUNDS.len() + 1],
    sum_ms: u64,
}

impl Histogram {
    /// Counts a duration. A negative one says that two clocks differ; it counts as none at all.
    pub fn add(&mut self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        let bucket = BOUNDS.partition_point(|bound| bound * 1_000 < ms);
        self.counts[bucket] += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// How many durations were counted (`_count`).
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in milliseconds (`_sum`, once it is divided by a thousand).
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    /// How many were no longer than each bound (`_bucket`): the bound in seconds, which is `None` for the last one,
    /// that has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        let mut so_far = 0;
        bounds.zip(self.counts).map(move |(bound, count)| {
            so_far += count;
            (bound, so_far)
        })
    }
}

impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets in which something is, not added up.
    fn filled(histogram: &Histogram) -> Vec<(Option<u64>, u64)> {
        let mut before = 0;
        let alone = |(bound, so_far)| {
            let alone = so_far - before;
            before = so_far;
            (bound, alone)
        };
        let buckets = histogram.buckets().map(alone);
        buckets.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let cases = [
            (-5_000, Some(1)),
            (0, Some(1)),
            (1_000, Some(1)),
            (1_001, Some(5)),
            (59_999, Some(60)),
            (604_800_000, Some(604_800)),
            (604_800_001, None),
            (i64::MAX, None),
        ];
        for (ms, bound) in cases {
            let mut histogram = Histogram::default();
            histogram.add(ms);
            assert_eq!(filled(&histogram), [(bound, 1)], "{ms}");
        }
    }

    #[test]
    fn sums_leave_out_what_is_negative_and_add_up() {
        let mut one = Histogram::default();
        for ms in [-1, 400, 2_000] {
            one.add(ms);
        }
        let mut other = Histogram::default();
        other.add(90_000);
        other += one;
        assert_eq!((other.count(), other.sum_ms()), (4, 92_400));
        assert_eq!(filled(&other), [(Some(1), 2), (Some(5), 1), (Some(300), 1)]);
        assert_eq!(other.buckets().last(), Some((None, 4)));
        assert!(other.buckets().is_sorted_by_key(|(_, count)| count));
    }
}
