//! Events to a table of Azure Monitor Logs, by Microsoft's Logs Ingestion API.
//!
//! A request is an array of events, each with its time in a column; 204 is the service's word that it has them. The
//! bearer token is got as a tenant's is, renewed at once when it is refused, and goes to the configured address only.
//! The service judges requests, not events: what it says of a rule, a stream or a right waits for a person, and nothing
//! of that becomes a dead letter.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use memchr::memmem;

use super::members::Members;
use super::request::{Again, Outgoing, Reply, RequestSink};
use super::service::{Answer, Body, Service, Setting, excerpt, sign_in};
use crate::auth::{AuthError, Class, Credentials};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::azure_logs_ingestion::{AzureLogsIngestion, REQUEST_BYTES};
use crate::error::Error;
use crate::secret::Redactor;

/// Delivers to Azure Monitor Logs.
#[derive(Debug)]
pub struct AzureLogsIngestionSink {
    name: String,
    /// Knows one address: the one that the credentials' tokens are for.
    service: Service,
    credentials: Arc<dyn Credentials>,
    path: String,
    timestamp_field: String,
}

impl AzureLogsIngestionSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &AzureLogsIngestion,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name,
            endpoints: std::slice::from_ref(&config.endpoint),
            delivery: &config.delivery,
            login: None,
            http,
            redactor,
            clock,
        })?;
        Ok(Self {
            name: name.to_owned(),
            service,
            credentials: sign_in(&config.auth, http, clock, redactor)?,
            path: config.path.clone(),
            timestamp_field: config.timestamp_field.clone(),
        })
    }

    /// An array of the events; `None` when one of them is no object.
    fn body(&self, events: &[Outgoing]) -> Option<Vec<u8>> {
        const FRAME: usize = 60;
        let bytes: usize = events
            .iter()
            .map(|event| event.event.body.len() + FRAME)
            .sum();
        let mut body = Vec::with_capacity(bytes);
        body.push(b'[');
        for (index, Outgoing { event, .. }) in events.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            add_record(&mut body, &event.body, &self.timestamp_field, event.time_ms)?;
        }
        body.push(b']');
        Some(body)
    }

    /// Posts with a token that is valid now; once more with another one when it is refused.
    async fn post(&self, body: &Body) -> Result<Answer, Again> {
        let mut renewed = false;
        loop {
            let token = self.credentials.bearer().await;
            let token = token.map_err(|error| self.unsigned(error))?;
            let header = token.header().ok_or_else(|| {
                let what = "the login host issued a token that fits in no header";
                Again::trouble(Error::unavailable(what).at(self.service.place()))
            })?;
            let headers = HeaderMap::from_iter([(AUTHORIZATION, header)]);
            let (path, kind) = (&self.path, "application/json");
            let sent = self.service.send(Method::POST, path, &headers, kind, body);
            let answer = sent.await?;
            if answer.status != StatusCode::UNAUTHORIZED || renewed {
                return Ok(answer);
            }
            self.credentials.invalidate(&token);
            renewed = true;
        }
    }

    fn unsigned(&self, error: AuthError) -> Again {
        let what = format!("cannot sign in: {}", error.what);
        let found = Error::unavailable(what).at(self.service.place());
        // A refusal ends when the credential is replaced, which may be at any moment.
        let transient = error.class == Class::Transient;
        Again {
            retry_after: error.retry_after.filter(|_| transient),
            ..Again::trouble(found.help(error.help))
        }
    }

    /// What an answer means that is no success.
    fn judge(&self, answer: &Answer) -> Reply {
        let help = match answer.status.as_u16() {
            400 => {
                "check `stream_name`, and that the rule declares it (Azure portal, the data collection rule, JSON \
                 View, `streamDeclarations`) with columns of the types that the events have"
            }
            401 => {
                "check `token_scope` and `cloud`: a fresh token is not accepted, so it is one for something else"
            }
            403 => {
                "give the application the role Monitoring Metrics Publisher on the rule (Azure portal, the data \
                 collection rule, Access control); a new role takes up to half an hour; check `dcr_immutable_id`"
            }
            404 => {
                "check `endpoint`, `dcr_immutable_id` and `stream_name`: both must be of one region"
            }
            _ => return self.service.judge(answer),
        };
        let (host, status) = (&answer.host, answer.status);
        let what = format!("host `{host}` answers {status}{}", excerpt(&answer.body));
        let error = Error::unavailable(what).at(self.service.place());
        Reply::Again(Again::trouble(error.help(help)))
    }
}

#[async_trait]
impl RequestSink for AzureLogsIngestionSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let Some(body) = self.body(events) else {
            return Reply::Split("the service takes JSON objects, and the event is none".into());
        };
        // One event may still be taken: where exactly the service's limit is, it says itself.
        if body.len() > REQUEST_BYTES && events.len() > 1 {
            return Reply::Split("the service takes no more in one request".into());
        }
        let body = self.service.pack(body).await;
        match self.post(&body).await {
            Err(again) => Reply::Again(again),
            Ok(answer) if answer.status.is_success() => Reply::Taken {
                failed: Vec::new(),
                latency: answer.latency,
            },
            Ok(answer) => self.judge(&answer),
        }
    }
}

/// The event with its time as the first member, unless it has one of that name; `None` when it is no object.
fn add_record(to: &mut Vec<u8>, event: &[u8], field: &str, time_ms: i64) -> Option<()> {
    let event = event.trim_ascii();
    let members = event.strip_prefix(b"{")?.trim_ascii_start();
    // Only few events hold the word at all.
    if memmem::find(event, field.as_bytes()).is_some() {
        let known: Members<'_> = serde_json::from_slice(event).ok()?;
        if known.0.iter().any(|(name, _)| name == field) {
            to.extend_from_slice(event);
            return Some(());
        }
    }
    let time = DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let comma = if members.starts_with(b"}") { "" } else { "," };
    to.extend_from_slice(format!("{{\"{field}\":\"{time}\"{comma}").as_bytes());
    to.extend_from_slice(members);
    Some(())
}

#[cfg(test)]
mod tests;
