//! What is remembered can be damaged, old, or somebody else's: that may cost duplicates, never an event.

use std::path::Path;
use std::time::Duration;

use sluicegate_office::Office;
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// An office and a folder in which a run was stopped in its middle.
fn stopped(seed: u64) -> (Simulated, TempDir, Pipeline) {
    let builder = Office::builder(seed).blobs(300).events_per_blob(5);
    let office = Simulated::start(builder.latency(Duration::from_millis(40)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("kept", &office).limits("requests_per_minute: 1000000, in_flight: 3");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let file = folder.path().join("kept.ndjson");
    running.until("it is at work", || {
        Delivered::so_far(&file).events.len() > 100
    });
    running.signal("TERM");
    let ended = running.end().expect(0);
    let events = Delivered::read(&file).events.len();
    assert!(
        events < 1_500,
        "{events} events: not the middle\n{}",
        ended.stderr
    );
    (office, folder, pipeline)
}

/// Runs to the end; every event must be there. Gives how many of them twice.
fn completed(office: &Simulated, folder: &TempDir, pipeline: &Pipeline) -> (Ended, usize) {
    let ended = pipeline
        .give(sluicegate(folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&folder.path().join("kept.ndjson"));
    let verdict = office.judge(&delivered);
    assert_eq!(
        (verdict.missing, verdict.invented),
        (0, 0),
        "{verdict:?}\n{}",
        ended.stderr
    );
    (ended, delivered.repeated().len())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_half_written_line_is_cut_off() {
    let (office, folder, pipeline) = stopped(91);
    let path = folder.path().join("kept.ndjson");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"event\":{\"id\":\"half of");
    std::fs::write(&path, bytes).unwrap();
    let (_, twice) = completed(&office, &folder, &pipeline);
    assert_eq!(twice, 0);
}

#[test]
fn an_older_state_that_is_put_back_loses_nothing() {
    let (office, folder, pipeline) = stopped(92);
    let (state, older) = (
        folder.path().join("state/kept"),
        folder.path().join("older"),
    );
    copy(&state, &older);
    let _ = completed(&office, &folder, &pipeline);
    std::fs::remove_dir_all(&state).unwrap();
    copy(&older, &state);
    let _ = completed(&office, &folder, &pipeline);
}

#[test]
fn a_damaged_state_is_set_aside_with_an_alarm_and_loses_nothing() {
    let (office, folder, pipeline) = stopped(93);
    let state = folder.path().join("state/kept");
    let database = state.join("ledger.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let half = bytes.len() / 2;
    bytes[..half].fill(0xa5);
    std::fs::write(&database, bytes).unwrap();
    let (ended, _) = completed(&office, &folder, &pipeline);
    ended.says(&["state_rewound", "damaged", "quarantine"]);
    assert!(
        state.join("quarantine").is_dir(),
        "what was damaged is kept"
    );
}

#[test]
fn a_state_that_is_gone_is_noticed_and_loses_nothing() {
    let (office, folder, pipeline) = stopped(94);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join("state/kept").join(name));
    }
    let (ended, _) = completed(&office, &folder, &pipeline);
    ended.says(&["state_rewound", "is missing"]);
}

#[test]
fn two_processes_never_share_a_state() {
    let office = Simulated::start(Office::builder(95).blobs(5).events_per_blob(2));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let first = pipeline.give(sluicegate(&folder).args("run")).start();
    let file = folder.path().join("kept.ndjson");
    first.until("it is at work", || file.exists());
    let second = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(75);
    second.says(&["the ledger is in use by another process", "\n  help: "]);
    first.signal("TERM");
    let _ = first.end().expect(0);
    let (_, twice) = completed(&office, &folder, &pipeline);
    assert_eq!(twice, 0);
}
