//! The real command against receivers that acknowledge nothing: our own, which read, die and come back, and real
//! rsyslog and syslog-ng where they are installed. What is missing is counted, and explained.

use std::io::Read as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::syslog::{Kind, Syslog};
use sluicegate_tests::{Delivered, Ended, Lines, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

const QUICK: &str = "batch: { max_events: 30, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

fn pipeline(name: &str, office: &Simulated, keys: &str) -> Pipeline {
    Pipeline::o365(name, office).only(&format!("socket: {{ {keys}, {QUICK} }}"))
}

pub(crate) fn run(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

#[test]
fn lines_over_tcp_are_all_there_once() {
    let office = Simulated::start(Office::builder(111).blobs(30).events_per_blob(10));
    for (name, keys) in [("received", ""), ("read", ", confirm: read")] {
        let lines = Lines::start();
        let folder = folder();
        let address = lines.receiver.address();
        let keys = format!("mode: tcp, address: '{address}', encoding: {{ codec: json }}{keys}");
        run(&pipeline(name, &office, &keys), &folder)
            .expect(0)
            .says(&["300 event(s) delivered"]);
        // What the system of a receiver has, its program reads in its own time.
        while name == "received" && lines.count() < 300 {
            std::thread::yield_now();
        }
        let verdict = office.judge(&lines.delivered());
        assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
    }
}

#[test]
fn what_is_confirmed_as_read_is_never_missing_whoever_is_killed() {
    let office = patient_office(112);
    let lines = Lines::start();
    let folder = folder();
    let keys = format!(
        "mode: tcp, address: '{}', encoding: {{ codec: json }}, confirm: read",
        lines.receiver.address()
    );
    torment(
        || sluicegate(&folder),
        &pipeline("read", &office, &keys),
        |on| lines.receiver.switch(on),
        || lines.count(),
    );
    let verdict = office.judge(&lines.delivered());
    println!("read: {} twice of {}", verdict.duplicated, verdict.owed);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was under way at a kill or a stop comes again, and nothing else does.
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
}

#[test]
fn what_is_confirmed_as_received_is_missing_only_where_a_receiver_died_with_it() {
    let office = patient_office(113);
    let lines = Lines::start();
    let folder = folder();
    let address = lines.receiver.address();
    let keys = format!("mode: tcp, address: '{address}', encoding: {{ codec: json }}");
    torment(
        || sluicegate(&folder),
        &pipeline("received", &office, &keys),
        |on| lines.receiver.switch(on),
        || lines.count(),
    );
    // The last run has ended, so its system has sent all; the receiver reads on until nothing comes any more.
    let mut before = 0;
    while before < lines.count() {
        before = lines.count();
        sluicegate_tests::http_server::dawdle(Duration::from_millis(300));
    }
    let verdict = office.judge(&lines.delivered());
    let (missing, twice, owed) = (verdict.missing, verdict.duplicated, verdict.owed);
    println!("received: {missing} missing and {twice} twice of {owed}");
    assert_eq!(verdict.invented, 0, "{verdict:?}");
    // Five stops, each with at most the request that the system had confirmed and nobody had read.
    assert!(verdict.missing <= 5 * 30, "{verdict:?}");
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
}

#[test]
fn a_unix_stream_gets_each_event_as_gelf() {
    let office = Simulated::start(Office::builder(114).blobs(20).events_per_blob(10));
    let folder = folder();
    let path = folder.path().join("gelf.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, bytes) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let _ = sender.send(all);
        }
    });
    let keys = "mode: unix_stream, path: gelf.sock, \
                encoding: { codec: gelf, host: '{tenant}', severity: warning }";
    run(&pipeline("gelf", &office, keys), &folder)
        .expect(0)
        .says(&["200 event(s) delivered"]);
    let all = bytes.recv().unwrap();
    let messages: Vec<&[u8]> = all.split(|byte| *byte == 0).collect();
    assert_eq!((messages.len(), messages[200]), (201, &b""[..]));
    let mut events = Vec::new();
    for message in &messages[..200] {
        let message: Value = serde_json::from_slice(message).unwrap();
        assert_eq!(
            (&message["version"], &message["level"]),
            (&"1.1".into(), &4.into())
        );
        let (organization, id) = (&message["_organization.id"], &message["_event.id"]);
        events.push(
            serde_json::json!({ "organization": { "id": organization }, "event": { "id": id } }),
        );
    }
    let verdict = office.judge(&Delivered { events });
    assert!(verdict.is_clean() && verdict.owed == 200, "{verdict:?}");
}

#[test]
fn wazuh_gets_each_event_and_what_is_too_large_is_a_dead_letter() {
    let office = Simulated::start(Office::builder(115).blobs(20).events_per_blob(10));
    let folder = folder();
    let queue = UnixDatagram::bind(folder.path().join("queue")).unwrap();
    let (sender, messages) = channel();
    std::thread::spawn(move || {
        let mut space = vec![0; 65_536];
        while let Ok(length) = queue.recv(&mut space) {
            let _ = sender.send(space[..length].to_vec());
        }
    });
    let keys = "mode: unix_datagram, path: queue, max_message: 2000B, encoding: { codec: wazuh }";
    let ended = run(&pipeline("wazuh", &office, keys), &folder).expect(0);
    let mut text = Vec::new();
    while let Ok(message) = messages.try_recv() {
        text.extend_from_slice(message.strip_prefix(b"1:office365:").unwrap());
        text.push(b'\n');
    }
    let mut all = Delivered::parse(&text);
    let file = "state/wazuh/dead-letters/wazuh.rejected.ndjson";
    let letters = std::fs::read(folder.path().join(file)).unwrap_or_default();
    let letters = Delivered::parse(&letters).events;
    assert!(
        (1..200).contains(&letters.len()),
        "{} dead letters",
        letters.len()
    );
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    for mut letter in letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.contains("`max_message` is 2000"), "{reason}");
        all.events.push(letter["body"].take());
    }
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 200, "{verdict:?}");
}

/// A real server, restarted in mid-run while we are killed. Where it writes what it has read before it ends, nothing is
/// missing when it confirms by reading; `forgets` says how many events it may have read and not written at each stop.
fn real(kind: Kind, name: &str, seed: u64, forgets: u64) {
    let own = folder();
    let mut server = match Syslog::start(kind, own.path()) {
        Ok(server) => server,
        Err(why) => {
            eprintln!("skipped: no {name} to test with: {why}");
            return;
        }
    };
    let office = patient_office(seed);
    let folder = folder();
    let keys = format!(
        "mode: tcp, address: '{}', confirm: read, \
         encoding: {{ codec: syslog, facility: local0, structured_data: sluicegate@32473 }}",
        server.address()
    );
    let shared = std::cell::RefCell::new(&mut server);
    torment(
        || sluicegate(&folder),
        &pipeline(name, &office, &keys),
        |on| shared.borrow_mut().switch(on),
        || shared.borrow().written(),
    );
    // It writes everything before it ends.
    server.stop();
    let verdict = office.judge(&server.delivered());
    let (missing, twice, owed) = (verdict.missing, verdict.duplicated, verdict.owed);
    println!("{name}: {missing} missing and {twice} twice of {owed}");
    assert!(missing <= 5 * forgets, "{verdict:?}");
    assert_eq!(verdict.invented, 0, "{verdict:?}");
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
}

#[test]
fn a_real_rsyslog_has_every_event_over_tls() {
    let own = folder();
    let mut server = match Syslog::start(Kind::RsyslogTls, own.path()) {
        Ok(server) => server,
        Err(why) => {
            eprintln!("skipped: no rsyslog with TLS to test with: {why}");
            return;
        }
    };
    let office = Simulated::start(Office::builder(118).blobs(30).events_per_blob(10));
    let folder = folder();
    std::fs::copy(
        crate::root().join("tests/fixtures/auth/server.pem"),
        folder.path().join("ca.pem"),
    )
    .unwrap();
    let address = server.address();
    let keys = format!(
        "mode: tcp, address: '{address}', tls: {{ ca_file: ca.pem }}, confirm: read, \
         encoding: {{ codec: syslog }}"
    );
    run(&pipeline("tls", &office, &keys), &folder)
        .expect(0)
        .says(&["300 event(s) delivered"]);
    // It writes everything before it ends.
    server.stop();
    let verdict = office.judge(&server.delivered());
    assert!(verdict.is_clean() && verdict.owed == 300, "{verdict:?}");
}

#[test]
fn a_real_rsyslog_has_every_event() {
    real(Kind::Rsyslog, "rsyslog", 116, 0);
}

#[test]
fn a_real_syslog_ng_has_every_event() {
    // It throws away what it has read and not taken apart when it is asked to end: at most one request.
    real(Kind::SyslogNg, "syslog_ng", 117, 30);
}
