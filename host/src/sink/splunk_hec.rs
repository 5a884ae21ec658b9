//! Events to Splunk's HTTP event collector, acknowledged when they are indexed.
//!
//! With indexer acknowledgement a request gets a number, and the collector is asked until it says that what came under
//! this number is indexed; only then is it delivered. A token that cannot do that is found before anything is sent,
//! since nobody would notice later. Bodies are copied, never parsed.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use super::request::{Again, Outgoing, Reply, RequestSink};
use super::service::{Answer, Service, Setting};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::splunk_hec::SplunkHec;
use crate::error::Error;
use crate::secret::Redactor;
use answer::Verdict;

const EVENTS: &str = "/services/collector/event";
const ACKS: &str = "/services/collector/ack";

/// How long to wait before the indexers are asked, first and at most: indexing takes from a fraction of a second to
/// tens of them, and asking costs little.
const ASK_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

const ALLOW_ACKS: &str =
    "allow indexer acknowledgement for the token, or write `indexer_acknowledgements: false`";

/// Delivers to Splunk.
#[derive(Debug)]
pub struct SplunkHecSink {
    name: String,
    service: Service,
    headers: HeaderMap,
    /// What stands in each event between its time and its body.
    metadata: String,
    ack_timeout: Option<Duration>,
}

impl SplunkHecSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &SplunkHec,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name,
            endpoints: std::slice::from_ref(&config.endpoint),
            delivery: &config.delivery,
            login: Some(&config.login),
            http,
            redactor,
            clock,
        })?;
        let metadata = config.metadata.iter().map(|(key, value)| {
            let value = serde_json::Value::from(value.as_str());
            format!("\"{key}\":{value},")
        });
        let mut headers = HeaderMap::new();
        if config.ack_timeout.is_some() {
            let channel = HeaderValue::try_from(channel())
                .map_err(|_| Error::internal("a channel's name is not a header value"))?;
            headers.insert("x-splunk-request-channel", channel);
        }
        Ok(Self {
            name: name.to_owned(),
            service,
            headers,
            metadata: metadata.collect(),
            ack_timeout: config.ack_timeout,
        })
    }

    fn body(&self, events: &[Outgoing]) -> Vec<u8> {
        const FRAME: usize = 40;
        let more = FRAME + self.metadata.len();
        let bytes: usize = events
            .iter()
            .map(|event| event.event.body.len() + more)
            .sum();
        let mut body = Vec::with_capacity(bytes);
        for Outgoing { event, .. } in events {
            // Seconds with milliseconds, exactly.
            let (seconds, millis) = (
                event.time_ms.div_euclid(1_000),
                event.time_ms.rem_euclid(1_000),
            );
            let time = format!("{{\"time\":{seconds}.{millis:03},");
            body.extend_from_slice(time.as_bytes());
            body.extend_from_slice(self.metadata.as_bytes());
            body.extend_from_slice(b"\"event\":");
            body.extend_from_slice(&event.body);
            body.extend_from_slice(b"}\n");
        }
        body
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, Again> {
        let body = self.service.pack(body).await;
        let kind = "application/json";
        let sent = self
            .service
            .send(Method::POST, path, &self.headers, kind, &body);
        sent.await
    }

    /// What an answer says that is no success.
    fn judge(&self, answer: &Answer, events: usize) -> Reply {
        match answer::verdict(answer.status, &answer.body, events) {
            Verdict::Service => self.service.judge(answer),
            Verdict::Event(index, reason) => answer::all_but(index, events, reason, answer.latency),
            Verdict::Setup(what, help) => {
                if matches!(answer.status.as_u16(), 401 | 403) {
                    self.service.renew_credential();
                }
                let error = Error::unavailable(format!("host `{}` answers: {what}", answer.host));
                Reply::Again(Again::trouble(error.at(self.service.place()).help(help)))
            }
        }
    }

    /// Whether what came under a number is indexed.
    async fn is_indexed(&self, number: u64) -> Result<bool, Reply> {
        let body = format!("{{\"acks\":[{number}]}}");
        let answer = self
            .post(ACKS, body.into_bytes())
            .await
            .map_err(Reply::Again)?;
        if !answer.status.is_success() {
            return Err(self.judge(&answer, 0));
        }
        let found = answer::acks(&answer.body).map_err(|error| {
            let what = format!(
                "host `{}` answers with no acknowledgements ({error})",
                answer.host
            );
            Reply::Again(Again::trouble(
                Error::unavailable(what).at(self.service.place()),
            ))
        })?;
        Ok(found.get(&number).copied().unwrap_or(false))
    }

    /// Asks until it is indexed; otherwise says why to send it again.
    async fn indexed(&self, number: u64, timeout: Duration) -> Result<(), Again> {
        let ends_at = Instant::now() + timeout;
        let mut wait = ASK_AFTER.0;
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ASK_AFTER.1);
            let why = match self.is_indexed(number).await {
                Ok(true) => return Ok(()),
                Ok(false) => "it is not indexed yet".to_owned(),
                Err(Reply::Again(again)) => again.error.what,
                Err(_) => "the acknowledgement is refused".to_owned(),
            };
            if Instant::now() >= ends_at {
                let what = format!(
                    "no acknowledgement within {} seconds: {why}",
                    timeout.as_secs()
                );
                let error = Error::unavailable(what).at(self.service.place()).help(
                    "the events are sent again and may be there twice; behind a load balancer use \
                     sticky sessions, and see whether the indexers keep up",
                );
                return Err(Again::trouble(error));
            }
        }
    }
}

#[async_trait]
impl RequestSink for SplunkHecSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self) -> Result<(), Error> {
        if self.ack_timeout.is_none() {
            return Ok(());
        }
        // A token without acknowledgements takes events and never says that they are not acknowledged.
        match self.is_indexed(0).await {
            Ok(_) => Ok(()),
            Err(Reply::Again(again)) => Err(again.error),
            Err(Reply::Split(what)) => Err(Error::unavailable(what).at(self.service.place())),
            Err(Reply::Taken { .. }) => Ok(()),
        }
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let answer = match self.post(EVENTS, self.body(events)).await {
            Ok(answer) => answer,
            Err(again) => return Reply::Again(again),
        };
        if !answer.status.is_success() {
            return self.judge(&answer, events.len());
        }
        if let Some(timeout) = self.ack_timeout {
            let Some(number) = answer::ack_id(&answer.body) else {
                let what = format!("host `{}` takes events and acknowledges none", answer.host);
                let error = Error::unavailable(what)
                    .at(self.service.place())
                    .help(ALLOW_ACKS);
                return Reply::Again(Again::trouble(error));
            };
            if let Err(again) = self.indexed(number, timeout).await {
                return Reply::Again(again);
            }
        }
        Reply::Taken {
            failed: Vec::new(),
            latency: answer.latency,
        }
    }
}

/// A name for our requests among those of others, in the form of a GUID.
fn channel() -> String {
    let hex = crate::secret::hex(&fastrand::u128(..).to_be_bytes());
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::{Config, SinkKind};
    use crate::event::{Event, Identity, StreamKey};

    #[test]
    fn an_event_is_wrapped_and_its_body_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "c0ffee").unwrap();
        let text = "source: { plugin: o365, tenants: [{ id: a }] }\n\
            sinks: [splunk_hec: { endpoint: 'https://splunk.example.com:8088', default_token: { file: token },\n\
            index: main, sourcetype: 'a\"b' }]\n";
        let config = Config::parse(&folder.path().join("a.yaml"), text, None).unwrap();
        let SinkKind::SplunkHec(hec) = &config.sinks[0].kind else {
            panic!("{config:?}")
        };
        let (clock, redactor): (SharedClock, _) = (Arc::new(SystemClock), Arc::default());
        let sink = SplunkHecSink::new("splunk", hec, &config.http, &redactor, &clock).unwrap();
        assert!(sink.headers.contains_key("x-splunk-request-channel"));
        let event = |time_ms: i64| Outgoing {
            stream: StreamKey::new("contoso", "Audit.General"),
            event: Event {
                id: "1".into(),
                fingerprint: 0,
                time_ms,
                body: Bytes::from_static(b"{\"a\": 1.0}"),
                identity: Identity::of("contoso", "1", 0),
            },
            rewritten: None,
        };
        let body = String::from_utf8(sink.body(&[event(1_767_225_600_005), event(-1)])).unwrap();
        let rest = r#""index":"main","sourcetype":"a\"b","event":{"a": 1.0}}"#;
        assert_eq!(
            body,
            format!("{{\"time\":1767225600.005,{rest}\n{{\"time\":-1.999,{rest}\n")
        );
    }

    #[test]
    fn a_channel_looks_like_a_guid() {
        assert!(crate::config::is_guid(&channel()));
        assert_ne!(channel(), channel());
    }
}
