//! The real command against a real NATS server with JetStream, where it is installed: each event is one message of the
//! stream, whatever breaks on either side, and what is set up wrong waits and says so.

use std::time::Duration;

use serde_json::json;
use sluicegate_office::Office;
use sluicegate_tests::nats::Nats;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, root, sluicegate};

const QUICK: &str = "batch: { max_events: 40, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

/// A server, unless there is none.
fn server(folder: &TempDir, more: &[&str]) -> Option<Nats> {
    Nats::start(folder.path(), more)
        .inspect_err(|why| eprintln!("skipped: no NATS server to test with: {why}"))
        .ok()
}

fn pipeline(name: &str, office: &Simulated, url: &str, keys: &str) -> Pipeline {
    Pipeline::o365(name, office).only(&format!(
        "nats: {{ endpoints: ['{url}'], subject: 'logs.{{tenant}}.{{stream}}', {QUICK}, {keys} }}"
    ))
}

fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

#[test]
fn every_event_is_one_message_under_the_subject_of_its_stream() {
    let folder = folder();
    let Some(nats) = server(&folder, &[]) else {
        return;
    };
    nats.make_stream(&json!({}));
    let office = Simulated::start(
        Office::builder(111)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    once(&pipeline("first", &office, &nats.url(), ""), &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    // Another state knows nothing of the first run, so all is sent again, and is there already.
    once(&pipeline("second", &office, &nats.url(), ""), &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let (delivered, subjects) = nats.delivered();
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    let names = office.tenants(|tenant| tenant.name.clone());
    for subject in &subjects {
        let parts: Vec<_> = subject.split('.').collect();
        let known = names.iter().any(|name| name == parts[1]);
        assert!(
            parts.len() == 3 && known && !parts[2].is_empty(),
            "{subject}"
        );
    }
}

#[test]
fn kills_of_us_and_restarts_of_the_server_lose_and_double_nothing() {
    let folder = folder();
    let Some(mut nats) = server(&folder, &[]) else {
        return;
    };
    nats.make_stream(&json!({}));
    let office = patient_office(112);
    let pipeline = pipeline("killed", &office, &nats.url(), "");
    let nats = std::cell::RefCell::new(&mut nats);
    torment(
        || sluicegate(&folder),
        &pipeline,
        |on| nats.borrow_mut().switch(on),
        || nats.borrow().messages(),
    );
    let (delivered, _) = nats.borrow().delivered();
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean() && verdict.owed == 2_400, "{verdict:?}");
}

#[test]
fn a_stream_that_is_missing_is_named_and_waited_for() {
    let folder = folder();
    let Some(nats) = server(&folder, &[]) else {
        return;
    };
    let office = Simulated::start(Office::builder(113).blobs(10).events_per_blob(10));
    let running = pipeline("missing", &office, &nats.url(), "")
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("no stream takes");
    nats.make_stream(&json!({}));
    running.end().expect(0).says(&[
        "no stream takes subject `logs.",
        "nats stream add",
        "takes events again",
        "100 event(s) delivered",
    ]);
    let verdict = office.judge(&nats.delivered().0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}

#[test]
fn what_a_stream_has_no_room_for_waits_and_what_is_too_large_is_a_dead_letter() {
    let folder = folder();
    let Some(nats) = server(&folder, &[]) else {
        return;
    };
    let office = Simulated::start(Office::builder(114).blobs(20).events_per_blob(10));
    nats.make_stream(&json!({ "max_msg_size": 2_100, "max_msgs": 60, "discard": "new" }));
    let full = pipeline("full", &office, &nats.url(), "");
    let running = full.give(sluicegate(&folder).args("run --once")).start();
    let room = || usize::try_from(nats.messages()).unwrap();
    running.until("the stream is full", || room() == 60);
    assert!(!running.ends_within(Duration::from_secs(1)), "it must wait");
    nats.change_stream(&json!({ "max_msg_size": 2_100, "max_msgs": -1, "discard": "new" }));
    let ended = running.end().expect(0);
    let letters = folder
        .path()
        .join("state/full/dead-letters/full.rejected.ndjson");
    let letters = Delivered::read(&letters).events;
    assert!((1..200).contains(&letters.len()), "{}", letters.len());
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    let (mut all, _) = nats.delivered();
    for mut letter in letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(
            reason.contains("message size exceeds maximum allowed"),
            "{reason}"
        );
        all.events.push(letter["body"].take());
    }
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 200, "{verdict:?}");
}

#[test]
fn a_credential_and_a_certificate_are_shown_and_a_wrong_one_waits() {
    let fixture = |name: &str| {
        let path = root().join("tests/fixtures/auth").join(name);
        path.display().to_string()
    };
    let (certificate, key) = (fixture("server.pem"), fixture("server.key"));
    let folder = folder();
    let authorized = ["--user", "sluice", "--pass", "gate-gate"];
    let tls = [
        "--tlsverify",
        "--tlscert",
        &certificate,
        "--tlskey",
        &key,
        "--tlscacert",
        &certificate,
    ];
    let Some(plain) = server(&folder, &[]) else {
        return;
    };
    plain.make_stream(&json!({}));
    drop(plain);
    // The same data behind TLS and a password.
    let more: Vec<_> = authorized.iter().chain(&tls).copied().collect();
    let guarded = server(&folder, &more).unwrap();
    let office = Simulated::start(Office::builder(115).blobs(10).events_per_blob(10));
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong-wrong").unwrap();
    let url = format!("tls://localhost:{}", guarded.port());
    let keys = format!(
        "auth: {{ strategy: user_password, user: sluice, password: {{ file: password }} }}, \
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
    let verdict = office.judge(&plain.delivered().0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}

/// The seed of a user's key, and the key that the server knows him by: from the manual of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const KEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

#[test]
fn a_token_and_a_key_open_the_door() {
    let folder = folder();
    let Some(plain) = server(&folder, &[]) else {
        return;
    };
    plain.make_stream(&json!({}));
    drop(plain);
    let config = folder.path().join("users.conf");
    let users = format!("authorization: {{ users: [{{ nkey: {KEY} }}] }}\n");
    std::fs::write(&config, users).unwrap();
    let config = config.display().to_string();
    let office = Simulated::start(Office::builder(116).blobs(10).events_per_blob(10));
    for (name, server_has, secret, keys) in [
        (
            "token",
            ["--auth", "c0ffee-c0ffee"],
            "c0ffee-c0ffee",
            "strategy: token, token: { file: secret }",
        ),
        (
            "key",
            ["-c", &config],
            SEED,
            "strategy: nkey, seed: { file: secret }",
        ),
    ] {
        let guarded = server(&folder, &server_has).unwrap();
        std::fs::write(folder.path().join("secret"), secret).unwrap();
        let keys = format!("auth: {{ {keys} }}");
        let ended = once(&pipeline(name, &office, &guarded.url(), &keys), &folder).expect(0);
        ended.says(&["100 event(s) delivered"]);
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
    let plain = server(&folder, &[]).unwrap();
    let verdict = office.judge(&plain.delivered().0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
