//! Sizes and durations as people write them: `64MiB`, `30s`, `8d`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number of bytes: `64MiB`, `512KiB`, `1GiB`, `10MB`, or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A duration: `250ms`, `30s`, `5m`, `2h`, `8d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

const PERIODS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZE_FORM: &str = "a size is a whole number and a unit, such as `512KiB`, `64MiB` or `1GiB`";
const PERIOD_FORM: &str =
    "a duration is a whole number and one of ms, s, m, h, d, such as `250ms`, `30s`, `5m` or `8d`";

/// A whole number, blanks, a unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let unit = text[end..].trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

impl Size {
    /// Reads a size; `None` for anything but a whole number with a known unit.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, &SIZES).map(Self)
    }
}

impl Period {
    /// Reads a duration; `None` for anything but a whole number with a known unit.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, &PERIODS).map(Duration::from_millis).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        match SIZES[..3].iter().find(fits) {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let fits =
            |(_, factor): &&(&str, u64)| millis > 0 && millis.is_multiple_of(u128::from(*factor));
        let (unit, factor) = PERIODS.iter().rev().find(fits).unwrap_or(&PERIODS[1]);
        write!(formatter, "{}{unit}", millis / u128::from(*factor))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size such as `64MiB`")
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text)
                    .ok_or_else(|| E::custom(format!("`{text}` is not a size\n{SIZE_FORM}")))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration such as `30s`")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Period, E> {
                Err(E::custom(format!("`{number}` has no unit\n{PERIOD_FORM}")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
                Period::parse(text)
                    .ok_or_else(|| E::custom(format!("`{text}` is not a duration\n{PERIOD_FORM}")))
            }
        }
        deserializer.deserialize_any(PeriodVisitor)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "x-kind": "size",
            "minimum": 0,
            "pattern": "^[0-9]+ *(GiB|MiB|KiB|GB|MB|kB|KB|B)$",
        })
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-kind": "duration",
            "pattern": "^[0-9]+ *(ms|s|m|h|d)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_written_and_print_back() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1 GiB", 1 << 30),
            ("10MB", 10_000_000),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "64",
            "64 mib",
            "-1MiB",
            "1.5GiB",
            "99999999999GiB",
            "1MiB x",
        ] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
        for text in ["64MiB", "1GiB", "3KiB", "1000B"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("8d", 691_200_000),
        ] {
            assert_eq!(
                Period::parse(text),
                Some(Period(Duration::from_millis(millis))),
                "{text}"
            );
            assert_eq!(Period(Duration::from_millis(millis)).to_string(), text);
        }
        for text in ["", "30", "s", "1w", "1h30m", "-5s"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }
}
