//! Dead letters of the real command: looked at, sent again beside a collector and through kills, and never more of them
//! than there is room for.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::{Collector, CollectorFaults, Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::api::{FREE, get};
use crate::http::{QUICK, dead_letters};
use crate::{folder, sluicegate};

/// An office, a place that refuses some of its events, and a pipeline from one to the other.
struct Case {
    office: Simulated,
    collector: Collector,
    pipeline: Pipeline,
    folder: TempDir,
    name: &'static str,
}

impl Case {
    /// One event in so many is refused.
    fn new(name: &'static str, seed: u64, poison: u64) -> Self {
        let builder = Office::builder(seed).blobs(60).events_per_blob(10);
        let office = Simulated::start(builder);
        let faults = CollectorFaults {
            poison: Some(poison),
            ..CollectorFaults::default()
        };
        let collector = Collector::start(faults, seed);
        let uri = format!("{}/events", collector.url());
        let sink = format!("http: {{ uri: '{uri}', {QUICK} }}");
        Self {
            pipeline: Pipeline::o365(name, &office).sink(&sink),
            folder: folder(),
            office,
            collector,
            name,
        }
    }

    /// A command about the pipeline's dead letters.
    fn letters(&self, arguments: &str) -> Ended {
        let command = sluicegate(&self.folder).args("dead-letter").args(arguments);
        self.pipeline.give(command).run()
    }

    /// The letters that `list` shows.
    fn list(&self, arguments: &str) -> Vec<Value> {
        let ended = self.letters(&format!("list --json {arguments}")).expect(0);
        Delivered::parse(&ended.stdout).events
    }

    /// Nothing is refused any more.
    fn heal(&self) {
        self.collector.state().faults.poison = None;
    }

    /// The file and the collector have every event; the file has each once.
    #[track_caller]
    fn is_whole(&self) {
        let file = Delivered::read(&self.folder.path().join(format!("{}.ndjson", self.name)));
        let verdict = self.office.judge(&file);
        assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
        let verdict = self.office.judge(&self.collector.delivered());
        assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    }
}

#[test]
fn what_a_sink_refused_is_listed_shown_and_replayed_beside_the_collector() {
    let case = Case::new("letters", 301, 20);
    let running = case
        .pipeline
        .give(sluicegate(&case.folder).args("run"))
        .start();
    running.until("everything is settled", || {
        let refused = dead_letters(case.folder.path(), "letters").len();
        case.collector.state().events.len() + refused == 600 && refused > 0
    });
    let listed = case.list("");
    let bodies = dead_letters(case.folder.path(), "letters");
    assert_eq!(listed.len(), bodies.len());
    let first = &listed[0];
    assert_eq!(first["by"], "sink http");
    assert_eq!(first["event_id"], bodies[0]["event"]["id"]);
    assert!(!first["split"].as_str().unwrap().is_empty());
    let ended = case.letters("list --by sink --reason 400").expect(0);
    let count = format!("letters: {} dead letter(s)", bodies.len());
    assert!(ended.text().contains(&count), "{}", ended.text());
    assert!(case.list("--tenant nobody").is_empty() && case.list("--by stage").is_empty());
    assert!(case.list("--since 2999-01-01").is_empty());
    // The exact bytes stand in the file as they stood on the wire.
    let name = first["letter"].as_str().unwrap();
    let shown = sluicegate(&case.folder)
        .args(&format!("dead-letter show letters.yaml {}", &name[..12]))
        .run()
        .expect(0);
    let path = case
        .folder
        .path()
        .join("state/letters/dead-letters/letters.rejected.ndjson");
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored.contains(&format!("\"body\":{}}}\n", shown.text())));
    shown.says(&[name, "sink http"]);

    let plan = case.letters("replay --dry-run").expect(0);
    assert!(plan.text().contains("to sink `http`"), "{}", plan.text());
    let refused_again = case.letters("replay").expect(75);
    assert!(refused_again.text().contains("0 dead letter(s) delivered"));
    assert_eq!(
        case.list(""),
        listed,
        "what is refused again stays as it was"
    );
    // The file belongs to the collector that runs.
    let held = case.letters("replay --sink file").expect(75);
    assert!(
        held.text().contains("stop the collector"),
        "{}",
        held.text()
    );
    case.heal();
    let one = case.letters(&format!("replay --letter {name}")).expect(0);
    assert!(
        one.text().contains("1 dead letter(s) delivered"),
        "{}",
        one.text()
    );
    let _ = case.letters("replay --json").expect(0);
    assert!(case.list("").is_empty());
    running.signal("TERM");
    let _ = running.end().expect(0);
    case.is_whole();
    assert_eq!(
        case.collector.state().events.len(),
        600,
        "each event came once"
    );
}

#[test]
fn a_kill_in_the_middle_of_a_replay_loses_nothing() {
    let case = Case::new("killed", 302, 2);
    let _ = case
        .pipeline
        .give(sluicegate(&case.folder).args("run --once"))
        .run()
        .expect(0);
    let owed = case.list("").len();
    assert!(owed > 200, "{owed} dead letters");
    case.heal();
    case.collector.state().faults.busy = 0.5;
    let mut kills = 0;
    while kills < 8 {
        let before = case.collector.state().events.len();
        let command = sluicegate(&case.folder).args("dead-letter replay");
        let replay = case.pipeline.give(command).start();
        let begun = Instant::now();
        // A later one each time, so that letters are taken out in between.
        let wanted = before + 30 * (kills + 1);
        let ended = loop {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{}",
                replay.stderr()
            );
            if case.collector.state().events.len() >= wanted {
                break false;
            }
            if replay.ends_within(Duration::from_millis(5)) {
                break true;
            }
        };
        kills += 1;
        if ended {
            let _ = replay.end().expect(0);
            break;
        }
        replay.kill();
    }
    assert!(kills > 1, "no replay was killed");
    let _ = case.letters("replay").expect(0);
    assert!(case.list("").is_empty());
    case.is_whole();
}

#[test]
fn full_dead_letters_hold_everything_up_until_there_is_room() {
    let mut case = Case::new("full", 303, 2);
    case.pipeline = case
        .pipeline
        .clone()
        .section(FREE)
        .section("dead_letter: { max_size: 64KiB }");
    let running = case
        .pipeline
        .give(sluicegate(&case.folder).args("run"))
        .start();
    let address = running.api();
    let reason = running.until_some("it says that there is no room", || {
        let (status, body) = get(address, "/readyz", "");
        let full = status == 503 && body.contains("no room for more dead letters");
        full.then_some(body)
    });
    assert!(reason.contains("dead_letters"), "{reason}");
    let (_, metrics) = get(address, "/metrics", "");
    assert!(
        metrics.contains("sluicegate_dead_letter_up{pipeline=\"full\"} 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("sluicegate_dead_letter_limit_bytes{pipeline=\"full\"} 65536\n"));
    assert!(
        running.stderr().contains("alarm=\"dead_letters\""),
        "{}",
        running.stderr()
    );
    case.heal();
    running.until("it goes on by itself", || {
        // What comes in the meantime is not among what it replays, and then it says so with 75.
        let _ = case.letters("replay");
        let whole = case.office.judge(&case.collector.delivered());
        let (status, _) = get(address, "/readyz", "");
        whole.missing == 0 && case.list("").is_empty() && status == 200
    });
    running.signal("TERM");
    let ended = running.end().expect(0);
    ended.says(&["dead letters can be kept again"]);
    case.is_whole();
}

#[test]
fn letters_of_an_older_version_go_through_the_mapping_and_into_the_file() {
    let case = Case::new("older", 304, 2);
    let (tenant, directory) = case
        .office
        .tenants(|tenant| (tenant.name.clone(), tenant.directory_id.clone()))
        .remove(0);
    let path = case.folder.path().join("state/older/dead-letters");
    std::fs::create_dir_all(&path).unwrap();
    let mut lines = String::new();
    for id in ["a", "b"] {
        let record = serde_json::json!({
            "Id": id, "RecordType": 15, "Operation": "UserLoggedIn", "OrganizationId": directory,
            "CreationTime": "2026-01-01T00:00:00", "UserType": 0, "UserId": "ada@example.com",
            "Workload": "AzureActiveDirectory",
        });
        let letter = serde_json::json!({
            "time": "2026-01-01T00:00:00.000Z", "tenant": tenant, "stream": "Audit.General",
            "by": "source", "reason": "too blue", "identity": "AAAAAAAAAAAAAAAAAAAAAA",
            "encoding": "json", "body": record,
        });
        writeln!(lines, "{letter}").unwrap();
    }
    lines.push_str("nobody knows what this is\n");
    std::fs::write(path.join("older.rejected.ndjson"), lines).unwrap();
    let ended = case.letters("replay --sink file").expect(0);
    assert!(
        ended.text().contains("2 dead letter(s) delivered"),
        "{}",
        ended.text()
    );
    let file = Delivered::read(&case.folder.path().join("older.ndjson"));
    assert_eq!(file.pairs(), [(&*directory, "a"), (&*directory, "b")]);
    assert_eq!(file.events[0]["user"]["email"], "ada@example.com");
    // The next run counts these bytes as its own.
    case.heal();
    let run = sluicegate(&case.folder).args("run --once");
    let ended = case.pipeline.give(run).run().expect(0);
    assert!(
        !ended.stderr.contains("another process"),
        "{}",
        ended.stderr
    );
    let file = Delivered::read(&case.folder.path().join("older.ndjson"));
    assert_eq!(
        (file.events.len(), &file.ids()[..2]),
        (602, &["a", "b"][..])
    );
}
