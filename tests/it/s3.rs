//! The real command against a real object store (SeaweedFS), where it is installed: each event stands in one object
//! whatever breaks on either side, and a wrong key waits and says so.

use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::seaweed::{BUCKET, Seaweed};
use sluicegate_tests::{Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// A store, unless there is none.
pub(crate) fn server(folder: &TempDir) -> Option<Seaweed> {
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    Seaweed::start(&store)
        .inspect_err(|why| eprintln!("skipped: no object store to test with: {why}"))
        .ok()
}

fn pipeline(name: &str, office: &Simulated, store: &Seaweed, folder: &TempDir) -> Pipeline {
    pipeline_with("", name, office, store, folder)
}

/// The same with more keys of the sink.
pub(crate) fn pipeline_with(
    keys: &str,
    name: &str,
    office: &Simulated,
    store: &Seaweed,
    folder: &TempDir,
) -> Pipeline {
    std::fs::write(folder.path().join("key"), "gate-gate\n").unwrap();
    Pipeline::o365(name, office).only(&format!(
        "s3: {{ endpoint: '{}', bucket: {BUCKET}, request: {{ timeout: 10s }}, {keys} \
         auth: {{ access_key_id: sluice, secret_access_key: {{ file: key }} }} }}",
        store.url()
    ))
}

pub(crate) fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

#[test]
fn every_event_stands_in_one_object_under_its_tenant_stream_and_day() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = Simulated::start(
        Office::builder(131)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    once(&pipeline("first", &office, &store, &folder), &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let first = store.names();
    // Another state knows nothing of the first run, so all is written again, over what is there.
    once(&pipeline("second", &office, &store, &folder), &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    assert_eq!(store.names(), first);
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    let tenants = office.tenants(|tenant| tenant.name.clone());
    for name in &first {
        let parts: Vec<_> = name.split('/').collect();
        let [tenant, stream, day, object] = parts[..] else {
            panic!("{name}")
        };
        assert!(tenants.iter().any(|known| known == tenant), "{name}");
        assert!(stream.contains('.') && day.len() == 10, "{name}");
        assert!(object.ends_with(".ndjson.gz"), "{name}");
    }
}

#[test]
fn kills_of_us_and_restarts_of_the_store_lose_and_double_nothing() {
    survives("", 132);
}

/// Kills the command and restarts the store in the middle; nothing is missing and nothing stands twice.
pub(crate) fn survives(keys: &str, seed: u64) {
    let folder = folder();
    let Some(mut store) = server(&folder) else {
        return;
    };
    let office = patient_office(seed);
    let pipeline = pipeline_with(keys, "killed", &office, &store, &folder);
    let store = std::cell::RefCell::new(&mut store);
    torment(
        || sluicegate(&folder),
        &pipeline,
        |on| store.borrow_mut().switch(on),
        || store.borrow().names().len(),
    );
    let verdict = office.judge(&store.borrow().delivered());
    assert!(verdict.is_clean() && verdict.owed == 2_400, "{verdict:?}");
}

#[test]
fn a_wrong_key_waits_says_so_and_heals() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = Simulated::start(Office::builder(133).blobs(10).events_per_blob(10));
    let pipeline = pipeline("key", &office, &store, &folder);
    std::fs::write(folder.path().join("key"), "wrong-wrong").unwrap();
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `auth`");
    assert!(store.names().is_empty());
    std::fs::write(folder.path().join("key"), "gate-gate").unwrap();
    let ended = running.end().expect(0);
    ended.says(&["check `auth`", "100 event(s) delivered"]);
    assert!(!ended.stderr.contains("wrong-wrong") && !ended.stderr.contains("gate-gate"));
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
