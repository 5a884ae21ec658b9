//! The real command against an Elasticsearch that checks every line of the bulk protocol: each event becomes one
//! document, whatever breaks on either side, and what is set up wrong waits and says so.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_office::{Builder, Office};
use sluicegate_tests::real_server::torment;
use sluicegate_tests::{Bulk, BulkFaults, Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// Small requests and short waits: a test lives through many of both.
const QUICK: &str = "batch: { max_events: 40, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

fn pipeline(name: &str, office: &Simulated, bulk: &Bulk, keys: &str) -> Pipeline {
    let url = bulk.url();
    Pipeline::o365(name, office).only(&format!(
        "elasticsearch: {{ endpoints: ['{url}'], {QUICK}, {keys} }}"
    ))
}

fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

/// Every event of the office is a document, once, and the server had nothing to complain about.
#[track_caller]
fn all_there(office: &Simulated, bulk: &Bulk) {
    let verdict = office.judge(&bulk.delivered());
    assert!(verdict.is_clean() && verdict.owed > 0, "{verdict:?}");
    let complaints = &bulk.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn dead_letters(folder: &Path, name: &str) -> Vec<Value> {
    let file = format!("state/{name}/dead-letters/{name}.rejected.ndjson");
    let Ok(text) = std::fs::read(folder.join(file)) else {
        return Vec::new();
    };
    Delivered::parse(&text).events
}

#[test]
fn every_event_is_one_document_of_its_tenants_index() {
    let office = Simulated::start(Office::builder(81).tenants(2).blobs(30).events_per_blob(10));
    let bulk = Bulk::start(BulkFaults::default(), 81);
    // base64 of `sluice:gate`
    bulk.state().login = Some("Basic c2x1aWNlOmdhdGU=".into());
    let folder = folder();
    std::fs::write(folder.path().join("password"), "gate\n").unwrap();
    let keys = "index: 'logs-o365.audit-{tenant}', compression: gzip, \
                auth: { strategy: basic, user: sluice, password: { file: password } }";
    let pipeline = pipeline("whole", &office, &bulk, keys);
    once(&pipeline, &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    all_there(&office, &bulk);
    let state = bulk.state();
    assert_eq!((state.documents.len(), state.conflicts), (600, 0));
    assert_eq!(state.packed, state.requests, "every body is packed");
    let names = office.tenants(|tenant| (tenant.directory_id.clone(), tenant.name.clone()));
    for (index, document) in state.documents.values() {
        let directory = document["organization"]["id"].as_str().unwrap();
        let (_, name) = names.iter().find(|(id, _)| id == directory).unwrap();
        assert_eq!(
            *index,
            format!("logs-o365.audit-{}", name.replace('-', "_"))
        );
    }
}

#[test]
fn every_event_is_there_once_whatever_the_server_does() {
    let office = Simulated::start(Office::builder(82).blobs(120).events_per_blob(10));
    let faults = BulkFaults {
        busy_item: 0.05,
        busy: 0.1,
        breaks_after: 0.1,
        breaks_before: 0.05,
        delay: Duration::from_millis(3),
        most_bytes: Some(60_000),
        picky: Some(20),
        poison: None,
    };
    let bulk = Bulk::start(faults, 82);
    let folder = folder();
    let ended = once(&pipeline("faulty", &office, &bulk, ""), &folder).expect(0);
    ended.says(&["1200 event(s) delivered", "0 dead letter(s)", "safe form"]);
    all_there(&office, &bulk);
    let safe = bulk.safe_forms();
    assert!((20..200).contains(&safe), "{safe} in a safe form");
    assert!(bulk.state().conflicts > 0, "nothing was sent twice");
    assert!(dead_letters(folder.path(), "faulty").is_empty());
}

#[test]
fn what_is_refused_in_any_form_is_a_dead_letter_with_the_reason() {
    let office = Simulated::start(Office::builder(83).blobs(40).events_per_blob(10));
    let faults = BulkFaults {
        poison: Some(10),
        ..BulkFaults::default()
    };
    let bulk = Bulk::start(faults, 83);
    let folder = folder();
    let ended = once(&pipeline("poison", &office, &bulk, ""), &folder).expect(0);
    let letters = dead_letters(folder.path(), "poison");
    assert!(
        (10..100).contains(&letters.len()),
        "{} dead letters",
        letters.len()
    );
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    for letter in &letters {
        assert_eq!(letter["by"], "sink elasticsearch");
        let reason = letter["reason"].as_str().unwrap();
        assert!(
            reason.contains("failed to parse field [x]; and in a safe form"),
            "{reason}"
        );
        assert!(
            letter["body"]["event"]["id"].is_string(),
            "the event itself is kept"
        );
    }
    let mut all = bulk.delivered();
    all.events
        .extend(letters.into_iter().map(|mut letter| letter["body"].take()));
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 400, "{verdict:?}");
}

#[test]
fn kills_of_us_and_restarts_of_the_server_lose_and_double_nothing() {
    const SEED: u64 = 84;
    let seed = std::env::var("SLUICEGATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    let builder: Builder = Office::builder(84).blobs(900).events_per_blob(4);
    let office = Simulated::start(builder.latency(Duration::from_millis(15)).page_size(100));
    let faults = BulkFaults {
        busy_item: 0.02,
        breaks_after: 0.05,
        delay: Duration::from_millis(10),
        ..BulkFaults::default()
    };
    let bulk = Bulk::start(faults, seed);
    let folder = folder();
    let pipeline =
        pipeline("killed", &office, &bulk, "").limits("requests_per_minute: 1000000, in_flight: 2");
    // These come at any time, within a start or a recovery as well; those of `torment` in the middle of the work.
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..4 {
        let running = pipeline.give(sluicegate(&folder).args("run --once"));
        let running = running.start();
        let _ = running.ends_within(Duration::from_millis(random.u64(20..400)));
        let _ = running.kill();
    }
    torment(
        || sluicegate(&folder),
        &pipeline,
        |on| bulk.switch(on),
        || bulk.state().documents.len(),
    );
    let verdict = office.judge(&bulk.delivered());
    assert!(
        verdict.is_clean() && verdict.owed == 3_600,
        "seed {seed}: {verdict:?}"
    );
    assert_eq!(bulk.state().documents.len(), 3_600);
    all_there(&office, &bulk);
}

#[test]
fn a_wrong_credential_waits_says_so_and_heals() {
    let office = Simulated::start(Office::builder(85).blobs(10).events_per_blob(10));
    let bulk = Bulk::start(BulkFaults::default(), 85);
    bulk.state().login = Some("ApiKey cmlnaHQ6a2V5".into());
    let folder = folder();
    let key = folder.path().join("key");
    std::fs::write(&key, "wrong:key").unwrap();
    let keys = "auth: { strategy: api_key, api_key: { file: key } }";
    let pipeline = pipeline("login", &office, &bulk, keys);
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `auth`");
    assert!(bulk.state().documents.is_empty());
    std::fs::write(&key, "right:key").unwrap();
    let ended = running.end().expect(0);
    ended.says(&[
        "401",
        "unable to authenticate",
        "check `auth`",
        "takes events again",
    ]);
    assert!(!ended.stderr.contains("wrong:key") && !ended.stderr.contains("right:key"));
    all_there(&office, &bulk);
    assert!(dead_letters(folder.path(), "login").is_empty());
}

#[test]
fn a_node_that_is_down_is_passed_over() {
    let office = Simulated::start(Office::builder(86).blobs(40).events_per_blob(10));
    let (one, two) = (
        Bulk::start(BulkFaults::default(), 1),
        Bulk::start(BulkFaults::default(), 2),
    );
    one.stop();
    let folder = folder();
    let urls = format!("endpoints: ['{}', '{}']", one.url(), two.url());
    let pipeline =
        Pipeline::o365("nodes", &office).only(&format!("elasticsearch: {{ {urls}, {QUICK} }}"));
    once(&pipeline, &folder)
        .expect(0)
        .says(&["400 event(s) delivered"]);
    all_there(&office, &two);
}

#[test]
fn the_template_is_installed_once_and_fits_the_server() {
    let office = Simulated::start(Office::builder(87).blobs(5).events_per_blob(4));
    let bulk = Bulk::start(BulkFaults::default(), 87);
    bulk.state().unknown_types = vec!["flattened", "wildcard"];
    let folder = folder();
    let pipeline = pipeline("template", &office, &bulk, "manage_template: true");
    once(&pipeline, &folder)
        .expect(0)
        .says(&["the index template is installed"]);
    let name = "sluicegate-logs-o365.audit";
    let template = bulk.state().templates[name].clone();
    assert_eq!(template["index_patterns"], json!(["logs-o365.audit-*"]));
    let properties = &template["template"]["mappings"]["properties"];
    assert_eq!(
        properties["url"]["properties"]["original"],
        json!({ "type": "keyword" })
    );
    assert_eq!(
        properties["o365"]["properties"]["audit"]["properties"]["Item"]["type"],
        "flat_object"
    );
    all_there(&office, &bulk);
    let ended = once(&pipeline, &folder).expect(0);
    assert!(!ended.stderr.contains("is installed"), "{}", ended.stderr);
}

#[test]
fn a_server_that_is_down_holds_back_commits_but_not_the_other_sink() {
    let office = Simulated::start(Office::builder(88).blobs(30).events_per_blob(10));
    let bulk = Bulk::start(BulkFaults::default(), 88);
    bulk.stop();
    let folder = folder();
    let pipeline = pipeline("beside", &office, &bulk, "").sink("file: { path: beside.ndjson }");
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("cannot connect");
    // The file has everything meanwhile.
    let file = folder.path().join("beside.ndjson");
    running.until("the file has everything", || {
        Delivered::so_far(&file).events.len() == 300
    });
    bulk.start_again();
    running
        .end()
        .expect(0)
        .says(&["300 event(s) delivered", "cannot connect"]);
    all_there(&office, &bulk);
    let file = Delivered::read(&folder.path().join("beside.ndjson"));
    assert!(file.repeated().is_empty() && file.events.len() == 300);
}

#[test]
fn without_acknowledgements_a_server_that_is_down_holds_back_nothing() {
    let office = Simulated::start(Office::builder(89).blobs(30).events_per_blob(10));
    let bulk = Bulk::start(BulkFaults::default(), 89);
    bulk.stop();
    let folder = folder();
    let pipeline = pipeline("effort", &office, &bulk, "acknowledgements: false")
        .sink("file: { path: effort.ndjson }")
        .section("drain_timeout: 1s");
    once(&pipeline, &folder)
        .expect(0)
        .says(&["300 event(s) delivered"]);
    let verdict = office.judge(&Delivered::read(&folder.path().join("effort.ndjson")));
    assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
    // With a server there, the queue is emptied before the end.
    bulk.start_again();
    let again = self::pipeline("again", &office, &bulk, "acknowledgements: false");
    let _ = once(&again, &folder).expect(0);
    all_there(&office, &bulk);
}
