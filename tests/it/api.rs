//! The local API of the real command: what it says agrees with the ledger and with what the command prints.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::{Pipeline, Simulated};

use crate::{folder, sluicegate};

/// Loopback, any free port.
pub const FREE: &str = "api: { address: \"127.0.0.1:0\" }";

/// The status and the body of an answer.
pub fn get(address: SocketAddr, path: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n{fields}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = get(address, path, "");
    (status, serde_json::from_str(&body).unwrap())
}

/// Samples by name and labels.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    /// The sum of a family's samples that have all of these labels.
    #[track_caller]
    fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let wanted = |sample: &str| {
            let of = sample.split('{').next().unwrap_or_default();
            of == name && labels.iter().all(|label| sample.contains(label))
        };
        let found: Vec<f64> = self
            .0
            .iter()
            .filter(|(sample, _)| wanted(sample))
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "{name} {labels:?}");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters are whole and small"
        )]
        let sum = found.iter().sum::<f64>() as u64;
        sum
    }
}

/// What the ledger says of a stream: read, delivered, duplicates, dropped, dead letters, splits delivered, splits
/// found, splits set aside.
fn ledger(folder: &Path, name: &str) -> Known {
    let db = rusqlite::Connection::open(folder.join(format!("state/{name}/ledger.db"))).unwrap();
    let splits = "(SELECT count(*) FROM split WHERE split.stream = stream.id";
    let mut select = db
        .prepare(&format!(
            "SELECT tenant, stream, read, delivered, duplicates, dropped, dead_lettered,
             {splits} AND phase = 'delivered'), {splits}), {splits} AND quarantined = 1) FROM stream"
        ))
        .unwrap();
    let rows = select.query_map([], |row| {
        let mut counts = [0; 8];
        for (index, count) in counts.iter_mut().enumerate() {
            *count = row.get::<_, i64>(index + 2)?.cast_unsigned();
        }
        Ok(((row.get(0)?, row.get(1)?), counts))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// `promtool check metrics` on an answer; Debian has it in its package `prometheus`.
fn promtool(metrics: &str) {
    let checking = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checking) = checking else {
        eprintln!(
            "skipped: `promtool check metrics`, since there is no promtool (Debian: prometheus)"
        );
        return;
    };
    let mut input = checking.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let ended = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let said = said + &String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.trim().is_empty(), "{said}");
}

/// What the ledger says of each stream, by tenant and stream.
type Known = BTreeMap<(String, String), [u64; 8]>;

#[track_caller]
fn check_streams(metrics: &Metrics, known: &Known) {
    for ((tenant, stream), counts) in known {
        let labels = [
            r#"pipeline="told""#,
            &format!(r#"tenant="{tenant}""#),
            &format!(r#"stream="{stream}""#),
        ];
        let [
            _,
            delivered,
            duplicates,
            dropped,
            dead_lettered,
            splits,
            found,
            aside,
        ] = *counts;
        let of = |name: &str| metrics.sum(name, &labels);
        assert_eq!(
            of("sluicegate_events_delivered_total"),
            delivered,
            "{labels:?}"
        );
        assert_eq!(
            of("sluicegate_events_duplicate_total"),
            duplicates,
            "{labels:?}"
        );
        assert_eq!(of("sluicegate_events_dropped_total"), dropped, "{labels:?}");
        assert_eq!(
            of("sluicegate_events_dead_lettered_total"),
            dead_lettered,
            "{labels:?}"
        );
        assert_eq!(
            of("sluicegate_splits_delivered_total"),
            splits,
            "{labels:?}"
        );
        assert_eq!(
            of("sluicegate_splits_discovered_total"),
            found,
            "{labels:?}"
        );
        assert_eq!(of("sluicegate_splits_in_quarantine"), aside, "{labels:?}");
        assert_eq!(of("sluicegate_splits_pending"), 0, "{labels:?}");
        assert_eq!(of("sluicegate_stream_healthy"), 1, "{labels:?}");
    }
}

#[track_caller]
fn check_components(metrics: &Metrics, known: &Known, file_bytes: u64) {
    let sum = |index: usize| known.values().map(|counts| counts[index]).sum::<u64>();
    let (read, delivered, duplicates, dropped) = (sum(0), sum(1), sum(2), sum(3));
    let component = |name: &str, id: &str| metrics.sum(name, &[&format!(r#"component_id="{id}""#)]);
    assert_eq!(component("component_received_events_total", "source"), read);
    assert_eq!(
        component("component_sent_events_total", "source"),
        read - duplicates
    );
    assert_eq!(
        component("component_received_events_total", "stage_1"),
        read - duplicates
    );
    assert_eq!(
        component("component_discarded_events_total", "stage_1"),
        dropped
    );
    for sink in ["file", "stdout"] {
        assert_eq!(component("component_sent_events_total", sink), delivered);
        let bytes = component("component_sent_event_bytes_total", sink);
        assert_eq!(
            bytes,
            file_bytes - delivered,
            "bodies without their newlines"
        );
    }
    assert_eq!(
        metrics.sum(
            "sluicegate_lag_seconds_count",
            &[r#"part="discovered_to_acknowledged""#]
        ),
        sum(5)
    );
    assert_eq!(
        metrics.sum("sluicegate_requests_total", &[r#"outcome="no_answer""#]),
        0
    );
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1 << 20);
}

#[track_caller]
fn check_status((status, told): &(u16, Value), delivered: u64) {
    assert_eq!(*status, 200);
    let told = &told["pipelines"][0];
    assert_eq!(told["since_start"]["events"]["delivered"], delivered);
    assert_eq!(told["tenants"].as_array().unwrap().len(), 2);
    let streams = told["tenants"][0]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 5);
    assert!(
        streams
            .iter()
            .all(|stream| stream["health"]["state"] == "ok" && stream["watermark"].is_string())
    );
    assert_eq!(told["sinks"][0]["events_delivered"], delivered);
}

#[test]
fn counters_agree_with_the_ledger_and_with_what_is_printed() {
    // Some blobs stay broken, some events come twice, and a filter drops a part.
    let faults = Faults::none()
        .with(Fault::PoisonError, 0.05)
        .with(Fault::CopyInNext, 0.3);
    let builder = Office::builder(901).tenants(2).blobs(60).events_per_blob(6);
    let office = Simulated::start(builder.faults(faults));
    let folder = folder();
    let pipeline = Pipeline::o365("told", &office)
        .stage("filter: { drop: { event.provider: Exchange } }")
        .sink("stdout: {}")
        .section(FREE);
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let address = running.api();
    running.until("it is ready", || get(address, "/readyz", "").0 == 200);
    // Nothing is under way any more when two looks at a settled ledger agree.
    let mut before = BTreeMap::new();
    let metrics = running.until_some("all is delivered or set aside", || {
        let (_, text) = get(address, "/metrics", "");
        let known = ledger(folder.path(), "told");
        let all_in = |[.., delivered, found, aside]: &[u64; 8]| delivered + aside == *found;
        let found: u64 = known.values().map(|counts| counts[6]).sum();
        let settled = found >= 120 && known.values().all(all_in) && known == before;
        before = known;
        settled.then_some(text)
    });
    promtool(&metrics);
    let metrics = Metrics::of(&metrics);
    check_streams(&metrics, &before);
    let sum = |index: usize| before.values().map(|counts| counts[index]).sum::<u64>();
    let (delivered, duplicates, dropped) = (sum(1), sum(2), sum(3));
    assert!(
        dropped > 0 && sum(7) > 0,
        "the case is worth it: {before:?}"
    );
    let file = std::fs::read(folder.path().join("told.ndjson")).unwrap();
    check_components(&metrics, &before, file.len() as u64);
    check_status(&json(address, "/status"), delivered);

    running.signal("TERM");
    let ended = running.end().expect(0);
    ended.says(&[
        &format!("2 tenant(s), {} split(s) and {delivered} event(s) delivered", sum(5)),
        &format!("{duplicates} duplicate(s) not sent again, {dropped} dropped by stages, {} dead letter(s)", sum(4)),
    ]);
}

#[test]
fn the_series_of_a_tenant_end_with_it() {
    let office = Simulated::start(Office::builder(902).tenants(2).blobs(10).events_per_blob(2));
    let folder = folder();
    let pipeline = Pipeline::o365("many", &office)
        .directory("tenants.d")
        .section(FREE);
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    let names = office.tenants(|tenant| tenant.name.clone());
    for (index, name) in names.iter().enumerate() {
        let path = folder.path().join(format!("tenants.d/{name}.yaml"));
        std::fs::write(path, pipeline.tenant(index)).unwrap();
    }
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let address = running.api();
    let named = |name: &str| {
        let (_, text) = get(address, "/metrics", "");
        let label = format!(r#"tenant="{name}""#);
        text.lines().filter(|line| line.contains(&label)).count()
    };
    running.until("both are told of", || {
        names.iter().all(|name| named(name) > 50)
    });
    std::fs::remove_file(folder.path().join(format!("tenants.d/{}.yaml", names[0]))).unwrap();
    running.until("one is gone", || named(&names[0]) == 0);
    assert!(named(&names[1]) > 50);
    let (status, ready) = json(address, "/readyz");
    assert_eq!(
        (status, &ready["ready"]),
        (200, &Value::Bool(true)),
        "{ready}"
    );
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn a_token_is_asked_for_and_never_told() {
    let office = Simulated::start(Office::builder(903).blobs(5).events_per_blob(2));
    let folder = folder();
    std::fs::write(folder.path().join("token"), "a-secret-token-of-the-api\n").unwrap();
    let pipeline = Pipeline::o365("kept", &office)
        .section("api: { address: \"127.0.0.1:0\", token: { file: token } }");
    let running = pipeline.give(sluicegate(&folder).args("-vv run")).start();
    let address = running.api();
    assert_eq!(get(address, "/healthz", "").0, 200);
    assert_eq!(get(address, "/status", "").0, 401);
    let fields = "Authorization: Bearer a-secret-token-of-the-api\r\n";
    let (status, told) = get(address, "/status", fields);
    assert_eq!(status, 200);
    running.signal("TERM");
    let ended = running.end().expect(0);
    for text in [&told, &ended.stderr] {
        assert!(!text.contains("a-secret-token"), "{text}");
    }
}

#[test]
fn pipelines_of_one_process_share_one_api() {
    let office = Simulated::start(Office::builder(904).blobs(5).events_per_blob(2));
    let folder = folder();
    let one = Pipeline::o365("one", &office).section(FREE);
    let other = Pipeline::o365("other", &office).section(FREE);
    other.write(folder.path());
    let command = sluicegate(&folder).args("run other.yaml");
    // Both refer to their secrets by names of their own.
    let secret = office.tenants(|tenant| tenant.client_secret.clone());
    let command = command.env("SECRET_OTHER_0", &secret[0]);
    let running = one.give(command).start();
    let address = running.api();
    running.until("both run", || get(address, "/readyz", "").0 == 200);
    let (_, told) = json(address, "/status");
    let names: Vec<_> = told["pipelines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["one", "other"]);
    assert_eq!(running.stderr().matches("the API listens").count(), 1);
    running.signal("TERM");
    let _ = running.end().expect(0);

    let other = Pipeline::o365("other", &office).section("api: {}");
    other.write(folder.path());
    let command = sluicegate(&folder).args("validate other.yaml");
    let command = command.env("SECRET_OTHER_0", &secret[0]);
    one.give(command).run().expect(78).says(&[
        "the API of this process would have two addresses or tokens",
        "one.yaml:",
        "other.yaml:",
        "\n  help: ",
    ]);
}

#[test]
fn a_backfill_leaves_the_address_to_the_collector_beside_it() {
    let office = Simulated::start(Office::builder(906).blobs(5).events_per_blob(2));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office).section(FREE);
    let run = |arguments: &str| {
        let command = sluicegate(&folder).args(arguments);
        pipeline.give(command).run().expect(0)
    };
    let listens = "the API listens";
    assert!(run("run --once").stderr.contains(listens));
    assert!(
        !run("run --once --since 7d --output -")
            .stderr
            .contains(listens)
    );
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let office = Simulated::start(Office::builder(905).blobs(1).events_per_blob(1));
    let folder = folder();
    let validate = |section: &str| {
        let pipeline = Pipeline::o365("open", &office).section(section);
        pipeline.give(sluicegate(&folder).args("validate")).run()
    };
    validate("api: { address: \"0.0.0.0:8686\" }")
        .expect(78)
        .says(&[
            "other machines reach `0.0.0.0:8686`, and there is no `token`",
            "\n  help: ",
        ]);
    validate("api: { token: { file: missing } }")
        .expect(78)
        .says(&["cannot read secret file"]);
    let _ = validate("api: { enabled: false }").expect(0);
}
