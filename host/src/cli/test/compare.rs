//! What a test expects and what came, put side by side in words.

use serde_json::{Map, Number, Value};

use crate::config::{Test, TestOutput};
use crate::pipeline::offline::{Arrived, Fate};
use crate::stage::script::{Ran, Runner, read};

/// Differences shown of one output; more would hide what they have in common.
const MOST_SHOWN: usize = 20;

/// What is different; nothing when the test passes. `sinks` names those of the pipeline, in its order.
pub(super) fn compare(test: &Test, fates: &[Fate], sinks: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let events: Vec<&Arrived> = fates.iter().flat_map(|fate| &fate.events).collect();
    if !test.outputs.is_empty() {
        outputs(&mut found, &test.outputs, &events, sinks);
    }
    for name in &test.no_outputs_from {
        let index = sinks.iter().position(|sink| sink == name);
        let got = |event: &&&Arrived| index.is_some_and(|index| event.sinks[index]);
        let count = events.iter().filter(got).count();
        if count > 0 {
            found.push(format!(
                "sink `{name}`: expected nothing, found {}",
                several(count)
            ));
        }
    }
    let dropped: usize = fates.iter().map(|fate| fate.dropped.len()).sum();
    if let Some(expected) = test.dropped
        && expected != dropped as u64
    {
        found.push(format!("dropped: expected {expected}, found {dropped}"));
    }
    rejected(&mut found, &test.rejected, fates);
    if !found.is_empty() {
        explain(&mut found, fates);
    }
    found
}

fn several(count: usize) -> String {
    match count {
        1 => "1 event".to_owned(),
        _ => format!("{count} events"),
    }
}

fn outputs(found: &mut Vec<String>, outputs: &[TestOutput], events: &[&Arrived], sinks: &[&str]) {
    if outputs.len() != events.len() {
        let (expected, got) = (several(outputs.len()), several(events.len()));
        found.push(format!("outputs: expected {expected}, found {got}"));
    }
    for (index, (output, arrived)) in outputs.iter().zip(events).enumerate() {
        let number = index + 1;
        let differences = output_differences(output, arrived, sinks);
        let (shown, hidden) = differences.split_at(differences.len().min(MOST_SHOWN));
        found.extend(shown.iter().map(|text| format!("output {number}, {text}")));
        if !hidden.is_empty() {
            found.push(format!(
                "output {number}: {} more differences",
                hidden.len()
            ));
        }
    }
    for (index, arrived) in events.iter().enumerate().skip(outputs.len()) {
        let body = String::from_utf8_lossy(&arrived.event.body);
        found.push(format!("output {}, not expected: {body}", index + 1));
    }
}

fn output_differences(output: &TestOutput, arrived: &Arrived, sinks: &[&str]) -> Vec<String> {
    let body: Value = match serde_json::from_slice(&arrived.event.body) {
        Ok(body) => body,
        Err(error) => return vec![format!("which is no JSON: {error}")],
    };
    let mut found = Vec::new();
    if let Some(event) = &output.event {
        differences(&mut found, "", Some(event), Some(&body));
    }
    for (name, expected) in &output.fields {
        let got = body.as_object().and_then(|body| lookup(body, name));
        let expected = Some(expected).filter(|expected| !expected.is_null());
        differences(&mut found, name, expected, got.filter(|got| !got.is_null()));
    }
    let mut runner = Runner::default();
    for (index, condition) in output.conditions.iter().enumerate() {
        let value = match read(&arrived.event.body) {
            Ok(value) => value,
            Err(reason) => return vec![reason],
        };
        let why = match runner.run(condition, value, &arrived.event, &arrived.stream) {
            Ran::Ended {
                result: vrl::value::Value::Boolean(true),
                ..
            } => continue,
            Ran::Ended { .. } => format!("it is false for: {body}"),
            Ran::Aborted(reason) | Ran::Failed(reason) => reason,
        };
        let number = index + 1;
        found.push(format!("condition {number} does not hold: {why}"));
    }
    if !output.sinks.is_empty() {
        let goes = sinks.iter().zip(&arrived.sinks).filter(|(_, goes)| **goes);
        let goes: Vec<&str> = goes.map(|(name, _)| *name).collect();
        let wanted = |name: &&&str| output.sinks.iter().any(|sink| sink == **name);
        let expected: Vec<&str> = sinks.iter().filter(wanted).copied().collect();
        if goes != expected {
            let (expected, goes) = (names(&expected), names(&goes));
            found.push(format!("sinks: expected {expected}, found {goes}"));
        }
    }
    found
}

fn names(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn rejected(found: &mut Vec<String>, expected: &[String], fates: &[Fate]) {
    let reasons: Vec<&String> = fates.iter().flat_map(|fate| &fate.rejected).collect();
    if reasons.len() != expected.len() {
        let (expected, got) = (expected.len(), reasons.len());
        found.push(format!("rejected: expected {expected}, found {got}"));
    }
    for (index, (words, reason)) in expected.iter().zip(reasons).enumerate() {
        if !reason.contains(words.as_str()) {
            let number = index + 1;
            found.push(format!(
                "rejected {number}: expected `{words}` in: {reason}"
            ));
        }
    }
}

/// What did not come out, and why: the reason for most differences.
fn explain(found: &mut Vec<String>, fates: &[Fate]) {
    for (index, fate) in fates.iter().enumerate() {
        let number = index + 1;
        let dropped = fate.dropped.iter();
        found.extend(dropped.map(|by| format!("input {number} was dropped by {by}")));
        let rejected = fate.rejected.iter();
        found.extend(rejected.map(|why| format!("input {number} was rejected by {why}")));
    }
}

/// The value of a field, found in nested objects and as a dotted key alike.
fn lookup<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    name.match_indices('.').find_map(|(dot, _)| {
        let inside = object.get(&name[..dot])?.as_object()?;
        lookup(inside, &name[dot + 1..])
    })
}

/// Names every place where two values differ, each with what was expected and what is there.
fn differences(found: &mut Vec<String>, path: &str, expected: Option<&Value>, got: Option<&Value>) {
    let inside = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    };
    match (expected, got) {
        (Some(Value::Object(expected)), Some(Value::Object(got))) => {
            for (key, value) in expected {
                differences(found, &inside(key), Some(value), got.get(key));
            }
            for (key, value) in got.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                differences(found, &inside(key), None, Some(value));
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(got))) => {
            for index in 0..expected.len().max(got.len()) {
                let path = format!("{path}[{index}]");
                differences(found, &path, expected.get(index), got.get(index));
            }
        }
        (Some(Value::Number(expected)), Some(Value::Number(got))) if equal(expected, got) => {}
        (expected, got) if expected == got => {}
        (expected, got) => {
            let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            let (expected, got) = (text(expected), text(got));
            found.push(format!("`{path}`: expected {expected}, found {got}"));
        }
    }
}

/// Whether two numbers are one: `1` is `1.0`.
fn equal(one: &Number, other: &Number) -> bool {
    let floats = one.is_f64() || other.is_f64();
    one == other || floats && one.as_f64() == other.as_f64()
}
