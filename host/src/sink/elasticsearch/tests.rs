//! What goes over the wire, and what becomes of events by what comes back. The protocol as a whole is tested with the
//! real command, in `tests/it/elasticsearch.rs`.

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::*;
use crate::clock::SystemClock;
use crate::config::{Config, SinkKind};
use crate::event::{Event, Identity, StreamKey};

fn config(keys: &str) -> Elasticsearch {
    let text = format!(
        "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\n\
         sinks: [elasticsearch: {{ endpoints: ['http://127.0.0.1:9200'], {keys} }}]\n"
    );
    let config = Config::parse(Path::new("a.yaml"), &text, None).unwrap();
    match &config.sinks[0].kind {
        SinkKind::Elasticsearch(sink) => (**sink).clone(),
        other => panic!("{other:?}"),
    }
}

/// The name of an index, as a config has it.
pub(super) fn index(name: &str) -> IndexName {
    config(&format!("index: '{name}'")).index
}

fn sink(keys: &str) -> ElasticsearchSink {
    let clock: SharedClock = Arc::new(SystemClock);
    let http = HttpConfig::default();
    ElasticsearchSink::new(
        "search",
        &config(keys),
        &http,
        &Arc::new(Redactor::new()),
        &clock,
    )
    .unwrap()
}

fn event(tenant: &str, body: &'static str) -> Outgoing {
    let stream = StreamKey::new(tenant, "Audit.General");
    let identity = Identity::of(tenant, body, 0);
    let event = Event {
        id: "record-1".into(),
        fingerprint: 0,
        time_ms: 1_767_225_600_000,
        body: Bytes::from_static(body.as_bytes()),
        identity,
    };
    Outgoing {
        stream,
        event,
        rewritten: None,
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer::of(StatusCode::from_u16(status).unwrap(), body)
}

fn words(reply: &Reply) -> String {
    match reply {
        Reply::Split(_) => "split".into(),
        Reply::Again(again) if again.overloaded => "overloaded".into(),
        Reply::Again(_) => "again".into(),
        Reply::Taken { failed, .. } => {
            let fates = failed.iter().map(|(index, fate)| match fate {
                Fate::Again { overloaded, .. } => format!("{index} again {overloaded}"),
                Fate::Rewrite { .. } => format!("{index} rewritten"),
                Fate::Refused(_) => format!("{index} refused"),
            });
            fates.collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn an_event_is_two_lines_and_its_body_is_copied() {
    let events = [
        event("contoso", r#"{"a": 1.0}"#),
        event("Fabrikam-EU", "{}"),
    ];
    let ids = events
        .each_ref()
        .map(|event| event.event.identity.delivery_id());
    let lines = String::from_utf8(sink("").lines(&events)).unwrap();
    let [first, second] = &ids;
    assert_eq!(
        lines,
        format!(
            "{{\"create\":{{\"_id\":\"{first}\"}}}}\n{{\"a\": 1.0}}\n{{\"create\":{{\"_id\":\"{second}\"}}}}\n{{}}\n"
        )
    );
    let by_tenant = sink("index: 'logs-o365.audit-{tenant}', pipeline: geo");
    assert!(
        by_tenant.path.starts_with("/_bulk?filter_path=")
            && by_tenant.path.ends_with("&pipeline=geo")
    );
    let lines = String::from_utf8(by_tenant.lines(&events)).unwrap();
    let actions: Vec<Value> = lines
        .lines()
        .step_by(2)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(actions[0]["create"]["_index"], "logs-o365.audit-contoso");
    assert_eq!(
        actions[1]["create"]["_index"],
        "logs-o365.audit-fabrikam_eu"
    );
    assert!(sink("").path.starts_with("/logs-o365.audit-default/_bulk?"));
}

#[test]
fn each_item_has_its_fate() {
    let events: Vec<_> = (0..10).map(|_| event("contoso", "{}")).collect();
    let error = |status: u16, kind: &str, reason: &str| {
        let error = json!({ "type": kind, "reason": reason });
        json!({ "create": { "status": status, "error": error } })
    };
    let items = json!([
        { "create": { "status": 201 } },
        error(409, "version_conflict_engine_exception", "document already exists"),
        error(429, "es_rejected_execution_exception", "queue is full"),
        error(503, "unavailable_shards_exception", "primary shard is not active"),
        error(500, "x", "y"),
        error(403, "cluster_block_exception", "index is read-only"),
        error(404, "index_not_found_exception", "no such index"),
        error(400, "illegal_argument_exception", "pipeline with id [geo] does not exist"),
        error(400, "document_parsing_exception", "failed to parse field [client.ip]"),
        error(400, "strict_dynamic_mapping_exception", "not allowed"),
    ]);
    let mut events = events;
    events[9].rewritten = Some("first".into());
    let body = json!({ "errors": true, "took": 1, "items": items }).to_string();
    let reply = sink("").read(&answer(200, &body), &events);
    assert_eq!(
        words(&reply),
        "2 again true, 3 again true, 4 again false, 5 again false, 6 again false, 7 again false, \
         8 rewritten, 9 refused"
    );
    let Reply::Taken { failed, .. } = reply else {
        panic!("taken")
    };
    let Fate::Refused(reason) = &failed[7].1 else {
        panic!("refused")
    };
    assert!(
        reason.starts_with("first; and in a safe form: strict_dynamic"),
        "{reason}"
    );
}

#[test]
fn the_safe_form_keeps_the_event_as_text() {
    let body = "{\"client\":{\"ip\":\"no \\\"address\\\"\"},\"big\":1e999}";
    let safe = safe_form(&event("contoso", body), "bad: [client.ip]");
    assert!(!safe.contains(&b'\n'));
    let safe: Value = serde_json::from_slice(&safe).unwrap();
    assert_eq!(
        safe,
        json!({
            "@timestamp": "2026-01-01T00:00:00.000Z",
            "event": { "id": "record-1", "original": body },
            "error": { "message": "bad: [client.ip]" },
            "tags": ["_sluicegate_mapping_failure"],
        })
    );
}

#[test]
fn an_answer_for_fewer_events_or_of_somebody_else_is_again() {
    let events = [event("contoso", "{}"), event("contoso", "[]")];
    for body in [
        r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
        "<html>sign in</html>",
        "{}",
    ] {
        assert_eq!(
            words(&sink("").read(&answer(200, body), &events)),
            "again",
            "{body}"
        );
    }
}

#[test]
fn only_an_index_may_blame_a_request() {
    let json =
        |kind: &str| json!({ "error": { "type": kind, "reason": "r" }, "status": 400 }).to_string();
    for (status, body, wanted) in [
        (400, json("illegal_argument_exception"), "split"),
        (400, json("invalid_index_name_exception"), "again"),
        (400, "<html>Bad Request</html>".to_owned(), "again"),
        (413, String::new(), "split"),
        (401, json("security_exception"), "again"),
        (429, json("es_rejected_execution_exception"), "overloaded"),
        (502, String::new(), "again"),
    ] {
        assert_eq!(
            words(&sink("").judge(&answer(status, &body))),
            wanted,
            "{status} {body}"
        );
    }
}

impl Answer {
    fn of(status: StatusCode, body: &str) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            latency: Duration::from_millis(1),
            host: "search.example.com".into(),
            retry_after: None,
        }
    }
}
