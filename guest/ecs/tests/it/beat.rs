//! Profile `o365beat` against a second, slow reading of its table: appendix A of the specification
//! applied to a tree of values, field by field.

use std::fs;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use sluicegate_ecs::{BeatMode, BeatNameValues, Options, Profile};

use crate::golden::cases;
use crate::map;
use crate::parity::shared;

const LISTS: [&str; 3] = ["Parameters", "ExtendedProperties", "ModifiedProperties"];

/// From, to, in the order of the table.
const CONVERSIONS: [(&str, &str); 7] = [
    ("Id", "/event/id"),
    ("RecordType", "/event/code"),
    ("Operation", "/event/action"),
    ("OrganizationId", "/cloud/account/id"),
    ("Workload", "/event/category"),
    ("ResultStatus", "/event/outcome"),
    ("UserId", "/user/id"),
];

/// The names that the event needs at its top level.
const TAKEN: [&str; 10] = [
    "@timestamp",
    "client",
    "cloud",
    "dissect",
    "ecs",
    "error",
    "event",
    "log",
    "processed",
    "user",
];

fn put(event: &mut Value, pointer: &str, value: Value) {
    let mut place = event;
    for name in pointer.split('/').skip(1) {
        place = &mut place[name];
    }
    *place = value;
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(match number.as_f64() {
            Some(double) if number.is_f64() => double.to_string(),
            _ => number.to_string(),
        }),
    }
}

/// The print form of lists. Numbers inside are small here.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(printed).collect();
            format!("[{}]", list.join(" "))
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_bytes());
            let pairs = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", printed(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        _ => as_text(value).unwrap(),
    }
}

/// Name to value; where there is none, name to the other members.
fn object(list: &[Value]) -> Value {
    let mut members = Map::new();
    for entry in list {
        let Some(name) = entry["Name"].as_str().filter(|name| !name.is_empty()) else {
            continue;
        };
        let mut rest = entry.as_object().unwrap().clone();
        rest.remove("Name");
        let value = rest.get("Value").cloned().unwrap_or_else(|| {
            if rest.is_empty() {
                Value::Null
            } else {
                Value::Object(rest)
            }
        });
        members.remove(name);
        members.insert(name.to_owned(), value);
    }
    Value::Object(members)
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// The parts of a client text, or nothing and whether that is an error.
fn client_parts(text: &str) -> Result<Option<(&str, &str)>, ()> {
    if !text.contains('[') {
        return Ok(text.split_once(':'));
    }
    let inner = text.strip_prefix('[').ok_or(())?;
    inner.split_once("]:").map(Some).ok_or(())
}

fn address(event: &mut Value, record: &mut Map<String, Value>, rename: bool) {
    let Some(client) = record
        .get("ClientIP")
        .and_then(Value::as_str)
        .map(str::to_owned)
    else {
        return;
    };
    if is_ip(&client) {
        put(event, "/client/ip", json!(client));
        if rename {
            record.remove("ClientIP");
        }
    }
    match client_parts(&client) {
        Err(()) => put(event, "/log/flags", json!(["dissect_parsing_error"])),
        Ok(None) => {}
        Ok(Some((address, port))) => {
            put(event, "/dissect/clientip", json!(address));
            put(event, "/dissect/clientport", json!(port));
            if is_ip(address) {
                put(event, "/client/ip", json!(address));
            }
        }
    }
}

fn expected(record: &Map<String, Value>, options: &Options) -> Value {
    let (mut record, mut event) = (record.clone(), json!({ "ecs": { "version": "1.1.0" } }));
    let rename = options.o365beat.mode == BeatMode::Rename;
    if options.o365beat.processed {
        for name in &LISTS[..2] {
            if let Some(Value::Array(list)) = record.get(*name) {
                put(&mut event, &format!("/processed/{name}"), object(list));
            }
        }
    }
    if let Some((name, domain)) = record
        .get("UserId")
        .and_then(Value::as_str)
        .and_then(|id| id.split_once('@'))
    {
        put(
            &mut event,
            "/dissect/user",
            json!({ "name": name, "domain": domain }),
        );
    }
    address(&mut event, &mut record, rename);
    for (from, to) in CONVERSIONS {
        if let Some(text) = record.get(from).and_then(as_text) {
            put(&mut event, to, json!(text));
            if rename {
                record.remove(from);
            }
        }
    }
    for name in LISTS {
        let Some(value) = record.get_mut(name).filter(|value| !value.is_null()) else {
            continue;
        };
        if !value.is_string() {
            *value = match options.o365beat.name_values {
                BeatNameValues::Text => json!(printed(value)),
                BeatNameValues::Json => json!(value.to_string()),
                BeatNameValues::Objects if value.is_array() => object(value.as_array().unwrap()),
                BeatNameValues::Objects | BeatNameValues::Arrays => value.take(),
            };
        }
    }
    for (name, value) in record {
        let taken = TAKEN.contains(&name.as_str()) && !event[&name].is_null();
        let name = if taken {
            format!("record_{name}")
        } else {
            name
        };
        event[name] = value;
    }
    event
}

/// What two readings of a JSON text compare: without the time, which other tests check.
fn comparable(mut event: Value) -> Value {
    let members = event.as_object_mut().unwrap();
    members.retain(|name, value| name != "@timestamp" && name != "error" && !value.is_null());
    for name in LISTS {
        // A JSON text is compared by what it says.
        if let Some(Value::String(text)) = members.get(name)
            && let Ok(value @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str(text)
        {
            members.insert(name.into(), value);
        }
    }
    event
}

fn check(text: &str) -> bool {
    let Ok(Value::Object(record)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    // A wrapped record is another record, and names like its own are a fixture of their own.
    if record.contains_key("o365audit") {
        return false;
    }
    for mode in [BeatMode::Copy, BeatMode::Rename] {
        for name_values in [
            BeatNameValues::Text,
            BeatNameValues::Json,
            BeatNameValues::Objects,
            BeatNameValues::Arrays,
        ] {
            let mut options = Options {
                profile: Profile::O365beat,
                ..Options::default()
            };
            options.o365beat.mode = mode;
            options.o365beat.name_values = name_values;
            options.o365beat.processed = name_values == BeatNameValues::Arrays;
            let found = comparable(map(&options, text.as_bytes()).unwrap());
            let expected = comparable(expected(&record, &options));
            assert_eq!(found, expected, "{mode:?} {name_values:?} {text}");
        }
    }
    true
}

#[test]
fn every_fixture_has_the_fields_of_the_table() {
    let texts = cases()
        .into_iter()
        .filter_map(|case| fs::read_to_string(case).ok());
    let checked = texts.filter(|text| check(text)).count();
    assert!(checked > 150, "{checked} fixtures");
}

#[test]
fn every_known_record_has_the_fields_of_the_table() {
    let Some(folder) = shared("data/o365") else {
        return;
    };
    let mut checked = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with(".records.ndjson") {
            let records = fs::read_to_string(path).unwrap();
            checked += records.lines().filter(|record| check(record)).count();
        }
    }
    assert_eq!(checked, 269);
}

#[test]
fn the_addresses_of_the_appendix() {
    for (client, ip, parts) in [
        ("192.0.2.10", Some("192.0.2.10"), None),
        (
            "192.0.2.10:51000",
            Some("192.0.2.10"),
            Some(("192.0.2.10", "51000")),
        ),
        (
            "[192.0.2.10]:51000",
            Some("192.0.2.10"),
            Some(("192.0.2.10", "51000")),
        ),
        ("2001:db8::1", Some("2001:db8::1"), Some(("2001", "db8::1"))),
        (
            "[2001:db8::1]:443",
            Some("2001:db8::1"),
            Some(("2001:db8::1", "443")),
        ),
        (
            "::ffff:192.0.2.10",
            Some("::ffff:192.0.2.10"),
            Some(("", ":ffff:192.0.2.10")),
        ),
        ("[2001:db8::1]", None, None),
        ("localhost:443", None, Some(("localhost", "443"))),
        ("", None, None),
    ] {
        let options = Options {
            profile: Profile::O365beat,
            ..Options::default()
        };
        let record = json!({ "Id": "a", "ClientIP": client }).to_string();
        let event = map(&options, record.as_bytes()).unwrap();
        assert_eq!(event["client"]["ip"].as_str(), ip, "{client}");
        let found = (
            &event["dissect"]["clientip"],
            &event["dissect"]["clientport"],
        );
        let (address, port) = parts.map_or((None, None), |(a, b)| (Some(a), Some(b)));
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            (address, port),
            "{client}"
        );
        assert_eq!(
            event["log"]["flags"].is_null(),
            client != "[2001:db8::1]",
            "{client}"
        );
    }
}
