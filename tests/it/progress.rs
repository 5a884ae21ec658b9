//! Progress is shown to people: bars on a terminal, above which log lines stay whole, and nothing anywhere else.

use std::path::Path;

use sluicegate_office::Office;
use sluicegate_tests::{Ended, Pipeline, Simulated, Sluicegate};

use crate::{cache, folder, program, sluicegate};

/// util-linux gives a program a terminal.
const SCRIPT: &str = "/usr/bin/script";

/// Runs `sluicegate ARGUMENTS LAST` on a terminal, with standard output in the file `out`; what the terminal showed.
fn on_a_terminal(
    folder: &tempfile::TempDir,
    arguments: &str,
    last: impl FnOnce(Sluicegate) -> Sluicegate,
) -> Option<Ended> {
    if !Path::new(SCRIPT).exists() {
        eprintln!("skipped: there is no {SCRIPT} here");
        return None;
    }
    let command = Sluicegate::new(Path::new("/bin/sh"), folder.path(), cache())
        .env("TERM", "xterm")
        .arg("-c")
        .arg(format!(
            "exec {SCRIPT} -qefc \"$0 {arguments} $1 >out\" /dev/null"
        ))
        .arg(program());
    Some(last(command).run().expect(0))
}

#[test]
fn a_single_pass_shows_bars_on_a_terminal_and_nowhere_else() {
    let office = Simulated::start(Office::builder(7).tenants(1).blobs(40));
    let pipeline =
        Pipeline::o365("contoso", &office).limits("requests_per_minute: 1000000, in_flight: 1");
    let plain = folder();
    let ended = pipeline
        .give(sluicegate(&plain).args("run --once"))
        .run()
        .expect(0);
    assert!(
        !ended.stderr.contains('\x1b') && !ended.stderr.contains('\r'),
        "{}",
        ended.stderr
    );
    let seen = folder();
    let Some(ended) = on_a_terminal(&seen, "run --once", |command| pipeline.give(command)) else {
        return;
    };
    let text = ended.text();
    assert!(text.contains("contoso: looking for content"), "{text:?}");
    // The end of the run stands alone in its line, as without a terminal.
    let summary = text
        .lines()
        .find(|line| line.contains("event(s) delivered in"));
    assert!(
        summary.is_some_and(|line| line.contains("contoso: 1 tenant(s), 40 split(s)")),
        "{text:?}"
    );
    let quiet = folder();
    let ended = on_a_terminal(&quiet, "-q run --once", |command| pipeline.give(command));
    assert!(!ended.unwrap().text().contains("looking for content"));
}

#[test]
fn a_mapping_shows_how_far_it_is() {
    let folder = folder();
    let record = r#"{"Id":"1","RecordType":1,"CreationTime":"2026-05-02T10:00:00","Operation":"Set-Mailbox"}"#;
    let records = format!("{record}\n").repeat(20_000);
    std::fs::write(folder.path().join("records"), records).unwrap();
    let Some(ended) = on_a_terminal(&folder, "transform <", |command| command.arg("records"))
    else {
        return;
    };
    let text = ended.text();
    assert!(
        text.contains(" events, ") && text.contains(" left"),
        "{text:?}"
    );
    assert!(text.contains("20000 record(s), 20000 event(s)"), "{text:?}");
}
