//! The tests of the mapping as its callers see it: fixtures, tables, properties, parity, generated
//! pages.
//!
//! `SLUICEGATE_GOLDEN=1 cargo test -p sluicegate-ecs` rewrites every generated file; read the diff.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod beat;
mod edges;
mod golden;
mod pages;
mod parity;
mod properties;
mod rows;
mod template;

use std::path::{Path, PathBuf};

use proptest::prelude::ProptestConfig;
use serde_json::Value;
use sluicegate_ecs::{Mapper, Options};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The event of a record, checked for what every event keeps.
fn map(options: &Options, record: &[u8]) -> Result<Value, String> {
    let mut mapper = Mapper::new(options.clone());
    event(&mut mapper, record)
}

/// The event of a record that must have one.
fn of(options: &Options, record: &Value) -> Value {
    map(options, record.to_string().as_bytes()).unwrap()
}

/// How properties are tried: often, and without a file of seeds.
fn tries() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn event(mapper: &mut Mapper, record: &[u8]) -> Result<Value, String> {
    let mut out = b"before".to_vec();
    let result = mapper.map(record, &mut out);
    let body = out
        .strip_prefix(b"before")
        .expect("what was there before stays");
    if let Err(rejected) = result {
        assert!(body.is_empty(), "a rejected record leaves nothing behind");
        return Err(rejected.reason);
    }
    assert!(!body.contains(&b'\n'), "a body is one line");
    // A number may be larger than what this reader can hold; it passed through as it came.
    let event = serde_json::from_slice(body).unwrap_or_else(|error| {
        assert!(
            error.to_string().starts_with("number out of range"),
            "{error}"
        );
        Value::Null
    });
    Ok(event)
}

/// Compares with a generated file, or writes it when `SLUICEGATE_GOLDEN` is set.
fn check_file(path: &Path, text: &str) -> Result<(), String> {
    if std::env::var_os("SLUICEGATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a file stands in a folder")).unwrap();
        std::fs::write(path, text).unwrap();
        return Ok(());
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found == text {
        return Ok(());
    }
    let line = found
        .lines()
        .zip(text.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(0);
    Err(format!(
        "{} differs from line {}: expected {:?}, made {:?}",
        path.display(),
        line + 1,
        found.lines().nth(line),
        text.lines().nth(line),
    ))
}
