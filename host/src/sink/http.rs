//! Events to any HTTP endpoint, as lines or as an array.
//!
//! A status 2xx is the other side's word that it has the events for good. What is sent again when an answer was lost
//! comes again there: this sink has no way to say so.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method};

use super::request::{Outgoing, Reply, RequestSink};
use super::service::{Service, Setting};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::http::{Framing, HttpSinkConfig, MethodSetting};
use crate::error::Error;
use crate::secret::Redactor;

/// Delivers to an HTTP endpoint.
#[derive(Debug)]
pub struct HttpSink {
    name: String,
    service: Service,
    method: Method,
    headers: HeaderMap,
    framing: Framing,
}

impl HttpSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &HttpSinkConfig,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name,
            endpoints: std::slice::from_ref(&config.uri),
            delivery: &config.delivery,
            login: config.login.as_ref(),
            http,
            redactor,
            clock,
        })?;
        Ok(Self {
            name: name.to_owned(),
            service,
            method: match config.method {
                MethodSetting::Post => Method::POST,
                MethodSetting::Put => Method::PUT,
            },
            headers: config.headers.clone(),
            framing: config.framing,
        })
    }

    fn content_type(&self) -> &'static str {
        match self.framing {
            Framing::NewlineDelimited => "application/x-ndjson",
            Framing::JsonArray => "application/json",
        }
    }
}

#[async_trait]
impl RequestSink for HttpSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let body = self.service.pack(body(self.framing, events)).await;
        let (method, kind) = (self.method.clone(), self.content_type());
        let sent = self.service.send(method, "", &self.headers, kind, &body);
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

fn body(framing: Framing, events: &[Outgoing]) -> Vec<u8> {
    let (before, between, after): (&[u8], &[u8], &[u8]) = match framing {
        Framing::NewlineDelimited => (b"", b"\n", b"\n"),
        Framing::JsonArray => (b"[", b",", b"]"),
    };
    let bytes: usize = events.iter().map(|event| event.event.body.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 2);
    body.extend_from_slice(before);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.extend_from_slice(between);
        }
        body.extend_from_slice(&event.event.body);
    }
    body.extend_from_slice(after);
    body
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Event, Identity, StreamKey};

    #[test]
    fn events_stand_in_lines_or_in_an_array() {
        let event = |body: &'static str| Outgoing {
            stream: StreamKey::new("contoso", "Audit.General"),
            event: Event {
                id: body.into(),
                fingerprint: 0,
                time_ms: 0,
                body: Bytes::from_static(body.as_bytes()),
                identity: Identity::of("contoso", body, 0),
            },
            rewritten: None,
        };
        let events = [event(r#"{"a":1}"#), event("{}")];
        let text = |framing, events| String::from_utf8(body(framing, events)).unwrap();
        assert_eq!(text(Framing::NewlineDelimited, &events), "{\"a\":1}\n{}\n");
        assert_eq!(text(Framing::JsonArray, &events), "[{\"a\":1},{}]");
        assert_eq!(text(Framing::JsonArray, &events[..1]), "[{\"a\":1}]");
    }
}
