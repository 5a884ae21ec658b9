//! What a file sink holds, read back as any reader would: one JSON object a line.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

/// The events of a file.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Every line, in the order of the file.
    pub events: Vec<Value>,
}

impl Delivered {
    /// Reads a file, which must be NDJSON to its last byte.
    ///
    /// # Panics
    /// When it is not: a file sink promises whole lines.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self::parse(&bytes)
    }

    /// What a run has written so far: a line that has no end yet is left out, as is a file that is not there.
    ///
    /// # Panics
    /// When it is not NDJSON.
    pub fn so_far(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        Self::parse(&bytes[..end.map_or(0, |end| end + 1)])
    }

    /// Reads what should be NDJSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn parse(bytes: &[u8]) -> Self {
        let whole = bytes.is_empty() || bytes.ends_with(b"\n");
        assert!(whole, "the last line has no end: {} bytes", bytes.len());
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let events = lines.map(|line| {
            let event: Value = serde_json::from_slice(line).unwrap_or_else(|error| {
                panic!("not JSON ({error}): {}", String::from_utf8_lossy(line))
            });
            assert!(event.is_object(), "not an object: {event}");
            event
        });
        Self {
            events: events.collect(),
        }
    }

    /// What stands in objects, with their names: gzip of NDJSON, or Parquet.
    ///
    /// # Panics
    /// When one of them is something else.
    pub fn unpack(objects: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut lines = Vec::new();
        for (name, packed) in objects {
            #[cfg(feature = "parquet")]
            if name.ends_with(".parquet") {
                for row in crate::parquet::rows(&name, packed) {
                    lines.extend_from_slice(text(&row, "/document").as_bytes());
                    lines.push(b'\n');
                }
                continue;
            }
            GzDecoder::new(&packed[..])
                .read_to_end(&mut lines)
                .unwrap_or_else(|error| panic!("{name} is not packed: {error}"));
        }
        Self::parse(&lines)
    }

    /// The id of every event.
    pub fn ids(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| text(event, "/event/id"))
            .collect()
    }

    /// Tenant (its directory's id) and id of every event, as the oracle wants them.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let pair = |event| (text(event, "/organization/id"), text(event, "/event/id"));
        self.events.iter().map(pair).collect()
    }

    /// Ids that stand in more than one line.
    pub fn repeated(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.ids()
            .into_iter()
            .filter(|id| !seen.insert(*id))
            .collect()
    }
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
