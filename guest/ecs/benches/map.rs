//! Megabytes of records mapped per second, beside a parse into a tree and a write of it in the same
//! run.
//!
//! The records are those of ../shared when it is there, else the fixtures, repeated to about 50 MB.
//! The best of several rounds counts: other programs can only make a round slower.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use sluicegate_ecs::{Mapper, Options, Profile};

/// About so many bytes are mapped in one round, which is more than any cache holds.
const ROUND_BYTES: usize = 50_000_000;
const ROUNDS: usize = 5;

fn main() {
    let records = records();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!(
        "{} records, {} bytes, mean {}",
        records.len(),
        bytes,
        bytes / records.len()
    );
    for profile in [Profile::Newer, Profile::V1_7_1, Profile::Raw] {
        let mut mapper = Mapper::new(Options {
            profile,
            ..Options::default()
        });
        let mut out = Vec::new();
        measure(&format!("map {profile:?}"), &records, |record| {
            out.clear();
            let done = mapper.map(record, &mut out).is_ok();
            black_box((done, &out));
        });
    }
    let mut out = Vec::new();
    measure("serde_json tree and back", &records, |record| {
        out.clear();
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(record) {
            let _ = serde_json::to_writer(&mut out, &value);
        }
        black_box(&out);
    });
}

/// Lines of the known records, or the fixtures.
fn records() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut records = Vec::new();
    let mut read = |path: &Path, lines: bool| {
        let Ok(bytes) = fs::read(path) else { return };
        if lines {
            records.extend(
                bytes
                    .split(|&b| b == b'\n')
                    .filter(|l| !l.is_empty())
                    .map(<[u8]>::to_vec),
            );
        } else if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) {
            records.push(value.to_string().into_bytes());
        }
    };
    if let Ok(folder) = fs::read_dir(root.join("../shared/data/o365")) {
        for file in folder
            .flatten()
            .filter(|f| f.path().to_string_lossy().contains(".records."))
        {
            read(&file.path(), true);
        }
    } else {
        println!("../shared is not here: mapping the fixtures");
        for kind in fs::read_dir(root.join("tests/fixtures/o365"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for file in fs::read_dir(kind.path()).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().matches('.').count() == 1 {
                    read(&file.path(), false);
                }
            }
        }
    }
    let one: usize = records.iter().map(Vec::len).sum();
    assert!(one > 0, "there are no records to map");
    let total = records.len() * ROUND_BYTES.div_ceil(one);
    records.into_iter().cycle().take(total).collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(name: &str, records: &[Vec<u8>], mut map: impl FnMut(&[u8])) {
    let bytes: usize = records.iter().map(Vec::len).sum();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for record in records {
            map(record);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (megabytes, events) = (bytes as f64 / 1e6 / best, records.len() as f64 / best);
    println!("{name:28} {megabytes:8.1} MB/s {events:10.0} events/s");
}
