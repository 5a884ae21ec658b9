//! Families of samples, and the page that they are written on; the Prometheus text format, version 0.0.4, in pieces.
//!
//! Of the text nothing is kept that was handed over, so that the answer for thousands of streams needs no more memory
//! than that for one. A reader that is gone ends the work.

use std::fmt::{Display, Write as _};

use bytes::Bytes;

use super::histogram::Histogram;

/// What the answer is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A piece is handed over once it has so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Any value.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The labels of a sample, escaped once however many samples have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// One more label; `name` is one of ours, the value may hold anything.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = self.0.clone();
        if !text.is_empty() {
            text.push(',');
        }
        add(&mut text, name, value);
        Self(text)
    }

    /// Their names and values, as they were before they were escaped.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut rest = self.0.as_str();
        while let Some((name, after)) = rest.split_once("=\"") {
            let mut value = String::new();
            let mut letters = after.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => match letters.next() {
                        Some('n') => value.push('\n'),
                        Some(other) => value.push(other),
                        None => {}
                    },
                    other => value.push(other),
                }
            }
            pairs.push((name.trim_start_matches(',').to_owned(), value));
            rest = letters.as_str();
        }
        pairs
    }
}

/// Adds one label.
fn add(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Milliseconds as seconds, to the last digit.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub i64);

impl Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(formatter, "{sign}{}.{:03}", ms / 1_000, ms % 1_000)
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count or a size.
    Whole(u64),
    /// Anything between.
    Fraction(f64),
    /// A time, told in seconds.
    Milliseconds(i64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<&u64> for Number {
    fn from(number: &u64) -> Self {
        Self::Whole(*number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Fraction(number)
    }
}

impl From<Seconds> for Number {
    fn from(seconds: Seconds) -> Self {
        Self::Milliseconds(seconds.0)
    }
}

impl Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(formatter),
            Self::Fraction(number) => number.fmt(formatter),
            Self::Milliseconds(ms) => Seconds(*ms).fmt(formatter),
        }
    }
}

/// Where families are written. Each is begun once, with all of its samples after it.
pub trait Page {
    /// Begins a family.
    fn begin(&mut self, name: &str, kind: Kind, help: &str);

    /// A sample of the family that was begun last, with its labels and perhaps one more.
    fn sample(&mut self, labels: &Labels, more: Option<(&str, &str)>, value: Number);

    /// A histogram of the family that was begun last.
    fn histogram(&mut self, labels: &Labels, histogram: &Histogram);
}

impl dyn Page + '_ {
    /// Begins a family. Each is written once, with all of its samples: the text format wants them together.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        self.begin(name, kind, help);
        Family { page: self }
    }
}

/// The text on its way to whoever asked.
pub struct Text<'a> {
    piece: String,
    /// The family that was begun last.
    name: String,
    /// Takes a piece over; false when nobody reads it any more.
    hand_over: &'a mut (dyn FnMut(Bytes) -> bool + Send),
    wanted: bool,
}

impl<'a> Text<'a> {
    /// An empty text whose pieces go to `hand_over`, which says false when nobody reads them any more.
    pub fn new(hand_over: &'a mut (dyn FnMut(Bytes) -> bool + Send)) -> Self {
        Self {
            piece: String::with_capacity(PIECE_BYTES + 1_024),
            name: String::new(),
            hand_over,
            wanted: true,
        }
    }

    /// Hands the rest over.
    pub fn end(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        if self.wanted && !self.piece.is_empty() {
            let piece = Bytes::copy_from_slice(self.piece.as_bytes());
            self.wanted = (self.hand_over)(piece);
        }
        self.piece.clear();
    }
}

impl Page for Text<'_> {
    fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let kind = kind.name();
        let _ = writeln!(self.piece, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name.clone_into(&mut self.name);
    }

    fn sample(&mut self, labels: &Labels, more: Option<(&str, &str)>, value: Number) {
        self.write("", labels, more, value);
    }

    /// Its buckets, each holding those before it, the sum in seconds and the count.
    fn histogram(&mut self, labels: &Labels, histogram: &Histogram) {
        for (bound, so_far) in histogram.buckets() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.write("_bucket", labels, Some(("le", &bound)), so_far.into());
        }
        let sum_ms = i64::try_from(histogram.sum_ms()).unwrap_or(i64::MAX);
        self.write("_sum", labels, None, Seconds(sum_ms).into());
        self.write("_count", labels, None, histogram.count().into());
    }
}

impl Text<'_> {
    fn write(&mut self, suffix: &str, labels: &Labels, more: Option<(&str, &str)>, value: Number) {
        if !self.wanted {
            return;
        }
        let text = &mut self.piece;
        text.push_str(&self.name);
        text.push_str(suffix);
        if !labels.0.is_empty() || more.is_some() {
            text.push('{');
            text.push_str(&labels.0);
            if let Some((name, of)) = more {
                if !labels.0.is_empty() {
                    text.push(',');
                }
                add(text, name, of);
            }
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
        if text.len() >= PIECE_BYTES {
            self.flush();
        }
    }
}

/// A family whose samples are being written.
pub struct Family<'p> {
    page: &'p mut (dyn Page + 'p),
}

impl Family<'_> {
    /// A sample.
    pub fn sample(&mut self, labels: &Labels, value: impl Into<Number>) {
        self.page.sample(labels, None, value.into());
    }

    /// A sample with one label more.
    pub fn sample_with(&mut self, labels: &Labels, more: (&str, &str), value: impl Into<Number>) {
        self.page.sample(labels, Some(more), value.into());
    }

    /// A histogram.
    pub fn histogram(&mut self, labels: &Labels, histogram: &Histogram) {
        self.page.histogram(labels, histogram);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All pieces of a text.
    pub(crate) fn written(write: impl FnOnce(&mut dyn Page)) -> String {
        let mut whole = Vec::new();
        let mut hand_over = |piece: Bytes| {
            whole.extend_from_slice(&piece);
            true
        };
        let mut text = Text::new(&mut hand_over);
        write(&mut text);
        text.end();
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn names_of_tenants_are_escaped_and_help_is_one_line() {
        let labels = Labels::default()
            .with("tenant", "a\"b\\c\nd")
            .with("stream", "ä {}=,");
        let text = written(|text| {
            let mut family = text.family("x_total", Kind::Counter, "One\\two\nthree \"four\".");
            family.sample(&labels, 7_u64);
            family.sample_with(&labels, ("outcome", "o\"k"), 8_u64);
            family.sample_with(&Labels::default(), ("outcome", ""), 9_u64);
            family.sample(&Labels::default(), 10_u64);
        });
        let expected = [
            r#"# HELP x_total One\\two\nthree "four"."#,
            "# TYPE x_total counter",
            r#"x_total{tenant="a\"b\\c\nd",stream="ä {}=,"} 7"#,
            r#"x_total{tenant="a\"b\\c\nd",stream="ä {}=,",outcome="o\"k"} 8"#,
            r#"x_total{outcome=""} 9"#,
            "x_total 10",
            "",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn labels_can_be_read_again() {
        let written = [
            ("tenant", "a\"b\\c\nd"),
            ("stream", "ä {}=,=\""),
            ("none", ""),
        ];
        let labels = written.iter();
        let labels = labels.fold(Labels::default(), |all, (name, value)| {
            all.with(name, value)
        });
        let pairs = labels.pairs();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(pairs, written);
        assert!(Labels::default().pairs().is_empty());
    }

    #[test]
    fn buckets_hold_those_before_them_and_end_with_all() {
        let mut histogram = Histogram::default();
        for ms in [400, 2_000, 90_000, 10_000_000_000] {
            histogram.add(ms);
        }
        let labels = Labels::default().with("part", "p");
        let text = written(|text| {
            let mut family = text.family("lag_seconds", Kind::Histogram, "Lag.");
            family.histogram(&labels, &histogram);
        });
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 16);
        assert_eq!(lines[0], r#"lag_seconds_bucket{part="p",le="1"} 1"#);
        assert_eq!(lines[1], r#"lag_seconds_bucket{part="p",le="5"} 2"#);
        assert_eq!(lines[4], r#"lag_seconds_bucket{part="p",le="300"} 3"#);
        assert_eq!(lines[12], r#"lag_seconds_bucket{part="p",le="604800"} 3"#);
        assert_eq!(lines[13], r#"lag_seconds_bucket{part="p",le="+Inf"} 4"#);
        assert_eq!(lines[14], r#"lag_seconds_sum{part="p"} 10000092.400"#);
        assert_eq!(lines[15], r#"lag_seconds_count{part="p"} 4"#);
        let counts: Vec<u64> = lines[..14]
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(counts.is_sorted(), "{counts:?}");
    }

    #[test]
    fn seconds_are_exact() {
        let shown = [0, 1, 1_500, -1, -61_001, i64::MIN].map(|ms| Seconds(ms).to_string());
        assert_eq!(
            shown,
            [
                "0.000",
                "0.001",
                "1.500",
                "-0.001",
                "-61.001",
                "-9223372036854775.808"
            ]
        );
    }

    #[test]
    fn a_long_text_comes_in_pieces_and_ends_with_its_reader() {
        let (mut pieces, mut largest) = (0, 0);
        let mut hand_over = |piece: Bytes| {
            pieces += 1;
            largest = largest.max(piece.len());
            pieces < 3
        };
        let mut text = Text::new(&mut hand_over);
        let page: &mut dyn Page = &mut text;
        let mut family = page.family("x", Kind::Gauge, "X.");
        for number in 0..100_000_u64 {
            family.sample(&Labels::default().with("tenant", "contoso"), number);
        }
        text.end();
        assert_eq!(pieces, 3, "nothing more is handed over than is read");
        assert!(largest < PIECE_BYTES + 1_024, "{largest}");
    }
}
