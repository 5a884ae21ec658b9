//! The real command against a real Redis, where it is installed: nothing is missing whatever breaks, nothing is there
//! twice where the server is to remember, and what is set up wrong waits and says so.

use std::collections::HashSet;

use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::redis::Redis;
use sluicegate_tests::{Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, root, sluicegate};

const QUICK: &str = "batch: { max_events: 40, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

/// A server, unless there is none.
fn server(folder: &TempDir, more: &[&str]) -> Option<Redis> {
    Redis::start(folder.path(), more)
        .inspect_err(|why| eprintln!("skipped: no Redis to test with: {why}"))
        .ok()
}

fn pipeline(name: &str, office: &Simulated, url: &str, keys: &str) -> Pipeline {
    Pipeline::o365(name, office).only(&format!("redis: {{ endpoint: '{url}', {QUICK}, {keys} }}"))
}

fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

#[test]
fn every_event_is_an_entry_of_its_tenants_stream_and_an_element_of_the_list() {
    let folder = folder();
    let Some(redis) = server(&folder, &[]) else {
        return;
    };
    let office = Simulated::start(
        Office::builder(121)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let list = format!(
        "redis: {{ name: list, endpoint: '{}', key: all, data_type: list, {QUICK} }}",
        redis.url()
    );
    let both = pipeline("both", &office, &redis.url(), "key: 'logs:{tenant}'").sink(&list);
    once(&both, &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let verdict = office.judge(&redis.list("all"));
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    for (tenant, name) in office
        .tenants(|tenant| tenant.name.clone())
        .iter()
        .enumerate()
    {
        let (delivered, ids) = redis.stream(&format!("logs:{name}"));
        let verdict = office.judge_tenant(tenant, &delivered);
        assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 300);
    }
}

#[test]
fn a_stream_keeps_no_more_than_it_should_and_another_database_is_another() {
    let folder = folder();
    let Some(redis) = server(&folder, &["--stream-node-max-entries", "10"]) else {
        return;
    };
    let office = Simulated::start(Office::builder(122).blobs(30).events_per_blob(10));
    let keys = "key: logs, max_length: 50, db: 3";
    once(&pipeline("short", &office, &redis.url(), keys), &folder)
        .expect(0)
        .says(&["300 event(s) delivered"]);
    assert_eq!(redis.count("XLEN", "logs"), 0);
    let swapped = redis.ask(&["SWAPDB", "0", "3"]);
    assert_eq!(swapped.unwrap(), "OK");
    let kept = redis.count("XLEN", "logs");
    assert!((50..70).contains(&kept), "{kept} entries");
}

/// Kills us and restarts the server in the middle; returns how often an event is there once too often.
fn survive(seed: u64, name: &str, keys: &str) -> Option<u64> {
    let folder = folder();
    let mut redis = server(&folder, &[])?;
    let office = patient_office(seed);
    let pipeline = pipeline(name, &office, &redis.url(), &format!("key: logs, {keys}"));
    let redis = std::cell::RefCell::new(&mut redis);
    torment(
        || sluicegate(&folder),
        &pipeline,
        |on| redis.borrow_mut().switch(on),
        || redis.borrow().count("XLEN", "logs"),
    );
    let (delivered, ids) = redis.borrow().stream("logs");
    let verdict = office.judge(&delivered);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert_eq!(verdict.owed, 2_400);
    // Whoever reads the stream can tell.
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2_400);
    Some(verdict.duplicated)
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    if let Some(duplicated) = survive(123, "plain", "") {
        // What was under way at a kill or a stop comes again, and nothing else does.
        assert!(duplicated < 2_400, "{duplicated}");
    }
}

#[test]
fn kills_and_restarts_cost_nothing_where_the_server_remembers() {
    if let Some(duplicated) = survive(124, "remembered", "deduplicate: 1h") {
        assert_eq!(duplicated, 0);
    }
}

#[test]
fn a_key_that_holds_something_else_is_named_and_waited_for() {
    let folder = folder();
    let Some(redis) = server(&folder, &[]) else {
        return;
    };
    assert_eq!(redis.ask(&["SET", "logs", "text"]).unwrap(), "OK");
    let office = Simulated::start(Office::builder(125).blobs(10).events_per_blob(10));
    let running = pipeline("taken", &office, &redis.url(), "key: logs, deduplicate: 1h")
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("WRONGTYPE");
    assert_eq!(redis.ask(&["DEL", "logs"]).unwrap(), 1);
    running.end().expect(0).says(&[
        "WRONGTYPE",
        "check `key` and `data_type`",
        "takes events again",
        "100 event(s) delivered",
    ]);
    let verdict = office.judge(&redis.stream("logs").0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}

#[test]
fn a_password_and_a_certificate_are_shown_and_a_wrong_one_waits() {
    let fixture = |name: &str| {
        let path = root().join("tests/fixtures/auth").join(name);
        path.display().to_string()
    };
    let (certificate, key) = (fixture("server.pem"), fixture("server.key"));
    let folder = folder();
    let more = [
        "--requirepass",
        "gate-gate",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "yes",
    ];
    let guarded = match Redis::start_tls(folder.path(), &more) {
        Ok(guarded) => guarded,
        Err(why) => {
            eprintln!("skipped: no Redis with TLS to test with: {why}");
            return;
        }
    };
    let office = Simulated::start(Office::builder(126).blobs(10).events_per_blob(10));
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong-wrong").unwrap();
    let url = format!("rediss://localhost:{}", guarded.port());
    let keys = format!(
        "key: logs, auth: {{ password: {{ file: password }} }}, \
         tls: {{ ca_file: '{certificate}', crt_file: '{certificate}', key_file: '{key}' }}"
    );
    let running = pipeline("guarded", &office, &url, &keys)
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `auth`");
    std::fs::write(&password, "gate-gate\n").unwrap();
    let ended = running.end().expect(0);
    ended.says(&["check `auth`", "100 event(s) delivered"]);
    assert!(!ended.stderr.contains("wrong-wrong") && !ended.stderr.contains("gate-gate"));
    drop(guarded);
    let plain = server(&folder, &[]).unwrap();
    let verdict = office.judge(&plain.stream("logs").0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
