//! `audit` proves delivery, and finds exactly what is missing from the ledger.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::{Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// A pipeline that has delivered everything, under faults.
fn delivered(seed: u64) -> (Simulated, TempDir, Pipeline) {
    let faults = Faults::none()
        .with(Fault::ServerError, 0.05)
        .with(Fault::Truncate, 0.05)
        .with(Fault::CopyInNext, 0.03)
        .with(Fault::ListedTwice, 0.1);
    let office = Office::builder(seed)
        .tenants(2)
        .blobs(100)
        .events_per_blob(5)
        .span(Duration::from_hours(6 * 24))
        .faults(faults);
    let office = Simulated::start(office);
    let folder = folder();
    let pipeline = Pipeline::o365("proven", &office);
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    (office, folder, pipeline)
}

fn audit(folder: &TempDir, pipeline: &Pipeline, arguments: &str, code: i32) -> Value {
    let command = sluicegate(folder)
        .args("audit --since 7d --json")
        .args(arguments);
    let ended: Ended = pipeline.give(command).run().expect(code);
    serde_json::from_slice(&ended.stdout).unwrap()
}

/// Opens the ledger as a person with `sqlite3` would.
fn ledger(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join("state/proven/ledger.db")).unwrap()
}

/// How many elements a list has in all streams.
fn count(report: &Value, list: &str) -> usize {
    let streams = report["streams"].as_array().unwrap().iter();
    streams
        .map(|stream| stream[list].as_array().unwrap().len())
        .sum()
}

fn sum(report: &Value, number: &str) -> u64 {
    let streams = report["streams"].as_array().unwrap().iter();
    streams
        .map(|stream| stream.pointer(number).unwrap().as_u64().unwrap())
        .sum()
}

/// Takes some rows away and gives the ids that they had.
fn take_away(db: &Connection, condition: &str) -> Vec<String> {
    let statement =
        format!("DELETE FROM split WHERE seq IN (SELECT seq FROM split {condition}) RETURNING id");
    let mut delete = db.prepare(&statement).unwrap();
    let ids = delete.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

#[test]
fn everything_that_is_listed_was_delivered() {
    let (_office, folder, pipeline) = delivered(401);
    let report = audit(&folder, &pipeline, "--events", 0);
    assert_eq!(report["differences"], 0);
    assert_eq!(report["complete"], true);
    assert_eq!(
        (sum(&report, "/listed"), sum(&report, "/delivered")),
        (200, 200)
    );
    // Copies of events count where they stand: each is remembered.
    assert!(sum(&report, "/events/proven") >= 1_000, "{report}");
    let command = sluicegate(&folder).args("audit --since 7d");
    let shown = pipeline.give(command).run().expect(0);
    assert!(shown.text().contains("0 difference(s)"), "{}", shown.text());
}

#[test]
fn rows_of_splits_that_are_taken_away_are_the_differences() {
    let (_office, folder, pipeline) = delivered(402);
    let mut planted = take_away(&ledger(&folder), "WHERE seq % 29 = 3");
    planted.sort();
    assert!((5..=8).contains(&planted.len()), "{planted:?}");
    let report = audit(&folder, &pipeline, "", 1);
    assert_eq!(report["differences"], planted.len());
    let streams = report["streams"].as_array().unwrap().iter();
    let missing = streams.flat_map(|stream| stream["missing"].as_array().unwrap());
    let mut missing: Vec<&str> = missing
        .map(|split| split["split"].as_str().unwrap())
        .collect();
    missing.sort_unstable();
    assert_eq!(missing, planted);
    let shown = pipeline
        .give(sluicegate(&folder).args("audit --since 7d"))
        .run()
        .expect(1);
    let lines = shown
        .text()
        .lines()
        .filter(|line| line.contains("is listed and not in the ledger"));
    assert_eq!(lines.count(), planted.len());
}

#[test]
fn identities_that_are_taken_away_are_counted_and_named() {
    let (_office, folder, pipeline) = delivered(403);
    {
        let db = ledger(&folder);
        // All that this run has remembered is fresh: rows of sixteen bytes for each event.
        let statement = "UPDATE identity_fresh SET keys = substr(keys, 1, length(keys) - 32)
                         WHERE seq = (SELECT seq FROM identity_fresh
                                      WHERE length(keys) > 32 ORDER BY seq LIMIT 1)";
        assert_eq!(db.execute(statement, []).unwrap(), 1);
    }
    let report = audit(&folder, &pipeline, "", 1);
    assert_eq!(report["differences"], 2);
    assert_eq!(report["forgotten_identities"][0]["missing"], 2);
    let report = audit(&folder, &pipeline, "--events", 1);
    assert_eq!(report["differences"], 2);
    let streams = report["streams"].as_array().unwrap().iter();
    let named = streams.flat_map(|stream| stream["events"]["missing"].as_array().unwrap());
    let named: std::collections::BTreeSet<&str> = named
        .map(|missing| missing["event"].as_str().unwrap())
        .collect();
    assert_eq!(named.len(), 2, "{named:?}");
}

#[test]
fn what_waits_is_set_aside_or_lost_is_no_difference_and_is_named() {
    let (_office, folder, pipeline) = delivered(404);
    {
        let db = ledger(&folder);
        let change = |set: &str, at: u32| {
            let statement = format!("UPDATE split SET {set} WHERE seq = {at}");
            assert_eq!(db.execute(&statement, []).unwrap(), 1);
        };
        change("phase = 'ready'", 1);
        change(
            "phase = 'waiting', quarantined = 1, attempts = 7, reason = 'broken'",
            2,
        );
        change("phase = 'lost', reason = 'gone'", 3);
    }
    let report = audit(&folder, &pipeline, "", 0);
    assert_eq!(report["differences"], 0);
    assert_eq!(sum(&report, "/delivered"), 197);
    for list in ["pending", "quarantined", "lost"] {
        assert_eq!(count(&report, list), 1, "{list}: {report}");
    }
    let shown = pipeline
        .give(sluicegate(&folder).args("audit --since 7d"))
        .run()
        .expect(0);
    assert!(
        shown.text().contains("quarantined: split"),
        "{}",
        shown.text()
    );
}

#[test]
fn a_range_and_a_tenant_are_all_that_is_looked_at() {
    let (office, folder, pipeline) = delivered(405);
    let names = office.tenants(|tenant| tenant.name.clone());
    let report = audit(&folder, &pipeline, &format!("--tenant {}", names[1]), 0);
    assert_eq!(
        (sum(&report, "/listed"), sum(&report, "/delivered")),
        (100, 100)
    );
    let report = audit(&folder, &pipeline, "--until 2d", 0);
    let listed = sum(&report, "/listed");
    assert!((20..190).contains(&listed), "{listed}");
    assert_eq!(sum(&report, "/delivered"), listed);
    let wrong = sluicegate(&folder).args("audit --tenant nobody");
    pipeline
        .give(wrong)
        .run()
        .expect(64)
        .says(&["no tenant of the pipeline is meant"]);
}

#[test]
fn a_running_collector_is_not_disturbed_and_a_dead_service_is_no_proof() {
    let office = Office::builder(406)
        .blobs(300)
        .events_per_blob(5)
        .latency(Duration::from_millis(40));
    let office = Simulated::start(office);
    let folder = folder();
    let pipeline =
        Pipeline::o365("proven", &office).limits("requests_per_minute: 1000000, in_flight: 3");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    running.until("it is at work", || office.stats().fetch_requests > 0);
    let report = audit(&folder, &pipeline, "", 0);
    assert_eq!(
        (report["differences"].as_u64(), sum(&report, "/listed")),
        (Some(0), 300)
    );
    assert!(
        count(&report, "pending") + count(&report, "newer_than_last_listing") > 0,
        "{report}"
    );
    running.signal("TERM");
    let ended = running.end().expect(0);
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
    assert_eq!(strangers(&folder), [""; 0]);
    let wrong = pipeline.clone().secret(0, "not-the-secret");
    let report = audit(&folder, &wrong, "", 75);
    assert_eq!(report["complete"], false);
    assert!(
        report["streams"][0]["failed"]
            .as_str()
            .unwrap()
            .contains("AADSTS7000215")
    );
}

/// Whether the state's folder holds what a collector leaves, and nothing else.
/// What stands beside the ledger and is not the collector's.
fn strangers(folder: &TempDir) -> Vec<String> {
    let known = [
        "dead-letters",
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "ledger.lock",
        "ledger.sequence",
    ];
    let inside: &Path = &folder.path().join("state/proven");
    let files = std::fs::read_dir(inside).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !known.iter().any(|known| name == *known))
        .collect()
}
