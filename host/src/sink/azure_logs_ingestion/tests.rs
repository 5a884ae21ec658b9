//! The sink against a login host and a service on the loopback.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::super::service::tests::{Got, serve};
use super::*;
use crate::clock::SystemClock;
use crate::config::{Config, SinkKind};
use crate::event::{Event, Identity, StreamKey};

const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";
const NEW_YEAR: i64 = 1_767_225_600_005;

fn event(body: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        stream: StreamKey::new("contoso", "Audit.General"),
        event: Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: NEW_YEAR,
            body: body.into(),
            identity: Identity::of("contoso", "1", 0),
        },
        rewritten: None,
    }
}

fn sink(folder: &TempDir, login: &str, endpoint: &str) -> AzureLogsIngestionSink {
    std::fs::write(folder.path().join("secret"), "s3cret-s3cret").unwrap();
    let text = format!(
        "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\n\
         sinks: [azure_logs_ingestion: {{ endpoint: '{endpoint}',\n\
         dcr_immutable_id: dcr-0123456789abcdef0123456789abcdef, stream_name: Custom-O365,\n\
         token_scope: 'https://monitor.example/.default', auth: {{ cloud: custom, login_url: '{login}',\n\
         directory_id: {DIRECTORY}, client_id: {DIRECTORY}, client_secret: {{ file: secret }} }} }}]\n"
    );
    let config = Config::parse(&folder.path().join("a.yaml"), &text, None).unwrap();
    let SinkKind::AzureLogsIngestion(azure) = &config.sinks[0].kind else {
        panic!("{config:?}")
    };
    let (clock, redactor): (SharedClock, _) = (Arc::new(SystemClock), Arc::default());
    AzureLogsIngestionSink::new("azure", azure, &config.http, &redactor, &clock).unwrap()
}

/// A login host that numbers its tokens, and a service that answers as `answer` says.
async fn against(
    answer: impl Fn(&Got) -> (u16, String) + Clone + Send + Sync + 'static,
) -> (AzureLogsIngestionSink, TempDir) {
    let issued = Arc::new(Mutex::new(0));
    let login = serve(move |(head, body)| {
        let path = format!("/{DIRECTORY}/oauth2/v2.0/token");
        let form = String::from_utf8(body.to_vec()).unwrap();
        let wanted = "scope=https%3A%2F%2Fmonitor.example%2F.default";
        assert!(
            head.uri == *path && form.contains(wanted),
            "{} {form}",
            head.uri
        );
        assert!(!head.headers.contains_key("authorization"));
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        let token = format!(r#"{{"access_token":"token-{issued}","expires_in":3600}}"#);
        (200, token)
    })
    .await;
    let service = serve(move |got| answer(&got)).await;
    // The secret is read again for each sign-in.
    let folder = tempfile::tempdir().unwrap();
    let (login, service) = (format!("http://{login}"), format!("http://{service}"));
    (sink(&folder, &login, &service), folder)
}

#[test]
fn an_event_has_its_time_in_a_column_once() {
    for (event, wanted) in [
        (
            r#"{"a":1}"#,
            Some(r#"{"TimeGenerated":"2026-01-01T00:00:00.005Z","a":1}"#),
        ),
        (
            " { } ",
            Some(r#"{"TimeGenerated":"2026-01-01T00:00:00.005Z"}"#),
        ),
        (
            r#"{"b":"TimeGenerated"}"#,
            Some(r#"{"TimeGenerated":"2026-01-01T00:00:00.005Z","b":"TimeGenerated"}"#),
        ),
        (
            r#"{"a":1,"TimeGenerated":"x"}"#,
            Some(r#"{"a":1,"TimeGenerated":"x"}"#),
        ),
        ("[]", None),
        ("\"a\"", None),
    ] {
        let mut found = Vec::new();
        let taken = add_record(&mut found, event.as_bytes(), "TimeGenerated", NEW_YEAR);
        let found = taken.map(|()| String::from_utf8(found).unwrap());
        assert_eq!(found.as_deref(), wanted, "{event}");
    }
}

#[tokio::test]
async fn events_are_posted_as_an_array_to_the_stream_of_the_rule() {
    let (sink, _folder) = against(|(head, body)| {
        let wanted = "/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-O365\
                      ?api-version=2023-01-01";
        assert_eq!(
            (head.method.as_str(), head.uri.to_string()),
            ("POST", wanted.into())
        );
        assert_eq!(head.headers["content-type"], "application/json");
        let events: Vec<serde_json::Value> = serde_json::from_slice(body).unwrap();
        assert!(
            events
                .iter()
                .all(|event| event["TimeGenerated"].is_string())
        );
        (204, String::new())
    })
    .await;
    let reply = sink.send(&[event("{}"), event(r#"{"a":[]}"#)]).await;
    assert!(matches!(reply, Reply::Taken { failed, .. } if failed.is_empty()));
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_at_once_and_only_once() {
    let (sink, _folder) = against(|(head, _)| match head.headers["authorization"].to_str() {
        Ok("Bearer token-1") => (401, "expired".into()),
        _ => (204, String::new()),
    })
    .await;
    assert!(matches!(
        sink.send(&[event("{}")]).await,
        Reply::Taken { .. }
    ));
    let (sink, _folder) = against(|_| (401, "not for you".into())).await;
    let Reply::Again(again) = sink.send(&[event("{}")]).await else {
        panic!("a refused token is no fault of the events")
    };
    assert!(
        again.error.help.contains("`token_scope`"),
        "{}",
        again.error
    );
}

#[tokio::test]
async fn what_a_person_has_to_put_right_waits_and_what_is_too_large_is_halved() {
    for (status, wanted) in [
        (400, "again: `stream_name`"),
        (403, "again: Monitoring Metrics Publisher"),
        (404, "again: `dcr_immutable_id`"),
        (429, "overloaded after 7s"),
        (503, "overloaded after 7s"),
        (500, "again after 7s"),
        (413, "split"),
    ] {
        let (sink, _folder) = against(move |_| (status, "why".into())).await;
        let found = match sink.send(&[event("{}")]).await {
            Reply::Taken { .. } => "taken".to_owned(),
            Reply::Split(_) => "split".to_owned(),
            Reply::Again(again) if again.error.help.is_empty() => {
                let word = ["again", "overloaded"][usize::from(again.overloaded)];
                let wait = again.retry_after.unwrap_or(Duration::ZERO).as_secs();
                format!("{word} after {wait}s")
            }
            Reply::Again(again) => format!("again: {}", again.error.help),
        };
        let (word, help) = wanted.split_once(": ").unwrap_or((wanted, ""));
        assert!(
            found.starts_with(word) && found.contains(help),
            "{status}: {found}"
        );
    }
}

#[tokio::test]
async fn more_than_the_service_takes_is_not_even_sent() {
    let (sink, _folder) = against(|(_, body)| {
        let status = if body.len() > REQUEST_BYTES { 413 } else { 204 };
        (status, String::new())
    })
    .await;
    let large = || event(format!("{{\"a\":\"{}\"}}", "x".repeat(600_000)));
    let reply = sink.send(&[large(), large()]).await;
    assert!(
        matches!(&reply, Reply::Split(why) if why.contains("no more")),
        "{reply:?}"
    );
    assert!(matches!(sink.send(&[large()]).await, Reply::Taken { .. }));
    let alone = event(format!("{{\"a\":\"{}\"}}", "x".repeat(1_100_000)));
    let reply = sink.send(&[alone]).await;
    assert!(
        matches!(&reply, Reply::Split(why) if why.contains("413")),
        "{reply:?}"
    );
    assert!(matches!(sink.send(&[event("[]")]).await, Reply::Split(_)));
}
