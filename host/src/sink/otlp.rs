//! Events as log records by OTLP over HTTP or gRPC.
//!
//! A record has the event's time, its identity as `log.record.uid`, and the event as its body. The protocol has no way
//! to say which records of a request are rejected, only how many; halving finds them, as it does for a request that is
//! refused as a whole.

mod grpc;
pub(crate) mod message;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use prost::Message as _;
use serde_json::Value;

use super::request::{Again, Outgoing, Reply, RequestSink};
use super::service::{Answer, Service, Setting, excerpt};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::otlp::{Otlp, OtlpBody, OtlpProtocol};
use crate::config::sink::request::Compression;
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::event::StreamKey;
use crate::secret::Redactor;
use message::{
    AnyValue, Array, KeyValue, LogRecord, Map, Request, Resource, ResourceLogs, Response, Scope,
    ScopeLogs, Variant, nanoseconds,
};

const LOGS: &str = "/v1/logs";

const NO_COLLECTOR: &str =
    "check `endpoint` and `protocol`: something else than a collector answers there";

/// Delivers by OTLP.
#[derive(Debug)]
pub struct OtlpSink {
    name: String,
    service: Service,
    headers: HeaderMap,
    resource: Vec<(String, Template)>,
    body: OtlpBody,
    protocol: OtlpProtocol,
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
        let mut headers = config.headers.clone();
        let service = match config.protocol {
            OtlpProtocol::Http => service,
            OtlpProtocol::Grpc => {
                headers.insert("te", HeaderValue::from_static("trailers"));
                if config.delivery.compression == Compression::Gzip {
                    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
                }
                service.http2_only()
            }
        };
        Ok(Self {
            name: name.to_owned(),
            service,
            headers,
            protocol: config.protocol,
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
        let logs = streams
            .into_iter()
            .map(|(stream, log_records)| ResourceLogs {
                resource: Some(self.resource(stream)),
                scope_logs: vec![ScopeLogs {
                    scope: Some(Scope::ours()),
                    log_records,
                }],
            });
        Request {
            resource_logs: logs.collect(),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<Answer, Again> {
        let body = self.service.pack(body).await;
        let (path, kind, body) = match self.protocol {
            OtlpProtocol::Http => (LOGS, "application/x-protobuf", body),
            OtlpProtocol::Grpc => (grpc::EXPORT, "application/grpc", body.framed()),
        };
        let sent = self
            .service
            .send(Method::POST, path, &self.headers, kind, &body);
        sent.await
    }

    /// What an answer by gRPC means.
    fn read_call(&self, answer: &Answer) -> Reply {
        let again = |what: String, help: &str| {
            let error = Error::unavailable(format!("host `{}` answers {what}", answer.host));
            Again::trouble(error.at(self.service.place()).help(help))
        };
        let failure = match grpc::status(&answer.headers) {
            Some(Ok(())) => match grpc::message(&answer.body) {
                Some(message) => return self.read(answer, message),
                None => return Reply::Again(again("no whole message".into(), NO_COLLECTOR)),
            },
            Some(Err(failure)) => failure,
            None if answer.status == StatusCode::OK => {
                return Reply::Again(again("without a status of gRPC".into(), NO_COLLECTOR));
            }
            None => return self.service.judge(answer),
        };
        let wait = |again| Again {
            retry_after: failure.retry_after,
            ..again
        };
        let what = failure.what;
        match failure.verdict {
            grpc::Verdict::Split => Reply::Split(format!("the server answers {what}")),
            grpc::Verdict::Overloaded => Reply::Again(Again {
                overloaded: true,
                ..wait(again(what, ""))
            }),
            grpc::Verdict::Unauthenticated => {
                self.service.renew_credential();
                let help =
                    "check `auth`: the credential is not accepted; it is read again for each try";
                Reply::Again(wait(again(what, help)))
            }
            grpc::Verdict::Denied => {
                let help = "the credential is known, but may not do this: give it the right to write there";
                Reply::Again(wait(again(what, help)))
            }
            grpc::Verdict::NotThere => Reply::Again(wait(again(what, NO_COLLECTOR))),
            grpc::Verdict::Trouble => Reply::Again(wait(again(what, ""))),
        }
    }

    fn read(&self, answer: &Answer, message: &[u8]) -> Reply {
        let Ok(response) = Response::decode(message) else {
            let said = excerpt(&answer.body);
            let what = format!("host `{}` answers no OTLP{said}", answer.host);
            let error = Error::unavailable(what).at(self.service.place());
            return Reply::Again(Again::trouble(error.help(NO_COLLECTOR)));
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
        match self.post(self.request(events).encode_to_vec()).await {
            Err(again) => Reply::Again(again),
            Ok(answer) if self.protocol == OtlpProtocol::Grpc => self.read_call(&answer),
            Ok(answer) if answer.status.is_success() => self.read(&answer, &answer.body),
            Ok(answer) => self.service.judge(&answer),
        }
    }
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
