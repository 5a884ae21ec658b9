//! `state`, `retry` and `forget` beside a running collector: they look, they change, and nothing is disturbed.

use std::path::Path;

use serde_json::Value;
use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::{Ended, Pipeline, Running, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// Runs a command that looks at a pipeline, without any secret.
fn look(folder: &TempDir, arguments: &str) -> Ended {
    sluicegate(folder).args(arguments).arg("kept.yaml").run()
}

/// What `state --json` says, and its exit code.
fn state(folder: &TempDir) -> Value {
    let ended = look(folder, "state --json").expect(0);
    serde_json::from_slice(&ended.stdout).unwrap()
}

/// Sums of what is said of all streams.
fn sum(state: &Value, pointer: &str) -> u64 {
    let streams = state["streams"].as_array().unwrap();
    streams
        .iter()
        .map(|stream| stream.pointer(pointer).unwrap().as_u64().unwrap())
        .sum()
}

/// A collector that cannot read a few of its splits, and has set them aside.
fn with_quarantine(seed: u64) -> (Simulated, TempDir, Pipeline, Running) {
    let faults = Faults::none().with(Fault::PoisonError, 0.1);
    let office = Office::builder(seed)
        .blobs(60)
        .events_per_blob(4)
        .faults(faults);
    let office = Simulated::start(office);
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    running.until_some("the collector sets splits aside", || {
        let known = folder.path().join("state/kept/ledger.db").exists();
        let state = known.then(|| look(&folder, "state --json"))?;
        let state: Value = serde_json::from_slice(&state.stdout).ok()?;
        let rest = sum(&state, "/backlog/discovered") + sum(&state, "/backlog/reading");
        let all =
            rest + sum(&state, "/quarantined") + sum(&state, "/splits_delivered_and_remembered");
        (sum(&state, "/quarantined") > 0 && rest == 0 && all == 60).then_some(())
    });
    (office, folder, pipeline, running)
}

fn end(running: Running) -> Ended {
    running.signal("TERM");
    running.end().expect(0)
}

#[test]
fn state_shows_what_waits_and_needs_no_secret() {
    let (_office, folder, _pipeline, running) = with_quarantine(301);
    let state = state(&folder);
    let aside = sum(&state, "/quarantined");
    assert_eq!(sum(&state, "/splits_delivered_and_remembered"), 60 - aside);
    assert_eq!(sum(&state, "/events/delivered"), (60 - aside) * 4);
    let streams = state["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 5);
    for stream in streams {
        assert!(stream["watermark"].is_string(), "{stream}");
        assert!(stream["lag_seconds"].as_u64().unwrap() < 3_600, "{stream}");
        assert!(stream["trouble"].is_null(), "{stream}");
        for split in stream["quarantine"].as_array().unwrap() {
            assert!(split["attempts"].as_u64().unwrap() >= 6, "{split}");
            assert!(
                split["reason"].as_str().unwrap().contains("HTTP "),
                "{split}"
            );
            assert!(split["next_try"].is_string() && split["expires"].is_string());
        }
    }
    let shown = look(&folder, "state").expect(0);
    assert!(
        shown.text().contains("split(s) in quarantine"),
        "{}",
        shown.text()
    );
    assert!(shown.text().contains("Audit.Exchange"), "{}", shown.text());
    // What needs a person is an exit code for those who ask for it.
    let _ = look(&folder, "state --check").expect(75);
    look(&folder, "state --tenant nobody")
        .expect(64)
        .says(&["knows no tenant `nobody`"]);
    let ended = end(running);
    assert!(!ended.stderr.contains("the ledger"), "{}", ended.stderr);
}

#[test]
fn a_retry_is_noticed_by_the_running_collector() {
    let (_office, folder, _pipeline, running) = with_quarantine(302);
    let attempts = |state: &Value| {
        let streams = state["streams"].as_array().unwrap().iter();
        let splits = streams.flat_map(|stream| stream["quarantine"].as_array().unwrap());
        splits
            .map(|split| split["attempts"].as_u64().unwrap())
            .sum::<u64>()
    };
    let before = state(&folder);
    let aside = sum(&before, "/quarantined");
    let ended = look(&folder, "retry --all").expect(0);
    assert_eq!(
        ended.text().matches("due now").count() as u64,
        aside,
        "{}",
        ended.text()
    );
    // By itself it would be tried after a quarter of an hour.
    running.until("each is tried once more", || {
        attempts(&state(&folder)) == attempts(&before) + aside
    });
    let none = look(&folder, "retry --all --tenant nobody").expect(1);
    assert!(none.text().contains("no such split"), "{}", none.text());
    let _ = end(running);
}

#[test]
fn what_is_forgotten_is_a_declared_loss_and_stays_one() {
    let (_office, folder, pipeline, running) = with_quarantine(303);
    let before = state(&folder);
    let aside = sum(&before, "/quarantined");
    let mut streams = before["streams"].as_array().unwrap().iter();
    let split = streams
        .find_map(|stream| stream["quarantine"].get(0))
        .unwrap();
    let id = split["split"].as_str().unwrap();
    let forget = |which: &[&str]| {
        running.until_some("no split is being read", || {
            let mut command = sluicegate(&folder).arg("forget");
            for argument in which {
                command = command.arg(argument);
            }
            let command = command
                .arg("--reason")
                .arg("broken at the origin, ticket 4711");
            let ended = command.arg("kept.yaml").run();
            (ended.code != Some(75)).then_some(ended)
        })
    };
    let ended = forget(&["--split", id]).expect(0);
    assert!(ended.text().contains("given up"), "{}", ended.text());
    let _ = forget(&["--split", id]).expect(1);
    let after = state(&folder);
    assert_eq!(
        (sum(&after, "/quarantined"), sum(&after, "/lost")),
        (aside - 1, 1)
    );
    let mut streams = after["streams"].as_array().unwrap().iter();
    let loss = streams.find_map(|stream| stream["losses"].get(0)).unwrap();
    assert_eq!(loss["split"], id);
    assert_eq!(
        loss["reason"],
        "given up by hand: broken at the origin, ticket 4711"
    );
    let _ = forget(&["--all"]);
    let _ = end(running);
    // Neither a new start nor a new listing brings it back.
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let done = state(&folder);
    assert_eq!(
        (sum(&done, "/quarantined"), sum(&done, "/lost")),
        (0, aside)
    );
    assert_eq!(sum(&done, "/splits_delivered_and_remembered"), 60 - aside);
    let empty = sluicegate(&folder)
        .args("forget --all --reason")
        .arg(" ")
        .arg("kept.yaml");
    empty.run().expect(64).says(&["--reason"]);
}

#[test]
fn a_stream_without_permission_says_so() {
    let office = Simulated::start(Office::builder(304).blobs(20).events_per_blob(2));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office).secret(0, "not-the-secret");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let trouble = running.until_some("the trouble is written down", || {
        let known = folder.path().join("state/kept/ledger.db").exists();
        let state = known.then(|| look(&folder, "state --json"))?;
        let state: Value = serde_json::from_slice(&state.stdout).ok()?;
        let trouble = state.pointer("/streams/0/trouble").cloned()?;
        (!trouble.is_null()).then_some(trouble)
    });
    assert!(
        trouble["reason"]
            .as_str()
            .unwrap()
            .contains("AADSTS7000215"),
        "{trouble}"
    );
    assert!(
        trouble["kind"].is_string() && trouble["since"].is_string(),
        "{trouble}"
    );
    let _ = look(&folder, "state --check").expect(75);
    let _ = end(running);
    // With the right secret it is forgotten.
    let pipeline = Pipeline::o365("kept", &office);
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    assert!(
        state(&folder)
            .pointer("/streams/0/trouble")
            .unwrap()
            .is_null()
    );
    let _ = look(&folder, "state --check").expect(0);
}

#[test]
fn lag_is_shown_in_its_three_parts() {
    let office = Simulated::start(Office::builder(306).blobs(30).events_per_blob(3));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let state = state(&folder);
    assert_eq!(sum(&state, "/lag/splits"), 30);
    for stream in state["streams"].as_array().unwrap() {
        assert_eq!(stream["health"]["state"], "ok", "{stream}");
        if stream["lag"]["splits"] == 0 {
            continue;
        }
        for part in [
            "event_to_available",
            "available_to_discovered",
            "discovered_to_acknowledged",
        ] {
            let measured = |which: &str| stream["lag"][part][which].as_i64().unwrap();
            let (median_ms, longest_ms) = (measured("median_ms"), measured("longest_ms"));
            assert!(0 <= median_ms && median_ms <= longest_ms, "{stream}");
        }
        // Found and delivered within this very run.
        let own_ms = stream["lag"]["discovered_to_acknowledged"]["longest_ms"].as_i64();
        assert!(own_ms.unwrap() < 4 * 60 * 1_000, "{stream}");
    }
    let shown = look(&folder, "state").expect(0);
    for part in ["HEALTH", "EVENT TO AVAILABLE", "DISCOVERED TO ACKNOWLEDGED"] {
        assert!(shown.text().contains(part), "{part}: {}", shown.text());
    }
}

#[test]
fn a_stream_that_stands_still_is_unhealthy_by_the_file_alone() {
    let office = Simulated::start(Office::builder(307).blobs(20).events_per_blob(2));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office).config("interval: 1s");
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let _ = look(&folder, "state --check").expect(0);
    // An hour passes in which nobody collects.
    let db = rusqlite::Connection::open(folder.path().join("state/kept/ledger.db")).unwrap();
    let stream = "stream = 'Audit.Exchange'";
    db.execute(
        &format!("UPDATE stream SET advanced_ms = advanced_ms - 3600000 WHERE {stream}"),
        [],
    )
    .unwrap();
    let shown = look(&folder, "state --check").expect(75);
    let said = "stream `Audit.Exchange`: unhealthy: listing has not advanced for 1h00m";
    assert!(shown.text().contains(said), "{}", shown.text());
    assert_eq!(shown.text().matches("unhealthy: ").count(), 1);
    let state = state(&folder);
    let unhealthy = state["streams"].as_array().unwrap().iter();
    let unhealthy: Vec<_> = unhealthy
        .filter(|stream| stream["health"]["state"] == "unhealthy")
        .collect();
    assert_eq!(unhealthy.len(), 1);
    assert_eq!(
        unhealthy[0]["health"]["reasons"].as_array().unwrap().len(),
        1
    );
    // What is too long is the pipeline's to say.
    let patient = Pipeline::o365("kept", &office).section("health: { listing_timeout: 2h }");
    patient.write(folder.path());
    let _ = look(&folder, "state --check").expect(0);
    let advances = (0..20).any(|_| {
        let run = pipeline.give(sluicegate(&folder).args("run --once"));
        let _ = run.run().expect(0);
        look(&folder, "state --check").code == Some(0)
    });
    assert!(advances, "listing advances again");
}

#[test]
fn a_pipeline_that_never_ran_has_no_state_and_none_is_made() {
    let office = Simulated::start(Office::builder(305).blobs(1).events_per_blob(1));
    let folder = folder();
    Pipeline::o365("kept", &office).write(folder.path());
    for command in ["state", "retry --all", "forget --all --reason why"] {
        look(&folder, command)
            .expect(69)
            .says(&["there is no ledger", "\n  help: "]);
    }
    assert!(!Path::new(&folder.path().join("state")).exists());
}
