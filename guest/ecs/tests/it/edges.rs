//! Records that the service is not known to write and that the mapping's specification decides.

use proptest::prelude::*;
use serde_json::{Value, json};
use sluicegate_ecs::{BeatOptions, ErrorMode, Mapper, Options, Profile};

use crate::properties::{options, record};
use crate::{event, map, of, tries};

/// JSON with every character escaped that can be.
fn respelled(value: &Value) -> String {
    let text = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    let list = |values: Vec<String>| values.join(",");
    match value {
        Value::String(string) => text(string),
        Value::Array(values) => format!("[{}]", list(values.iter().map(respelled).collect())),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}:{}", text(name), respelled(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        _ => value.to_string(),
    }
}

/// Without the bytes of the record.
fn read(mut event: Value) -> Value {
    if let Some(event) = event["event"].as_object_mut() {
        event.remove("original");
    }
    event
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn an_escape_that_nothing_needs_changes_nothing(record in record(), options in options()) {
        let record = Value::Object(record);
        let mut mapper = Mapper::new(options.clone());
        let expected = read(event(&mut mapper, record.to_string().as_bytes()).unwrap());
        let id = mapper.id().to_owned();
        let found = read(event(&mut mapper, respelled(&record).as_bytes()).unwrap());
        prop_assert!(expected == found, "{:#}\n{:#}", expected, found);
        if options.profile != Profile::Raw && record["Id"].is_string() {
            prop_assert_eq!(id, mapper.id());
        }
    }
}

fn reference(profile: Profile) -> Options {
    Options {
        profile,
        error_mode: ErrorMode::Reference,
        ..Options::default()
    }
}

#[test]
fn a_repeated_name_is_seen_however_it_is_spelled() {
    let event = map(
        &Options::default(),
        br#"{"Id":"a","CreationTime":"2026-03-04","Member":"b","Memb\u0065r":"c"}"#,
    );
    let event = event.unwrap();
    assert_eq!(event["o365"]["audit"]["Member"], "c");
    let lines = event["error"]["message"].as_array().unwrap();
    assert!(lines[0].as_str().unwrap().starts_with("duplicate_keys"));
}

#[test]
fn a_port_ends_before_a_letter_or_digit_of_any_script() {
    for (text, expected) in [
        (
            "192.0.2.1:80",
            json!({ "address": "192.0.2.1", "ip": "192.0.2.1", "port": 80 }),
        ),
        (
            "192.0.2.1:80\u{2013}",
            json!({ "address": "192.0.2.1", "ip": "192.0.2.1", "port": 80 }),
        ),
        (
            "192.0.2.1:80\u{e9}",
            json!({ "domain": "192.0.2.1:80\u{e9}" }),
        ),
        (
            "192.0.2.1:80\u{663}",
            json!({ "domain": "192.0.2.1:80\u{663}" }),
        ),
        ("host:80\u{e9} x", json!({ "address": "host:80\u{e9} x" })),
    ] {
        let record = json!({ "CreationTime": "2026-03-04", "ClientIP": text });
        let event = of(&reference(Profile::V1_7_1), &record);
        assert_eq!(event["client"], expected, "{text}");
    }
}

#[test]
fn what_stood_before_a_failure_stays() {
    let good = json!({ "RuleId": "r", "RuleName": "n", "Severity": "low" });
    for profile in [Profile::Newer, Profile::V1_7_1] {
        for policies in [
            json!([{ "Rules": [good, null] }]),
            json!([{ "Rules": [good] }, 5]),
        ] {
            let record = json!({
                "CreationTime": "2026-03-04", "RecordType": 13, "PolicyDetails": policies,
            });
            let event = of(&reference(profile), &record);
            assert_eq!(event["rule"], json!({ "id": ["r"], "name": ["n"] }));
        }
    }
    let twice = r#"{"QueryTime":"1/2/2026 1:2:3 AM","QueryTime":"z","flattened":1}"#;
    let record = json!({ "CreationTime": "2026-03-04", "RecordType": 64, "Data": twice });
    let event = of(&reference(Profile::Newer), &record);
    let cleaned = r#"{"QueryTime":"z","flattened":1}"#;
    assert_eq!(event["o365audit"]["Data"], cleaned);
}

#[test]
fn mail_that_is_no_object_has_no_recipients() {
    for mail in [json!({}), json!("x"), json!(""), json!([]), json!(5)] {
        let record = json!({
            "CreationTime": "2026-03-04", "RecordType": 11, "ExchangeMetaData": mail,
        });
        let event = of(&reference(Profile::V1_7_1), &record);
        assert_eq!(event["destination"]["user"]["email"], json!([]), "{mail}");
    }
}

#[test]
fn the_tag_asks_for_the_original_too() {
    let record = json!({ "Id": "a", "CreationTime": "2026-03-04" });
    let tagged = Options {
        tags: vec!["preserve_original_event".into()],
        ..Options::default()
    };
    let event = of(&tagged, &record);
    assert_eq!(event["event"]["original"], record.to_string());
    assert_eq!(event["tags"], json!(["preserve_original_event"]));
    let wrapped = json!({ "o365audit": { "Id": "a", "Version": "bad-e" }, "message": "it" });
    for mode in [ErrorMode::Reference, ErrorMode::Robust] {
        let options = Options {
            error_mode: mode,
            ..Options::default()
        };
        assert_eq!(of(&options, &wrapped)["event"]["original"], "it");
    }
}

#[test]
fn the_flat_profile_takes_a_time_without_a_zone() {
    let time = |text: &str, error_mode| {
        let options = Options {
            error_mode,
            ..reference(Profile::O365beat)
        };
        let event = of(&options, &json!({ "Id": "a", "CreationTime": text }));
        (event["@timestamp"].clone(), event["error"].is_object())
    };
    let plain = "2026-03-04T05:06:07";
    for mode in [ErrorMode::Reference, ErrorMode::Robust] {
        assert_eq!(
            time(plain, mode),
            (json!("2026-03-04T05:06:07.000Z"), false)
        );
    }
    for text in ["2026-03-04T05:06:07Z", "2026-03-04T06:06:07+01:00"] {
        let arrival = json!("1970-01-01T00:00:00.000Z");
        assert_eq!(time(text, ErrorMode::Reference), (arrival, true));
        assert_eq!(
            time(text, ErrorMode::Robust),
            time(plain, ErrorMode::Robust)
        );
    }
}

#[test]
fn processed_lists_hold_values_only() {
    let options = Options {
        o365beat: BeatOptions {
            processed: true,
            ..BeatOptions::default()
        },
        ..reference(Profile::O365beat)
    };
    let list = json!([{ "Name": "a", "Value": "b" }, { "Name": "c", "Other": 1 }]);
    let event = of(&options, &json!({ "Id": "a", "Parameters": list }));
    assert_eq!(
        event["processed"]["Parameters"],
        json!({ "a": "b", "c": null })
    );
}
