//! Every record of tests/fixtures/o365 gives the event beside it.
//!
//! `<case>.json` is the record, `<case>.ecs.json` the event, `<case>.options.json` the options when
//! they are not the default ones (`arrival_ms` among them is when the record arrived).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluicegate_ecs::{Mapper, Options};

use crate::{check_file, event, root};

pub(crate) fn cases() -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures/o365");
    let mut cases = Vec::new();
    for kind in fs::read_dir(folder).expect("the fixtures are part of the repository") {
        for file in fs::read_dir(kind.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.matches('.').count() == 1 {
                cases.push(path);
            }
        }
    }
    cases.sort();
    cases
}

fn mapper(case: &std::path::Path) -> Mapper {
    let text = fs::read_to_string(case.with_extension("options.json"));
    let mut options: Value = serde_json::from_str(&text.unwrap_or("{}".into())).unwrap();
    let arrival = options.as_object_mut().unwrap().remove("arrival_ms");
    let options: Options = serde_json::from_value(options).unwrap();
    let mut mapper = Mapper::new(options);
    if let Some(arrival) = arrival {
        mapper.set_arrival_ms(arrival.as_i64().unwrap());
    }
    mapper
}

#[test]
fn every_fixture_gives_its_event() {
    let cases = cases();
    assert!(cases.len() > 150, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in cases {
        let record = fs::read(&case).unwrap();
        let event = match event(&mut mapper(&case), &record) {
            Ok(event) => event,
            Err(reason) => json!({ "rejected": reason }),
        };
        let text = format!("{event:#}\n");
        if let Err(failure) = check_file(&case.with_extension("ecs.json"), &text) {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn one_mapper_maps_many_records_as_many_mappers_do() {
    let mut shared = Mapper::new(Options::default());
    for case in cases() {
        let record = fs::read(&case).unwrap();
        let alone = event(&mut Mapper::new(Options::default()), &record);
        assert_eq!(event(&mut shared, &record), alone, "{}", case.display());
    }
}

#[test]
fn the_identity_of_a_record() {
    let mut mapper = Mapper::new(Options::default());
    let mut id = |record: &str| {
        let event = mapper.map(record.as_bytes(), &mut Vec::new()).unwrap();
        (mapper.id().to_owned(), event.fingerprint)
    };
    assert_eq!(id(r#"{"Id":"a"}"#).0, "a");
    assert_eq!(id(r#"{"Id":"a","RecordNumber":7}"#).0, "a#7");
    assert_eq!(id(r#"{"Id":12}"#).0, "12");
    for unusable in [
        r#"{"Id":""}"#,
        r#"{"Id":null}"#,
        r#"{"Id":{"a":1}}"#,
        r#"{"X":1}"#,
        "{}",
    ] {
        let (id, fingerprint) = id(unusable);
        assert_eq!(id, format!("{fingerprint:016x}"), "{unusable}");
    }
    let long = format!(r#"{{"Id":"{}"}}"#, "x".repeat(600));
    assert_eq!(id(&long).0.len(), 16);
}

#[test]
fn the_fingerprint_is_of_the_content() {
    let mut mapper = Mapper::new(Options::default());
    let mut fingerprint = |record: &str| {
        mapper
            .map(record.as_bytes(), &mut Vec::new())
            .unwrap()
            .fingerprint
    };
    let one = fingerprint(r#"{"Id":"a","B":{"x":1,"y":[1,2]},"C":"text"}"#);
    assert_eq!(
        one,
        fingerprint("{\n \"C\": \"text\",\n \"B\": {\"y\": [1, 2], \"x\": 1}, \"Id\": \"a\"}")
    );
    assert_ne!(
        one,
        fingerprint(r#"{"Id":"a","B":{"x":1,"y":[2,1]},"C":"text"}"#)
    );
    assert_ne!(
        one,
        fingerprint(r#"{"Id":"a","B":{"x":1,"y":[1,2]},"C":"texu"}"#)
    );
}

#[test]
fn times() {
    let mut mapper = Mapper::new(Options::default());
    let mut out = Vec::new();
    let known = mapper
        .map(
            br#"{"Id":"a","CreationTime":"1970-01-01T00:00:01"}"#,
            &mut out,
        )
        .unwrap();
    assert_eq!((known.time_ms, known.has_time), (1000, true));
    mapper.set_arrival_ms(2000);
    out.clear();
    let known = mapper.map(br#"{"Id":"a"}"#, &mut out).unwrap();
    assert_eq!((known.time_ms, known.has_time), (0, false));
    let event: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(event["@timestamp"], "1970-01-01T00:00:02.000Z");
}

/// The paths of an event outside the record that the table does not know.
fn unknown_fields(path: &str, value: &Value, unknown: &mut Vec<String>) {
    let rows = || sluicegate_ecs::table::fields::rows().map(|row| row.name);
    if matches!(path, "o365.audit" | "o365audit") || rows().any(|name| name == path) {
        return;
    }
    let Some(members) = value.as_object().filter(|_| {
        let inside = format!("{path}.");
        path.is_empty() || path == "o365" || rows().any(|name| name.starts_with(&inside))
    }) else {
        unknown.push(path.to_owned());
        return;
    };
    for (name, value) in members {
        let dot = if path.is_empty() { "" } else { "." };
        unknown_fields(&format!("{path}{dot}{name}"), value, unknown);
    }
}

#[test]
fn every_field_of_every_event_has_a_row() {
    let mut unknown = Vec::new();
    for case in cases() {
        let text = case.to_string_lossy();
        if text.contains("/o365beat/") || text.contains("/raw/") {
            continue;
        }
        let record = fs::read(&case).unwrap();
        // An aborted document also shows what the rules were working with.
        let event = event(&mut mapper(&case), &record).unwrap_or_default();
        if event.is_object() && event["o365audit"].is_null() {
            unknown_fields("", &event, &mut unknown);
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}
