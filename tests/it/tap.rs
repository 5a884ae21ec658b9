//! Watching events: people see what they ask for, and the collector delivers everything whether they read or not.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::{Delivered, Pipeline, Running, Simulated, Sluicegate};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// A collector whose tenant comes when it is told to: what is watched from the start is watched whole.
struct Case {
    office: Simulated,
    folder: TempDir,
    pipeline: Pipeline,
}

impl Case {
    fn new(seed: u64, api: &str) -> Self {
        let office = Simulated::start(
            Office::builder(seed)
                .tenants(1)
                .blobs(30)
                .events_per_blob(10),
        );
        let folder = folder();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let pipeline = Pipeline::o365("night", &office)
            .directory("tenants.d")
            .stage("user_agent: {}")
            .section(&format!("api: {{ address: \"127.0.0.1:0\"{api} }}"));
        Self {
            office,
            folder,
            pipeline,
        }
    }

    fn start(&self) -> (Running, SocketAddr) {
        let running = self
            .pipeline
            .give(sluicegate(&self.folder).args("run"))
            .start();
        let address = running.api();
        running.until("it is ready", || {
            ask(address, "/readyz", "").starts_with("HTTP/1.1 200")
        });
        (running, address)
    }

    fn tap(&self, address: SocketAddr, arguments: &str) -> Sluicegate {
        let url = format!("http://{address}");
        sluicegate(&self.folder)
            .args("tap --url")
            .arg(url)
            .args(arguments)
    }

    fn tenant_comes(&self) {
        let path = self.folder.path().join("tenants.d/contoso.yaml");
        std::fs::write(path, self.pipeline.tenant(0)).unwrap();
    }

    /// Waits until everything is delivered.
    #[track_caller]
    fn whole(&self, running: &Running) -> Delivered {
        running.until_some("everything is delivered", || {
            let delivered = Delivered::so_far(&self.folder.path().join("night.ndjson"));
            let verdict = self.office.judge(&delivered);
            (verdict.owed > 0 && verdict.is_clean()).then_some(delivered)
        })
    }
}

/// The whole answer to a request.
fn ask(address: SocketAddr, path: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn people_see_the_events_they_ask_for_where_they_ask_for_them() {
    let case = Case::new(971, "");
    let (running, address) = case.start();
    let first = case
        .tap(address, "--limit 5 --meta --where event.provider=Exchange")
        .start();
    // As many as the office has.
    let all = case
        .tap(address, "source --limit 300 --rate 100000")
        .start();
    // Neither reads a byte.
    let mut idle = TcpStream::connect(address).unwrap();
    write!(
        idle,
        "GET /tap?rate=100000 HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    for watching in [&first, &all] {
        let _ = watching.until_said("watching");
    }
    case.tenant_comes();
    let delivered = case.whole(&running);
    let first = first.end().expect(0);
    let seen = lines(first.text());
    assert_eq!(seen.len(), 5, "{}", first.text());
    for event in &seen {
        assert_eq!(
            (&event["pipeline"], &event["at"]),
            (&"night".into(), &"sinks".into())
        );
        assert!(
            event["event"]["@timestamp"].is_string() && event["tenant"].is_string(),
            "{event}"
        );
    }
    first.says(&["5 event(s) shown"]);
    let all = all.end().expect(0);
    let ids = |text: &str| -> BTreeSet<String> {
        let events = lines(text).into_iter();
        let ids = events.map(|event| event["event"]["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let kept = std::fs::read_to_string(case.folder.path().join("night.ndjson")).unwrap();
    assert_eq!(delivered.pairs().len(), 300);
    assert_eq!(ids(all.text()), ids(&kept), "{}", all.stderr);
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn what_cannot_be_seen_is_refused_with_what_can() {
    let case = Case::new(972, ", token: { file: token }");
    std::fs::write(case.folder.path().join("token"), "a-secret-token\n").unwrap();
    let running = case
        .pipeline
        .give(sluicegate(&case.folder).args("run"))
        .start();
    let address = running.api();
    case.tap(address, "")
        .run()
        .expect(69)
        .says(&["a token is needed", "--token-file"]);
    let ended = running.until_some("its points are known", || {
        let ended = case.tap(address, "stage_7 --token-file token").run();
        (ended.code == Some(64) && ended.stderr.contains("stage_1")).then_some(ended)
    });
    ended.says(&["there is no point `stage_7` here", "sinks, source, stage_1"]);
    let ended = case
        .tap(address, "--pipeline day --token-file token")
        .run()
        .expect(64);
    ended.says(&["there is no pipeline `day` here", "night"]);
    let ended = case
        .tap(address, "--where event.action --token-file token")
        .run()
        .expect(64);
    ended.says(&["event.action=user-logged-in"]);
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn a_page_in_a_browser_sees_nothing() {
    let case = Case::new(973, "");
    let (running, address) = case.start();
    for fields in [
        "Origin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        let answer = ask(address, "/tap?seconds=1", fields);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /tap HTTP/1.1\r\nHost: evil.example:8686\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(ask(address, "/tap?seconds=1", "").starts_with("HTTP/1.1 200"));
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn without_an_api_it_says_how_to_get_one() {
    let folder = folder();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = sluicegate(&folder)
        .args("tap --url")
        .arg(format!("http://{nobody}"))
        .run();
    ended
        .expect(69)
        .says(&["no collector answers at", "`api: {}`"]);
    let text = "source: { plugin: o365, tenants: [{ id: contoso }] }\nsinks: [stdout: ]\n";
    std::fs::write(folder.path().join("off.yaml"), text).unwrap();
    let ended = sluicegate(&folder).args("tap --config off.yaml").run();
    ended
        .expect(78)
        .says(&["`off.yaml` switches no API on", "`api: {}`"]);
}
