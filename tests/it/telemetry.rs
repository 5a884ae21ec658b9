//! What the real command tells an OpenTelemetry collector of itself: metrics that agree with `/metrics`, a trace for
//! each split, and nothing that delivery would notice.

use std::collections::{BTreeMap, BTreeSet};

use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::telemetry::Span;
use sluicegate_tests::{Delivered, Pipeline, Simulated, Told};

use crate::api::{FREE, get};
use crate::{folder, sluicegate};

fn section(told: &str, keys: &str) -> String {
    format!("telemetry: {{ otlp: {{ endpoint: '{told}', interval: 1s, {keys} }} }}")
}

/// The samples of `/metrics` that only grow with what is delivered.
fn counters(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| {
        let (sample, value) = line.rsplit_once(' ')?;
        let name = sample.split('{').next()?;
        let counts = ["_total", "_count", "_sum"];
        let grows = counts.iter().any(|end| name.ends_with(end));
        grows.then(|| (sample.to_owned(), value.parse().unwrap()))
    });
    samples.collect()
}

#[test]
fn metrics_agree_with_those_of_the_api() {
    let told = Told::start();
    told.state().login = Some("Bearer c0ffee-c0ffee".into());
    let office = Simulated::start(Office::builder(241).tenants(2).blobs(20).events_per_blob(5));
    let folder = folder();
    std::fs::write(folder.path().join("token"), "c0ffee-c0ffee\n").unwrap();
    let keys = "compression: gzip, auth: { strategy: bearer, token: { file: token } }";
    let pipeline = Pipeline::o365("measured", &office)
        .section(FREE)
        .section(&section(&told.url(), keys));
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let address = running.api();
    let labels =
        r#"pipeline="measured",component_id="file",component_kind="sink",component_type="file""#;
    let of_file = format!("component_sent_events_total{{{labels}}}");
    let exports = || told.state().exports;
    let (wanted, found) = running.until_some("what is told between two equal looks", || {
        let before = counters(&get(address, "/metrics", "").1);
        if before.get(&of_file) != Some(&200.0) {
            return None;
        }
        let so_far = exports();
        // The one that is under way may be older than the look.
        running.until("metrics are told", || exports() > so_far + 1);
        let metrics = told.state().metrics.clone();
        let after = counters(&get(address, "/metrics", "").1);
        (before == after).then_some((after, metrics))
    });
    assert!(wanted.len() > 100, "{wanted:#?}");
    for (sample, value) in &wanted {
        assert_eq!(found.get(sample), Some(value), "{sample}");
    }
    assert!(found["process_resident_memory_bytes"] > 1e6);
    let state = told.state();
    assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
}

#[test]
fn a_trace_tells_of_each_split_from_its_listing_to_its_delivery() {
    let told = Told::start();
    // Some reads fail, and are tried again.
    let faults = Faults::none().with(Fault::EmptyBody, 0.3);
    let builder = Office::builder(242).blobs(20).events_per_blob(5);
    let office = Simulated::start(builder.faults(faults));
    let folder = folder();
    let pipeline = Pipeline::o365("traced", &office)
        .sink("stdout: {}")
        .section(&section(&told.url(), ""));
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    ended.expect(0).says(&["100 event(s) delivered"]);
    let state = told.state();
    assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in &state.spans {
        traces.entry(&span.trace).or_default().push(span);
    }
    let ids: BTreeSet<_> = state.spans.iter().map(|span| &span.id).collect();
    assert_eq!(ids.len(), state.spans.len(), "no id is there twice");
    assert_eq!(traces.len(), 20);
    let tried_again = state.spans.iter().any(|span| span.failed);
    assert!(tried_again, "the case is worth it");
    for spans in traces.values() {
        let named = |name: &str| -> Vec<&Span> {
            let spans = spans.iter().filter(|span| span.name == name);
            spans.copied().collect()
        };
        let [whole] = named("split")[..] else {
            panic!("{spans:#?}")
        };
        assert!(whole.parent.is_empty() && !whole.failed);
        assert_eq!(whole.attributes["sluicegate.outcome"], "delivered");
        assert_eq!(whole.attributes["sluicegate.events.delivered"], 5);
        assert_eq!(named("list").len(), 1, "{spans:#?}");
        let (good, bad): (Vec<_>, Vec<_>) =
            named("read").into_iter().partition(|read| !read.failed);
        assert_eq!(good.len(), 1, "{spans:#?}");
        assert!(
            bad.iter()
                .all(|read| read.attributes["error.type"].is_string())
        );
        let sinks = named("deliver");
        let sinks = sinks.iter().map(|span| &span.attributes["sluicegate.sink"]);
        assert_eq!(sinks.collect::<Vec<_>>(), ["file", "stdout"]);
        for span in spans {
            for name in ["sluicegate.tenant", "sluicegate.stream", "sluicegate.split"] {
                let value = &span.attributes[name];
                assert!(
                    value.is_string() && *value == whole.attributes[name],
                    "{span:?}"
                );
            }
            assert!(
                whole.start <= span.start && span.start <= span.end,
                "{spans:#?}"
            );
            assert!(span.end <= whole.end, "{spans:#?}");
            assert!(
                span.name == "split" || span.parent == whole.id,
                "{spans:#?}"
            );
        }
    }
    let told = String::from_utf8_lossy(&state.bytes);
    for secret in office.tenants(|tenant| tenant.client_secret.clone()) {
        assert!(!told.contains(&secret));
    }
}

#[test]
fn a_collector_that_is_not_there_changes_nothing_of_delivery_and_is_mentioned_once() {
    let told = Told::start();
    let url = told.url();
    told.switch(false);
    let office = Simulated::start(Office::builder(243).blobs(20).events_per_blob(5));
    let folder = folder();
    let pipeline = Pipeline::o365("alone", &office).section(&section(&url, ""));
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    let ended = ended.expect(0);
    ended.says(&["100 event(s) delivered", "takes no telemetry"]);
    assert_eq!(ended.stderr.matches("takes no telemetry").count(), 1);
    let verdict = office.judge(&Delivered::read(&folder.path().join("alone.ndjson")));
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}

#[test]
fn a_collector_that_comes_back_is_told_what_it_has_missed() {
    let told = Told::start();
    let url = told.url();
    told.switch(false);
    let office = Simulated::start(Office::builder(245).blobs(20).events_per_blob(5));
    let folder = folder();
    let pipeline = Pipeline::o365("late", &office).section(&section(&url, ""));
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let _ = running.until_said("takes no telemetry");
    let file = folder.path().join("late.ndjson");
    running.until("all is delivered", || {
        Delivered::so_far(&file).events.len() == 100
    });
    told.switch(true);
    let _ = running.until_said("takes telemetry again");
    let splits = || {
        let state = told.state();
        let wholes = state.spans.iter().filter(|span| span.name == "split");
        wholes.count()
    };
    running.until("every split is told of", || splits() == 20);
    let delivered = "sluicegate_splits_delivered_total";
    running.until("metrics are told", || {
        let state = told.state();
        let samples = state.metrics.iter();
        let samples = samples.filter(|(sample, _)| sample.starts_with(delivered));
        samples.map(|(_, value)| *value).sum::<f64>() >= 20.0
    });
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn a_share_of_splits_is_traced_and_none_without_one() {
    let office = Simulated::start(Office::builder(244).blobs(40).events_per_blob(2));
    let told = Told::start();
    let folder = folder();
    let traced = |name: &str, ratio: &str| -> BTreeSet<String> {
        let keys = format!("trace_ratio: {ratio}, metrics: false");
        let pipeline = Pipeline::o365(name, &office).section(&section(&told.url(), &keys));
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        ended.expect(0).says(&["80 event(s) delivered"]);
        let mut state = told.state();
        assert!(state.complaints.is_empty() && state.exports == 0);
        let spans = std::mem::take(&mut state.spans).into_iter();
        let splits = spans.map(|span| span.attributes["sluicegate.split"].to_string());
        splits.collect()
    };
    let part = traced("part", "0.5");
    assert!((1..40).contains(&part.len()), "{}", part.len());
    assert!(traced("none", "0").is_empty());
    assert_eq!(traced("whole", "1").len(), 40);
}
