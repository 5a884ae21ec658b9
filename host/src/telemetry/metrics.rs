//! The families of `/metrics` as metrics of OTLP, under the same names.

use super::message;
use super::message::{
    CUMULATIVE, Data, Gauge, HistogramDataPoint, Metric, NumberDataPoint, Sum, Value,
};
use crate::metrics::histogram::{BOUNDS, Histogram};
use crate::metrics::text::{Kind, Labels, Number, Page};
use crate::sink::otlp::message::{KeyValue, nanoseconds};

/// So many points are told in one request, and those of a family that began in it: some megabytes, where collectors
/// take twenty.
const POINTS: usize = 20_000;

/// Metrics at one moment.
pub(super) struct Metrics {
    started: u64,
    now: u64,
    families: Vec<Metric>,
}

impl Metrics {
    /// None yet; values count from the start of the process.
    pub fn new(started_ms: i64, now_ms: i64) -> Self {
        Self {
            started: nanoseconds(started_ms),
            now: nanoseconds(now_ms),
            families: Vec::new(),
        }
    }

    /// The families, in as many parts as there are to be requests.
    pub fn parts(self) -> Vec<Vec<Metric>> {
        let (mut parts, mut points) = (Vec::new(), POINTS);
        for family in self.families {
            if points >= POINTS {
                parts.push(Vec::new());
                points = 0;
            }
            points += match &family.data {
                Some(Data::Gauge(gauge)) => gauge.data_points.len(),
                Some(Data::Sum(sum)) => sum.data_points.len(),
                Some(Data::Histogram(histogram)) => histogram.data_points.len(),
                None => 0,
            };
            if let Some(part) = parts.last_mut() {
                part.push(family);
            }
        }
        parts
    }
}

impl Page for Metrics {
    fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let temporality = CUMULATIVE;
        self.families.push(Metric {
            name: name.to_owned(),
            description: help.to_owned(),
            unit: unit(name).to_owned(),
            data: Some(match kind {
                Kind::Gauge => Data::Gauge(Gauge::default()),
                Kind::Counter => Data::Sum(Sum {
                    data_points: Vec::new(),
                    aggregation_temporality: temporality,
                    is_monotonic: true,
                }),
                Kind::Histogram => Data::Histogram(message::Histogram {
                    data_points: Vec::new(),
                    aggregation_temporality: temporality,
                }),
            }),
        });
    }

    fn sample(&mut self, labels: &Labels, more: Option<(&str, &str)>, value: Number) {
        let Some(data) = self.families.last_mut().and_then(|last| last.data.as_mut()) else {
            return;
        };
        let (start, points) = match data {
            // What goes up and down has no beginning.
            Data::Gauge(gauge) => (0, &mut gauge.data_points),
            Data::Sum(sum) => (self.started, &mut sum.data_points),
            Data::Histogram(_) => return,
        };
        points.push(NumberDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: self.now,
            attributes: attributes(labels, more),
            value: Some(match value {
                Number::Whole(number) => Value::Int(i64::try_from(number).unwrap_or(i64::MAX)),
                Number::Fraction(number) => Value::Double(number),
                Number::Milliseconds(ms) => Value::Double(seconds(ms)),
            }),
        });
    }

    fn histogram(&mut self, labels: &Labels, histogram: &Histogram) {
        let last = self.families.last_mut();
        let Some(Data::Histogram(data)) = last.and_then(|last| last.data.as_mut()) else {
            return;
        };
        let mut before = 0;
        let counts = histogram.buckets().map(|(_, so_far)| {
            let alone = so_far - before;
            before = so_far;
            alone
        });
        data.data_points.push(HistogramDataPoint {
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            count: histogram.count(),
            sum: Some(seconds(
                i64::try_from(histogram.sum_ms()).unwrap_or(i64::MAX),
            )),
            bucket_counts: counts.collect(),
            explicit_bounds: BOUNDS.map(whole).to_vec(),
            attributes: attributes(labels, None),
        });
    }
}

/// What the end of a name says (<https://ucum.org>).
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if name.ends_with("_bytes") {
        "By"
    } else if name.ends_with("_seconds") {
        "s"
    } else {
        ""
    }
}

fn attributes(labels: &Labels, more: Option<(&str, &str)>) -> Vec<KeyValue> {
    let own = labels.pairs().into_iter();
    let own = own.map(|(name, value)| KeyValue::text(name, value));
    let more = more.map(|(name, value)| KeyValue::text(name, value));
    own.chain(more).collect()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a double holds every duration of a process to the millisecond"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

#[allow(clippy::cast_precision_loss, reason = "bounds are small")]
fn whole(bound: u64) -> f64 {
    bound as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_come_in_several_parts() {
        let mut metrics = Metrics::new(0, 0);
        assert!(Metrics::new(0, 0).parts().is_empty());
        let page: &mut dyn Page = &mut metrics;
        for (name, points) in [
            ("a", 1),
            ("b", POINTS),
            ("c", 2),
            ("d", POINTS - 2),
            ("e", 1),
        ] {
            let mut family = page.family(name, Kind::Gauge, "");
            for number in 0..points {
                family.sample(&Labels::default(), number as u64);
            }
        }
        let parts = metrics.parts().into_iter().map(|part| {
            let names = part.into_iter().map(|family| family.name);
            names.collect::<Vec<_>>().concat()
        });
        assert_eq!(parts.collect::<Vec<_>>(), ["ab", "cd", "e"]);
    }

    #[test]
    fn families_keep_their_names_labels_and_values() {
        let mut metrics = Metrics::new(1_000, 2_000);
        let page: &mut dyn Page = &mut metrics;
        let labels = Labels::default().with("tenant", "a\"b\\c\nd,e=\"f\"");
        let mut family = page.family("x_bytes_total", Kind::Counter, "X.");
        family.sample_with(&labels, ("outcome", "ok"), 7_u64);
        let mut family = page.family("y_seconds", Kind::Gauge, "Y.");
        family.sample(&Labels::default(), crate::metrics::text::Seconds(-1_500));
        let mut histogram = Histogram::default();
        for ms in [400, 2_000, 700_000_000] {
            histogram.add(ms);
        }
        let mut family = page.family("z_seconds", Kind::Histogram, "Z.");
        family.histogram(&labels, &histogram);
        let [x, y, z] = &metrics.families[..] else {
            panic!("{:?}", metrics.families)
        };
        let tenant = KeyValue::text("tenant", "a\"b\\c\nd,e=\"f\"");
        let Some(Data::Sum(sum)) = &x.data else {
            panic!("{x:?}")
        };
        assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE);
        let point = NumberDataPoint {
            start_time_unix_nano: 1_000_000_000,
            time_unix_nano: 2_000_000_000,
            attributes: vec![tenant.clone(), KeyValue::text("outcome", "ok")],
            value: Some(Value::Int(7)),
        };
        assert_eq!(sum.data_points, [point]);
        assert_eq!(
            (&*x.name, &*x.description, &*x.unit),
            ("x_bytes_total", "X.", "By")
        );
        let Some(Data::Gauge(gauge)) = &y.data else {
            panic!("{y:?}")
        };
        assert_eq!(gauge.data_points[0].value, Some(Value::Double(-1.5)));
        assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
        let Some(Data::Histogram(data)) = &z.data else {
            panic!("{z:?}")
        };
        let point = &data.data_points[0];
        assert_eq!((point.count, point.sum), (3, Some(700_002.4)));
        assert_eq!(point.attributes, [tenant]);
        let mut wanted = vec![0; BOUNDS.len() + 1];
        for bucket in [0, 1, BOUNDS.len()] {
            wanted[bucket] = 1;
        }
        assert_eq!(point.bucket_counts, wanted);
        assert_eq!(point.explicit_bounds.len() + 1, point.bucket_counts.len());
    }
}
