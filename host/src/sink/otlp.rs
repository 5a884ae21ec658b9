//! Events as log records by OTLP over HTTP.
//!
//! A record has the event's time, its identity as `log.record.uid`, and the event as its body. The protocol has no way
//! to say which records of a request are rejected, only how many; halving finds them, as it does for a request that is
//! refused as a whole.

mod message;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use prost::Message as _;
use serde_json::Value;

use super::request::{Again, Outgoing, Reply, RequestSink};
use super::service::{Answer, Service, Setting, excerpt};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::otlp::{Otlp, OtlpBody};
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::event::StreamKey;
use crate::secret::Redactor;
use message::{
    AnyValue, Array, KeyValue, LogRecord, Map, Request, Resource, ResourceLogs, Response, Scope,
    ScopeLogs, Variant,
};

const LOGS: &str = "/v1/logs";

/// Delivers by OTLP.
#[derive(Debug)]
pub struct OtlpSink {
    name: String,
    service: Service,
    headers: HeaderMap,
    resource: Vec<(String, Template)>,
    body: OtlpBody,
    clock: SharedClock,
}

impl OtlpSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Otlp,
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
        Ok(Self {
            name: name.to_owned(),
            service,
            headers: config.headers.clone(),
            resource: config.resource.clone(),
            body: config.body,
            clock: clock.clone(),
        })
    }

    fn resource(&self, stream: &StreamKey) -> Resource {
        let attributes = self.resource.iter();
        let attributes =
            attributes.map(|(name, value)| KeyValue::text(name, value.fill(stream, |_| true)));
        Resource {
            attributes: attributes.collect(),
        }
    }

    /// One resource for each stream.
    fn request(&self, events: &[Outgoing]) -> Request {
        let observed = nanoseconds(self.clock.now_ms());
        let mut streams: BTreeMap<&StreamKey, Vec<LogRecord>> = BTreeMap::new();
        for Outgoing { stream, event, .. } in events {
            let uid = KeyValue::text("log.record.uid", event.identity.delivery_id());
            streams.entry(stream).or_default().push(LogRecord {
                time_unix_nano: nanoseconds(event.time_ms),
                body: Some(body(self.body, &event.body)),
                attributes: vec![uid],
                observed_time_unix_nano: observed,
            });
        }
        let logs = streams.into_iter().map(|(stream, log_records)| {
            let scope = Scope {
                name: "sluicegate".into(),
                version: env!("CARGO_PKG_VERSION").into(),
            };
            ResourceLogs {
                resource: Some(self.resource(stream)),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope),
                    log_records,
                }],
            }
        });
        Request {
            resource_logs: logs.collect(),
        }
    }

    fn read(&self, answer: &Answer) -> Reply {
        let Ok(response) = Response::decode(&answer.body[..]) else {
            let said = excerpt(&answer.body);
            let what = format!("host `{}` answers no OTLP{said}", answer.host);
            let error = Error::unavailable(what).at(self.service.place());
            let help = "check `endpoint`: something else than a collector answers there";
            return Reply::Again(Again::trouble(error.help(help)));
        };
        let partial = response.partial_success.unwrap_or_default();
        if partial.rejected_log_records > 0 {
            let said = excerpt(partial.error_message.as_bytes());
            return Reply::Split(format!("the server rejects the record{said}"));
        }
        if !partial.error_message.is_empty() {
            let sink = &self.name;
            tracing::warn!(
                sink,
                "the server takes records, and says{}",
                excerpt(partial.error_message.as_bytes())
            );
        }
        Reply::Taken {
            failed: Vec::new(),
            latency: answer.latency,
        }
    }
}

#[async_trait]
impl RequestSink for OtlpSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let body = self
            .service
            .pack(self.request(events).encode_to_vec())
            .await;
        let (headers, kind) = (&self.headers, "application/x-protobuf");
        let sent = self.service.send(Method::POST, LOGS, headers, kind, &body);
        match sent.await {
            Err(again) => Reply::Again(again),
            Ok(answer) if answer.status.is_success() => self.read(&answer),
            Ok(answer) => self.service.judge(&answer),
        }
    }
}

/// Times before 1970 are unknown there.
fn nanoseconds(time_ms: i64) -> u64 {
    u64::try_from(time_ms).map_or(0, |time| time.saturating_mul(1_000_000))
}

fn body(kind: OtlpBody, json: &[u8]) -> AnyValue {
    let text = || Variant::Text(String::from_utf8_lossy(json).into_owned()).into();
    match kind {
        OtlpBody::String => text(),
        // What is no JSON after a stage goes as it is.
        OtlpBody::Map => serde_json::from_slice(json).map_or_else(|_| text(), value),
    }
}

fn value(json: Value) -> AnyValue {
    let variant = match json {
        Value::Null => return AnyValue::default(),
        Value::Bool(flag) => Variant::Bool(flag),
        Value::String(text) => Variant::Text(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Variant::Int(whole),
            // A whole number beyond those of the protocol keeps its digits.
            (None, _) if number.is_u64() => Variant::Text(number.to_string()),
            (None, Some(fraction)) => Variant::Double(fraction),
            (None, None) => Variant::Text(number.to_string()),
        },
        Value::Array(list) => Variant::Array(Array {
            values: list.into_iter().map(value).collect(),
        }),
        Value::Object(map) => Variant::Map(Map {
            values: map
                .into_iter()
                .map(|(key, member)| KeyValue {
                    key,
                    value: Some(value(member)),
                })
                .collect(),
        }),
    };
    variant.into()
}

#[cfg(test)]
mod tests;
