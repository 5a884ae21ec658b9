//! The real command against Microsoft's emulator of Azure Blob Storage (`azurite-blob`), where it is installed: each
//! event stands in one blob, also through kills, and a wrong key waits and says so.

use sluicegate_office::Office;
use sluicegate_tests::azurite::{ACCOUNT, Azurite, CONTAINER, KEY, SIGNATURE};
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// A service, unless there is none.
fn server(folder: &TempDir) -> Option<Azurite> {
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    Azurite::start(&store)
        .inspect_err(|why| eprintln!("skipped: no Azure Blob Storage to test with: {why}"))
        .ok()
}

fn pipeline(
    name: &str,
    office: &Simulated,
    store: &Azurite,
    folder: &TempDir,
    auth: &str,
) -> Pipeline {
    std::fs::write(folder.path().join("key"), KEY).unwrap();
    std::fs::write(folder.path().join("signature"), SIGNATURE).unwrap();
    Pipeline::o365(name, office).only(&format!(
        "azure_blob: {{ endpoint: '{}', account_name: {ACCOUNT}, container_name: {CONTAINER}, \
         request: {{ timeout: 10s }}, auth: {{ {auth} }} }}",
        store.url()
    ))
}

#[test]
fn every_event_stands_in_one_blob_under_its_tenant_stream_and_day() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = Simulated::start(
        Office::builder(161)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let run = |name: &str, auth: &str| {
        let pipeline = pipeline(name, &office, &store, &folder, auth);
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        ended
            .expect(0)
            .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    };
    run("key", "account_key: { file: key }");
    let first = store.names();
    // Another state knows nothing of the first run, so all is written again, over what is there.
    run("signature", "sas_token: { file: signature }");
    assert_eq!(store.names(), first);
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    for name in &first {
        assert_eq!(name.split('/').count(), 4, "{name}");
        assert!(name.ends_with(".ndjson.gz"), "{name}");
    }
}

#[test]
fn kills_lose_and_double_nothing() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = patient_office(162);
    let auth = "account_key: { file: key }";
    // The emulator itself is not restarted: it promises nothing about what it had when it is killed.
    torment(
        || sluicegate(&folder),
        &pipeline("killed", &office, &store, &folder, auth),
        |_| (),
        || store.names().len(),
    );
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 2_400, "{verdict:?}");
}

#[test]
fn a_wrong_key_waits_says_so_and_heals() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = Simulated::start(Office::builder(163).blobs(10).events_per_blob(10));
    let pipeline = pipeline(
        "wrong",
        &office,
        &store,
        &folder,
        "account_key: { file: key }",
    );
    // base64 of `wrong-wrong-wrong`
    std::fs::write(folder.path().join("key"), "d3Jvbmctd3Jvbmctd3Jvbmc=").unwrap();
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `auth`");
    assert!(store.names().is_empty());
    std::fs::write(folder.path().join("key"), KEY).unwrap();
    let ended = running.end().expect(0);
    ended.says(&["check `auth`", "100 event(s) delivered"]);
    assert!(!ended.stderr.contains("d3Jvbmc") && !ended.stderr.contains(KEY));
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
