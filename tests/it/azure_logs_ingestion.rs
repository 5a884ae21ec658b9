//! The real command against a login host and a logs ingestion service that check each request: every event is there
//! once, whatever tokens and rights do; what comes twice comes twice only because an answer was lost.

use sluicegate_office::Office;
use sluicegate_tests::azure::SECRET;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{IngestionFaults, LogsIngestion, Pipeline, Simulated};
use tempfile::TempDir;

use crate::http::QUICK;
use crate::{folder, sluicegate};

fn pipeline(name: &str, office: &Simulated, azure: &LogsIngestion, keys: &str) -> Pipeline {
    let sink = format!(
        "azure_logs_ingestion: {{ {}, {QUICK}, {keys} }}",
        azure.keys()
    );
    Pipeline::o365(name, office).only(&sink)
}

fn secret(folder: &TempDir, secret: &str) {
    std::fs::write(folder.path().join("azure.secret"), secret).unwrap();
}

#[track_caller]
fn no_complaints(azure: &LogsIngestion) {
    let complaints = &azure.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_event_is_there_once_with_tokens_that_end_and_a_service_that_is_busy() {
    let office = Simulated::start(
        Office::builder(151)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let faults = IngestionFaults {
        busy: 0.2,
        token_lasts: 3,
        ..IngestionFaults::default()
    };
    let azure = LogsIngestion::start(faults, 151);
    let folder = folder();
    secret(&folder, SECRET);
    let pipeline = pipeline("azure", &office, &azure, "compression: gzip");
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    let ended = ended.expect(0);
    ended.says(&["600 event(s) delivered", "0 dead letter(s)"]);
    assert!(!ended.stderr.contains(SECRET) && !ended.stderr.contains("token-0"));
    let verdict = office.judge(&azure.delivered());
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    assert!(azure.state().tokens > 3, "no token ended");
    no_complaints(&azure);
}

/// What a person has to put right holds everything back, says so, and heals without a restart.
#[test]
fn a_wrong_secret_a_missing_right_and_an_unknown_stream_wait_and_heal() {
    let office = Simulated::start(Office::builder(152).blobs(10).events_per_blob(10));
    for (name, words) in [
        ("secret", "client_secret"),
        ("right", "Monitoring Metrics Publisher"),
        ("stream", "InvalidStream"),
    ] {
        let faults = IngestionFaults {
            forbidden: name == "right",
            unknown_stream: name == "stream",
            ..IngestionFaults::default()
        };
        let azure = LogsIngestion::start(faults, 152);
        let folder = folder();
        secret(
            &folder,
            if name == "secret" {
                "wrong-wrong"
            } else {
                SECRET
            },
        );
        let pipeline = pipeline(name, &office, &azure, "");
        let running = pipeline
            .give(sluicegate(&folder).args("run --once"))
            .start();
        running.must_wait(words);
        assert!(azure.state().events.is_empty());
        secret(&folder, SECRET);
        azure.state().faults = IngestionFaults::default();
        let ended = running.end().expect(0);
        ended.says(&[words, "100 event(s) delivered", "0 dead letter(s)"]);
        assert!(!ended.stderr.contains("wrong-wrong"));
        let verdict = office.judge(&azure.delivered());
        assert!(
            verdict.is_clean() && verdict.owed == 100,
            "{name}: {verdict:?}"
        );
        no_complaints(&azure);
    }
}

#[test]
fn kills_and_lost_answers_cost_repetitions_and_no_event() {
    let office = patient_office(153);
    let faults = IngestionFaults {
        breaks_after: 0.1,
        ..IngestionFaults::default()
    };
    let azure = LogsIngestion::start(faults, 153);
    let folder = folder();
    secret(&folder, SECRET);
    torment(
        || sluicegate(&folder),
        &pipeline("killed", &office, &azure, ""),
        |on| azure.switch(on),
        || azure.state().events.len(),
    );
    let verdict = office.judge(&azure.delivered());
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
    no_complaints(&azure);
}
