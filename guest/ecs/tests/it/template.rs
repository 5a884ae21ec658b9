//! The index template against the events: it is well formed, and every field of every event has a
//! place in it that takes what stands there.

use std::fs;

use proptest::prelude::*;
use serde_json::{Map, Value};
use sluicegate_ecs::{Options, fields};

use crate::golden::cases;
use crate::parity::shared;
use crate::properties::record;
use crate::{map, root, tries};

fn template() -> Value {
    let path = root().join("pipelines/elasticsearch/index_template.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn properties(template: &Value) -> &Map<String, Value> {
    template["template"]["mappings"]["properties"]
        .as_object()
        .unwrap()
}

/// The parameters that a type may have beside its name, and their JSON types.
fn parameters(kind: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match kind {
        "keyword" => &[
            ("ignore_above", "number"),
            ("index", "bool"),
            ("doc_values", "bool"),
        ],
        "flattened" => &[("ignore_above", "number"), ("depth_limit", "number")],
        "date" | "ip" | "long" | "geo_point" => &[("ignore_malformed", "bool")],
        "wildcard" | "match_only_text" | "boolean" => &[],
        _ => return None,
    })
}

/// A field is an object of fields or has a type with parameters that it knows; nothing else.
fn check_field(path: &str, field: &Value) {
    let members = field
        .as_object()
        .unwrap_or_else(|| panic!("{path} is no object"));
    if let Some(inner) = members.get("properties") {
        assert_eq!(members.len(), 1, "{path}");
        let inner = inner.as_object().unwrap();
        assert!(!inner.is_empty(), "{path}");
        for (name, field) in inner {
            assert!(!name.is_empty() && !name.contains('.'), "{path}.{name}");
            check_field(&format!("{path}.{name}"), field);
        }
        return;
    }
    let kind = members["type"].as_str().unwrap();
    let known = parameters(kind).unwrap_or_else(|| panic!("{path}: {kind}"));
    for (name, value) in members.iter().filter(|(name, _)| *name != "type") {
        let wanted = known.iter().find(|(known, _)| known == name);
        let (_, wanted) = wanted.unwrap_or_else(|| panic!("{path}: {kind} has no {name}"));
        let found = if value.is_boolean() { "bool" } else { "number" };
        assert_eq!(found, *wanted, "{path}: {name}");
    }
}

#[test]
fn every_field_of_the_template_has_a_type_that_an_index_knows() {
    let template = template();
    for (name, field) in properties(&template) {
        check_field(name, field);
    }
    let dynamic = template["template"]["mappings"]["dynamic_templates"]
        .as_array()
        .unwrap();
    let mut kinds = Vec::new();
    for rule in dynamic
        .iter()
        .flat_map(|rule| rule.as_object().unwrap().values())
    {
        check_field("dynamic", &rule["mapping"]);
        kinds.push(rule["match_mapping_type"].as_str().unwrap());
    }
    // What an index would guess from the first value, it would refuse the second value for.
    for kind in ["object", "string", "long", "double", "boolean"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

#[test]
fn every_field_that_the_mapper_writes_is_in_the_template() {
    let template = template();
    for (path, _) in fields() {
        let mut inner = properties(&template);
        let (parents, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            inner = inner[name]["properties"].as_object().unwrap();
        }
        assert!(inner[leaf]["type"].is_string(), "{path}");
    }
}

/// What a field refuses, or has no place for.
fn refused(path: &str, field: Option<&Value>, value: &Value, found: &mut Vec<String>) {
    if let Value::Array(list) = value {
        for value in list {
            refused(path, field, value, found);
        }
        return;
    }
    let audit = path.starts_with("o365.audit.");
    let inner = field.and_then(|field| field["properties"].as_object());
    match (inner, value) {
        (Some(inner), Value::Object(members)) => {
            for (name, value) in members {
                let path = format!("{path}.{name}");
                refused(&path, inner.get(name), value, found);
            }
            return;
        }
        (Some(_), _) => found.push(format!("{path}: no object")),
        (None, _) => {}
    }
    let kind = match field {
        Some(field) => field["type"].as_str().unwrap_or("object"),
        // Members of the record are typed by what they are.
        None if audit && value.is_object() => "flattened",
        None if audit => "keyword",
        None => "nothing",
    };
    let takes = match kind {
        "flattened" => value.is_object() || value.is_null(),
        "nothing" => false,
        "boolean" => value.is_boolean() || value == "true" || value == "false",
        _ => !value.is_object(),
    };
    if !takes {
        found.push(format!("{path}: {kind} for {value}"));
    }
}

fn refused_of(template: &Value, event: &Value, audit: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in event.as_object().unwrap() {
        if audit || name != "o365" {
            refused(name, properties(template).get(name), value, &mut found);
        }
    }
    found
}

#[test]
fn the_template_takes_every_known_event() {
    let Some(folder) = shared("data/o365") else {
        return;
    };
    let template = template();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with(".records.ndjson") {
            for record in fs::read_to_string(path).unwrap().lines() {
                let event = map(&Options::default(), record.as_bytes()).unwrap();
                let refused = refused_of(&template, &event, true);
                assert!(refused.is_empty(), "{refused:?}");
            }
        }
    }
}

#[test]
fn the_template_takes_the_event_of_every_fixture() {
    let (template, mut failures) = (template(), Vec::new());
    for case in cases() {
        let record = fs::read(&case).unwrap();
        let Ok(event) = map(&Options::default(), &record) else {
            continue;
        };
        // A member of the record with a shape that Microsoft does not give it stays as it is: to
        // send such an event in another form is the sink's part.
        let refused = refused_of(&template, &event, false);
        let text = case.display();
        for line in refused {
            failures.push(format!("{text}: {line}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn no_record_puts_an_object_where_a_scalar_belongs(record in record()) {
        let text = Value::Object(record).to_string();
        let event = map(&Options::default(), text.as_bytes()).unwrap();
        let refused = refused_of(&template(), &event, false);
        prop_assert!(refused.is_empty(), "{:?} {}", refused, text);
    }
}
