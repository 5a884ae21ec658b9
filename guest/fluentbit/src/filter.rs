//! One record to one event, in a buffer that is used again.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use serde_json::json;
use sluicegate_ecs::Mapper;

use crate::wrap::{self, Found};

/// A buffer larger than this is given back before the next record: one huge record should not cost
/// its memory for ever, and ordinary ones stay below a tenth of this.
const KEPT_BYTES: usize = 1 << 20;

/// Maps records, one after the other.
#[derive(Debug, Default)]
pub struct Filter {
    mapper: Mapper,
    out: Vec<u8>,
}

impl Filter {
    /// The event of a record (`None`: of one that found no room): one JSON object, and a NUL behind
    /// it that is the only one.
    ///
    /// `time_ms` is when the record arrived: the time of an event that does not say its own, and
    /// what its clock is compared with.
    pub fn filter(&mut self, record: Option<&[u8]>, time_ms: i64) -> &[u8] {
        if self.out.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.out.clear();
        match record {
            Some(record) => self.event(record, time_ms),
            None => self.fail("there was no memory for the record", b"", time_ms),
        }
        self.out.push(0);
        &self.out
    }

    fn event(&mut self, record: &[u8], time_ms: i64) {
        match wrap::find(&String::from_utf8_lossy(record)) {
            Found::Itself => self.map(record, time_ms),
            Found::Inside { record, beside } => {
                self.map(record.as_bytes(), time_ms);
                self.put_beside(&beside);
            }
            Found::Array(count) => {
                let reason = format!(
                    "{count} records in one: Fluent Bit takes one event for each record, so split \
                     the array before this filter"
                );
                self.fail(&reason, record, time_ms);
            }
        }
    }

    fn map(&mut self, record: &[u8], time_ms: i64) {
        self.mapper.set_arrival_ms(time_ms);
        if let Err(rejected) = self.mapper.map(record, &mut self.out) {
            self.fail(&rejected.reason, record, time_ms);
        }
    }

    /// What the input says of where a record came from stays, under a name that ECS leaves free.
    fn put_beside(&mut self, beside: &str) {
        if !beside.is_empty() && self.out.pop_if(|last| *last == b'}').is_some() {
            self.out.extend_from_slice(b",\"fluent_bit\":{");
            self.out.extend_from_slice(beside.as_bytes());
            self.out.extend_from_slice(b"}}");
        }
    }

    /// The event of a record that cannot be mapped at all.
    fn fail(&mut self, reason: &str, record: &[u8], time_ms: i64) {
        let original: Cow<'_, str> = String::from_utf8_lossy(record);
        let time = DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
        let event = json!({
            "@timestamp": time.to_rfc3339_opts(SecondsFormat::Millis, true),
            "error": { "message": [reason] },
            "event": {
                "dataset": "o365.audit",
                "kind": "pipeline_error",
                "module": "o365",
                "original": original,
            },
            "tags": ["preserve_original_event"],
        });
        self.out.clear();
        self.out.extend_from_slice(event.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The event of a record, checked for what every answer keeps.
    fn event(filter: &mut Filter, record: &[u8]) -> Value {
        let answer = filter.filter(Some(record), 1_768_034_467_000);
        let (nul, body) = answer.split_last().expect("at least the NUL");
        assert!(*nul == 0 && !body.contains(&0), "one NUL, at the end");
        let event: Value = serde_json::from_slice(body).expect("JSON");
        assert!(event.is_object());
        event
    }

    #[test]
    fn the_wrapped_record_gives_the_event_of_the_record() {
        let record = r#"{"Id":"a","CreationTime":"2026-01-10T08:41:07","Operation":"X"}"#;
        let mut filter = Filter::default();
        let bare = event(&mut filter, record.as_bytes());
        assert_eq!(bare["event"]["id"], "a");
        assert_eq!(bare["event"]["action"], "X");
        let wrapped = json!({ "log": record }).to_string();
        assert_eq!(event(&mut filter, wrapped.as_bytes()), bare);
        let from_kafka = json!({ "topic": "audit", "payload": record }).to_string();
        let mut event = event(&mut filter, from_kafka.as_bytes());
        let beside = event
            .as_object_mut()
            .and_then(|event| event.remove("fluent_bit"));
        assert_eq!((beside, event), (Some(json!({ "topic": "audit" })), bare));
    }

    /// Every golden record that is a text.
    fn fixtures() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/o365");
        let kinds = std::fs::read_dir(folder).expect("the fixtures are here");
        let mut records = Vec::new();
        for kind in kinds.flatten() {
            let files = std::fs::read_dir(kind.path()).expect("one folder for each kind");
            for file in files.flatten() {
                let one_dot = file.file_name().to_string_lossy().matches('.').count() == 1;
                if one_dot && let Ok(text) = std::fs::read_to_string(file.path()) {
                    records.push(text);
                }
            }
        }
        assert!(records.len() > 150, "{} fixtures", records.len());
        records
    }

    #[test]
    fn a_line_of_text_gives_the_event_of_the_record_in_it() {
        let mut filter = Filter::default();
        // The original is what came: here the line, there the record.
        let event = |filter: &mut Filter, record: &str| {
            let mut event = event(filter, record.as_bytes());
            if let Some(members) = event["event"].as_object_mut() {
                members.remove("original");
            }
            event
        };
        for record in fixtures() {
            if Mapper::default()
                .map(record.as_bytes(), &mut Vec::new())
                .is_err()
            {
                continue;
            }
            let bare = event(&mut filter, &record);
            for (name, line) in [("log", record.clone()), ("message", format!("{record}\n"))] {
                let wrapped = json!({ name: line }).to_string();
                assert_eq!(event(&mut filter, &wrapped), bare, "{record}");
            }
        }
    }

    #[test]
    fn what_cannot_be_mapped_comes_out_marked() {
        let mut filter = Filter::default();
        for record in [
            "",
            "{",
            "5",
            r#"{"Id":}"#,
            "{\"Id\":\"a\"} \0",
            r#"{"log":"text"}"#,
        ] {
            let event = event(&mut filter, record.as_bytes());
            assert_eq!(event["event"]["kind"], "pipeline_error", "{record}");
            assert_eq!(event["event"]["original"], *record, "{record}");
            assert!(event["error"]["message"][0].is_string(), "{record}");
            assert!(event["@timestamp"].is_string(), "{record}");
        }
        let array = r#"{"log":"[{\"Id\":\"a\"},{\"Id\":\"b\"}]"}"#;
        let event = event(&mut filter, array.as_bytes());
        assert_eq!(event["event"]["original"], *array);
    }

    #[test]
    fn an_escaped_nul_stays_escaped() {
        let record = br#"{"Id":"a","CreationTime":"2026-01-10T08:41:07","Note":"x\u0000y"}"#;
        let event = event(&mut Filter::default(), record);
        assert_eq!(event["o365"]["audit"]["Note"], "x\0y");
    }

    #[test]
    fn a_huge_record_does_not_keep_its_memory() {
        let mut filter = Filter::default();
        let huge = json!({ "Id": "a", "Note": "x".repeat(4 * KEPT_BYTES) }).to_string();
        event(&mut filter, huge.as_bytes());
        assert!(filter.out.capacity() > KEPT_BYTES);
        event(&mut filter, br#"{"Id":"a"}"#);
        assert!(filter.out.capacity() < KEPT_BYTES);
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_object(record in prop::collection::vec(any::<u8>(), 0..200)) {
            event(&mut Filter::default(), &record);
        }

        #[test]
        fn any_text_in_any_member_gives_one_object(
            name in "(log|message|payload|Id|Operation|ClientIP|.{0,8})",
            text in "[\\x00-\\x1f\\x22\\x5c\\x7b\\x7d\\[\\]:,a-z\u{80}-\u{ffff}]{0,60}",
        ) {
            let record = json!({ name.clone(): text, "Workload": "x" }).to_string();
            event(&mut Filter::default(), record.as_bytes());
            // Control bytes as they are, which no JSON writer makes.
            let raw = format!("{{\"{name}\":\"{text}\"}}");
            event(&mut Filter::default(), raw.as_bytes());
        }
    }
}
