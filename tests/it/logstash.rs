//! The real command against Lumberjack servers: our own, which checks every frame and fails in every way, and the
//! `tst-lj` of the Go library that Elastic's tests use, where it is installed. Nothing is missing; what comes twice was
//! taken and not acknowledged.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use sluicegate_office::Office;
use sluicegate_tests::lumberjack::{Lumberjack, LumberjackFaults};
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::socket::run;
use crate::{folder, sluicegate};

fn pipeline(name: &str, office: &Simulated, servers: &[&Lumberjack], keys: &str) -> Pipeline {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|server| server.receiver.address())
        .collect();
    let endpoints = endpoints.join("', '");
    Pipeline::o365(name, office).only(&format!(
        "logstash: {{ endpoints: ['{endpoints}'], batch: {{ max_events: 30, timeout: 20ms }}, \
         request: {{ retry_initial: 20ms, retry_max: 200ms, timeout: 1s }}, {keys} }}"
    ))
}

#[track_caller]
fn no_complaints(server: &Lumberjack) {
    let complaints = &server.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_event_comes_once_packed_or_not_to_one_server_or_two() {
    let office = Simulated::start(Office::builder(121).blobs(30).events_per_blob(10));
    for (name, keys) in [("packed", ""), ("plain", "compression_level: 0")] {
        let servers = [121, 122].map(|seed| Lumberjack::start(LumberjackFaults::default(), seed));
        let folder = folder();
        let pipeline = pipeline(name, &office, &[&servers[0], &servers[1]], keys);
        run(&pipeline, &folder)
            .expect(0)
            .says(&["300 event(s) delivered", "0 dead letter(s)"]);
        let mut events = Vec::new();
        for server in &servers {
            no_complaints(server);
            assert!(server.state().windows > 0, "each server has its share");
            events.extend(server.delivered().events);
        }
        let verdict = office.judge(&Delivered { events });
        assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
    }
}

#[test]
fn a_server_that_fails_in_every_way_gets_every_event() {
    let office = Simulated::start(Office::builder(123).blobs(60).events_per_blob(10));
    let faults = LumberjackFaults {
        parts: 0.5,
        breaks_after: 0.15,
        breaks_before: 0.1,
        stalls: Some((0.05, Duration::from_millis(1_500))),
    };
    let server = Lumberjack::start(faults, 123);
    let folder = folder();
    let pipeline = pipeline("faulty", &office, &[&server], "");
    let _ = run(&pipeline, &folder).expect(0);
    no_complaints(&server);
    let verdict = office.judge(&server.delivered());
    assert_eq!(
        (verdict.missing, verdict.invented, verdict.owed),
        (0, 0, 600),
        "{verdict:?}"
    );
    let state = server.state();
    assert!(state.broken > 0, "nothing broke");
    // Of a window that broke, at most the part comes again that was taken and not acknowledged.
    assert!(
        verdict.duplicated <= 30 * state.broken as u64,
        "{verdict:?}"
    );
    // Whoever goes by the ids has each event once.
    let ids: HashSet<_> = state.ids.iter().collect();
    assert_eq!(ids.len(), 600);
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    let office = patient_office(124);
    let server = Lumberjack::start(LumberjackFaults::default(), 124);
    let folder = folder();
    torment(
        || sluicegate(&folder),
        &pipeline("killed", &office, &[&server], ""),
        |on| server.receiver.switch(on),
        || server.state().events.len(),
    );
    no_complaints(&server);
    let verdict = office.judge(&server.delivered());
    println!("logstash: {} twice of {}", verdict.duplicated, verdict.owed);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
    let ids: HashSet<_> = server.state().ids.iter().cloned().collect();
    assert_eq!(ids.len() as u64, verdict.owed);
}

#[test]
fn elastics_own_server_takes_every_event() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let started = Command::new("tst-lj")
        .args(["-v2", "-bind", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut server) = started else {
        eprintln!(
            "skipped: no Lumberjack server to test with: \
             `go install github.com/elastic/go-lumber/cmd/tst-lj@latest`"
        );
        return;
    };
    while TcpStream::connect(&address).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "it does not start");
    }
    let office = Simulated::start(Office::builder(125).blobs(30).events_per_blob(10));
    let folder = folder();
    let pipeline = Pipeline::o365("elastic", &office).only(&format!(
        "logstash: {{ endpoints: ['{address}'], batch: {{ max_events: 40, timeout: 20ms }} }}"
    ));
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    server.kill().unwrap();
    let said = server.wait_with_output().unwrap().stderr;
    ended.expect(0).says(&["300 event(s) delivered"]);
    let said = String::from_utf8_lossy(&said);
    let counts = said.split("batch of ").skip(1);
    let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert_eq!(counts.sum::<u32>(), 300, "{said}");
}
