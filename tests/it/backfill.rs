//! A range of time once more, beside a running collector; and a first start where another collector stands.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::{Delivered, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// A time as the command line takes it, so many hours back from the office's clock.
pub(crate) fn hours_ago(office: &Simulated, hours: i64) -> (i64, String) {
    let now_ms = office.server().office(|_, now_ms| now_ms);
    let ms = (now_ms - hours * HOUR_MS).div_euclid(HOUR_MS) * HOUR_MS;
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap();
    (ms, time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// How many events the splits hold that the ledger has delivered within a range.
fn splits(ledger: &Path, since_ms: i64, until_ms: i64) -> u64 {
    let db = rusqlite::Connection::open(ledger).unwrap();
    let count = "SELECT count(*) FROM split
                 WHERE phase = 'delivered' AND created_ms >= ?1 AND created_ms < ?2";
    let count: i64 = db
        .query_row(count, (since_ms, until_ms), |row| row.get(0))
        .unwrap();
    u64::try_from(count).unwrap()
}

fn ids(path: &Path) -> BTreeSet<String> {
    let delivered = Delivered::read(path);
    assert!(
        delivered.repeated().is_empty(),
        "twice: {:?}",
        delivered.repeated()
    );
    delivered.ids().into_iter().map(str::to_owned).collect()
}

#[test]
fn a_range_is_delivered_again_beside_the_running_collector() {
    let office = Office::builder(501).blobs(200).events_per_blob(3);
    let office = Simulated::start(office.span(Duration::from_hours(6 * 24)));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let file = folder.path().join("kept.ndjson");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    running.until("everything is delivered", || {
        Delivered::so_far(&file).events.len() == 600
    });
    let ((since_ms, since), (until_ms, until)) = (hours_ago(&office, 72), hours_ago(&office, 24));
    let range = format!("run --once --since {since} --until {until}");
    // The collector's own file is refused: it would cut the backfill's events off.
    let refused = pipeline
        .give(sluicegate(&folder).args(&range))
        .run()
        .expect(78);
    refused.says(&["writes to `kept.ndjson` as well", "--output"]);
    let backfill = |name: &str| {
        let command = sluicegate(&folder).args(&format!("{range} --output {name}"));
        pipeline.give(command).run()
    };
    backfill("again.ndjson").expect(0).says(&["backfill"]);
    let again = ids(&folder.path().join("again.ndjson"));
    let state = folder.path().join("state/kept");
    let expected = splits(&state.join("ledger.db"), since_ms, until_ms) * 3;
    assert!((60..540).contains(&expected), "{expected}");
    assert_eq!(again.len() as u64, expected);
    assert!(
        !state.join("backfill").exists(),
        "a complete backfill leaves no ledger"
    );
    // Once more on purpose is once more.
    let _ = backfill("more.ndjson").expect(0);
    assert_eq!(ids(&folder.path().join("more.ndjson")), again);
    running.signal("TERM");
    let _ = running.end().expect(0);
    let delivered = Delivered::read(&file);
    let verdict = office.judge(&delivered);
    assert!(
        verdict.is_clean() && delivered.repeated().is_empty(),
        "{verdict:?}"
    );
}

#[test]
fn a_backfill_that_was_killed_goes_on_and_repeats_nothing() {
    let office = Office::builder(502).blobs(300).events_per_blob(3);
    let office = Simulated::start(office.latency(Duration::from_millis(40)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("late", &office).limits("requests_per_minute: 1000000, in_flight: 2");
    let (_, since) = hours_ago(&office, 160);
    let (_, until) = hours_ago(&office, 0);
    let range = format!("run --once --since {since} --until {until}");
    let file = folder.path().join("late.ndjson");
    let running = pipeline.give(sluicegate(&folder).args(&range)).start();
    running.until("it is at work", || {
        !Delivered::so_far(&file).events.is_empty()
    });
    let _ = running.kill();
    assert!(folder.path().join("state/late/backfill").is_dir());
    let downloads = office.stats().repeated_downloads;
    let _ = pipeline
        .give(sluicegate(&folder).args(&range))
        .run()
        .expect(0);
    assert!(ids(&file).len() > 300);
    let repeated = office.stats().repeated_downloads - downloads;
    assert!(
        repeated < 100,
        "{repeated} downloads were repeated: it began anew"
    );
}

#[test]
fn wrong_ranges_are_refused_before_anything_runs() {
    let office = Simulated::start(Office::builder(503).blobs(1).events_per_blob(1));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    for (arguments, says) in [
        ("run --since 3d", "--once"),
        ("run --once --until 3d", "--since"),
        ("run --once --since yesterday", "a time is"),
        ("run --once --since 1d --until 2d", "before it begins"),
    ] {
        let ended = pipeline
            .give(sluicegate(&folder).args(arguments))
            .run()
            .expect(64);
        ended.says(&[says]);
    }
    let calm = Pipeline::plugin("calm", &crate::guest("calm").to_string_lossy());
    let ended = calm
        .give(sluicegate(&folder).args("run --once --since 1d"))
        .run()
        .expect(78);
    ended.says(&["knows no range of time"]);
    assert_eq!(office.stats().requests, 0);
}

/// Gives the state of another collector and has the pipeline start there; returns when the oldest delivered split
/// became available.
fn handed_over(office: &Simulated, folder: &TempDir, pipeline: &Pipeline, from: &str) -> i64 {
    let handed = pipeline
        .give(sluicegate(folder).args(&format!("hand-over {from}")))
        .run()
        .expect(0);
    assert!(
        handed.text().contains("this one starts at"),
        "{}",
        handed.text()
    );
    let _ = pipeline
        .give(sluicegate(folder).args("run --once"))
        .run()
        .expect(0);
    let db = folder.path().join("state/kept/ledger.db");
    let db = rusqlite::Connection::open(db).unwrap();
    let oldest = db.query_row("SELECT min(created_ms) FROM split", [], |row| row.get(0));
    assert!(office.stats().requests > 0);
    oldest.unwrap()
}

#[test]
fn a_first_start_is_a_margin_before_where_o365beat_stands() {
    let office = Office::builder(504).blobs(300).events_per_blob(1);
    let office = Simulated::start(office.span(Duration::from_hours(6 * 24)));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let (position_ms, position) = hours_ago(&office, 48);
    std::fs::write(folder.path().join("o365beat.state"), &position).unwrap();
    let from = "--o365beat o365beat.state --margin 6h";
    let dry = pipeline.give(sluicegate(&folder).args(&format!("hand-over --dry-run {from}")));
    assert!(dry.run().expect(0).text().contains("nothing was written"));
    let oldest_ms = handed_over(&office, &folder, &pipeline, from);
    let start_ms = position_ms - 6 * HOUR_MS;
    assert!(
        (start_ms..start_ms + 6 * HOUR_MS).contains(&oldest_ms),
        "{oldest_ms}"
    );
    // Once: a stream that has begun stays where it is.
    let again = pipeline
        .give(sluicegate(&folder).args(&format!("hand-over {from}")))
        .run()
        .expect(1);
    assert!(again.text().contains("left alone"), "{}", again.text());
}

#[test]
fn each_stream_starts_where_filebeat_stands_with_it() {
    let office = Office::builder(505).blobs(400).events_per_blob(1);
    let office = Simulated::start(office.span(Duration::from_hours(6 * 24)));
    let folder = folder();
    let pipeline = Pipeline::o365("kept", &office);
    let directory = office
        .tenants(|tenant| tenant.directory_id.clone())
        .remove(0);
    let registry = folder.path().join("data/registry/filebeat");
    std::fs::create_dir_all(&registry).unwrap();
    let entry = |number: i64, kind: &str, ms: i64| {
        let seconds = ms / 1_000;
        format!(
            "{{\"op\":\"set\",\"id\":{number}}}\n{{\"k\":\"o365audit::{directory}::{kind}\",\"v\":\
             {{\"cursor\":{{\"timestamp\":[281470681743360,{seconds}]}}}}}}\n"
        )
    };
    let ((exchange_ms, _), (general_ms, _)) = (hours_ago(&office, 30), hours_ago(&office, 100));
    let log = [
        entry(1, "Audit.Exchange", exchange_ms),
        entry(2, "Audit.General", general_ms),
    ];
    std::fs::write(registry.join("log.json"), log.concat()).unwrap();
    let _ = handed_over(&office, &folder, &pipeline, "--filebeat data --margin 0s");
    let state = sluicegate(&folder)
        .args("state --json kept.yaml")
        .run()
        .expect(0);
    let state: Value = serde_json::from_slice(&state.stdout).unwrap();
    assert_eq!(state["streams"].as_array().unwrap().len(), 5);
    let db = rusqlite::Connection::open(folder.path().join("state/kept/ledger.db")).unwrap();
    let oldest = |kind: &str| -> i64 {
        let oldest = "SELECT min(created_ms) FROM split JOIN stream ON stream.id = split.stream
                      WHERE stream.stream = ?1";
        db.query_row(oldest, [kind], |row| row.get(0)).unwrap()
    };
    let begins = |kind: &str, ms: i64| (ms..ms + 24 * HOUR_MS).contains(&oldest(kind));
    assert!(
        begins("Audit.Exchange", exchange_ms),
        "{}",
        oldest("Audit.Exchange")
    );
    assert!(
        begins("Audit.General", general_ms),
        "{}",
        oldest("Audit.General")
    );
    // Without a position the whole of what the service keeps is fetched.
    assert!(oldest("Audit.SharePoint") < general_ms);
}
