//! What takes hours or days: the real engine and component, with a clock that leaps for both ends at once.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_office::{
    Builder, Clock, ContentType, Fault, Faults, Late, Office, Operation, Script, Verdict,
};
use sluicegate_tests::{Delivered, Ended, Pipeline, Running, Simulated, Sluicegate};
use tempfile::TempDir;

use crate::{cache, folder, sluicegate};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const ALL: &str = "content_types: [Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, \
                   Audit.General, DLP.All]";

/// A collector and its service, in whose time nothing takes long.
struct Life {
    office: Simulated,
    clock: Clock,
    folder: TempDir,
    running: Running,
    ahead: Cell<Duration>,
}

impl Life {
    fn begin(builder: Builder, config: &str, prepare: impl FnOnce(&mut Office)) -> Self {
        let clock = Clock::system();
        let office = Simulated::start_with(builder, clock.clone());
        office.change(prepare);
        let folder = folder();
        let program = Path::new(env!("CARGO_BIN_EXE_sluicegate-leaping"));
        let command = Sluicegate::new(program, folder.path(), cache());
        let pipeline = Pipeline::o365("life", &office)
            .config(config)
            .section("drain_timeout: 1s");
        let running = pipeline.give(command).start();
        let life = Self {
            office,
            clock,
            folder,
            running,
            ahead: Cell::default(),
        };
        life.until("the first requests", || {
            life.office.stats().list_requests > 0
        });
        life.rest();
        life
    }

    #[track_caller]
    fn until(&self, what: &str, so: impl FnMut() -> bool) {
        self.running.until(what, so);
    }

    /// Waits until the collector has nothing to do for the moment.
    fn rest(&self) {
        let mut last = (0, Instant::now());
        self.until("it rests", || {
            let requests = self.office.stats().requests;
            if requests != last.0 {
                last = (requests, Instant::now());
            }
            last.1.elapsed() > Duration::from_millis(600)
        });
    }

    /// So much time passes.
    #[track_caller]
    fn leap(&self, time: Duration) {
        self.ahead.set(self.ahead.get() + time);
        let ahead = self.ahead.get().as_millis().to_string();
        self.clock.advance(i64::try_from(time.as_millis()).unwrap());
        let path = |name: &str| self.folder.path().join(name);
        std::fs::write(path("leap.new"), &ahead).unwrap();
        std::fs::rename(path("leap.new"), path("leap")).unwrap();
        self.until("the leap", || {
            std::fs::read_to_string(path("leapt")).ok() == Some(ahead.clone())
        });
        self.rest();
    }

    fn delivered(&self) -> Delivered {
        Delivered::so_far(&self.folder.path().join("life.ndjson"))
    }

    fn verdict(&self) -> Verdict {
        self.office.judge(&self.delivered())
    }

    /// Waits until nothing is missing.
    #[track_caller]
    fn complete(&self) -> Verdict {
        self.until("all is delivered", || self.verdict().is_clean());
        self.verdict()
    }

    /// One stream as `sluicegate state` shows it.
    fn state(&self, kind: ContentType) -> Value {
        let ended = sluicegate(&self.folder)
            .args("state --json life.yaml")
            .run()
            .expect(0);
        let state: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let streams = state["streams"].as_array().unwrap();
        streams
            .iter()
            .find(|of| of["stream"] == kind.name())
            .cloned()
            .unwrap_or_default()
    }

    fn end(self) -> Ended {
        self.running.signal("TERM");
        self.running.end().expect(0)
    }
}

fn small(seed: u64) -> Builder {
    Office::builder(seed)
        .blobs(20)
        .events_per_blob(3)
        .span(2 * HOUR)
}

#[test]
fn consent_heals_a_running_collector_and_so_it_does_again() {
    let builder = small(501).later(40, 10 * HOUR);
    let life = Life::begin(builder, ALL, |office| {
        office.tenant_mut(0).roles = vec!["ActivityFeed.Read".into()];
    });
    let trouble = life.state(ContentType::Dlp)["trouble"].clone();
    assert_eq!(trouble["kind"], "unauthorised", "{trouble}");
    assert!(
        trouble["reason"]
            .as_str()
            .unwrap()
            .contains("ActivityFeed.ReadDlp"),
        "{trouble}"
    );
    let before = life.complete();
    assert!(before.owed == 48, "the others: {before:?}");
    life.office.change(|office| {
        office
            .tenant_mut(0)
            .roles
            .push("ActivityFeed.ReadDlp".into());
    });
    life.leap(16 * MINUTE);
    let healed = life.complete();
    assert!(healed.owed >= 60, "{healed:?}");
    assert!(life.state(ContentType::Dlp)["trouble"].is_null());

    // Taken away from everything, and given again.
    let roles = life.office.change(|office| {
        office.revoke_tokens(0);
        std::mem::take(&mut office.tenant_mut(0).roles)
    });
    life.leap(3 * HOUR);
    assert_eq!(
        life.state(ContentType::Exchange)["trouble"]["kind"],
        "unauthorised"
    );
    life.office
        .change(|office| office.tenant_mut(0).roles = roles);
    life.leap(16 * MINUTE);
    let verdict = life.complete();
    assert!(verdict.owed > healed.owed, "{verdict:?}");
    let stats = life.office.stats();
    assert_eq!(stats.hasty_starts, 0);
    assert!(
        stats.token_requests < 40,
        "asked {} times for tokens",
        stats.token_requests
    );
    life.end().says(&["AF10001"]);
}

#[test]
fn a_permission_refused_with_403_is_asked_for_again_with_another_token() {
    let denied = r#"{"error":{"code":"AF10001","message":"The permission set () sent"}}"#;
    let script = Script::says(Operation::Content, 403, denied);
    let script = script.content_type(ContentType::Exchange).times(4);
    let life = Life::begin(small(502).subscribed(), ALL, |office| {
        office.follow(script);
    });
    assert_eq!(
        life.state(ContentType::Exchange)["trouble"]["kind"],
        "unauthorised"
    );
    life.leap(16 * MINUTE);
    // One would last for an hour; the refused one was thrown away.
    let asked = life.office.stats().token_requests;
    assert!((2..=6).contains(&asked), "{asked} token requests");
    // A call gives up at its first refusal, so a slow machine meets the four of them one by one.
    for _ in 0..3 {
        life.leap(16 * MINUTE);
    }
    life.complete();
    let _ = life.end();
}

#[test]
fn late_blobs_and_records_grouped_anew_are_found_and_come_once() {
    let mut faults = Faults::none()
        .with(Fault::Regrouped, 0.4)
        .with(Fault::ListedLater, 0.2);
    faults.late = Late::UpTo(5 * 3_600_000);
    faults.regroup_after_ms = 1_800_000;
    let builder = Office::builder(503)
        .blobs(60)
        .events_per_blob(4)
        .span(3 * HOUR);
    let life = Life::begin(builder.later(60, HOUR).faults(faults), ALL, |_| {});
    let early = life.complete();
    assert!(early.owed < 240, "some are late: {early:?}");
    for _ in 0..8 {
        life.leap(HOUR);
    }
    let verdict = life.complete();
    assert!(verdict.owed == 480, "{verdict:?}");
    let copies: u64 = ContentType::ALL
        .iter()
        .map(|kind| life.state(*kind)["events"]["duplicates"].as_u64().unwrap())
        .sum();
    assert!(copies > 30, "records came again under other ids: {copies}");
    let stats = life.office.stats();
    assert_eq!(
        (stats.repeated_downloads, stats.wide_windows),
        (0, 0),
        "{stats:?}"
    );
    let _ = life.end();
}

#[test]
fn what_is_published_again_five_days_later_is_known() {
    let faults = Faults::none().with(Fault::Republished, 1.0);
    let builder = Office::builder(511)
        .blobs(30)
        .events_per_blob(2)
        .span(2 * HOUR);
    let builder = builder.later(60, 6 * DAY).faults(faults);
    let kinds = [ContentType::Exchange, ContentType::General];
    let types = "content_types: [Audit.Exchange, Audit.General]";
    let life = Life::begin(builder.content_types(&kinds), types, |_| {});
    for _ in 0..12 {
        life.leap(12 * HOUR);
    }
    let verdict = life.complete();
    assert_eq!((verdict.owed, verdict.lost), (180, 0), "{verdict:?}");
    let again = |kind| life.state(kind)["events"]["duplicates"].as_u64().unwrap();
    assert!(
        kinds.map(again).iter().all(|copies| *copies >= 10),
        "{:?}",
        kinds.map(again)
    );
    let _ = life.end();
}

#[test]
fn half_a_day_without_content_is_no_trouble_and_no_loss() {
    let mut faults = Faults::none();
    faults.first_blob_delay_ms = 12 * 3_600_000;
    let life = Life::begin(small(504).faults(faults), ALL, |_| {});
    life.leap(8 * HOUR);
    assert_eq!(life.verdict().owed, 0);
    assert!(life.state(ContentType::General)["trouble"].is_null());
    life.leap(5 * HOUR);
    assert_eq!(life.verdict().owed, 60);
    // What is older than its listing is found by the one of a day later.
    life.leap(13 * HOUR);
    let verdict = life.complete();
    assert!(verdict.owed == 60, "{verdict:?}");
    assert_eq!(life.office.stats().start_requests, 5);
    let _ = life.end();
}

#[test]
fn a_window_with_an_element_that_is_no_blob_stays_open() {
    let faults = Faults::none().with(Fault::BadItem, 1.0);
    let life = Life::begin(small(505).subscribed().faults(faults), ALL, |_| {});
    let missing = life.verdict().missing;
    assert!(missing > 0, "the seed hides nothing");
    life.office
        .change(|office| office.faults_mut().set(Fault::BadItem, 0.0));
    let lags = |kind| life.state(kind)["lag_seconds"].as_u64().unwrap();
    let held = ContentType::ALL.map(lags);
    assert!(
        held.iter().any(|lag| *lag > 3_600),
        "none is held: {held:?}"
    );
    life.leap(11 * MINUTE);
    let verdict = life.complete();
    assert!(verdict.owed == 60, "{verdict:?}");
    life.end().says(&["its window stays open"]);
}

#[test]
fn a_blob_that_comes_late_to_its_url_is_had_in_the_end() {
    let gone = r#"{"error":{"code":"AF20050","message":"does not exist"}}"#;
    let script = Script::says(Operation::Blob, 404, gone).times(20);
    let life = Life::begin(small(506).subscribed(), ALL, |office| {
        office.follow(script);
    });
    let before = life.verdict();
    assert_eq!((before.delivered, before.missing), (0, 60), "{before:?}");
    life.leap(21 * MINUTE);
    let verdict = life.complete();
    assert!(verdict.owed == 60, "{verdict:?}");
    let _ = life.end();
}

#[test]
fn what_is_listed_and_never_there_is_kept_until_it_expires_and_then_declared() {
    let gone = r#"{"error":{"code":"AF20050","message":"does not exist"}}"#;
    let script = Script::says(Operation::Blob, 404, gone).content_type(ContentType::Exchange);
    let poison = Script::says(Operation::Blob, 500, "").content_type(ContentType::General);
    let life = Life::begin(small(507).subscribed(), ALL, |office| {
        // What is followed first has the number 0.
        office.follow(poison);
        office.follow(script);
    });
    // The poisoned ones are set aside within seconds, the others after three tries in an hour.
    life.until("quarantine", || {
        life.state(ContentType::General)["quarantined"] == 4
    });
    for _ in 0..6 {
        life.leap(21 * MINUTE);
    }
    life.until("the others are set aside", || {
        life.state(ContentType::Exchange)["quarantined"] == 4
    });
    assert_eq!(
        life.state(ContentType::Exchange)["lost"],
        0,
        "it is still listed"
    );
    // After a quarter of an hour, half of one, a whole one: each of these counts.
    let general = life.state(ContentType::General);
    let splits = general["quarantine"].as_array().unwrap();
    let tried = |split: &Value| split["attempts"].as_u64() >= Some(8);
    assert!(splits.len() == 4 && splits.iter().all(tried), "{general}");
    for _ in 0..7 {
        life.leap(DAY);
    }
    life.leap(7 * HOUR);
    for kind in [ContentType::Exchange, ContentType::General] {
        let state = life.state(kind);
        assert_eq!(
            (&state["lost"], &state["quarantined"]),
            (&4.into(), &0.into()),
            "{state}"
        );
    }
    let verdict = life.verdict();
    assert_eq!(
        (verdict.missing, verdict.lost, verdict.delivered),
        (0, 24, 36),
        "{verdict:?}"
    );
    life.end().says(&["content is lost"]);
}

#[test]
fn a_throttle_of_ten_minutes_uses_up_no_try() {
    let busy = "{'error':{'code':'AF429','message':'Too many requests.'}}";
    let script = Script::says(Operation::Blob, 403, busy).header("Retry-After", "600");
    let life = Life::begin(small(508).subscribed(), ALL, |office| {
        office.follow(script.times(8));
    });
    let before = life.office.stats().requests;
    life.leap(8 * MINUTE);
    assert_eq!(
        life.office.stats().requests,
        before,
        "it was told to stay away"
    );
    // A few were refused together; each of these times is waited for, and none is counted.
    for _ in 0..8 {
        life.leap(4 * MINUTE);
    }
    let verdict = life.complete();
    assert!(verdict.owed == 60, "{verdict:?}");
    let ended = life.end();
    assert!(!ended.stderr.contains("set aside"), "{}", ended.stderr);
}

#[test]
fn a_subscription_that_somebody_disables_is_started_at_most_once_an_hour() {
    let builder = small(509).later(30, 5 * HOUR);
    let life = Life::begin(builder, ALL, |_| {});
    let disable = || {
        life.office
            .change(|office| office.tenant_mut(0).disable(ContentType::Exchange));
    };
    let started = || life.office.stats().start_requests;
    assert_eq!(started(), 5);
    life.leap(HOUR);
    disable();
    life.leap(2 * MINUTE);
    assert_eq!(started(), 6, "it is started again");
    disable();
    life.leap(20 * MINUTE);
    life.leap(20 * MINUTE);
    assert_eq!(started(), 6, "it may be meant");
    for _ in 0..4 {
        life.leap(15 * MINUTE);
    }
    assert_eq!(started(), 7);
    assert_eq!(life.office.stats().hasty_starts, 0);
    for _ in 0..5 {
        life.leap(HOUR);
    }
    life.complete();
    life.end().says(&["disabled the subscription again"]);
}

#[test]
fn an_absence_of_nine_days_is_declared_to_the_minute() {
    let builder = small(510).later(200, 9 * DAY);
    let life = Life::begin(builder, ALL, |_| {});
    life.leap(9 * DAY);
    let verdict = life.complete();
    assert!(verdict.lost > 50, "{verdict:?}");
    for kind in ContentType::ALL {
        let state = life.state(kind);
        assert_eq!(state["lost"], 1, "one gap: {state}");
        let loss = &state["losses"][0];
        assert!(
            loss["split"].is_null() && loss["since"].is_string(),
            "{loss}"
        );
    }
    life.end().says(&["never listed and is lost"]);
}
