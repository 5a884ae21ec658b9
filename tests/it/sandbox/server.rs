//! Plugins and servers, each with a host of its own: answers that attack, and what a host looks like afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate_office::Office;
use sluicegate_tests::http_server::dawdle;
use sluicegate_tests::{Delivered, Incoming, Pipeline, Receiver, Simulated};

use crate::{folder, guest, sluicegate};

/// Answers as the path says; `elsewhere` is where redirects lead.
fn attacker(elsewhere: String) -> Receiver {
    Receiver::start(move |incoming| {
        let mut connection = BufReader::new(incoming);
        while let Some(path) = asked_for(&mut connection) {
            let writer = connection.get_mut();
            let sent = match path.as_str() {
                "/foreign" => redirect(writer, 302, &format!("http://{elsewhere}/stolen")),
                "/metadata" => redirect(writer, 307, "http://169.254.169.254/latest/meta-data/"),
                "/loop" => redirect(writer, 308, "/loop"),
                "/drip" => drip(writer),
                "/bomb" => bomb(writer),
                _ => {
                    dawdle(Duration::from_millis(20));
                    writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                }
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

/// The path of the next request.
fn asked_for(connection: &mut BufReader<Incoming>) -> Option<String> {
    let mut first = String::new();
    loop {
        let mut line = String::new();
        connection
            .read_line(&mut line)
            .ok()
            .filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            return first.split_whitespace().nth(1).map(str::to_owned);
        }
        if first.is_empty() {
            first = line;
        }
    }
}

fn redirect(writer: &mut Incoming, status: u16, to: &str) -> std::io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
    )
}

/// One byte after the other, until the other side has had enough.
fn drip(writer: &mut Incoming) -> std::io::Result<()> {
    writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        writer.write_all(b"1\r\nx\r\n")?;
        dawdle(Duration::from_millis(20));
    }
}

/// More bytes than the limit in less than a thousandth of them.
fn bomb(writer: &mut Incoming) -> std::io::Result<()> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let piece = vec![b' '; 1 << 20];
    for _ in 0..64 {
        packed.write_all(&piece)?;
    }
    let packed = packed.finish()?;
    let (kind, length) = ("content-encoding: gzip", packed.len());
    write!(
        writer,
        "HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {length}\r\n\r\n"
    )?;
    writer.write_all(&packed)
}

fn pipeline(name: &str, mode: &str, attacker: &Receiver) -> Pipeline {
    let address = attacker.address();
    Pipeline::plugin(name, &guest("dial_out").to_string_lossy())
        .config(&format!(
            "mode: {mode}, granted: \"{address}\", foreign: \"{address}\""
        ))
        .grants(&format!("http: [\"http://{address}\"]"))
}

#[test]
fn a_redirect_is_an_answer_and_not_a_way() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let elsewhere = Receiver::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let attacker = attacker(elsewhere.address());
    let folder = folder();
    let command = sluicegate(&folder).args("run --once");
    let ended = pipeline("led", "redirect", &attacker)
        .give(command)
        .run()
        .expect(0);
    ended.says(&["led: 1 tenant(s)", "1 event(s) delivered"]);
    let delivered = Delivered::read(&folder.path().join("led.ndjson"));
    assert_eq!(delivered.ids(), ["went-nowhere"]);
    assert_eq!(
        visits.load(Ordering::SeqCst),
        0,
        "nobody came to where it led"
    );
}

#[test]
fn an_answer_that_never_ends_holds_up_nothing_but_its_own_call() {
    let attacker = attacker(String::new());
    let folder = folder();
    let command = sluicegate(&folder).args("run --once");
    let pipeline = pipeline("dripped", "drip", &attacker).limits("call_timeout: 500ms");
    let ended = pipeline.give(command).run().expect(75);
    ended.says(&[
        "tenant `dripped`",
        "longer than 0.5 s (`limits.call_timeout`)",
    ]);
    let delivered = Delivered::read(&folder.path().join("dripped.ndjson"));
    assert_eq!(delivered.ids(), ["beside-the-slow"]);
}

#[test]
fn requests_that_nobody_waits_for_leave_no_connection_open() {
    let attacker = attacker("127.0.0.1:9".into());
    let folder = folder();
    let pipeline = pipeline("left", "abandon", &attacker).limits("requests_per_minute: 100000");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let path = folder.path().join("left.ndjson");
    running.until("all requests are made", || {
        !Delivered::so_far(&path).events.is_empty()
    });
    // Eight hundred requests; what is open now are the pool's few connections and the files of the run.
    running.until("their connections are closed", || {
        (1..=100).contains(&running.open_files())
    });
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn a_gzip_bomb_ends_at_the_limit_of_unpacked_bytes() {
    let attacker = attacker(String::new());
    let folder = folder();
    let pipeline = pipeline("bombed", "bomb", &attacker).limits("response_bytes: 8MiB");
    let running = pipeline.give(sluicegate(&folder).args("-v run")).start();
    let _ = running.until_said("size exceeds limit: 8388608 bytes");
    running.signal("TERM");
    let ended = running.end().expect(0);
    assert!(!ended.stderr.contains("and an end"), "{}", ended.stderr);
}

#[test]
fn bombs_leave_nothing_behind() {
    let office = Simulated::start(Office::builder(53).blobs(120).events_per_blob(1));
    let folder = folder();
    let stage = format!(
        "wasm: {{ plugin: {}, config: {{ mode: hoard }}, limits: {{ memory: 16MiB }} }}",
        guest("miscount").display()
    );
    let pipeline = Pipeline::o365("bombs", &office).stage(&stage);
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let letters = folder
        .path()
        .join("state/bombs/dead-letters/bombs.rejected.ndjson");
    // Each letter is an event on which the plugin was tried three times.
    let memory_after = |count: usize| {
        running.until("the dead letters are written", || {
            Delivered::so_far(&letters).events.len() >= count
        });
        running.memory() >> 20
    };
    let (few, many) = (memory_after(20), memory_after(120));
    assert!(
        few > 0 && many < few + 64,
        "{few} MiB after 60 bombs, {many} after 360"
    );
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
pub fn snoop() {
    const CANARY: &str = "canary-4f1d-secret-in-the-host";
    let office = Simulated::start(Office::builder(54).blobs(1));
    office.change(|office| office.tenant_mut(0).client_secret = CANARY.into());
    let directory = office
        .tenants(|tenant| tenant.directory_id.clone())
        .remove(0);
    let authority = office
        .server()
        .resource_url
        .trim_start_matches("http://")
        .to_owned();
    // With the token an answer, without it a refusal.
    let own = format!("/api/v1.0/{directory}/activity/feed/subscriptions/list");
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    // How every token of the office begins.
    let token = reversed("eyJhbGciOiJSUzI1NiIs");
    for (path, seen) in [(own.as_str(), "saw-an-answer"), ("/", "saw-a-refusal")] {
        let folder = folder();
        let config = format!(
            "authority: \"{authority}\", path: \"{path}\", visible: \"{}\", secret: \"{}\", token: \"{token}\", \
             bearer: \"{}\"",
            reversed(&authority),
            reversed(CANARY),
            reversed("Bearer ey")
        );
        let pipeline = Pipeline::o365("snooped", &office)
            .through(&guest("snoop"))
            .config(&config);
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        let delivered = Delivered::read(&folder.path().join("snooped.ndjson"));
        assert_eq!(delivered.ids(), [seen], "{}", ended.stderr);
    }
    let issued = office.change(|office| office.issued_tokens());
    assert!(
        issued
            .iter()
            .all(|token| token.starts_with("eyJhbGciOiJSUzI1NiIs")),
        "{issued:?}"
    );
    assert!(!issued.is_empty(), "a token was made for it");
}

#[test]
fn a_hundred_and_eighty_tenants_are_served_while_twenty_attack() {
    let folder = folder();
    let tenants: Vec<String> = (0..180)
        .map(|number| format!("    - id: calm-{number}\n"))
        .collect();
    let honest = Pipeline::plugin("honest", &guest("calm").to_string_lossy()).text();
    let honest = honest.replace("    - id: honest\n", &tenants.concat());
    std::fs::write(folder.path().join("honest.yaml"), honest).unwrap();
    let mut command = sluicegate(&folder).args("run honest.yaml");
    let attacks = [
        ("spin", "", "cpu_timeout: 100ms"),
        ("hoard", "", "memory: 16MiB"),
        ("flood", "mode: empty", "call_timeout: 200ms"),
        ("flood", "mode: emit", "output_bytes: 64KiB"),
        ("nap", "", "call_timeout: 500ms"),
    ];
    for (number, (plugin, config, limits)) in attacks.iter().cycle().take(20).enumerate() {
        let mut pipeline = Pipeline::plugin(
            &format!("attack-{number}"),
            &guest(plugin).to_string_lossy(),
        )
        .config(config)
        .limits(limits);
        if *plugin == "flood" {
            pipeline = pipeline.grants("http: [\"http://127.0.0.1:9\"]");
        }
        command = pipeline.give(command);
    }
    let running = command.start();
    let path = folder.path().join("honest.ndjson");
    running.until("the others are served", || {
        Delivered::so_far(&path).events.len() >= 180
    });
    // They are still at it, and do not hold up the end either.
    running.signal("TERM");
    let _ = running.end().expect(0);
    assert_eq!(Delivered::read(&path).events.len(), 180, "each once");
}
