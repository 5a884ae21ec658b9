//! Parity with the known documents, where they are at hand.
//!
//! They are not part of the repository: the folder `shared` beside it holds them on the machines
//! that have it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use sluicegate_ecs::{ErrorMode, Options, Profile};

use crate::{map, root};

/// A folder of `shared`, or one line that says it is missing.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(name);
    if !path.exists() {
        eprintln!("skipped: ../shared/{name} is not on this machine");
        return None;
    }
    Some(path)
}

/// Without what enrichment adds and what is constant.
fn comparable(mut document: Value) -> Value {
    let agent = document["user_agent"]["original"].take();
    let members = document.as_object_mut().unwrap();
    for name in ["user_agent", "ecs", "data_stream", "input", "tags"] {
        members.remove(name);
    }
    if !agent.is_null() {
        members.insert("user_agent".into(), agent);
    }
    for parent in ["source", "client", "destination"] {
        if let Some(object) = members.get_mut(parent).and_then(Value::as_object_mut) {
            object.remove("geo");
            object.remove("as");
        }
    }
    let event = members["event"].as_object_mut().unwrap();
    for name in ["dataset", "module", "original"] {
        event.remove(name);
    }
    document
}

#[test]
fn known_records_give_the_known_documents() {
    let Some(folder) = shared("data/o365") else {
        return;
    };
    let mut compared = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Some(stem) = path
            .to_str()
            .and_then(|path| path.strip_suffix(".records.ndjson"))
        else {
            continue;
        };
        for (profile, suffix) in [
            (Profile::Newer, "events"),
            (Profile::V1_7_1, "events-1.7.1"),
        ] {
            let records = fs::read_to_string(&path).unwrap();
            let events = fs::read_to_string(format!("{stem}.{suffix}.ndjson")).unwrap();
            assert_eq!(records.lines().count(), events.lines().count());
            for error_mode in [ErrorMode::Robust, ErrorMode::Reference] {
                let options = Options {
                    profile,
                    error_mode,
                    ..Options::default()
                };
                for (record, expected) in records.lines().zip(events.lines()) {
                    let found = comparable(map(&options, record.as_bytes()).unwrap());
                    let expected = comparable(serde_json::from_str(expected).unwrap());
                    assert_eq!(found, expected, "{}", path.display());
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 4 * 269);
}

/// The JSON blocks of a section of the spec, each with the word before it.
fn blocks(section: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut parts = section.split("```json\n");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let (block, after) = part.split_once("```").unwrap();
        let label = before
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        blocks.push((label.trim().to_owned(), block.to_owned()));
        before = after;
    }
    blocks
}

fn vectors() -> Option<Vec<String>> {
    let spec = fs::read_to_string(shared("spec/ecs-mapping.md")?).unwrap();
    let start = spec.find("## 20. Conformance").unwrap();
    let end = spec.find("## 21. Known").unwrap();
    Some(
        spec[start..end]
            .split("\n### ")
            .skip(1)
            .map(str::to_owned)
            .collect(),
    )
}

fn options(profile: Profile, tenants: bool) -> Options {
    let mut options = Options {
        profile,
        error_mode: ErrorMode::Reference,
        ..Options::default()
    };
    if tenants {
        let id = "7f1b6c1e-52a4-4bd0-9e0e-0a51e2f3c9d1";
        options
            .tenants
            .insert(id.into(), "contoso.onmicrosoft.example".into());
    }
    options
}

/// Lines of `error.message` are counted, not read; `user_agent` is compared by its original.
fn counted(document: Value) -> Value {
    let mut document = comparable(document);
    if let Some(lines) = document["error"]["message"].as_array() {
        document["error"] = json!(lines.len());
    } else if document["error"].is_null() {
        document.as_object_mut().unwrap().remove("error");
    }
    document
}

#[test]
fn whole_documents_of_the_spec() {
    let Some(sections) = vectors() else { return };
    let mut compared = 0;
    for section in sections
        .iter()
        .filter(|section| !section.contains("Small vectors"))
    {
        let title = section.lines().next().unwrap();
        let tenants = section.contains("Tenant table: `{");
        let mut record = None;
        for (label, block) in blocks(section) {
            let profile = match label.as_str() {
                "Record:" => {
                    record = Some(block);
                    continue;
                }
                "`newer`:" => Profile::Newer,
                "`1.7.1`:" => Profile::V1_7_1,
                _ => continue,
            };
            let record = record.as_ref().unwrap();
            let found = map(&options(profile, tenants), record.as_bytes()).unwrap();
            let expected: Value = serde_json::from_str(&block).unwrap();
            assert_eq!(counted(found), counted(expected), "{title} {profile:?}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

/// A merge patch: null removes, objects are merged, all else replaces.
fn patch(target: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, change) in changes {
        match change {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => {
                let entry = target.entry(name.clone()).or_insert_with(|| json!({}));
                if !entry.is_object() {
                    *entry = json!({});
                }
                patch(entry.as_object_mut().unwrap(), inner);
            }
            _ => {
                target.insert(name.clone(), change.clone());
            }
        }
    }
}

#[test]
fn small_vectors_of_the_spec() {
    let Some(sections) = vectors() else { return };
    let mut base: Option<(Map<String, Value>, Map<String, Value>)> = None;
    let mut compared = 0;
    for section in sections
        .iter()
        .filter(|section| section.contains("Small vectors"))
    {
        let blocks = blocks(section);
        let (_, lines) = blocks.last().unwrap();
        let base = base.get_or_insert_with(|| {
            let read = |at: usize| serde_json::from_str(&blocks[at].1).unwrap();
            (read(0), read(1))
        });
        let tenants = section.starts_with("20.25");
        for line in lines.lines() {
            let vector: Value = serde_json::from_str(line).unwrap();
            let mut record = base.0.clone();
            record.extend(vector["in"].as_object().unwrap().clone());
            for name in vector["del"].as_array().into_iter().flatten() {
                record.remove(name.as_str().unwrap());
            }
            let record = Value::Object(record).to_string();
            let found = map(&options(Profile::Newer, tenants), record.as_bytes()).unwrap();
            compared += 1;
            if vector["fatal"] == true {
                let place = if vector["late"] == true {
                    "o365"
                } else {
                    "o365audit"
                };
                assert!(found[place].is_object(), "{line}");
                assert_eq!(found["event"]["kind"], "pipeline_error", "{line}");
                continue;
            }
            let mut expected = base.1.clone();
            patch(&mut expected, vector["out"].as_object().unwrap());
            if let Some(errors) = vector["errors"].as_u64() {
                expected.insert("error".into(), json!(errors));
            }
            let expected = Value::Object(expected);
            assert_eq!(counted(found), comparable(expected), "{line}");
        }
    }
    assert!(compared > 150, "{compared}");
}
