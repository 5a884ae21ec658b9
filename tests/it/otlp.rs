//! The real command against a collector that reads OTLP by the protocol's own numbers: nothing is missing, and the one
//! record that is rejected is found.

use sluicegate_office::Office;
use sluicegate_tests::real_server::patient_office;
use sluicegate_tests::{Collector, CollectorFaults, Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::http::survives;
use crate::{folder, sluicegate};

const QUICK: &str = "batch: { max_events: 30, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

fn to_otlp(name: &str, office: &Simulated, collector: &Collector, keys: &str) -> Pipeline {
    let url = collector.url();
    Pipeline::o365(name, office).only(&format!("otlp: {{ endpoint: '{url}', {QUICK}, {keys} }}"))
}

fn run(name: &str, office: &Simulated, collector: &Collector, keys: &str, at: &TempDir) -> Ended {
    std::fs::write(at.path().join("token"), "c0ffee-c0ffee\n").unwrap();
    let pipeline = to_otlp(name, office, collector, keys);
    let ended = pipeline.give(sluicegate(at).args("run --once")).run();
    let complaints = &collector.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
    ended.expect(0)
}

#[test]
fn every_event_is_one_record_under_its_tenants_resource() {
    let office = Simulated::start(
        Office::builder(141)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let collector = Collector::start(CollectorFaults::default(), 141);
    collector.state().login = Some("Bearer c0ffee-c0ffee".into());
    let folder = folder();
    let keys = "compression: gzip, auth: { strategy: bearer, token: { file: token } }";
    run("whole", &office, &collector, keys, &folder).says(&["600 event(s) delivered"]);
    let verdict = office.judge(&collector.delivered());
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
}

#[test]
fn records_that_are_rejected_without_a_name_are_found_and_kept() {
    let office = Simulated::start(Office::builder(142).blobs(40).events_per_blob(10));
    let faults = CollectorFaults {
        busy: 0.1,
        poison: Some(40),
        ..CollectorFaults::default()
    };
    let collector = Collector::start(faults, 142);
    let folder = folder();
    let ended = run("partial", &office, &collector, "", &folder);
    let letters = folder
        .path()
        .join("state/partial/dead-letters/partial.rejected.ndjson");
    let letters = Delivered::read(&letters).events;
    assert!((1..40).contains(&letters.len()), "{}", letters.len());
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    let mut all = collector.delivered();
    for mut letter in letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(
            reason.contains("rejects the record: no such record"),
            "{reason}"
        );
        all.events.push(letter["body"].take());
    }
    let verdict = office.judge(&all);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was taken beside a rejected record comes again, in each half until that one is alone.
    assert!(verdict.owed == 400 && verdict.duplicated > 0, "{verdict:?}");
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    let office = patient_office(143);
    let collector = Collector::start(CollectorFaults::default(), 143);
    survives(
        &office,
        &collector,
        &to_otlp("killed", &office, &collector, ""),
    );
}
