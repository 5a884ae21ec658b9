//! `sluicegate top` beside a running collector: a table where nobody looks, a live screen on a terminal.

use std::path::Path;

use sluicegate_office::Office;
use sluicegate_tests::{Pipeline, Running, Simulated, Sluicegate};
use tempfile::TempDir;

use crate::{cache, folder, program, sluicegate};

/// util-linux gives a program a terminal.
const SCRIPT: &str = "/usr/bin/script";

/// A collector, and where its API is.
fn collector(folder: &TempDir, office: &Simulated) -> (Running, String) {
    let section = "api: { address: \"127.0.0.1:0\" }";
    let pipeline = Pipeline::o365("night", office).section(section);
    let running = pipeline.give(sluicegate(folder).args("run")).start();
    let url = format!("http://{}", running.api());
    (running, url)
}

#[test]
fn without_a_terminal_it_prints_one_table() {
    let office = Simulated::start(Office::builder(981).tenants(2).blobs(10).events_per_blob(4));
    let folder = folder();
    let (running, url) = collector(&folder, &office);
    // Streams come one by one; at the end everything is there, and delivered.
    let table = running.until_some("all is delivered", || {
        let ended = sluicegate(&folder)
            .args("top --interval 200ms --url")
            .arg(&url)
            .run()
            .expect(0);
        let table = ended.text().to_owned();
        let sink = table.lines().find(|line| line.contains(" file "));
        let cells: Vec<_> = sink.unwrap_or_default().split_whitespace().collect();
        (cells.get(3) == Some(&"80")).then_some(table)
    });
    for name in office.tenants(|tenant| tenant.name.clone()) {
        let rows = table
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(&name));
        assert_eq!(
            rows.count(),
            5,
            "a row for each content type of {name}\n{table}"
        );
    }
    let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..4], ["PIPELINE", "TENANT", "STREAM", "HEALTH"]);
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn on_a_terminal_it_shows_the_streams_until_somebody_has_seen_enough() {
    if !Path::new(SCRIPT).exists() {
        eprintln!("skipped: there is no {SCRIPT} here");
        return;
    }
    let office = Simulated::start(Office::builder(982).tenants(1).blobs(5).events_per_blob(2));
    let folder = folder();
    let (running, url) = collector(&folder, &office);
    let ended = Sluicegate::new(Path::new("/bin/sh"), folder.path(), cache())
        .env("TERM", "xterm")
        .arg("-c")
        .arg(format!(
            "exec {SCRIPT} -qefc \"stty rows 40 cols 160; $0 top --url {url}\" /dev/null"
        ))
        .arg(program())
        .input("q")
        .run()
        .expect(0);
    let screen = ended.text();
    assert!(
        screen.contains("\x1b[?1049h") && screen.contains("\x1b[?1049l"),
        "the screen is given back"
    );
    // Blanks that are there already are not drawn, so only single words stand together.
    for words in ["streams:", "sinks", "BACKLOG", "PENDING"] {
        assert!(screen.contains(words), "`{words}` is not in {screen:?}");
    }
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn without_a_collector_it_says_so_before_the_screen_is_taken() {
    let folder = folder();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let ended = sluicegate(&folder)
        .args("top --url")
        .arg(url)
        .run()
        .expect(69);
    ended.says(&["no collector answers at", "`api: {}`"]);
    assert!(ended.stdout.is_empty());
}
