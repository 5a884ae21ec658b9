//! A service on its worse days: copies, expiring tokens, URLs that lead elsewhere, everything at once.

use std::time::Duration;

use sluicegate_office::{Fault, Faults, Office, Waits};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::{folder, sluicegate};

#[test]
fn the_same_event_is_delivered_once_and_a_different_one_under_its_id_as_well() {
    let faults = Faults::none()
        .with(Fault::CopyInBlob, 0.1)
        .with(Fault::CopyInNext, 0.1)
        .with(Fault::Republished, 0.1)
        .with(Fault::ChangedCopy, 0.05)
        .with(Fault::ListedTwice, 0.3)
        .with(Fault::ListedAgain, 0.1);
    let office = Simulated::start(
        Office::builder(71)
            .blobs(60)
            .events_per_blob(20)
            .faults(faults),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("copies", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&folder.path().join("copies.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean(), "{verdict:?}");
    // More than the 1,200 ids: some ids stand for two different records.
    assert!(verdict.owed > 1_200, "{verdict:?}");
    assert!(
        !ended.stderr.contains(" 0 duplicate(s)"),
        "no copy came: {}",
        ended.stderr
    );
}

#[test]
fn a_token_that_expires_is_renewed_before_it_is_refused() {
    let builder = Office::builder(72)
        .blobs(200)
        .events_per_blob(2)
        .latency(Duration::from_millis(20));
    let office = Simulated::start(builder.token_life(Duration::from_secs(3)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("renewed", &office).limits("requests_per_minute: 1000000, in_flight: 2");
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let verdict = office.judge(&Delivered::read(&folder.path().join("renewed.ndjson")));
    assert!(verdict.is_clean() && verdict.owed == 400, "{verdict:?}");
    let stats = office.stats();
    assert!(
        stats.token_requests >= 2,
        "one token lasted for the whole run: {stats:?}"
    );
    assert_eq!(stats.expired_tokens_again, 0, "{stats:?}");
}

#[test]
fn a_token_never_goes_where_the_service_points() {
    let faults = Faults::none()
        .with(Fault::ForeignPage, 0.2)
        .with(Fault::ForeignBlob, 0.2)
        .with(Fault::Redirect, 0.05);
    let office = Simulated::start(
        Office::builder(73)
            .blobs(60)
            .events_per_blob(5)
            .faults(faults),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("elsewhere", &office);
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    let stats = office.stats();
    assert!(
        stats.faults.contains_key("foreign-blob"),
        "{:?}",
        stats.faults
    );
    assert_eq!(stats.leaked_tokens, 0);
    ended.says(&["security: "]);
    let verdict = office.judge(&Delivered::read(&folder.path().join("elsewhere.ndjson")));
    assert_eq!(
        (verdict.duplicated, verdict.invented),
        (0, 0),
        "{verdict:?}"
    );
    // What cannot be fetched from where it is said to be is reported, never taken for delivered.
    assert!(
        verdict.missing == 0 || ended.code == Some(75),
        "{:?}: {verdict:?}",
        ended.code
    );
}

#[test]
fn whatever_comes_together_invents_and_doubles_nothing() {
    for seed in [81, 82, 83] {
        let mut faults = Faults::swarm(seed);
        // What only makes a client wait is not looked at here.
        (faults.start_lag_ms, faults.waits) = (0, Waits::Short);
        faults.set(Fault::Throttle, 0.0);
        let builder = Office::builder(seed)
            .tenants(2)
            .blobs(40)
            .events_per_blob(10);
        let office = Simulated::start(builder.faults(faults));
        let folder = folder();
        let pipeline = Pipeline::o365("swarm", &office).section("drain_timeout: 2s");
        let running = pipeline.give(sluicegate(&folder).args("run")).start();
        let file = folder.path().join("swarm.ndjson");
        running.until(&format!("a quarter came through, seed {seed}"), || {
            let verdict = office.judge(&Delivered::so_far(&file));
            verdict.owed > 0 && verdict.delivered * 4 >= verdict.owed
        });
        running.signal("TERM");
        let ended = running.end().expect(0);
        let verdict = office.judge(&Delivered::read(&file));
        assert_eq!(
            (verdict.duplicated, verdict.invented),
            (0, 0),
            "seed {seed}: {verdict:?}"
        );
        assert!(
            !ended.stderr.contains("panicked"),
            "seed {seed}: {}",
            ended.stderr
        );
        assert_eq!(office.stats().leaked_tokens, 0, "seed {seed}");
    }
}
