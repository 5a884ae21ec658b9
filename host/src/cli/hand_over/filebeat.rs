//! The registry of Filebeat: the positions of its `o365audit` input, one for each tenant and content type.
//!
//! A registry is a snapshot (`NUMBER.json`, the highest number counts) and a log of what changed since (`log.json`:
//! a line with the operation and its number, then a line with key and value). A position's `timestamp` is the
//! `contentCreated` of the blob that was being read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Position, text};
use crate::error::Error;

/// What the keys of the input begin with.
const INPUT: &str = "o365audit::";

/// An operation, as the log announces it.
#[derive(Deserialize)]
struct Operation {
    op: String,
    id: u64,
}

/// What the operation is about.
#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "K")]
    k: String,
    #[serde(alias = "V", default)]
    v: Value,
}

/// Reads a registry folder; `data` and `data/registry` are understood as well.
pub(super) fn read(path: &Path) -> Result<Vec<Position>, Error> {
    let folder = [
        path.to_owned(),
        path.join("filebeat"),
        path.join("registry/filebeat"),
    ]
    .into_iter()
    .find(|folder| folder.join("log.json").is_file() || snapshot(folder).is_some());
    let Some(folder) = folder else {
        return Err(Error::config("the folder holds no registry of Filebeat")
            .at(format!("`{}`", path.display()))
            .help("it is `registry/filebeat` in Filebeat's data folder, and holds `log.json`"));
    };
    let (mut values, number) = match snapshot(&folder) {
        Some((number, path)) => (load(&path)?, number),
        None => (BTreeMap::new(), 0),
    };
    let log = folder.join("log.json");
    if log.is_file() {
        replay(&text(&log)?, number, &mut values);
    }
    let positions: Vec<Position> = values.iter().filter_map(position).collect();
    if positions.is_empty() {
        return Err(
            Error::config("the registry has no position of an `o365audit` input")
                .at(format!("`{}`", folder.display()))
                .help("is this the Filebeat that collects Office 365?"),
        );
    }
    Ok(positions)
}

/// The newest snapshot and its number.
fn snapshot(folder: &Path) -> Option<(u64, PathBuf)> {
    let files = std::fs::read_dir(folder).ok()?;
    let numbered = files.filter_map(|file| {
        let path = file.ok()?.path();
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
        Some((name.parse().ok()?, path))
    });
    numbered.max()
}

/// The values of a snapshot, by their keys.
fn load(path: &Path) -> Result<BTreeMap<String, Value>, Error> {
    let values: Vec<Value> = serde_json::from_str(&text(path)?).map_err(|error| {
        Error::config(format!("the registry's snapshot cannot be read: {error}"))
            .at(format!("`{}`", path.display()))
            .help("stop Filebeat, which completes it, and try again")
    })?;
    let keyed = values.into_iter().filter_map(|value| {
        let key = value.get("_key")?.as_str()?.to_owned();
        Some((key, value))
    });
    Ok(keyed.collect())
}

/// Applies the log as far as it is whole; what a snapshot holds already is passed over.
fn replay(log: &str, snapshot: u64, values: &mut BTreeMap<String, Value>) {
    let mut lines = log.lines().filter(|line| !line.trim().is_empty());
    while let (Some(operation), Some(entry)) = (lines.next(), lines.next()) {
        let operation = serde_json::from_str::<Operation>(operation);
        let (Ok(operation), Ok(entry)) = (operation, serde_json::from_str::<Entry>(entry)) else {
            // Filebeat itself goes no further than this.
            return;
        };
        if operation.id <= snapshot {
            continue;
        }
        match &*operation.op {
            "set" => drop(values.insert(entry.k, entry.v)),
            "remove" => drop(values.remove(&entry.k)),
            _ => return,
        }
    }
}

/// A position from a key such as `o365audit::[ID::]TENANT::TYPE` and its value.
fn position((key, value): (&String, &Value)) -> Option<Position> {
    let mut parts = key.strip_prefix(INPUT)?.rsplit("::");
    let (stream, directory) = (parts.next()?, parts.next()?);
    Some(Position {
        directory: Some(directory.to_owned()),
        stream: Some(stream.to_owned()),
        ms: time(value.pointer("/cursor/timestamp")?)?,
    })
}

/// A time as RFC 3339, or as Filebeat's pair: nanoseconds with the zone above them, and seconds since 1970.
fn time(value: &Value) -> Option<i64> {
    if let Some(text) = value.as_str() {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        return Some(time.timestamp_millis());
    }
    let [extra, seconds] = value.as_array()?.as_slice() else {
        return None;
    };
    // A negative zone fills what lies above the nanoseconds, which older versions wrote as a negative number.
    let extra = extra
        .as_u64()
        .or_else(|| extra.as_i64().map(i64::cast_unsigned))?;
    let nanoseconds = i64::try_from(extra & 0xffff_ffff).ok()?;
    // A time before 1970 stands for none.
    let seconds = seconds.as_i64().filter(|seconds| *seconds >= 0)?;
    seconds
        .checked_mul(1_000)?
        .checked_add(nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    fn entry(id: u64, kind: &str, seconds: i64) -> String {
        const UPDATED: &str = "[281470681743360,18446744011573954816]";
        let cursor = format!(r#"{{"timestamp":[281470682233360,{seconds}],"line":3}}"#);
        let value = format!(r#"{{"ttl":0,"updated":{UPDATED},"cursor":{cursor}}}"#);
        format!(
            "{{\"op\":\"set\",\"id\":{id}}}\n{{\"k\":\"o365audit::{TENANT}::{kind}\",\"v\":{value}}}\n"
        )
    }

    fn registry(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("registry/filebeat");
        std::fs::create_dir_all(&inner).unwrap();
        for (name, text) in files {
            std::fs::write(inner.join(name), text).unwrap();
        }
        folder
    }

    fn of(kind: &str, ms: i64) -> Position {
        Position {
            directory: Some(TENANT.into()),
            stream: Some(kind.into()),
            ms,
        }
    }

    #[test]
    fn the_log_goes_on_where_the_snapshot_ends() {
        let older = r#"[{"_key":"o365audit::my-id::fabrikam.example::DLP.All",
             "cursor":{"timestamp":"2026-05-02T10:14:00.5Z"}},
            {"_key":"filebeat::logs::native::1-2","offset":4}]"#;
        let log = [
            entry(7, "Audit.Exchange", 1_600_000_000),
            entry(9, "Audit.Exchange", 1_777_716_840),
            entry(10, "Audit.General", 1_777_716_841),
            "{\"op\":\"remove\",\"id\":11}\n{\"k\":\"o365audit::none\"}\n".into(),
            "{\"op\":\"set\",\"id\":12}\n{\"k\":\"o365aud".into(),
        ];
        let folder = registry(&[
            ("7.json", "[]"),
            ("8.json", older),
            ("meta.json", "{\"version\":\"1\"}"),
            ("log.json", &log.concat()),
        ]);
        let fabrikam = Position {
            directory: Some("fabrikam.example".into()),
            ..of("DLP.All", 1_777_716_840_500)
        };
        let expected = [
            of("Audit.Exchange", 1_777_716_840_000),
            of("Audit.General", 1_777_716_841_000),
            fabrikam,
        ];
        for path in ["", "registry", "registry/filebeat"] {
            assert_eq!(read(&folder.path().join(path)).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn no_registry_and_no_position_are_errors() {
        let folder = registry(&[("log.json", "")]);
        assert!(
            read(folder.path())
                .unwrap_err()
                .what
                .contains("no position")
        );
        assert!(read(&folder.path().join("registry/other")).is_err());
    }
}
