//! The main job: what a tenant has is what its sink gets, each event once, whatever becomes of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sluicegate_office::{ContentType, Office};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::{folder, sluicegate};

#[test]
fn every_event_of_every_tenant_comes_once() {
    let office = Simulated::start(Office::builder(11).tenants(2).blobs(60).events_per_blob(10));
    let folder = folder();
    let pipeline = Pipeline::o365("contoso", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    ended.says(&[
        "2 tenant(s)",
        "1200 event(s) delivered",
        "0 declared loss(es)",
    ]);
    assert!(
        ended.stdout.is_empty(),
        "standard output belongs to the stdout sink"
    );
    let delivered = Delivered::read(&folder.path().join("contoso.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean() && verdict.owed == 1_200, "{verdict:?}");
    assert!(
        delivered.repeated().is_empty(),
        "{:?}",
        delivered.repeated()
    );
    let stats = office.stats();
    assert_eq!(
        (
            stats.without_publisher,
            stats.wide_windows,
            stats.leaked_tokens
        ),
        (0, 0, 0)
    );
    assert_eq!(
        stats.repeated_downloads, 0,
        "nothing is fetched twice without need"
    );

    // A second run finds nothing new and changes nothing.
    let before = std::fs::read(folder.path().join("contoso.ndjson")).unwrap();
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    ended.says(&["0 event(s) delivered"]);
    assert_eq!(
        std::fs::read(folder.path().join("contoso.ndjson")).unwrap(),
        before
    );
}

#[test]
fn a_tenant_with_a_wrong_secret_fails_alone_and_says_what_to_do() {
    let office = Simulated::start(Office::builder(12).tenants(5).blobs(20).events_per_blob(5));
    let folder = folder();
    let pipeline = Pipeline::o365("many", &office).secret(3, "not-the-secret");
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(75);
    let names = office.tenants(|tenant| tenant.name.clone());
    let delivered = Delivered::read(&folder.path().join("many.ndjson"));
    for (index, name) in names.iter().enumerate() {
        let verdict = office.judge_tenant(index, &delivered);
        let incomplete = ended.stderr.lines().any(|line| {
            line.trim_start().starts_with("incomplete:") && line.contains(&format!("`{name}`"))
        });
        if index == 3 {
            assert_eq!(verdict.delivered, 0, "{verdict:?}");
            assert!(
                incomplete,
                "the failing tenant is not named:\n{}",
                ended.stderr
            );
        } else {
            assert!(
                verdict.is_clean() && verdict.delivered == 100,
                "{name}: {verdict:?}"
            );
            assert!(!incomplete, "`{name}` is complete:\n{}", ended.stderr);
        }
    }
    ended.says(&["AADSTS7000215", "client secret"]);
    assert!(!ended.stderr.contains("not-the-secret"), "{}", ended.stderr);
}

#[test]
fn a_stream_without_permission_stops_no_other() {
    let office = Simulated::start(Office::builder(13).blobs(30).events_per_blob(4));
    office.change(|office| office.tenant_mut(0).denied.push(ContentType::Exchange));
    let folder = folder();
    let pipeline = Pipeline::o365("denied", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(75);
    ended.says(&["Audit.Exchange"]);
    let delivered = Delivered::read(&folder.path().join("denied.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean() && verdict.owed == 96, "{verdict:?}");
}

#[test]
fn a_filter_drops_what_it_names_and_nothing_else() {
    let office = Simulated::start(Office::builder(14).blobs(25).events_per_blob(8));
    let folder = folder();
    let all = Pipeline::o365("all", &office);
    let _ = all
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let all = Delivered::read(&folder.path().join("all.ndjson"));
    let provider = |event: &Value| event.pointer("/event/provider").cloned();
    let dropped = provider(&all.events[0]).expect("every event names its provider");
    let some = Pipeline::o365("some", &office).stage(&format!(
        "filter: {{ drop: {{ event.provider: {dropped} }} }}"
    ));
    let ended = some
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let some = Delivered::read(&folder.path().join("some.ndjson"));
    let kept = |event: &&Value| provider(event) != Some(dropped.clone());
    let wanted: BTreeMap<_, _> = by_id(all.events.iter().filter(kept));
    assert!(
        !wanted.is_empty() && wanted.len() < all.events.len(),
        "the filter has work to do"
    );
    assert_eq!(by_id(some.events.iter()), wanted);
    let gone = all.events.len() - wanted.len();
    ended.says(&[&format!("{gone} dropped by stages")]);
}

#[test]
fn a_wasm_stage_maps_as_the_source_does() {
    let office = Simulated::start(Office::builder(15).blobs(15).events_per_blob(8));
    let folder = folder();
    let direct = Pipeline::o365("direct", &office);
    let _ = direct
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let direct = Delivered::read(&folder.path().join("direct.ndjson"));
    let types = "content_types: [Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, \
                 Audit.General, DLP.All], profile: raw";
    let staged = Pipeline::o365("staged", &office)
        .config(types)
        .stage("wasm: { plugin: o365 }");
    let _ = staged
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let staged = Delivered::read(&folder.path().join("staged.ndjson"));
    assert_eq!(by_id(staged.events.iter()), by_id(direct.events.iter()));
}

#[test]
fn every_sink_gets_every_event() {
    let office = Simulated::start(Office::builder(16).blobs(20).events_per_blob(5));
    let folder = folder();
    let pipeline = Pipeline::o365("two", &office).sink("stdout: {}");
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let file = Delivered::read(&folder.path().join("two.ndjson"));
    let printed = Delivered::parse(&ended.stdout);
    assert_eq!(printed.events.len(), 100);
    assert_eq!(by_id(file.events.iter()), by_id(printed.events.iter()));
}

#[test]
fn each_sink_gets_what_its_condition_holds_for() {
    let office = Simulated::start(Office::builder(19).blobs(25).events_per_blob(8));
    let folder = folder();
    let all = Pipeline::o365("everything", &office);
    let _ = all
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let all = Delivered::read(&folder.path().join("everything.ndjson"));
    let provider = |event: &Value| event.pointer("/event/provider").cloned();
    let chosen = provider(&all.events[0]).expect("every event names its provider");
    let when = format!("when: {{ event.provider: {chosen} }}");
    // Both sinks want the same events, so that the others go nowhere.
    let routed = Pipeline::o365("routed", &office)
        .only(&format!("file: {{ name: one, path: one.ndjson, {when} }}"))
        .sink(&format!("file: {{ name: two, path: two.ndjson, {when} }}"))
        .sink("file: { name: none, path: none.ndjson, when: { event.provider: nobody } }");
    let ended = routed
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let wanted = |event: &&Value| provider(event) == Some(chosen.clone());
    let wanted = by_id(all.events.iter().filter(wanted));
    let gone = all.events.len() - wanted.len();
    assert!(
        !wanted.is_empty() && gone > 0,
        "the condition has work to do"
    );
    ended.says(&[&format!("{gone} dropped"), "0 dead letter(s)"]);
    for file in ["one.ndjson", "two.ndjson"] {
        let delivered = Delivered::read(&folder.path().join(file));
        assert_eq!(by_id(delivered.events.iter()), wanted, "{file}");
    }
    assert!(
        Delivered::read(&folder.path().join("none.ndjson"))
            .events
            .is_empty()
    );
}

#[test]
fn one_request_at_a_time_is_enough() {
    // Every stream has to get along with what the others leave it, from the first request on.
    let builder = Office::builder(18)
        .blobs(20)
        .events_per_blob(3)
        .subscribed();
    let office = Simulated::start(builder.latency(Duration::from_millis(5)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("narrow", &office).limits("requests_per_minute: 1000000, in_flight: 1");
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let verdict = office.judge(&Delivered::read(&folder.path().join("narrow.ndjson")));
    assert!(verdict.is_clean() && verdict.owed == 60, "{verdict:?}");
    assert_eq!(office.stats().peak_in_flight, 1);
}

#[test]
fn requests_stay_within_the_budget_of_a_minute() {
    let office = Simulated::start(Office::builder(17).blobs(60).events_per_blob(1));
    let folder = folder();
    let pipeline = Pipeline::o365("slow", &office).limits("requests_per_minute: 40, in_flight: 8");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    // It comes near its budget, though it has far more to ask for...
    running.until("it comes near its budget", || {
        office.stats().peak_per_minute >= 30
    });
    // ...and then has time to send what it may not.
    assert!(!running.ends_within(Duration::from_secs(2)));
    running.signal("TERM");
    let _ = running.end().expect(0);
    let peak = office.stats().peak_per_minute;
    assert!((30..=40).contains(&peak), "{peak} requests in a minute");
}

fn by_id<'a>(events: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for event in events {
        let id = event
            .pointer("/event/id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let before = found.insert(id.to_owned(), without_arrival(event));
        assert!(before.is_none(), "`{id}` came twice");
    }
    found
}

/// An event without the members that say when or how it came here.
fn without_arrival(event: &Value) -> Value {
    let mut event = event.clone();
    for (parent, member) in [("/event", "created"), ("/event", "ingested")] {
        if let Some(object) = event.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(member);
        }
    }
    event
}
