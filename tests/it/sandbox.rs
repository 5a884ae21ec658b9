//! Plugins that attack the host. Each is stopped with a sentence that names plugin, tenant and limit; the host goes
//! on, and the tenants beside them get every event.
//!
//! All faults run in one process, side by side with an honest pipeline: that is the point. Each test then looks at
//! its own part of what came of that run. `tests/plugins` holds the guests.

mod by_hand;
mod bytes;
mod cache;
mod compile;
mod faults;
mod load;
mod server;

use std::path::PathBuf;
use std::sync::OnceLock;

use sluicegate_office::Office;
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, guest, sluicegate};

/// One test function for each guest, named like it: a guest without a test does not build.
const _: &[fn()] = {
    use faults::*;
    use load::*;
    use server::*;
    &include!(concat!(env!("OUT_DIR"), "/faults.rs"))
};

/// What came of the one run.
struct Run {
    folder: TempDir,
    ended: Ended,
    /// The honest tenants'.
    office: Simulated,
    /// The one that the plugins were let loose on.
    victim: Simulated,
}

/// Name of the pipeline (also its tenant's), the guest, its config, its limits.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// Limits are small where a test would have to wait for the usual ones.
const CASES: [Case; 47] = [
    ("spin", "spin", "", "cpu_timeout: 100ms"),
    (
        "spin_discover",
        "spin",
        "mode: discover",
        "cpu_timeout: 100ms",
    ),
    ("spin_fill", "spin", "mode: fill", "cpu_timeout: 100ms"),
    ("hoard", "hoard", "", "memory: 16MiB"),
    ("overflow", "overflow", "", ""),
    ("trap", "trap", "", ""),
    ("trap_midway", "trap", "mode: midway", ""),
    ("trap_panic", "trap", "mode: panic", ""),
    ("nap", "nap", "", "call_timeout: 300ms"),
    (
        "flood_log",
        "flood",
        "mode: log",
        "log_lines_per_second: 10",
    ),
    ("flood_emit", "flood", "mode: emit", "output_bytes: 64KiB"),
    ("flood_empty", "flood", "mode: empty", "call_timeout: 500ms"),
    ("flood_entries", "flood", "mode: entries", ""),
    ("flood_handles", "flood", "mode: handles", ""),
    ("flood_fields", "flood", "mode: fields", ""),
    ("flood_state", "flood", "mode: state", "state_bytes: 64KiB"),
    ("flood_again", "flood", "mode: again", ""),
    ("lie_lengths_short", "lie", "mode: lengths_short", ""),
    ("lie_lengths_long", "lie", "mode: lengths_long", ""),
    ("lie_lengths_overflow", "lie", "mode: lengths_overflow", ""),
    ("lie_not_text", "lie", "mode: not_text", ""),
    ("lie_not_json", "lie", "mode: not_json", ""),
    ("lie_newline", "lie", "mode: newline", ""),
    ("lie_long_id", "lie", "mode: long_id", ""),
    (
        "lie_big_event",
        "lie",
        "mode: big_event",
        "event_bytes: 64KiB",
    ),
    ("lie_state_in_read", "lie", "mode: state_in_read", ""),
    (
        "lie_many_splits",
        "lie",
        "mode: many_splits",
        "splits_per_call: 100",
    ),
    ("lie_split_id", "lie", "mode: split_id", ""),
    ("lie_split_payload", "lie", "mode: split_payload", ""),
    ("lie_same_streams", "lie", "mode: same_streams", ""),
    ("lie_many_streams", "lie", "mode: many_streams", ""),
    ("lie_lost", "lie", "mode: lost", ""),
    ("hoard_default", "hoard", "", ""),
    ("lie_many_splits_default", "lie", "mode: many_splits", ""),
    ("lie_huge_event", "lie", "mode: huge_event", ""),
    ("lie_big_batch", "lie", "mode: big_batch", ""),
    ("flood_state_default", "flood", "mode: state", ""),
    ("lie_times", "lie", "mode: times", ""),
    ("lie_watermark", "lie", "mode: watermark", ""),
    ("lie_gaps", "lie", "mode: gaps", ""),
    ("lie_stream_name", "lie", "mode: stream_name", ""),
    ("lie_after", "lie", "mode: after", ""),
    ("lie_event_times", "lie", "mode: event_times", ""),
    (
        "flood_letters",
        "flood",
        "mode: letters",
        "output_bytes: 64KiB",
    ),
    ("flood_churn", "flood", "mode: churn", ""),
    ("flood_keys", "flood", "mode: keys", ""),
    ("calm", "calm", "", ""),
];

/// Stages that cheat, each behind a source that does not.
const STAGES: [&str; 6] = ["few", "many", "leftover", "none", "trap", "spin"];

/// Stages that look into events, each given one of a hundred thousand levels.
const DEEP: [(&str, &str); 5] = [
    ("filter", "filter: { drop: { a.b: x } }"),
    ("drop", "drop: { fields: [a.b.c] }"),
    ("redact", "redact: { fields: [a.b.c] }"),
    ("remap", "remap: { source: '.b = 1' }"),
    ("user_agent", "user_agent: {}"),
];

/// What `dial_out` tries, each for a tenant with credentials.
const DIALS: [&str; 5] = ["foreign", "granted_foreign", "forge", "tricks", "requests"];

fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let office = Simulated::start(Office::builder(51).tenants(3).blobs(60).events_per_blob(10));
        let victim = Simulated::start(Office::builder(52).blobs(1));
        let folder = folder();
        let mut command = sluicegate(&folder).args("run --once");
        command = Pipeline::o365("honest", &office).give(command);
        for (name, plugin, config, limits) in CASES {
            let path = guest(plugin).to_string_lossy().into_owned();
            let mut pipeline = Pipeline::plugin(name, &path)
                .config(config)
                .limits(limits);
            if plugin == "flood" {
                // It builds header fields, which are a part of `wasi:http`; nothing listens there.
                pipeline = pipeline.grants("http: [\"http://127.0.0.1:9\"]");
            }
            command = pipeline.give(command);
        }
        let (calm, miscount) = (guest("calm"), guest("miscount"));
        for mode in STAGES {
            let stage = format!(
                "wasm: {{ plugin: {}, config: {{ mode: {mode} }}, limits: {{ cpu_timeout: 100ms }} }}",
                miscount.display()
            );
            let name = format!("stage_{mode}");
            let pipeline = Pipeline::plugin(&name, &calm.to_string_lossy()).stage(&stage);
            command = pipeline.give(command);
        }
        for (name, stage) in DEEP {
            let lie = guest("lie");
            let pipeline = Pipeline::plugin(&format!("deep_{name}"), &lie.to_string_lossy());
            command = pipeline.config("mode: deep").stage(stage).give(command);
        }
        for mode in DIALS {
            command = dialler(mode, &victim).give(command);
        }
        let ended = command.run();
        // Kept to be read when a test fails.
        let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox.log");
        std::fs::write(log, &ended.stderr).expect("cargo's folder for tests can be written");
        Run { folder, ended, office, victim }
    })
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://")
}

fn dialler(mode: &str, victim: &Simulated) -> Pipeline {
    let server = victim.server();
    let config = format!(
        "mode: {mode}, granted: \"{}\", foreign: \"{}\"",
        authority(&server.resource_url),
        authority(&server.foreign_url)
    );
    let pipeline = Pipeline::o365(&format!("dial_{mode}"), victim)
        .through(&guest("dial_out"))
        .config(&config)
        .limits("requests_per_call: 20, requests_per_minute: 100000");
    if mode == "granted_foreign" {
        return pipeline.grants(&format!("http: [\"{}\"]", server.foreign_url));
    }
    pipeline
}

impl Run {
    /// What is said of one pipeline's tenant: one line at least must hold all these words.
    #[track_caller]
    fn says(&self, words: &[&str]) {
        let held = |line: &str| words.iter().all(|word| line.contains(word));
        let close: Vec<_> = self
            .ended
            .stderr
            .lines()
            .filter(|line| line.contains(words[0]))
            .take(20)
            .collect();
        assert!(
            self.ended.stderr.lines().any(held),
            "no line has all of {words:?}; those with the first:\n{}",
            close.join("\n")
        );
    }

    /// What a pipeline delivered.
    fn delivered(&self, pipeline: &str) -> Delivered {
        let path = self.folder.path().join(format!("{pipeline}.ndjson"));
        if path.exists() {
            Delivered::read(&path)
        } else {
            Delivered::default()
        }
    }

    /// The dead letters of a pipeline.
    fn dead_letters(&self, pipeline: &str) -> Delivered {
        let path: PathBuf = ["state", pipeline, "dead-letters"].iter().collect();
        let path = self
            .folder
            .path()
            .join(path)
            .join(format!("{pipeline}.rejected.ndjson"));
        if path.exists() {
            Delivered::read(&path)
        } else {
            Delivered::default()
        }
    }
}

#[test]
fn the_honest_get_everything() {
    let run = run();
    // Incomplete, because the plugins of the others are; no crash, no panic, no hang.
    assert_eq!(run.ended.code, Some(75), "{}", run.ended.stderr);
    assert!(
        !run.ended.stderr.contains("panicked at"),
        "{}",
        run.ended.stderr
    );
    let verdict = run.office.judge(&run.delivered("honest"));
    assert!(verdict.is_clean() && verdict.owed == 1_800, "{verdict:?}");
    run.says(&["honest: 3 tenant(s)", "1800 event(s) delivered"]);
}

#[test]
fn no_line_of_the_log_is_a_plugins_own() {
    let run = run();
    for line in run.ended.stderr.split('\n') {
        let odd = line.chars().find(|c| c.is_control());
        assert!(odd.is_none(), "{odd:?} in {line:?}");
        assert!(!line.starts_with("error: forged"), "{line}");
        assert!(line.len() < 4_096, "a line of {} bytes", line.len());
    }
}
