//! Events to Grafana Loki, as lines of JSON under a few labels.
//!
//! Loki takes what it can of a request and answers 400 for the rest; sending the halves again costs nothing, since it
//! knows a line by its time and text. Bodies are copied into JSON strings, never parsed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::request::{Outgoing, Reply, RequestSink};
use super::service::{Service, Setting};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::loki::Loki;
use crate::error::Error;
use crate::event::StreamKey;
use crate::secret::Redactor;

const PUSH: &str = "/loki/api/v1/push";

/// Delivers to Loki.
#[derive(Debug)]
pub struct LokiSink {
    name: String,
    service: Service,
    headers: HeaderMap,
    labels: Vec<(String, String)>,
}

impl LokiSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Loki,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name,
            endpoints: std::slice::from_ref(&config.endpoint),
            delivery: &config.delivery,
            login: config.login.as_ref(),
            http,
            redactor,
            clock,
        })?;
        let mut headers = HeaderMap::new();
        if let Some(tenant) = &config.tenant_id {
            headers.insert("x-scope-orgid", tenant.clone());
        }
        Ok(Self {
            name: name.to_owned(),
            service,
            headers,
            labels: config.labels.clone(),
        })
    }
}

#[async_trait]
impl RequestSink for LokiSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let body = self.service.pack(body(&self.labels, events)).await;
        let (headers, kind) = (&self.headers, "application/json");
        let sent = self.service.send(Method::POST, PUSH, headers, kind, &body);
        match sent.await {
            Err(again) => Reply::Again(again),
            Ok(answer) if answer.status.is_success() => Reply::Taken {
                failed: Vec::new(),
                latency: answer.latency,
            },
            Ok(answer) => self.service.judge(&answer),
        }
    }
}

/// The labels of a stream's lines, as JSON.
fn labels(labels: &[(String, String)], stream: &StreamKey) -> String {
    let filled = labels.iter();
    let filled = filled.map(|(name, value)| (name.clone(), Value::from(stream.named_in(value))));
    Value::Object(filled.collect()).to_string()
}

/// One list of lines for each stream.
fn body(names: &[(String, String)], events: &[Outgoing]) -> Vec<u8> {
    let mut streams: BTreeMap<&StreamKey, Vec<u8>> = BTreeMap::new();
    for Outgoing { stream, event, .. } in events {
        let lines = streams.entry(stream).or_default();
        let comma = if lines.is_empty() { "" } else { "," };
        let text = String::from_utf8_lossy(&event.body);
        // Writing to memory does not fail.
        let _ = write!(lines, "{comma}[\"{}000000\",", event.time_ms);
        let _ = serde_json::to_writer(&mut *lines, &text);
        lines.push(b']');
    }
    let mut body = b"{\"streams\":[".to_vec();
    for (number, (stream, lines)) in streams.into_iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let labels = labels(names, stream);
        let _ = write!(body, "{comma}{{\"stream\":{labels},\"values\":[");
        body.extend_from_slice(&lines);
        body.extend_from_slice(b"]}");
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::event::{Event, Identity};

    #[test]
    fn lines_stand_under_the_labels_of_their_stream() {
        let event = |tenant: &str, time_ms: i64, body: &'static str| Outgoing {
            stream: StreamKey::new(tenant, "Audit.General"),
            event: Event {
                id: "1".into(),
                fingerprint: 0,
                time_ms,
                body: Bytes::from_static(body.as_bytes()),
                identity: Identity::of(tenant, body, 0),
            },
            rewritten: None,
        };
        let names = [("job", "a\"b"), ("of", "{tenant}/{stream}")];
        let names = names.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let events = [
            event("contoso", 1_767_225_600_001, r#"{"a":"\"b\""}"#),
            event("fabrikam", 0, "{}"),
            event("contoso", 2, "{}"),
        ];
        let found: Value = serde_json::from_slice(&body(&names, &events)).unwrap();
        let stream = |of: &str, values: Value| json!({ "stream": { "job": "a\"b", "of": of }, "values": values });
        let contoso = json!([
            ["1767225600001000000", r#"{"a":"\"b\""}"#],
            ["2000000", "{}"]
        ]);
        let wanted = json!({ "streams": [
            stream("contoso/Audit.General", contoso),
            stream("fabrikam/Audit.General", json!([["0000000", "{}"]])),
        ] });
        assert_eq!(found, wanted);
    }
}
