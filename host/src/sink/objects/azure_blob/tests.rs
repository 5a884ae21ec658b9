//! The three ways to sign in, against a login host and a blob service on the loopback.

use std::sync::Arc;

use bytes::Bytes;

use super::super::super::service::tests::{Got, serve};
use super::super::ObjectSink;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::event::{Batch, Event, Identity, Part, StreamKey};
use crate::sink::Sink as _;

const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";

fn batch() -> Batch {
    let events = vec![Event {
        id: "1".into(),
        fingerprint: 0,
        time_ms: 0,
        body: Bytes::from_static(b"{}"),
        identity: Identity::of("contoso", "1", 0),
    }];
    Batch {
        stream: StreamKey::new("contoso", "Audit.General"),
        part: Part::of("split", &events),
        events,
    }
}

/// What a sink does whose `auth` is this, with the address of a login host for `LOGIN`.
async fn written(
    auth: &str,
    answer: impl Fn(Got) -> (u16, String) + Clone + Send + Sync + 'static,
) -> Result<(), String> {
    let login = serve(|(head, _)| {
        assert!(!head.headers.contains_key("authorization"));
        let token = r#"{"access_token":"token-token","expires_in":3600}"#;
        (200, token.into())
    })
    .await;
    let blobs = serve(answer).await;
    let folder = tempfile::tempdir().unwrap();
    // base64 of `account-key-account-key`, and a signature
    std::fs::write(
        folder.path().join("key"),
        "YWNjb3VudC1rZXktYWNjb3VudC1rZXk=\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("sas"), "?sv=2019-12-12&sig=a%2Bb%3D\n").unwrap();
    let auth = auth.replace("LOGIN", &format!("http://{login}"));
    let text = format!(
        "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\n\
         sinks: [azure_blob: {{ endpoint: 'http://{blobs}', account_name: archive, container_name: audit,\n\
         compression: none, auth: {{ {auth} }} }}]\n"
    );
    let config = Config::parse(&folder.path().join("a.yaml"), &text, None).unwrap();
    let (clock, redactor) = (Arc::new(SystemClock) as _, Arc::default());
    let mut sink = ObjectSink::new(&config.sinks[0], &config.http, &redactor, &clock).unwrap();
    let written = sink.write(&[batch()]).await;
    written.map(drop).map_err(|error| error.to_string())
}

fn header<'a>((head, _): &'a Got, name: &str) -> &'a str {
    head.headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The name has a day, the split and a digest; 201 has to name the version.
fn check(got: &Got) {
    let (head, body) = got;
    let path = head.uri.path();
    assert_eq!((head.method.as_str(), &body[..]), ("PUT", &b"{}\n"[..]));
    assert!(
        path.starts_with("/audit/contoso/Audit.General/1970-01-01/split-"),
        "{path}"
    );
    assert!(path.ends_with(".ndjson"), "{path}");
    assert_eq!(header(got, "x-ms-blob-type"), "BlockBlob");
    assert_eq!(
        header(got, "x-ms-blob-content-type"),
        "application/x-ndjson"
    );
}

#[tokio::test]
async fn each_way_to_sign_in_is_seen_by_the_service() {
    written("account_key: { file: key }", |got| {
        check(&got);
        assert!(header(&got, "authorization").starts_with("SharedKey archive:"));
        (201, String::new())
    })
    .await
    .unwrap();
    written("sas_token: { file: sas }", |got| {
        check(&got);
        let query = got.0.uri.query().unwrap();
        assert!(query.contains("sv=2019-12-12&sig=a%2Bb%3D"), "{query}");
        (201, String::new())
    })
    .await
    .unwrap();
    let application = format!(
        "application: {{ cloud: custom, login_url: 'LOGIN', directory_id: {DIRECTORY},\n\
         client_id: {DIRECTORY}, client_secret: {{ file: key }} }}"
    );
    written(&application, |got| {
        check(&got);
        assert_eq!(header(&got, "authorization"), "Bearer token-token");
        (201, String::new())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_check_and_without_a_secret() {
    for (status, help) in [
        (403, "check `auth`"),
        (404, "`container_name`"),
        (500, "that it is up"),
    ] {
        let error = written("sas_token: { file: sas }", move |_| (status, "why".into())).await;
        let error = error.unwrap_err();
        assert!(error.contains(help), "{status}: {error}");
        assert!(
            !error.contains("a%2Bb") && !error.contains("a+b"),
            "{error}"
        );
    }
}
