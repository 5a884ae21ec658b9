//! Tenants as files of a watched directory: each comes, changes and goes alone, and loses and repeats nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sluicegate_office::{Builder, Office};
use sluicegate_tests::{Delivered, Ended, Pipeline, Running, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// Of every answer: slow enough to be met at work.
const LATENCY: Duration = Duration::from_millis(40);

/// An office whose tenants have their files in `tenants.d`.
struct Case {
    office: Simulated,
    folder: TempDir,
    pipeline: Pipeline,
    /// The tenants' names and the ids of their directories.
    tenants: Vec<(String, String)>,
}

impl Case {
    /// The office, with files for the first tenants.
    fn new(builder: Builder, files: usize) -> Self {
        let office = Simulated::start(builder);
        let pipeline = Pipeline::o365("many", &office)
            .directory("tenants.d")
            .limits("requests_per_minute: 1000000, in_flight: 2");
        let tenants = office.tenants(|tenant| (tenant.name.clone(), tenant.directory_id.clone()));
        let folder = folder();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let case = Self {
            office,
            folder,
            pipeline,
            tenants,
        };
        (0..files).for_each(|tenant| case.write(tenant, ""));
        case
    }

    fn path(&self, tenant: usize) -> PathBuf {
        let (name, _) = &self.tenants[tenant];
        self.folder.path().join(format!("tenants.d/{name}.yaml"))
    }

    /// Writes a tenant's file, with more keys at its end.
    fn write(&self, tenant: usize, more: &str) {
        let text = self.pipeline.tenant(tenant) + more;
        std::fs::write(self.path(tenant), text).unwrap();
    }

    fn remove(&self, tenant: usize) {
        std::fs::remove_file(self.path(tenant)).unwrap();
    }

    fn start(&self) -> Running {
        self.pipeline
            .give(sluicegate(&self.folder).args("run"))
            .start()
    }

    /// Another command on the same pipeline.
    fn run(&self, arguments: &str) -> Ended {
        self.pipeline
            .give(sluicegate(&self.folder).args(arguments))
            .run()
    }

    /// What was delivered so far.
    fn delivered(&self) -> Delivered {
        Delivered::so_far(&self.folder.path().join("many.ndjson"))
    }

    /// How many events of a tenant were delivered.
    fn count(&self, tenant: usize) -> usize {
        let (_, directory) = &self.tenants[tenant];
        let delivered = self.delivered();
        let pairs = delivered.pairs();
        pairs.iter().filter(|(of, _)| of == directory).count()
    }

    fn is_whole(&self, tenant: usize) -> bool {
        let verdict = self.office.judge_tenant(tenant, &self.delivered());
        verdict.owed > 0 && verdict.is_clean()
    }

    /// The requests of a tenant that the office remembers: method, path and query.
    fn requests(&self, tenant: usize) -> Vec<String> {
        let (_, directory) = &self.tenants[tenant];
        let recent: Vec<String> = self.office.change(|office| office.recent().collect());
        let own = recent.iter().filter(|line| line.contains(&**directory));
        let own = own.map(|line| line.splitn(3, ' ').last().unwrap_or_default().to_owned());
        own.collect()
    }

    /// How often a tenant has signed in; each start does once.
    fn sign_ins(&self, tenant: usize) -> usize {
        let tokens = self.requests(tenant);
        tokens
            .iter()
            .filter(|line| line.contains("/token?"))
            .count()
    }

    /// What `state` says of a tenant: found and not delivered, being read, delivered.
    fn state(&self, tenant: usize) -> Option<(u64, u64, u64)> {
        let ended = self.run("state --json");
        let state: Value = serde_json::from_slice(&ended.stdout).ok()?;
        let (name, _) = &self.tenants[tenant];
        let streams = state["streams"].as_array()?.iter();
        let own: Vec<_> = streams
            .filter(|stream| stream["tenant"] == **name)
            .collect();
        let sum = |pointer: &str| {
            own.iter()
                .filter_map(|stream| stream.pointer(pointer)?.as_u64())
                .sum()
        };
        (!own.is_empty()).then(|| {
            (
                sum("/backlog/discovered"),
                sum("/backlog/reading"),
                sum("/events/delivered"),
            )
        })
    }

    /// Ends a run; everything of these tenants is delivered, each event once.
    #[track_caller]
    fn end(&self, running: Running, whole: &[usize]) -> Ended {
        running.signal("TERM");
        let ended = running.end().expect(0);
        let delivered = self.delivered();
        for tenant in whole {
            let verdict = self.office.judge_tenant(*tenant, &delivered);
            assert!(
                verdict.owed > 0 && verdict.is_clean(),
                "{tenant}: {verdict:?}"
            );
        }
        let repeated = delivered.repeated();
        assert!(repeated.is_empty(), "{repeated:?}");
        ended
    }
}

/// Settings for only so many content types. More of them begin at once, so a restart shows.
fn types(number: usize) -> String {
    let all = ["Audit.General", "Audit.Exchange", "Audit.SharePoint"];
    format!(
        "config: {{ content_types: [{}] }}\n",
        all[..number].join(", ")
    )
}

fn line_of(path: &Path, words: &str) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    1 + text.lines().position(|line| line.contains(words)).unwrap()
}

#[test]
fn a_tenant_whose_file_is_added_is_fetched_and_the_others_are_not_disturbed() {
    let builder = Office::builder(81).tenants(3).blobs(40).events_per_blob(5);
    let case = Case::new(builder.latency(LATENCY), 1);
    let running = case.start();
    running.until("the first at work", || case.count(0) > 0);
    case.write(1, "");
    // Nobody's content, as editors and tools leave it beside.
    let text = case.pipeline.tenant(2);
    for name in [
        ".x.yaml",
        "x.yaml~",
        "x.yaml.tmp",
        "#x.yaml#",
        ".x.yaml.swp",
    ] {
        std::fs::write(case.folder.path().join("tenants.d").join(name), &text).unwrap();
    }
    running.until("both delivered", || case.is_whole(0) && case.is_whole(1));
    let ended = case.end(running, &[0, 1]);
    let added = format!("the tenant is added tenant={}", case.tenants[1].0);
    ended.says(&[&added, "2 tenant(s)", "400 event(s) delivered"]);
    assert_eq!(
        (case.sign_ins(0), case.sign_ins(1), case.sign_ins(2)),
        (1, 1, 0)
    );
    let stats = case.office.stats();
    assert_eq!(
        stats.fetch_requests, 80,
        "no call was given up, none was made twice"
    );
}

#[test]
fn a_changed_file_restarts_its_tenant_and_no_other() {
    let builder = Office::builder(82).tenants(2).blobs(300).events_per_blob(2);
    let case = Case::new(builder.latency(LATENCY).page_size(100), 2);
    let running = case.start();
    running.until("both at work", || case.count(0) > 0 && case.count(1) > 0);
    // What only says the same in other words is no change. It is seen first.
    case.write(0, "# the same as before\n");
    case.write(1, "limits: { in_flight: 16 }\n");
    running.until("the second restarted", || case.sign_ins(1) == 2);
    running.until("both delivered", || case.is_whole(0) && case.is_whole(1));
    assert_eq!(case.sign_ins(0), 1);
    let stats = case.office.stats();
    assert_eq!(
        stats.fetch_requests, 600,
        "no call was given up, none was made twice"
    );
    let ended = case.end(running, &[0, 1]);
    let changed = format!(
        "the tenant is changed and starts anew tenant={}",
        case.tenants[1].0
    );
    ended.says(&[&changed, "1200 event(s) delivered"]);
    assert_eq!(
        ended.stderr.matches("starts anew").count(),
        1,
        "{}",
        ended.stderr
    );
}

#[test]
fn a_removed_tenant_is_drained_and_goes_on_where_it_stood_when_it_is_back() {
    let builder = Office::builder(83).tenants(2).blobs(900).events_per_blob(2);
    let case = Case::new(builder.latency(LATENCY).page_size(200), 2);
    let running = case.start();
    running.until("both at work", || case.count(0) > 0 && case.count(1) > 0);
    case.remove(1);
    running.until("drained", || {
        let before = case.count(1);
        case.state(1).is_some_and(|(waiting, reading, delivered)| {
            waiting > 0 && reading == 0 && delivered == before as u64
        })
    });
    let stood = case.state(1).unwrap();
    assert!(stood.2 > 0 && stood.2 < 1_800, "{stood:?}");
    // It is back with more hands, so that the test need not wait for long.
    case.write(1, "limits: { in_flight: 16 }\n");
    case.write(0, "limits: { in_flight: 16 }\n");
    running.until("both delivered", || case.is_whole(0) && case.is_whole(1));
    let stats = case.office.stats();
    assert_eq!(
        stats.fetch_requests, 1_800,
        "no call was given up, none was made twice"
    );
    let ended = case.end(running, &[0, 1]);
    let removed = format!(
        "the tenant is removed; its progress is kept tenant={}",
        case.tenants[1].0
    );
    ended.says(&[&removed, "the tenant is added", "3600 event(s) delivered"]);
}

#[test]
fn a_broken_file_leaves_its_tenant_as_it_was_and_is_reported_once() {
    // Two splits of three events for each tenant and content type.
    let builder = Office::builder(84).tenants(3).blobs(10).events_per_blob(3);
    let case = Case::new(builder, 1);
    case.write(1, &types(1));
    let running = case.start();
    running.until("both delivered", || case.is_whole(0) && case.count(1) == 6);
    case.write(1, &format!("{}limits: {{ in_flights: 16 }}\n", types(2)));
    let line = line_of(&case.path(1), "in_flights");
    // The third comes in the same look in which the broken one is seen.
    case.write(2, &types(1));
    running.until("the third delivered", || case.count(2) == 6);
    // Beside the running collector: what needs every tenant says what is wrong, the rest still works.
    let place = format!("{}.yaml:{line}:", case.tenants[1].0);
    let wrong = [&*place, "`in_flights`", "did you mean `in_flight`?"];
    case.run("validate").expect(78).says(&wrong);
    case.run("state").expect(0).says(&["warning: ", &place]);
    let doctor = case.run("doctor").expect(78);
    for found in [&*place, &format!("tenant {} ", case.tenants[2].0)] {
        assert!(doctor.text().contains(found), "{}", doctor.text());
    }
    // A second change, so that there is time to say it twice.
    case.write(2, "");
    running.until("the third restarted", || case.is_whole(2));
    assert_eq!(case.count(1), 6, "it runs as it did");
    case.write(1, "");
    running.until("the second restarted", || case.is_whole(1));
    let ended = case.end(running, &[0, 1, 2]);
    ended.says(&[
        "the tenant goes on as its last good version said",
        "unknown key",
    ]);
    ended.says(&wrong);
    let said = ended.stderr.matches("a tenant's file cannot be used");
    assert_eq!(said.count(), 1, "{}", ended.stderr);
}

#[test]
fn a_pipeline_does_not_start_with_a_broken_file() {
    let case = Case::new(
        Office::builder(85).tenants(2).blobs(5).events_per_blob(2),
        2,
    );
    case.write(1, "auth: {}\n");
    let words = ["tenants.d/", &format!("{}.yaml:", case.tenants[1].0)];
    for command in ["validate", "run", "run --once"] {
        case.run(command).says(&words);
    }
    let ended = case.run("run --once").expect(78);
    assert_eq!(ended.stderr, case.run("validate").expect(78).stderr);
    assert_eq!(case.office.stats().requests, 0);
    case.write(1, "");
    // Two files of one tenant, too.
    let copy = case.folder.path().join("tenants.d/copy.yaml");
    std::fs::copy(case.path(0), &copy).unwrap();
    case.run("validate")
        .expect(78)
        .says(&["is used twice", "copy.yaml"]);
    std::fs::remove_file(copy).unwrap();
    assert_eq!(case.run("validate").expect(0).text(), "many.yaml: ok\n");
}

#[test]
fn every_command_sees_the_tenants_of_the_directory() {
    let case = Case::new(
        Office::builder(86).tenants(2).blobs(12).events_per_blob(3),
        2,
    );
    case.run("run --once")
        .expect(0)
        .says(&["2 tenant(s)", "72 event(s) delivered"]);
    assert!(case.is_whole(0) && case.is_whole(1));
    let (doctor, state) = (case.run("doctor").expect(0), case.run("state").expect(0));
    let audit = case.run("audit --json").expect(0);
    for (name, _) in &case.tenants {
        for ended in [&doctor, &state, &audit] {
            assert!(ended.text().contains(&**name), "{name}: {}", ended.text());
        }
    }
}

#[test]
fn an_empty_directory_is_worth_a_warning_and_fills_while_the_pipeline_runs() {
    let case = Case::new(Office::builder(87).blobs(5).events_per_blob(2), 0);
    let warning = "warning: the directory holds no tenant yet";
    case.run("validate")
        .expect(0)
        .says(&[warning, "many.yaml:"]);
    let running = case.start();
    let ledger = case.folder.path().join("state/many/ledger.db");
    running.until("begun", || ledger.exists());
    case.write(0, "");
    running.until("delivered", || case.is_whole(0));
    case.end(running, &[0]).says(&[warning, "1 tenant(s)"]);
    case.remove(0);
    case.run("run --once")
        .expect(0)
        .says(&[warning, "0 tenant(s)"]);
}

#[test]
fn a_secret_may_come_later_than_the_file_that_names_it_and_change_without_a_restart() {
    // One split of two events for each tenant and content type.
    let case = Case::new(
        Office::builder(88).tenants(2).blobs(5).events_per_blob(2),
        0,
    );
    case.write(0, &types(1));
    let text = case.pipeline.tenant(1);
    let text = text.replace("{ env: SECRET_MANY_1 }", "{ file: second.secret }");
    assert!(text.contains("second.secret"));
    let running = case.start();
    running.until("the first delivered", || case.count(0) == 2);
    std::fs::write(case.path(1), &text).unwrap();
    // The first restarts in the look in which the second is found wanting, or in a later one.
    case.write(0, &types(2));
    running.until("the first restarted", || case.count(0) == 4);
    assert_eq!(case.sign_ins(1), 0);
    // Seen from the directory in which the tenant's file is.
    let path = case.folder.path().join("tenants.d/second.secret");
    let secret = |office: &mut Office| office.tenants()[1].client_secret.clone();
    let secret = case.office.change(secret);
    std::fs::write(&path, &secret).unwrap();
    running.until("the second delivered", || case.is_whole(1));
    // A changed credential is rotation's, not the directory's.
    std::fs::write(&path, secret + "\n").unwrap();
    case.write(0, &types(3));
    running.until("the first restarted again", || case.count(0) == 6);
    let ended = case.end(running, &[1]);
    assert_eq!(case.sign_ins(1), 1);
    let name = &case.tenants[1].0;
    assert!(!ended.stderr.contains(&format!("starts anew tenant={name}")));
    ended.says(&["second.secret", "there is no version that could run"]);
    let said = ended.stderr.matches("cannot read secret file");
    assert_eq!(said.count(), 1, "{}", ended.stderr);
}
