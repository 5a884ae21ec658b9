//! The pipeline's file is read again under load: what differs is exchanged, nothing is lost or repeated, and what does
//! not differ never notices.

use std::time::Duration;

use sluicegate_office::{Builder, Office};
use sluicegate_tests::{
    Collector, CollectorFaults, Delivered, Ended, Pipeline, Running, Simulated,
};
use tempfile::TempDir;

use crate::api::{FREE, get};
use crate::http::QUICK;
use crate::{folder, sluicegate};

/// Of every answer: slow enough to be met at work.
const LATENCY: Duration = Duration::from_millis(40);

/// An office and the folder of a pipeline of its tenants.
struct Case {
    office: Simulated,
    folder: TempDir,
    /// The tenants' names and the ids of their directories.
    tenants: Vec<(String, String)>,
}

impl Case {
    fn new(builder: Builder) -> Self {
        let office = Simulated::start(builder.latency(LATENCY).page_size(100));
        let tenants = office.tenants(|tenant| (tenant.name.clone(), tenant.directory_id.clone()));
        Self {
            office,
            folder: folder(),
            tenants,
        }
    }

    /// All tenants, into `load.ndjson`.
    fn pipeline(&self) -> Pipeline {
        let limits = "requests_per_minute: 1000000, in_flight: 4";
        Pipeline::o365("load", &self.office).limits(limits)
    }

    fn start(&self, pipeline: &Pipeline, arguments: &str) -> Running {
        let command = sluicegate(&self.folder).args("run").args(arguments);
        pipeline.give(command).start()
    }

    /// Writes another file and has it read.
    fn reload(&self, running: &Running, pipeline: &Pipeline) {
        pipeline.write(self.folder.path());
        running.signal("HUP");
    }

    /// Waits until this was said so often.
    #[track_caller]
    fn says(&self, running: &Running, words: &str, times: usize) {
        running.until(words, || running.stderr().matches(words).count() >= times);
    }

    /// What a file sink holds so far.
    fn file(&self, name: &str) -> Delivered {
        Delivered::so_far(&self.folder.path().join(name))
    }

    fn count(&self, delivered: &Delivered, tenant: usize) -> usize {
        let (_, directory) = &self.tenants[tenant];
        let pairs = delivered.pairs();
        pairs.iter().filter(|(of, _)| of == directory).count()
    }

    /// Waits until a tenant has delivered something.
    #[track_caller]
    fn at_work(&self, running: &Running, tenant: usize) {
        running.until("at work", || {
            self.count(&self.file("load.ndjson"), tenant) > 0
        });
    }

    /// Waits until everything owed stands in what `all` gives.
    #[track_caller]
    fn whole(&self, running: &Running, mut all: impl FnMut() -> Delivered) {
        running.until("everything is delivered", || {
            let verdict = self.office.judge(&all());
            verdict.owed > 0 && verdict.missing == 0
        });
    }

    /// How often a tenant has signed in; each start does once.
    fn sign_ins(&self, tenant: usize) -> usize {
        let (_, directory) = &self.tenants[tenant];
        let recent: Vec<String> = self.office.change(|office| office.recent().collect());
        let own = recent.iter().filter(|line| line.contains(&**directory));
        own.filter(|line| line.contains("/token?")).count()
    }

    #[track_caller]
    fn once_each(&self, delivered: &Delivered) {
        let verdict = self.office.judge(delivered);
        assert!(verdict.owed > 0 && verdict.is_clean(), "{verdict:?}");
        let repeated = delivered.repeated();
        assert!(repeated.is_empty(), "{repeated:?}");
    }
}

fn collector(seed: u64) -> Collector {
    Collector::start(CollectorFaults::default(), seed)
}

fn http(collector: &Collector) -> String {
    format!("http: {{ uri: '{}/events', {QUICK} }}", collector.url())
}

fn stop(running: Running) -> Ended {
    running.signal("TERM");
    running.end().expect(0)
}

fn both(one: &Collector, other: &Collector) -> Delivered {
    let mut all = one.delivered();
    all.events.extend(other.delivered().events);
    all
}

#[test]
fn a_tenant_is_added_the_config_broken_and_a_sink_changed_and_nobody_else_notices() {
    let case = Case::new(
        Office::builder(501)
            .tenants(3)
            .blobs(200)
            .events_per_blob(2),
    );
    let (before, after) = (collector(501), collector(502));
    let piped = |sink: &str| case.pipeline().section(FREE).sink(sink);
    let pipeline = piped(&http(&before));
    let running = case.start(&pipeline.clone().first(2), "");
    let address = running.api();
    let config_up = |up: u8| {
        let (_, metrics) = get(address, "/metrics", "");
        metrics.contains(&format!("sluicegate_config_up{{pipeline=\"load\"}} {up}\n"))
    };
    (0..2).for_each(|tenant| case.at_work(&running, tenant));
    case.reload(&running, &pipeline);
    case.at_work(&running, 2);
    let added = format!("the tenant is added tenant={}", case.tenants[2].0);
    assert!(running.stderr().contains(&added), "{}", running.stderr());

    let broken = pipeline.clone().section("drain_timeouts: 3s");
    case.reload(&running, &broken);
    case.says(&running, "the pipeline goes on as it was", 1);
    let validate = sluicegate(&case.folder).args("validate");
    let words = broken.give(validate).run().expect(78).stderr;
    let words = words.strip_prefix("error: ").unwrap().trim();
    assert!(
        running.stderr().contains(words),
        "{words}: {}",
        running.stderr()
    );
    // What cannot be had, such as a secret, is found before anything is touched, too.
    let secret = "auth: { strategy: bearer, token: { env: NOBODY_SET_THIS } }";
    let sink = format!("http: {{ uri: '{}/events', {secret} }}", after.url());
    case.reload(&running, &piped(&sink));
    case.says(&running, "the pipeline goes on as it was", 2);
    assert!(running.stderr().contains("`NOBODY_SET_THIS` is not set"));
    assert!(after.delivered().events.is_empty());
    assert!(config_up(0));

    case.reload(&running, &piped(&http(&after)));
    case.says(&running, "changed: sink `http`", 1);
    assert!(!before.delivered().events.is_empty() && config_up(1));
    case.reload(&running, &piped(&http(&after)));
    case.says(&running, "nothing of it has changed", 1);
    case.whole(&running, || case.file("load.ndjson"));
    case.whole(&running, || both(&before, &after));
    let _ = stop(running);
    case.once_each(&case.file("load.ndjson"));
    case.once_each(&both(&before, &after));
    assert!(
        !after.delivered().events.is_empty(),
        "the second came too late"
    );
    let sign_ins = [0, 1, 2].map(|tenant| case.sign_ins(tenant));
    assert_eq!(sign_ins, [1, 1, 1]);
    let fetched = case.office.stats().fetch_requests;
    assert_eq!(fetched, 600, "no call was given up, none was made twice");
}

#[test]
fn a_file_that_moves_and_a_sink_that_takes_its_place_hold_each_event_once() {
    let case = Case::new(Office::builder(503).blobs(300).events_per_blob(2));
    let running = case.start(&case.pipeline(), "");
    case.at_work(&running, 0);
    let other = case.pipeline().only("file: { path: other.ndjson }");
    case.reload(&running, &other);
    case.says(&running, "changed: sink `file`", 1);
    running.until("the other file grows", || {
        !case.file("other.ndjson").events.is_empty()
    });
    // Another sink, in the same place, with one beside it.
    let renamed = case
        .pipeline()
        .only("file: { name: archive, path: other.ndjson }")
        .sink("file: { path: third.ndjson }");
    case.reload(&running, &renamed);
    case.says(&running, "sink `archive`", 1);
    let all = || {
        let mut all = case.file("load.ndjson");
        all.events.extend(case.file("other.ndjson").events);
        all
    };
    case.whole(&running, all);
    let ended = stop(running);
    case.once_each(&all());
    let third = case.file("third.ndjson");
    assert!(!third.events.is_empty() && third.repeated().is_empty());
    assert!(
        !ended.stderr.contains("another process"),
        "{}",
        ended.stderr
    );
    assert_eq!(case.sign_ins(0), 1);
}

#[test]
fn what_waits_for_a_sink_that_is_down_goes_to_the_one_that_takes_its_place() {
    let case = Case::new(Office::builder(504).blobs(100).events_per_blob(5));
    let (down, instead) = (collector(504), collector(505));
    let short = "drain_timeout: 1s";
    let pipeline = case.pipeline().section(short).sink(&http(&down));
    let running = case.start(&pipeline, "");
    case.at_work(&running, 0);
    down.switch(false);
    running.until("the sink is down", || {
        running.stderr().contains("the sink does not take events")
    });
    // The file moves as well: what it has beyond the last commit is taken back.
    let pipeline = case
        .pipeline()
        .section(short)
        .only("file: { path: moved.ndjson }")
        .sink(&http(&instead));
    case.reload(&running, &pipeline);
    case.says(&running, "changed: sink `file`, sink `http`", 1);
    let files = || {
        let mut all = case.file("load.ndjson");
        all.events.extend(case.file("moved.ndjson").events);
        all
    };
    case.whole(&running, || both(&down, &instead));
    case.whole(&running, files);
    let _ = stop(running);
    case.once_each(&files());
    let verdict = case.office.judge(&both(&down, &instead));
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    assert_eq!(case.sign_ins(0), 1);
}

#[test]
fn a_watched_file_changes_limits_and_stages_and_what_needs_a_restart_is_named() {
    let builder = Office::builder(506)
        .tenants(2)
        .blobs(2_500)
        .events_per_blob(2);
    let case = Case::new(builder);
    let limits = "requests_per_minute: 1000000, in_flight: 2";
    let slow = || case.pipeline().limits(limits);
    let running = case.start(&slow(), "--watch-config");
    (0..2).for_each(|tenant| case.at_work(&running, tenant));
    let changed = slow().also(1, "limits: { in_flight: 3 }");
    changed.write(case.folder.path());
    case.says(&running, "the tenant is changed and starts anew", 1);
    running.until("signed in again", || case.sign_ins(1) == 2);
    // From now on nothing passes.
    changed
        .stage("filter: { keep: { event.id: nobody } }")
        .section("drain_timeout: 7s")
        .section("api: { address: '127.0.0.1:0' }")
        .write(case.folder.path());
    case.says(&running, "changed: the stages", 1);
    let stderr = running.stderr();
    for section in ["`drain_timeout` has changed", "`api` has changed"] {
        assert!(stderr.contains(section), "{stderr}");
    }
    assert!(!stderr.contains("the API listens"), "{stderr}");
    let go_on = || {
        let fetched = case.office.stats().fetch_requests;
        assert!(fetched < 4_900, "everything was fetched before: {fetched}");
        running.until("more is fetched", || {
            case.office.stats().fetch_requests >= fetched + 20
        });
        case.file("load.ndjson").events.len()
    };
    // What was under way has passed the old stages.
    let before = go_on();
    assert_eq!(go_on(), before, "nothing passes");
    let ended = stop(running);
    let delivered = case.file("load.ndjson");
    assert!(delivered.repeated().is_empty());
    ended.says(&[" dropped by stages"]);
    assert!(
        !ended.stderr.contains(" 0 dropped by stages"),
        "{}",
        ended.stderr
    );
    assert_eq!((case.sign_ins(0), case.sign_ins(1)), (1, 2));
}
