//! What can stand in a pipeline: stages and sinks by their names, from the tables that the reference is made of.
//!
//! A new stage or sink is here as soon as its section is; what its keys look like in a starter pipeline is said by the
//! `examples` of the section or, one by one, of the keys that it needs.

use serde_json::{Map, Value, json};

use super::reference;

/// A kind of stage or sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The key under which it is written.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// What a starter pipeline says of it.
    pub starter: Map<String, Value>,
    /// Keys that it has beside those of the starter.
    pub more: Vec<String>,
}

/// All kinds of stages, in the order of the reference.
pub fn stages() -> Vec<Component> {
    components("stage")
}

/// All kinds of sinks, in the order of the reference.
pub fn sinks() -> Vec<Component> {
    components("sink")
}

fn components(section: &str) -> Vec<Component> {
    let schema = reference::schema();
    let order = reference::order();
    let cases = schema["$defs"][section]["oneOf"].as_array();
    let cases = cases.map(Vec::as_slice).unwrap_or_default().iter();
    let components = cases.filter_map(|case| {
        let (name, value) = case["properties"].as_object()?.iter().next()?;
        let target = reference::target(value)?;
        let keys = order.get(&target).and_then(Value::as_array);
        let keys: Vec<&str> = keys
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let starter = starter(name, &schema["$defs"][&target], &keys, &schema);
        let more = keys.into_iter().filter(|key| !starter.contains_key(*key));
        Some(Component {
            name: name.clone(),
            about: text(&case["description"]),
            more: more.map(str::to_owned).collect(),
            starter,
        })
    });
    components.collect()
}

/// The section's own example if it has one, else every key that it needs.
fn starter(name: &str, section: &Value, keys: &[&str], schema: &Value) -> Map<String, Value> {
    if let Value::Object(example) = &section["examples"][0] {
        return example.clone();
    }
    let required = section["required"].as_array();
    let needed = |key: &str| required.is_some_and(|list| list.iter().any(|one| one == key));
    let keys = keys.iter().filter(|key| needed(key));
    let value = |key: &str| value(name, key, &section["properties"][key], schema);
    keys.map(|key| ((*key).to_owned(), value(key))).collect()
}

/// The property's example, else the first of its choices, else what the section that it is needs.
fn value(name: &str, key: &str, property: &Value, schema: &Value) -> Value {
    if !property["examples"][0].is_null() {
        return property["examples"][0].clone();
    }
    if property["x-kind"] == "secret" {
        return json!({ "env": format!("{name}_{key}").to_uppercase() });
    }
    if !property["oneOf"][0]["const"].is_null() {
        return property["oneOf"][0]["const"].clone();
    }
    let Some(target) = reference::target(property) else {
        return Value::Null;
    };
    let section = &schema["$defs"][target];
    let properties = section["properties"].as_object();
    let keys: Vec<&str> = properties
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    starter(name, section, &keys, schema).into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_a_sentence_and_a_value_for_each_key_that_it_needs() {
        let (stages, sinks) = (stages(), sinks());
        assert!(stages.len() >= 4 && sinks.len() >= 6);
        for component in stages.iter().chain(&sinks) {
            let Component { name, about, .. } = component;
            assert!(about.ends_with('.'), "{name}: {about}");
            for (key, value) in &component.starter {
                assert!(!value.is_null(), "give `{key}` of `{name}` an example");
            }
        }
    }

    #[test]
    fn what_a_key_needs_is_found_by_its_kind() {
        let schema = json!({ "$defs": { "inner": {
            "required": ["mode"],
            "properties": { "mode": { "oneOf": [{ "const": "tcp" }, { "const": "udp" }] }, "more": {} },
        } } });
        let of = |property: Value| value("file", "key", &property, &schema);
        assert_eq!(of(json!({ "examples": ["a", "b"] })), "a");
        assert_eq!(
            of(json!({ "x-kind": "secret" })),
            json!({ "env": "FILE_KEY" })
        );
        assert_eq!(
            of(json!({ "$ref": "#/$defs/inner" })),
            json!({ "mode": "tcp" })
        );
        assert_eq!(of(json!({ "type": "string" })), Value::Null);
    }

    #[test]
    fn a_secret_is_named_after_where_it_is_needed() {
        let sinks = sinks();
        let splunk = sinks.iter().find(|sink| sink.name == "splunk_hec");
        let token = &splunk.unwrap().starter["default_token"];
        assert_eq!(*token, json!({ "env": "SPLUNK_HEC_DEFAULT_TOKEN" }));
    }
}
