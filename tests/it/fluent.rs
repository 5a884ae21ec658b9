//! The real command against a server of the forward protocol that checks every message and fails in every way. Nothing
//! is missing; what comes twice was taken and its acknowledgement lost. Where Node.js and `@fluent-org/logger` can be
//! had, that one's server takes the events as well: it is the Fluent project's own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use sluicegate_office::Office;
use sluicegate_tests::forward::{Forward, ForwardFaults};
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::socket::run;
use crate::{folder, sluicegate};

fn pipeline(name: &str, office: &Simulated, servers: &[&Forward], keys: &str) -> Pipeline {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|server| server.receiver.address())
        .collect();
    let endpoints = endpoints.join("', '");
    Pipeline::o365(name, office).only(&format!(
        "fluent: {{ endpoints: ['{endpoints}'], batch: {{ max_events: 30, timeout: 20ms }}, \
         request: {{ retry_initial: 20ms, retry_max: 200ms, timeout: 5s }}, {keys} }}"
    ))
}

#[track_caller]
fn no_complaints(server: &Forward) {
    let complaints = &server.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_event_comes_once_and_whole_packed_or_not_to_one_server_or_two() {
    let office = Simulated::start(Office::builder(131).blobs(30).events_per_blob(10));
    for (name, keys) in [("plain", ""), ("packed", "compression: gzip")] {
        let servers = [131, 132].map(|seed| Forward::start(ForwardFaults::default(), seed));
        let folder = folder();
        let pipeline = pipeline(name, &office, &[&servers[0], &servers[1]], keys);
        let pipeline = pipeline.sink(&format!("file: {{ path: {name}.ndjson }}"));
        run(&pipeline, &folder)
            .expect(0)
            .says(&["300 event(s) delivered", "0 dead letter(s)"]);
        let mut events = Vec::new();
        for server in &servers {
            no_complaints(server);
            let state = server.state();
            assert!(state.chunks > 0, "each server has its share");
            assert_eq!(
                state.packed,
                if name == "packed" { state.chunks } else { 0 }
            );
            events.extend(state.events.clone());
        }
        let verdict = office.judge(&Delivered {
            events: events.clone(),
        });
        assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
        // Each as the file has it, member by member.
        let mut file = Delivered::read(&folder.path().join(format!("{name}.ndjson"))).events;
        let key = |event: &serde_json::Value| event["event"]["id"].to_string();
        file.sort_by_key(key);
        events.sort_by_key(key);
        assert_eq!(file, events);
    }
}

#[test]
fn a_server_that_breaks_off_gets_every_event() {
    let office = Simulated::start(Office::builder(133).blobs(60).events_per_blob(10));
    let faults = ForwardFaults {
        breaks_after: 0.1,
        breaks_before: 0.1,
    };
    let server = Forward::start(faults, 133);
    let folder = folder();
    let _ = run(&pipeline("faulty", &office, &[&server], ""), &folder).expect(0);
    no_complaints(&server);
    let verdict = office.judge(&server.delivered());
    assert_eq!(
        (verdict.missing, verdict.invented, verdict.owed),
        (0, 0, 600),
        "{verdict:?}"
    );
    // What is acknowledged is not sent again, though another chunk of its request broke.
    let lost = server.state().unacknowledged as u64;
    assert!(lost > 0 && verdict.duplicated == lost, "{lost} {verdict:?}");
}

#[test]
fn kills_and_restarts_cost_repetitions_and_no_event() {
    let office = patient_office(134);
    let server = Forward::start(ForwardFaults::default(), 134);
    let folder = folder();
    torment(
        || sluicegate(&folder),
        &pipeline("killed", &office, &[&server], ""),
        |on| server.receiver.switch(on),
        || server.state().events.len(),
    );
    no_complaints(&server);
    let verdict = office.judge(&server.delivered());
    println!("fluent: {} twice of {}", verdict.duplicated, verdict.owed);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
}

/// Asks for a shared key and a user, acknowledges, and prints each record.
const SERVER: &str = r#"
const { FluentServer } = require("@fluent-org/logger");
const security = { serverHostname: "theirs", sharedKey: "the-key", authorize: true, userDict: { alice: "hunter2" } };
const server = new FluentServer({ security, listenOptions: { port: 0, host: "127.0.0.1" } });
server.on("entry", (tag, time, record) => console.log(JSON.stringify(record)));
server.listen().then(() => console.log(server.port));
process.stdin.on("end", () => process.stdout.write("", () => process.exit(0))).resume();
"#;

#[test]
fn the_fluent_projects_own_server_takes_every_event_of_whoever_knows_the_key() {
    // Where the package was installed: `npm install @fluent-org/logger` makes such a folder.
    let modules = std::env::var("NODE_PATH").unwrap_or_default();
    let started = Command::new("node")
        .args(["-e", SERVER])
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut port = String::new();
    let server = started.ok().and_then(|mut server| {
        let mut said = BufReader::new(server.stdout.take()?);
        said.read_line(&mut port).ok().filter(|read| *read > 0)?;
        Some((server, said))
    });
    let Some((mut server, mut said)) = server else {
        eprintln!(
            "skipped: no forward server to test with: `npm install @fluent-org/logger`, and its folder in NODE_PATH"
        );
        return;
    };
    let office = Simulated::start(Office::builder(135).blobs(30).events_per_blob(10));
    let folder = folder();
    std::fs::write(folder.path().join("key"), "the-key\n").unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let address = format!("127.0.0.1:{}", port.trim());
    let pipeline = Pipeline::o365("own", &office).only(&format!(
        "fluent: {{ endpoints: ['{address}'], shared_key: {{ file: key }}, username: alice, \
         password: {{ file: password }}, compression: gzip, batch: {{ max_events: 40, timeout: 20ms }} }}"
    ));
    run(&pipeline, &folder)
        .expect(0)
        .says(&["300 event(s) delivered"]);
    drop(server.stdin.take());
    let mut records = Vec::new();
    said.read_to_end(&mut records).unwrap();
    server.wait().unwrap();
    let verdict = office.judge(&Delivered::parse(&records));
    assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
}
