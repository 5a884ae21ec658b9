//! About fifty megabytes of records, in batches as `sluicegate transform` hands them to a plugin.

use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use sluicegate::event::{Event, Identity};

/// More than any cache holds.
const BYTES: usize = 50_000_000;

/// The same limits as in `sluicegate transform`.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_RECORDS: usize = 1_000;

/// Records, repeated to about `BYTES`.
pub struct Corpus {
    /// One call each.
    pub batches: Vec<Vec<Event>>,
    /// Bytes of all records.
    pub bytes: usize,
    /// How many records there are.
    pub records: usize,
    /// How many of them differ.
    pub distinct: usize,
    /// Where they came from.
    pub origin: &'static str,
}

impl Corpus {
    /// Reads the records of `../shared`, or the fixtures where that is missing.
    ///
    /// # Panics
    ///
    /// When there are no records.
    #[must_use]
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut lines = shared(&root.join("../shared/data/o365"));
        let mut origin = "the records of ../shared/data/o365";
        if lines.is_empty() {
            lines = fixtures(&root.join("tests/fixtures/o365"));
            origin = "tests/fixtures/o365 (../shared is not here)";
        }
        let one: usize = lines.iter().map(Vec::len).sum();
        assert!(one > 0, "there are no records to map");
        let distinct = lines.len();
        let records = distinct * BYTES.div_ceil(one);
        let mut corpus = Self {
            batches: Vec::new(),
            bytes: 0,
            records,
            distinct,
            origin,
        };
        let mut buffer = BytesMut::new();
        let mut lengths = Vec::new();
        for line in lines.iter().cycle().take(records) {
            buffer.extend_from_slice(line);
            lengths.push(line.len());
            corpus.bytes += line.len();
            if buffer.len() >= BATCH_BYTES || lengths.len() >= BATCH_RECORDS {
                corpus
                    .batches
                    .push(batch(buffer.split().freeze(), &mut lengths));
            }
        }
        if !lengths.is_empty() {
            corpus.batches.push(batch(buffer.freeze(), &mut lengths));
        }
        corpus
    }
}

fn batch(mut bytes: Bytes, lengths: &mut Vec<usize>) -> Vec<Event> {
    let event = |length| Event {
        id: ByteString::from_static("-"),
        fingerprint: 0,
        time_ms: 0,
        body: bytes.split_to(length),
        identity: Identity([0; 16]),
    };
    lengths.drain(..).map(event).collect()
}

/// Lines of `*.records.ndjson`, in the order of the files' names.
fn shared(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    paths.sort_by_key(fs::DirEntry::path);
    let mut lines = Vec::new();
    for path in paths.iter().map(fs::DirEntry::path) {
        if path.to_string_lossy().ends_with(".records.ndjson") {
            let bytes = fs::read(path).unwrap_or_default();
            let some = bytes
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty());
            lines.extend(some.map(<[u8]>::to_vec));
        }
    }
    lines
}

/// Fixture records that are one object each, on one line.
fn fixtures(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for kind in fs::read_dir(folder).into_iter().flatten().flatten() {
        paths.extend(fs::read_dir(kind.path()).into_iter().flatten().flatten());
    }
    paths.sort_by_key(fs::DirEntry::path);
    let records = paths.iter().filter(|file| {
        // `<case>.json` is the record; `<case>.ecs.json` is not.
        file.file_name().to_string_lossy().matches('.').count() == 1
    });
    let one = |file: &fs::DirEntry| {
        let bytes = fs::read(file.path()).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        value.is_object().then(|| value.to_string().into_bytes())
    };
    records.filter_map(one).collect()
}
