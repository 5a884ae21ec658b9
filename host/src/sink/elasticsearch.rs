//! Events as documents of Elasticsearch or OpenSearch, each once.
//!
//! One `_bulk` request creates many documents. A document's `_id` is the event's identity, so a conflict says that it
//! is there already, and sending again is always safe. Bodies are copied, never parsed. What the mapping refuses is
//! stored in a safe form; only what is refused even so is a dead letter. Trouble with credentials, rights, missing
//! indices or pipelines is nobody's fault but the setup's: everything waits, and says so.

mod answer;
mod template;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use super::service::{Answer, Body, Service, Setting};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::elasticsearch::{Elasticsearch, IndexName};
use crate::error::Error;
use crate::secret::Redactor;
use answer::{Bulk, Item};

/// Without compression a request must not be read as anything but lines.
const NDJSON: &str = "application/x-ndjson";

/// What is wanted of an answer: nothing about documents that were created but their status.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,\
                      items.*.error.caused_by.reason";

/// Marks documents in their safe form.
const FAILURE_TAG: &str = "_sluicegate_mapping_failure";

/// Delivers to Elasticsearch or OpenSearch.
#[derive(Debug)]
pub struct ElasticsearchSink {
    name: String,
    service: Service,
    index: IndexName,
    /// Path and query of a bulk request.
    path: String,
    manage_template: bool,
}

impl ElasticsearchSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Elasticsearch,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name,
            endpoints: &config.endpoints,
            delivery: &config.delivery,
            login: config.login.as_ref(),
            http,
            redactor,
            clock,
        })?;
        let index = config.index.fixed().map(|name| format!("/{name}"));
        let index = index.unwrap_or_default();
        let pipeline = config.pipeline.as_ref();
        let pipeline = pipeline.map(|name| format!("&pipeline={name}"));
        let path = format!("{index}/_bulk?{FILTER}{}", pipeline.unwrap_or_default());
        Ok(Self {
            name: name.to_owned(),
            service,
            index: config.index.clone(),
            path,
            manage_template: config.manage_template,
        })
    }

    /// Two lines for each event: what to do, and the document.
    fn lines(&self, events: &[Outgoing]) -> Vec<u8> {
        const ACTION: usize = 160;
        let bodies: usize = events.iter().map(|event| event.event.body.len()).sum();
        let mut lines = Vec::with_capacity(bodies + events.len() * ACTION);
        let fixed = self.index.fixed().is_some();
        for Outgoing { stream, event, .. } in events {
            lines.extend_from_slice(b"{\"create\":{");
            if !fixed {
                // Neither index nor id has a letter that JSON would escape.
                lines.extend_from_slice(b"\"_index\":\"");
                lines.extend_from_slice(self.index.of(&stream.tenant).as_bytes());
                lines.extend_from_slice(b"\",");
            }
            lines.extend_from_slice(b"\"_id\":\"");
            lines.extend_from_slice(event.identity.delivery_id().as_bytes());
            lines.extend_from_slice(b"\"}}\n");
            lines.extend_from_slice(&event.body);
            lines.push(b'\n');
        }
        lines
    }

    async fn bulk(&self, events: &[Outgoing]) -> Result<Answer, Again> {
        let body: Body = self.service.pack(self.lines(events)).await;
        let headers = HeaderMap::new();
        self.service
            .send(Method::POST, &self.path, &headers, NDJSON, &body)
            .await
    }

    /// What an answer means whose status is no success.
    fn judge(&self, answer: &Answer) -> Reply {
        let reply = self.service.judge(answer);
        let Reply::Split(reason) = reply else {
            return reply;
        };
        let fault = answer::fault(&answer.body);
        let blames_events = fault
            .as_ref()
            .is_some_and(|(kind, why)| !is_setup(kind, why));
        if blames_events || answer.status == 413 {
            return Reply::Split(reason);
        }
        // Whatever says this is no index that looked at the documents.
        let error = Error::unavailable(reason).at(self.service.place());
        Reply::Again(Again::trouble(
            error.help("check `endpoints`, `index` and `pipeline`"),
        ))
    }

    fn read(&self, answer: &Answer, events: &[Outgoing]) -> Reply {
        let wrong = |what: String| {
            let what = format!("host `{}` answers a bulk request with {what}", answer.host);
            let error = Error::unavailable(what).at(self.service.place());
            Reply::Again(Again::trouble(error.help(
                "check `endpoints`: something else than Elasticsearch answers there",
            )))
        };
        let items = match answer::read(&answer.body) {
            Ok(Bulk::AllTaken) => Vec::new(),
            Ok(Bulk::Items(items)) if items.len() == events.len() => items,
            Ok(Bulk::Items(items)) => {
                return wrong(format!("{} of {} items", items.len(), events.len()));
            }
            Err(error) => return wrong(format!("what is no answer to it ({error})")),
        };
        let fates = items
            .iter()
            .zip(events)
            .map(|(item, event)| fate(item, event));
        let failed: Vec<(usize, Fate)> = fates
            .enumerate()
            .filter_map(|(index, fate)| fate.map(|fate| (index, fate)))
            .collect();
        self.mention(&failed);
        Reply::Taken {
            failed,
            latency: answer.latency,
        }
    }

    fn mention(&self, failed: &[(usize, Fate)]) {
        let mut reasons = failed.iter().filter_map(|(_, fate)| match fate {
            Fate::Rewrite { reason, .. } => Some(reason),
            _ => None,
        });
        if let Some(reason) = reasons.next() {
            let (sink, events) = (&self.name, 1 + reasons.count());
            tracing::warn!(sink, events, %reason, "the mapping refuses events; they are stored in a safe form");
        }
    }
}

#[async_trait]
impl RequestSink for ElasticsearchSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self) -> Result<(), Error> {
        if self.manage_template {
            template::install(&self.service, &self.index).await?;
        }
        Ok(())
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        match self.bulk(events).await {
            Err(again) => Reply::Again(again),
            Ok(answer) if answer.status.is_success() => self.read(&answer, events),
            Ok(answer) => self.judge(&answer),
        }
    }
}

/// What becomes of an event by its item of the answer; `None` when it is there.
fn fate(item: &Item<'_>, event: &Outgoing) -> Option<Fate> {
    let reason = item.reason();
    match item.status {
        // A conflict: the document has been created before.
        200..=299 | 409 => None,
        429 | 500.. => Some(Fate::Again {
            overloaded: matches!(item.status, 429 | 503),
            reason,
        }),
        401 | 403 | 404 => Some(Fate::Again {
            reason,
            overloaded: false,
        }),
        _ if is_setup(item.kind(), &reason) => Some(Fate::Again {
            reason,
            overloaded: false,
        }),
        _ => Some(match &event.rewritten {
            Some(first) => Fate::Refused(format!("{first}; and in a safe form: {reason}")),
            None => Fate::Rewrite {
                body: safe_form(event, &reason),
                reason,
            },
        }),
    }
}

/// Whether an error is about how the service is set up rather than about a document.
fn is_setup(kind: &str, reason: &str) -> bool {
    const KINDS: [&str; 6] = [
        "cluster_block_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "invalid_index_name_exception",
        "security_exception",
        "validation_exception",
    ];
    // A missing ingest pipeline has no kind of its own.
    KINDS.contains(&kind) || reason.contains("pipeline with id [")
}

/// A document that every mapping takes, with the event as text.
fn safe_form(event: &Outgoing, reason: &str) -> Bytes {
    let Outgoing { event, .. } = event;
    let time = chrono::DateTime::from_timestamp_millis(event.time_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let original = String::from_utf8_lossy(&event.body);
    let document = json!({
        "@timestamp": time,
        "event": { "id": &*event.id, "original": original },
        "error": { "message": reason },
        "tags": [FAILURE_TAG],
    });
    document.to_string().into()
}

#[cfg(test)]
mod tests;
