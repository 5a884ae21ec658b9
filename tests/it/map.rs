//! The commands that need no pipeline: `demo` and `transform`.

use serde_json::{Value, json};
use sluicegate_tests::Delivered;

use crate::{folder, sluicegate};

#[test]
fn the_demo_needs_nothing_and_prints_only_events() {
    let folder = folder();
    let ended = sluicegate(&folder).args("demo").run().expect(0);
    let delivered = Delivered::parse(&ended.stdout);
    assert_eq!(delivered.events.len(), 2 * 50 * 20);
    assert!(delivered.repeated().is_empty());
    for event in &delivered.events {
        for pointer in ["/@timestamp", "/event/id", "/event/action", "/ecs/version"] {
            assert!(
                event.pointer(pointer).is_some_and(Value::is_string),
                "{pointer}: {event}"
            );
        }
    }
    ended.says(&[
        "2 tenant(s)",
        "100 split(s)",
        "2000 event(s)",
        "state is kept in",
    ]);
}

#[test]
fn the_demo_delivers_records_that_it_is_given() {
    let folder = folder();
    let mut lines = String::new();
    let mut ids: Vec<_> = (0..137)
        .map(|number| format!("00000000-0000-4000-8000-{number:012}"))
        .collect();
    for id in &ids {
        lines.push_str(&record(id).to_string());
        lines.push('\n');
    }
    std::fs::write(folder.path().join("mine.ndjson"), lines).unwrap();
    let ended = sluicegate(&folder)
        .args("demo --records mine.ndjson")
        .run()
        .expect(0);
    let delivered = Delivered::parse(&ended.stdout);
    let mut found = delivered.ids();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
}

#[test]
fn transform_takes_every_shape_that_records_come_in() {
    let records: Vec<_> = (0..25)
        .map(|number| record(&format!("id-{number}")))
        .collect();
    let lines: String = records
        .iter()
        .flat_map(|record| [record.to_string(), "\n".into()])
        .collect();
    let array = Value::from(records.clone());
    let wrapped = records
        .iter()
        .flat_map(|record| [json!({ "o365audit": record }).to_string(), "\n".into()])
        .collect();
    let texts: Vec<_> = records
        .iter()
        .map(|record| json!(record.to_string()).to_string())
        .collect();
    let shapes = [
        ("one a line", lines.clone()),
        ("one a line, no last newline", lines.trim_end().to_owned()),
        ("an array", array.to_string()),
        ("an array, printed for people", format!("{array:#}")),
        (
            "arrays one behind the other",
            format!("{array}\n").replace("},{", "}]\n[{"),
        ),
        ("a byte-order mark before it", format!("\u{feff}{array}")),
        ("each in a wrapper", wrapped),
        ("each in a text", texts.join("\n")),
        ("an array of texts", format!("[{}]", texts.join(","))),
        ("an array in a text", json!(array.to_string()).to_string()),
    ];
    let folder = folder();
    let expected = sluicegate(&folder)
        .args("transform")
        .input(lines)
        .run()
        .expect(0);
    assert_eq!(Delivered::parse(&expected.stdout).ids().len(), 25);
    for (shape, input) in shapes {
        let ended = sluicegate(&folder).args("transform").input(input).run();
        assert_eq!(ended.code, Some(0), "{shape}: {}", ended.stderr);
        assert_eq!(ended.text(), expected.text(), "{shape}");
    }
}

#[test]
fn transform_keeps_what_it_cannot_map_and_says_so() {
    let folder = folder();
    let lines = [
        &record("a").to_string(),
        r#"{"Id": broken}"#,
        &record("b").to_string(),
        r#"{"Id":"cut""#,
        &record("c").to_string(),
        r#"oops ""#,
        &record("d").to_string(),
    ];
    let command = sluicegate(&folder)
        .args("transform --rejected bad.ndjson")
        .input(lines.join("\n"));
    let ended = command.run().expect(65);
    assert_eq!(Delivered::parse(&ended.stdout).ids(), ["a", "b", "c", "d"]);
    ended.says(&["4 rejected"]);
    let kept = std::fs::read_to_string(folder.path().join("bad.ndjson")).unwrap();
    for bytes in ["broken", r#"{\"Id\":\"cut\""#, "oops"] {
        assert!(kept.contains(bytes), "{bytes} {kept}");
    }
}

#[test]
fn transform_of_nothing_is_nothing() {
    let folder = folder();
    let ended = sluicegate(&folder).args("transform").run().expect(0);
    assert!(ended.stdout.is_empty());
    ended.says(&["0 record(s)"]);
}

/// An audit record with an id, as one is printed in Microsoft's documentation.
fn record(id: &str) -> Value {
    json!({
        "CreationTime": "2026-03-01T10:00:00",
        "Id": id,
        "Operation": "UserLoggedIn",
        "OrganizationId": "11111111-2222-3333-4444-555555555555",
        "RecordType": 15,
        "ResultStatus": "Success",
        "UserKey": "10030000A96EA230@example.com",
        "UserType": 0,
        "Workload": "AzureActiveDirectory",
        "UserId": "alex@example.com",
        "ClientIP": "192.0.2.1",
    })
}
