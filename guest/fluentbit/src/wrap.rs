//! Where the audit record stands in what Fluent Bit hands over.
//!
//! An input that parses JSON hands over the record itself; one that does not (a tailed file, a
//! Kafka topic) wraps its text in a member of its own, beside where it came from.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A record has one of these, and what it wraps is then no other record.
const OWN: [&str; 5] = ["CreationTime", "Id", "Operation", "RecordType", "o365audit"];

/// Under these the inputs of Fluent Bit hand over a line or message: tail and stdin, syslog and
/// systemd's forwarders, Kafka.
const WRAPPERS: [&str; 3] = ["log", "message", "payload"];

/// A text in a wrapper may be wrapped again (a container's log driver does that). Three levels were
/// never seen; the limit is there so that hostile nesting costs no more.
const LEVELS: u32 = 4;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The object is the record, or nobody knows what it is.
    Itself,
    /// The text of the record, and the members that stood beside it.
    Inside { record: String, beside: String },
    /// An array that does not hold exactly one record.
    Array(usize),
}

/// Looks for the record in an object.
pub(crate) fn find(object: &str) -> Found {
    let mut beside = String::new();
    match open(bare(object), &mut beside, LEVELS) {
        Found::Inside { record, .. } => Found::Inside { record, beside },
        other => other,
    }
}

fn open(object: &str, beside: &mut String, levels: u32) -> Found {
    // An error is the word of `Members` that this is the record, or text that is no JSON, about
    // which the mapper says more.
    let Ok(members) = serde_json::Deserializer::from_str(object).deserialize_map(Members) else {
        return Found::Itself;
    };
    for wrapper in WRAPPERS {
        let Some(at) = members.iter().position(|(name, _)| name == wrapper) else {
            continue;
        };
        let found = value(members[at].1.get(), beside, levels);
        if found == Found::Itself {
            continue;
        }
        for (name, value) in members
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at)
            .map(|(_, m)| m)
        {
            if !beside.is_empty() {
                beside.push(',');
            }
            beside.push_str(&serde_json::Value::from(name.as_str()).to_string());
            beside.push(':');
            beside.push_str(value.get());
        }
        return found;
    }
    Found::Itself
}

/// What a wrapper holds; `Itself` when that is no record.
fn value(json: &str, beside: &mut String, levels: u32) -> Found {
    let json = bare(json);
    let Some(levels) = levels.checked_sub(1) else {
        return Found::Itself;
    };
    match json.as_bytes().first() {
        Some(b'{') => match open(json, beside, levels) {
            Found::Itself => Found::Inside {
                record: json.to_owned(),
                beside: String::new(),
            },
            other => other,
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(json).as_deref() {
            Ok([one]) => value(one.get(), beside, levels),
            Ok(many) => Found::Array(many.len()),
            Err(_) => Found::Itself,
        },
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) => value(&text, beside, levels),
            Err(_) => Found::Itself,
        },
        _ => Found::Itself,
    }
}

/// Without white space around it and the mark that some programs begin a file with.
fn bare(json: &str) -> &str {
    let json = json.trim_ascii();
    json.strip_prefix('\u{feff}').unwrap_or(json).trim_ascii()
}

/// The members of an object, unless it is a record.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            // Most records say so within their first members, so little is read twice.
            if OWN.contains(&name.as_str()) {
                return Err(de::Error::custom("this is the record"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map_or(Found::Itself, |(record, beside)| Found::Inside {
            record: record.to_owned(),
            beside: beside.to_owned(),
        });
        assert_eq!(find(object), expected, "{object}");
    }

    #[test]
    fn a_record_is_found_where_inputs_put_it() {
        check(r#"{"Id":"a","log":"{}"}"#, None);
        check(r#"{"log":"{}","Operation":"x"}"#, None);
        check(r#"{"o365audit":{"Id":"a"},"message":"{}"}"#, None);
        check(r#"{"log":"plain text"}"#, None);
        check(r#"{"level":"info"}"#, None);
        check(r#"{"log":5}"#, None);
        check("{", None);
        check(r#"{"log":"{\"Id\":\"a\"}\n"}"#, Some((r#"{"Id":"a"}"#, "")));
        check(r#"{"message":{"Id":"a"}}"#, Some((r#"{"Id":"a"}"#, "")));
        check(r#"{"log":"[{\"Id\":\"a\"}]"}"#, Some((r#"{"Id":"a"}"#, "")));
        check(
            r#"{"topic":"t","payload":"{\"Id\":\"a\"}","offset":7}"#,
            Some((r#"{"Id":"a"}"#, r#""topic":"t","offset":7"#)),
        );
        check(
            r#"{"log":"noise","message":"{\"Id\":\"a\"}"}"#,
            Some((r#"{"Id":"a"}"#, r#""log":"noise""#)),
        );
        check(
            r#"{"log":"{\"log\":\"{\\\"Id\\\":\\\"a\\\"}\",\"stream\":\"out\"}","pod":"p"}"#,
            Some((r#"{"Id":"a"}"#, r#""stream":"out","pod":"p""#)),
        );
    }

    #[test]
    fn a_broken_record_inside_is_still_the_record() {
        check(r#"{"log":"{\"Id\":\"a\""}"#, Some((r#"{"Id":"a""#, "")));
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let record = r#"{"Id":"a"}"#;
        check(
            "{\"log\":\"\u{feff}{\\\"Id\\\":\\\"a\\\"}\\n\"}",
            Some((record, "")),
        );
        check(
            "\u{feff}{\"log\":\"{\\\"Id\\\":\\\"a\\\"}\"}",
            Some((record, "")),
        );
        check("\u{feff}{\"Id\":\"a\"}", None);
    }

    #[test]
    fn one_event_cannot_stand_for_several() {
        assert_eq!(
            find(r#"{"log":"[{\"Id\":\"a\"},{\"Id\":\"b\"}]"}"#),
            Found::Array(2)
        );
        assert_eq!(find(r#"{"log":"[]"}"#), Found::Array(0));
    }

    #[test]
    fn nesting_without_end_is_left_alone() {
        let mut object = r#"{"Id":"a"}"#.to_owned();
        for _ in 0..8 {
            object = format!(r#"{{"log":{object}}}"#);
        }
        assert!(matches!(find(&object), Found::Inside { record, .. } if record.contains("log")));
    }
}
