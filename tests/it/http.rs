//! The real command against places that take events by HTTP: any endpoint, and Splunk's event collector. Nothing is
//! missing whatever breaks; what comes twice comes twice only because an answer was lost.

use std::path::Path;

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Collector, CollectorFaults, Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

pub const QUICK: &str = "batch: { max_events: 30, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

fn run(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    std::fs::write(folder.path().join("token"), "c0ffee-c0ffee\n").unwrap();
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

fn to_http(name: &str, office: &Simulated, collector: &Collector, keys: &str) -> Pipeline {
    let uri = format!("{}/events", collector.url());
    Pipeline::o365(name, office).only(&format!("http: {{ uri: '{uri}', {QUICK}, {keys} }}"))
}

fn to_splunk(name: &str, office: &Simulated, collector: &Collector, keys: &str) -> Pipeline {
    let keys = format!(
        "endpoint: '{}', default_token: {{ file: token }}, sourcetype: _json, {QUICK}, {keys}",
        collector.url()
    );
    Pipeline::o365(name, office).only(&format!("splunk_hec: {{ {keys} }}"))
}

/// The events that a run kept as dead letters.
pub fn dead_letters(folder: &Path, name: &str) -> Vec<Value> {
    let file = format!("state/{name}/dead-letters/{name}.rejected.ndjson");
    let text = std::fs::read(folder.join(file)).unwrap_or_default();
    let letters = Delivered::parse(&text).events.into_iter();
    letters.map(|mut letter| letter["body"].take()).collect()
}

#[track_caller]
fn no_complaints(collector: &Collector) {
    let complaints = &collector.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_event_comes_once_as_lines_and_as_an_array() {
    let office = Simulated::start(Office::builder(91).blobs(30).events_per_blob(10));
    for (name, keys) in [
        (
            "lines",
            "auth: { strategy: bearer, token: { file: token } }, headers: { x-a: b }",
        ),
        (
            "array",
            "framing: json_array, method: put, compression: gzip",
        ),
    ] {
        let collector = Collector::start(CollectorFaults::default(), 91);
        collector.state().login = (name == "lines").then(|| "Bearer c0ffee-c0ffee".into());
        let folder = folder();
        let pipeline = to_http(name, &office, &collector, keys);
        run(&pipeline, &folder)
            .expect(0)
            .says(&["300 event(s) delivered"]);
        let verdict = office.judge(&collector.delivered());
        assert!(
            verdict.is_clean() && verdict.owed == 300,
            "{name}: {verdict:?}"
        );
        no_complaints(&collector);
    }
}

#[test]
fn a_refused_event_is_found_alone_and_a_busy_server_is_asked_again() {
    let office = Simulated::start(Office::builder(92).blobs(60).events_per_blob(10));
    let faults = CollectorFaults {
        busy: 0.2,
        poison: Some(40),
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 92);
    let folder = folder();
    let ended = run(&to_http("refused", &office, &collector, ""), &folder).expect(0);
    let letters = dead_letters(folder.path(), "refused");
    assert!(
        (4..60).contains(&letters.len()),
        "{} dead letters",
        letters.len()
    );
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    let mut all = collector.delivered();
    all.events.extend(letters);
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    no_complaints(&collector);
}

#[test]
fn lost_answers_cost_repetitions_and_no_event() {
    let office = Simulated::start(Office::builder(93).blobs(60).events_per_blob(10));
    let faults = CollectorFaults {
        busy: 0.1,
        breaks_after: 0.2,
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 93);
    let folder = folder();
    let _ = run(&to_http("lost", &office, &collector, ""), &folder).expect(0);
    let verdict = office.judge(&collector.delivered());
    assert_eq!(
        (verdict.missing, verdict.invented, verdict.owed),
        (0, 0, 600),
        "{verdict:?}"
    );
    assert!(verdict.duplicated > 0, "no answer was lost");
    no_complaints(&collector);
}

#[test]
fn loki_gets_every_event_as_a_line_at_its_time() {
    let office = Simulated::start(Office::builder(96).tenants(2).blobs(20).events_per_blob(10));
    let faults = CollectorFaults {
        busy: 0.1,
        poison: Some(50),
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 96);
    let folder = folder();
    let url = collector.url();
    let pipeline = Pipeline::o365("loki", &office).only(&format!(
        "loki: {{ endpoint: '{url}', tenant_id: a, {QUICK} }}"
    ));
    let _ = run(&pipeline, &folder).expect(0);
    let letters = dead_letters(folder.path(), "loki");
    assert!(!letters.is_empty(), "no event was refused");
    let mut all = collector.delivered();
    all.events.extend(letters);
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 400, "{verdict:?}");
    no_complaints(&collector);
}

#[test]
fn splunk_has_every_event_indexed_before_it_counts_as_delivered() {
    let office = Simulated::start(Office::builder(94).blobs(40).events_per_blob(10));
    let faults = CollectorFaults {
        busy: 0.1,
        poison: Some(50),
        forgets: 0.3,
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 94);
    collector.state().login = Some("Splunk c0ffee-c0ffee".into());
    let folder = folder();
    // What is forgotten was never indexed, so nothing comes twice.
    let ended = run(
        &to_splunk("splunk", &office, &collector, "ack_timeout: 2s"),
        &folder,
    )
    .expect(0);
    ended.says(&["no acknowledgement within 2 seconds"]);
    let letters = dead_letters(folder.path(), "splunk");
    assert!(!letters.is_empty(), "no event was refused");
    let mut all = collector.delivered();
    all.events.extend(letters);
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 400, "{verdict:?}");
    no_complaints(&collector);
}

#[test]
fn a_splunk_token_without_acknowledgement_is_found_before_anything_is_sent() {
    let office = Simulated::start(Office::builder(95).blobs(10).events_per_blob(10));
    let faults = CollectorFaults {
        without_acks: true,
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 95);
    let folder = folder();
    std::fs::write(folder.path().join("token"), "c0ffee-c0ffee\n").unwrap();
    let waiting = to_splunk("waiting", &office, &collector, "");
    let running = waiting.give(sluicegate(&folder).args("run --once")).start();
    running.must_wait("ACK is disabled");
    let ended = running.kill();
    ended.says(&["ACK is disabled", "indexer_acknowledgements: false"]);
    assert_eq!(collector.state().requests, 0);
    let without = to_splunk(
        "without",
        &office,
        &collector,
        "indexer_acknowledgements: false",
    );
    run(&without, &folder)
        .expect(0)
        .says(&["100 event(s) delivered"]);
    let verdict = office.judge(&collector.delivered());
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
    no_complaints(&collector);
}

/// Kills the command and restarts the server in the middle, then lets it come to its end: nothing is missing.
pub(crate) fn survives(office: &Simulated, collector: &Collector, pipeline: &Pipeline) {
    let folder = folder();
    std::fs::write(folder.path().join("token"), "c0ffee-c0ffee\n").unwrap();
    torment(
        || sluicegate(&folder),
        pipeline,
        |on| collector.switch(on),
        || collector.state().events.len(),
    );
    let verdict = office.judge(&collector.delivered());
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was under way at a kill or a stop comes again, and nothing else does.
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
    no_complaints(collector);
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    let office = patient_office(98);
    let plain = Collector::start(CollectorFaults::default(), 98);
    survives(&office, &plain, &to_http("plain", &office, &plain, ""));
    let splunk = Collector::start(CollectorFaults::default(), 99);
    let pipeline = to_splunk("splunk", &office, &splunk, "ack_timeout: 1s");
    survives(&office, &splunk, &pipeline);
}
