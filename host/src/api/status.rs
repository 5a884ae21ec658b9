//! How everything stands, as one JSON object: what `sluicegate state --json` says from outside, and what only the
//! process knows.

use serde_json::{Value, json};

use crate::engine::rfc3339;
use crate::metrics::lag::Part;
use crate::metrics::requests::Outcome;
use crate::metrics::snapshot::{
    PipelineSnapshot, SinkSnapshot, Snapshot, StreamSnapshot, TenantSnapshot,
};

pub(super) fn status(snapshot: &Snapshot) -> Value {
    let now_ms = snapshot.now_ms;
    let pipelines = snapshot.pipelines.iter();
    let pipelines = pipelines.map(|pipeline| of_pipeline(pipeline, now_ms));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": rfc3339(now_ms),
        "started": rfc3339(snapshot.started_ms),
        "memory_bytes": snapshot.process.resident_bytes,
        "pipelines": pipelines.collect::<Vec<_>>(),
    })
}

fn of_pipeline(pipeline: &PipelineSnapshot, now_ms: i64) -> Value {
    let counts = &pipeline.all.events;
    // Both are in the order of tenants.
    let mut streams = pipeline.streams.iter().peekable();
    let tenants = pipeline.tenants.iter().map(|tenant| {
        let mut own = Vec::new();
        while let Some(stream) = streams.next_if(|stream| stream.key.tenant <= tenant.id) {
            if stream.key.tenant == tenant.id {
                own.push(of_stream(stream, now_ms));
            }
        }
        of_tenant(tenant, own, now_ms)
    });
    json!({
        "name": pipeline.name,
        "file": pipeline.file,
        "plugin": { "name": pipeline.plugin, "digest": pipeline.plugin_digest },
        "tenants": tenants.collect::<Vec<_>>(),
        "sinks": pipeline.sinks.iter().map(of_sink).collect::<Vec<_>>(),
        "ledger_trouble": pipeline.ledger_trouble,
        "config_trouble": pipeline.config_trouble,
        "dead_letters": {
            "bytes": pipeline.dead_letters.bytes,
            "limit_bytes": pipeline.dead_letters.most_bytes,
            "trouble": pipeline.dead_letters.trouble,
        },
        "buffer": { "bytes": pipeline.held_bytes, "limit_bytes": pipeline.room_bytes },
        "since_start": {
            "splits_discovered": pipeline.all.discovered,
            "splits_delivered": pipeline.all.delivered,
            "splits_quarantined": pipeline.all.quarantined,
            "losses": pipeline.all.lost,
            "events": {
                "read": counts.read,
                "delivered": counts.delivered,
                "duplicates": counts.duplicates,
                "dropped": counts.dropped,
                "dead_lettered": counts.dead_lettered,
            },
        },
    })
}

fn of_tenant(tenant: &TenantSnapshot, streams: Vec<Value>, now_ms: i64) -> Value {
    let outcomes = Outcome::ALL.into_iter().zip(tenant.requests.0);
    let outcomes = outcomes.map(|(outcome, count)| (outcome.name().to_owned(), json!(count)));
    let paces = tenant.paces.iter().map(|(quota, pace)| {
        json!({
            "quota": quota,
            "requests_per_minute": pace.rate,
            "budget_per_minute": pace.budget,
            "in_flight": pace.in_flight,
            "in_flight_limit": pace.cap,
            "pause_seconds": pace.pause.as_secs_f64(),
        })
    });
    let expires_ms = tenant.token_expires_ms;
    json!({
        "id": &*tenant.id,
        "requests": outcomes.collect::<serde_json::Map<_, _>>(),
        "limiters": paces.collect::<Vec<_>>(),
        "token_expires_in_seconds": expires_ms.map(|ms| (ms - now_ms) / 1_000),
        "streams": streams,
    })
}

fn of_stream(stream: &StreamSnapshot, now_ms: i64) -> Value {
    let progress = stream.progress.as_ref();
    let time = |ms: Option<i64>| ms.map(rfc3339);
    let health = stream
        .health
        .as_ref()
        .map(|health| json!({ "state": health.name(), "reasons": health.reasons() }));
    let trouble = progress.and_then(|progress| progress.trouble.as_ref());
    let trouble = trouble.map(|trouble| {
        json!({
            "kind": trouble.kind,
            "reason": trouble.reason,
            "since": rfc3339(trouble.since_ms),
        })
    });
    let watermark_ms = progress.and_then(|progress| progress.watermark_ms);
    let expires_ms = progress.and_then(|progress| Some(progress.expiring?.at_ms));
    let last = stream.lag.as_ref().map(|lag| {
        let parts = Part::ALL.into_iter().zip(lag);
        let parts = parts.map(|(part, lag)| (part.name().to_owned(), json!(lag.last_ms)));
        parts.collect::<serde_json::Map<_, _>>()
    });
    let counts = &stream.counts.events;
    json!({
        "stream": &*stream.key.stream,
        "health": health,
        "watermark": time(watermark_ms),
        "lag_seconds": watermark_ms.map(|ms| (now_ms - ms) / 1_000),
        "last_listed": time(progress.and_then(|progress| progress.listed_ms)),
        "trouble": trouble,
        "last_lag_ms": last,
        "backlog": {
            "splits": stream.backlog.map(|backlog| backlog.pending),
            "oldest_created": time(progress.and_then(|progress| Some(progress.oldest?.at_ms))),
            "soonest_expiry": time(expires_ms),
        },
        "quarantine": {
            "splits": stream.backlog.map(|backlog| backlog.quarantined),
            "soonest_expiry": time(progress.and_then(|progress| progress.quarantine_expires_ms)),
        },
        "since_start": {
            "splits_discovered": stream.counts.discovered,
            "splits_delivered": stream.counts.delivered,
            "losses": stream.counts.lost,
            "events_delivered": counts.delivered,
            "duplicates": counts.duplicates,
            "dropped": counts.dropped,
            "dead_lettered": counts.dead_lettered,
        },
    })
}

fn of_sink(sink: &SinkSnapshot) -> Value {
    let counts = &sink.counts;
    let waiting = counts.waiting.map(|waiting| waiting.as_secs_f64());
    json!({
        "name": sink.name,
        "type": sink.kind,
        "events_delivered": counts.sent().events,
        "events_refused": counts.refused.events,
        "events_pending": counts.pending().events,
        "waited_for_seconds": waiting,
    })
}
