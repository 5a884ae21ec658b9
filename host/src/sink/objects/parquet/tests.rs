//! Files read back by the reader of the format itself.

use std::collections::BTreeMap;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use super::*;
use crate::event::Identity;

const PACKINGS: [ColumnCompression; 3] = [
    ColumnCompression::None,
    ColumnCompression::Snappy,
    ColumnCompression::Zstd,
];

fn event(body: &str) -> Event {
    Event {
        id: "1".into(),
        fingerprint: 0,
        time_ms: 0,
        body: Bytes::copy_from_slice(body.as_bytes()),
        identity: Identity::of("contoso", body, 0),
    }
}

fn packed(compression: ColumnCompression, bodies: &[&str]) -> Bytes {
    let events: Vec<_> = bodies.iter().map(|body| event(body)).collect();
    let events: Vec<_> = events.iter().collect();
    file(
        compression,
        &StreamKey::new("contoso", "Audit.General"),
        &events,
    )
    .unwrap()
}

/// The rows of a file: what is in each column, without those that are null.
fn rows(file: Bytes) -> Vec<BTreeMap<String, Value>> {
    let reader = SerializedFileReader::new(file).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    let rows = rows.map(|row| {
        let row = row.unwrap();
        let columns = row.get_column_iter();
        let columns = columns.filter_map(|(name, field)| {
            let value = match field {
                Field::Null => return None,
                Field::Str(text) => json!(text),
                Field::Long(number) | Field::TimestampMillis(number) => json!(number),
                other => panic!("{name} is {other:?}"),
            };
            Some((name.clone(), value))
        });
        columns.collect()
    });
    rows.collect()
}

fn row(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

#[test]
fn every_column_and_the_whole_event_are_read_back() {
    let first = json!({
        "@timestamp": "2026-01-01T00:00:00.250Z",
        "organization": { "id": "org", "name": "Contoso" },
        "event": {
            "id": "e1", "kind": "alert", "code": "DLP", "action": "FileDownloaded", "outcome": "success",
            "provider": "SharePoint", "dataset": "o365.audit", "severity": 3, "category": ["file"],
        },
        "user": { "id": "alex@contoso.example", "name": "alex", "email": "alex@contoso.example" },
        "source": { "ip": "2001:db8::1" },
        "host": { "name": "pc" },
        "file": { "path": "a/b \"c\" ü" },
    })
    .to_string();
    // Dotted names mean the same; a time may be of another zone, and the spaces stay.
    let second = r#"{ "@timestamp" : "1969-12-31T23:59:59.999+00:00" , "event.action":"x", "user":{"name":""}}"#;
    for compression in PACKINGS {
        let found = rows(packed(compression, &[&first, second]));
        let wanted = [
            row(json!({
                "timestamp": 1_767_225_600_250_i64, "tenant": "contoso", "stream": "Audit.General",
                "organization_id": "org", "event_id": "e1", "event_kind": "alert", "event_code": "DLP",
                "event_action": "FileDownloaded", "event_outcome": "success", "event_provider": "SharePoint",
                "event_dataset": "o365.audit", "event_severity": 3, "user_id": "alex@contoso.example",
                "user_name": "alex", "user_email": "alex@contoso.example", "source_ip": "2001:db8::1",
                "host_name": "pc", "file_path": "a/b \"c\" ü", "document": first,
            })),
            row(json!({
                "timestamp": -1, "tenant": "contoso", "stream": "Audit.General", "event_action": "x",
                "user_name": "", "document": second,
            })),
        ];
        assert_eq!(found, wanted, "{compression:?}");
        assert_eq!(found[0].len(), COLUMNS.len());
    }
}

#[test]
fn what_is_absent_or_of_another_type_is_null_and_stays_in_the_document() {
    let bodies = [
        "{}",
        r#"{"@timestamp":1767225600250,"event":{"id":7,"action":["a"],"severity":"3","code":null},"user":"alex"}"#,
        r#"{"@timestamp":"yesterday","event":{"severity":2.5,"id":{}},"source":{"ip":true}}"#,
        r#"{"event":{"severity":9223372036854775808}}"#,
        // Two halves of a surrogate pair that are none: no text, but an event all the same.
        r#"{"user":{"name":"\ud800"}}"#,
    ];
    let found = rows(packed(ColumnCompression::Zstd, &bodies));
    let wanted = bodies.map(|body| {
        row(json!({ "tenant": "contoso", "stream": "Audit.General", "document": body }))
    });
    assert_eq!(found, wanted);
}

#[test]
fn a_file_larger_than_a_page_is_read_back() {
    let bodies: Vec<_> = (0..3_000)
        .map(|number| {
            let action = (number % 7 > 0).then(|| format!("action {}", number % 11));
            let filler = "x".repeat(900);
            json!({ "event": { "id": number.to_string(), "action": action }, "filler": filler })
                .to_string()
        })
        .collect();
    let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
    for compression in PACKINGS {
        let found = rows(packed(compression, &bodies));
        assert_eq!(found.len(), bodies.len());
        for (number, (row, body)) in found.iter().zip(&bodies).enumerate() {
            assert_eq!(row["document"], json!(body));
            assert_eq!(row["event_id"], json!(number.to_string()));
            assert_eq!(row.contains_key("event_action"), number % 7 > 0);
        }
    }
}

#[test]
fn the_same_events_give_the_same_bytes() {
    let bodies = [r#"{"event":{"id":"1"}}"#, "{}", r#"{"user":{"id":"a"}}"#];
    for compression in PACKINGS {
        assert_eq!(packed(compression, &bodies), packed(compression, &bodies));
    }
}

#[test]
fn the_reference_names_every_column() {
    let reference = include_str!("../../../../../pipelines/REFERENCE.md");
    for (name, _) in COLUMNS {
        assert!(reference.contains(&format!("`{name}`")), "{name}");
    }
}
