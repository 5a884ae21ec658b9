//! Every name once, with what is known and without what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::event::StreamKey;
use crate::health::Health;
use crate::ledger::progress::{Backlog, Front, Progress};
use crate::limiter::Pace;
use crate::metrics::component::{Load, SinkCounts, StageCounts};
use crate::metrics::histogram::Histogram;
use crate::metrics::lag::{Measured, StreamLag};
use crate::metrics::requests::RequestCounts;
use crate::metrics::streams::StreamCounts;
use crate::metrics::text::Text;
use crate::metrics::text::tests::written;

/// Late enough that every age is a round number.
const NOW_MS: i64 = 1_700_000_000_000;

fn lag() -> StreamLag {
    let mut histogram = Histogram::default();
    histogram.add(2_000);
    histogram.add(400_000);
    [Measured {
        histogram,
        last_ms: Some(2_000),
    }; 3]
}

fn stream(tenant: &str, stream: &str) -> StreamSnapshot {
    let at = |ms| {
        Some(Front {
            at_ms: NOW_MS + ms,
            since_ms: NOW_MS,
        })
    };
    let mut counts = StreamCounts {
        discovered: 9,
        delivered: 7,
        quarantined: 1,
        lost: 1,
        ..StreamCounts::default()
    };
    counts.events.delivered = 70;
    counts.errors[ErrorType::Request as usize] = 2;
    StreamSnapshot {
        key: StreamKey::new(tenant, stream),
        counts,
        lag: Some(lag()),
        health: Some(Health::Ok),
        progress: Some(Progress {
            watermark_ms: Some(NOW_MS - 60_000),
            listed_ms: Some(NOW_MS - 5_000),
            oldest: at(-90_000),
            expiring: at(7_200_000),
            quarantine_expires_ms: Some(NOW_MS + 3_600_000),
            ..Progress::default()
        }),
        backlog: Some(Backlog {
            pending: 1,
            quarantined: 1,
        }),
    }
}

fn tenant(id: &str) -> TenantSnapshot {
    let pace = Pace {
        budget: 2_000.0,
        rate: 1_000.0,
        cap: 32,
        in_flight: 5,
        pause: Duration::from_millis(1_500),
    };
    TenantSnapshot {
        id: id.into(),
        requests: RequestCounts([10, 1, 2, 3, 4, 5]),
        paces: vec![("quota".into(), pace)],
        token_expires_ms: Some(NOW_MS + 600_000),
    }
}

/// So many tenants with so many streams each.
pub(crate) fn snapshot(tenants: usize, streams: usize) -> Snapshot {
    let ids: Vec<String> = (0..tenants)
        .map(|index| format!("tenant-{index:04}"))
        .collect();
    let each = |id: &String| {
        let streams = (0..streams).map(|index| stream(id, &format!("Audit.Stream{index}")));
        streams.collect::<Vec<_>>()
    };
    let load = Load {
        events: 70,
        bytes: 7_000,
    };
    let pipeline = PipelineSnapshot {
        name: "contoso".into(),
        file: "contoso.yaml".into(),
        plugin: "o365".into(),
        tenants: ids.iter().map(|id| tenant(id)).collect(),
        streams: ids.iter().flat_map(each).collect(),
        stages: vec![StageSnapshot {
            kind: "filter",
            counts: StageCounts {
                received: 100,
                sent: 70,
                dropped: 29,
                rejected: 1,
            },
        }],
        sinks: vec![SinkSnapshot {
            name: "file".into(),
            kind: "file",
            counts: SinkCounts {
                accepted: load,
                acknowledged: load,
                ..SinkCounts::default()
            },
        }],
        ..PipelineSnapshot::default()
    };
    Snapshot {
        now_ms: NOW_MS,
        pipelines: vec![pipeline],
        plugin_counters: vec![("o365".into(), "records_read".into(), 71)],
        faults: vec![("o365".into(), "cpu", 1)],
        ..Snapshot::default()
    }
}

fn text(snapshot: &Snapshot) -> String {
    written(|text| export(snapshot, text))
}

#[test]
fn each_family_stands_once_and_has_all_of_its_samples() {
    let text = text(&snapshot(2, 2));
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut family, mut samples) = ("", BTreeSet::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            let (name, help) = head.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            let kind = lines.next().unwrap();
            let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert_eq!(families.insert(name, kind), None, "{name} stands twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            family = name;
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let name = sample.split('{').next().unwrap();
        let of_family = match families[family] {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|suffix| name.strip_suffix(suffix) == Some(family)),
            _ => name == family,
        };
        assert!(of_family, "{line} stands in {family}");
        assert!(samples.insert(sample), "{sample} stands twice");
    }
    assert!(families.len() > 40, "{}", families.len());
}

#[test]
fn what_is_known_of_a_stream_is_said() {
    let text = text(&snapshot(1, 1));
    let stream = r#"{pipeline="contoso",tenant="tenant-0000",stream="Audit.Stream0"}"#;
    let tenant = r#"{pipeline="contoso",tenant="tenant-0000""#;
    let component = |id: &str, kind: &str, which: &str| {
        let names =
            format!(r#"component_id="{id}",component_kind="{kind}",component_type="{which}""#);
        format!(r#"{{pipeline="contoso",{names}"#)
    };
    let stage = component("stage_1", "transform", "filter");
    let sink = component("file", "sink", "file");
    for line in [
        format!("sluicegate_stream_watermark_age_seconds{stream} 60.000"),
        format!("sluicegate_stream_oldest_undelivered_age_seconds{stream} 90.000"),
        format!("sluicegate_stream_expiry_seconds{stream} 3600.000"),
        format!("sluicegate_stream_healthy{stream} 1"),
        format!("sluicegate_splits_in_quarantine{stream} 1"),
        format!("sluicegate_events_delivered_total{stream} 70"),
        format!(r#"sluicegate_requests_total{tenant},outcome="throttled"}} 2"#),
        format!(r#"sluicegate_limiter_rate{tenant},quota="quota"}} 1000"#),
        format!(r#"sluicegate_limiter_pause_seconds{tenant},quota="quota"}} 1.5"#),
        format!("sluicegate_token_expiry_seconds{tenant}}} 600.000"),
        format!(r#"component_discarded_events_total{stage},intentional="true"}} 29"#),
        format!("component_sent_event_bytes_total{sink}}} 7000"),
        r#"sluicegate_sandbox_faults_total{plugin="o365",limit="cpu"} 1"#.into(),
        r#"sluicegate_plugin_counts_total{plugin="o365",counter="records_read"} 71"#.into(),
    ] {
        assert!(
            text.lines().any(|written| written == line),
            "{line}\n{text}"
        );
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut snapshot = snapshot(1, 1);
    let pipeline = &mut snapshot.pipelines[0];
    pipeline.ledger_trouble = Some("it does not answer in time".into());
    let stream = &mut pipeline.streams[0];
    (stream.progress, stream.backlog) = (None, None);
    (stream.lag, stream.health) = (None, None);
    let text = text(&snapshot);
    assert!(text.contains("sluicegate_ledger_up{pipeline=\"contoso\"} 0\n"));
    for name in [
        "sluicegate_stream_healthy{",
        "sluicegate_splits_pending{",
        "sluicegate_stream_watermark_age_seconds{",
        "sluicegate_lag_seconds_bucket{",
        "process_resident_memory_bytes ",
    ] {
        let sample = text.lines().find(|line| line.starts_with(name));
        assert_eq!(sample, None);
    }
}

/// What a scrape of many tenants comes to, on standard error; `cargo test -- --nocapture` shows it.
#[test]
fn five_thousand_streams_are_written_without_being_held() {
    let snapshot = snapshot(1_000, 5);
    let begun = std::time::Instant::now();
    let (mut bytes, mut largest) = (0, 0);
    let mut hand_over = |piece: bytes::Bytes| {
        bytes += piece.len();
        largest = largest.max(piece.len());
        true
    };
    let mut text = Text::new(&mut hand_over);
    export(&snapshot, &mut text);
    text.end();
    eprintln!("5,000 streams: {bytes} bytes in {:?}", begun.elapsed());
    assert!(bytes > 1 << 20);
    assert!(largest < 128 << 10, "{largest}");
}
