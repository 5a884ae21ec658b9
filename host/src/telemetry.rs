//! What the host tells an OpenTelemetry collector of itself: the metrics of `/metrics`, and a trace for each split.
//!
//! Delivery never waits for it, and a collector that is away costs a warning and what does not fit into the queue
//! meanwhile. Metrics count from the start of the process, so one export that fails loses nothing that the next does
//! not say.

mod message;
mod metrics;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::SharedClock;
use crate::config::{HttpConfig, Telemetry};
use crate::error::Error;
use crate::line::Line;
use crate::metrics::export::export;
use crate::pipeline::view::Views;
use crate::secret::Redactor;
use crate::sink::otlp::message::{KeyValue, Resource, Response, Scope};
use crate::sink::service::{Service, Setting, excerpt};
use message::{Metrics, ResourceMetrics, ResourceSpans, ScopeMetrics, ScopeSpans, Span, Traces};

const METRICS: &str = "/v1/metrics";
const TRACES: &str = "/v1/traces";

/// How often spans are sent, and how many at most in one request: some hundred kilobytes.
const SPANS_EVERY: Duration = Duration::from_secs(5);
const SPANS: usize = 1_024;

/// How long the end of a run may wait for the last export.
const LAST: Duration = Duration::from_secs(5);

/// A collector that a pipeline tells of itself.
pub struct Teller {
    service: Service,
    headers: HeaderMap,
    interval: Option<Duration>,
    ratio: f64,
}

/// As long as this lives, a pipeline is told of.
pub(crate) struct Telling {
    end: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Teller {
    /// As the config wants it; reads secrets and certificates.
    pub fn new(
        config: &Telemetry,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let service = Service::new(&Setting {
            name: "telemetry",
            endpoints: std::slice::from_ref(&config.endpoint),
            delivery: &config.delivery,
            login: config.login.as_ref(),
            http,
            redactor,
            clock,
        })?;
        Ok(Self {
            service: service.called("`telemetry.otlp`"),
            headers: config.headers.clone(),
            interval: config.interval,
            ratio: config.trace_ratio,
        })
    }

    /// Tells of a pipeline from now on.
    pub(crate) fn start(self, pipeline: &str, line: &Arc<Line>, views: &Arc<Views>) -> Telling {
        let traces = line.tracer().open(pipeline, self.ratio);
        let end = CancellationToken::new();
        let exporter = Exporter {
            line: Arc::downgrade(line),
            teller: self,
            pipeline: pipeline.to_owned(),
            views: views.clone(),
            spans: Vec::new(),
            is_away: false,
        };
        let task: JoinHandle<()> = tokio::spawn(exporter.run(traces, end.clone()));
        Telling {
            end,
            task: AbortOnDropHandle::new(task),
        }
    }
}

impl Telling {
    /// Tells what is left to be told, unless that takes too long.
    pub async fn finish(telling: Option<Self>) {
        let Some(Self { end, task }) = telling else {
            return;
        };
        end.cancel();
        if tokio::time::timeout(LAST, task).await.is_err() {
            tracing::debug!("the collector did not take the last telemetry in time");
        }
    }
}

/// What came of an export.
enum Sent {
    /// The answer says whether all of it is.
    Taken(Bytes),
    /// It may be taken another time.
    Not,
    /// It never will.
    Refused,
}

struct Exporter {
    teller: Teller,
    pipeline: String,
    views: Arc<Views>,
    /// Must not keep the line alive.
    line: std::sync::Weak<Line>,
    /// On their way to the collector.
    spans: Vec<Span>,
    /// Whether it was said that the collector takes nothing.
    is_away: bool,
}

impl Exporter {
    async fn run(mut self, mut traces: mpsc::Receiver<Vec<Span>>, end: CancellationToken) {
        let every = |period: Duration| {
            let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut metrics = every(self.teller.interval.unwrap_or(SPANS_EVERY));
        let mut flush = every(SPANS_EVERY);
        loop {
            let (measured, room) = (self.teller.interval.is_some(), self.spans.len() < SPANS);
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                _ = metrics.tick(), if measured => self.metrics().await,
                _ = flush.tick() => self.flush().await,
                Some(spans) = traces.recv(), if room => {
                    self.spans.extend(spans);
                    // One that is away is asked again at the next tick, not with each trace.
                    if self.spans.len() >= SPANS && !self.is_away {
                        self.flush().await;
                    }
                }
            }
        }
        loop {
            while self.spans.len() < SPANS
                && let Ok(spans) = traces.try_recv()
            {
                self.spans.extend(spans);
            }
            if self.spans.is_empty() {
                break;
            }
            self.flush().await;
            if !self.spans.is_empty() {
                break;
            }
        }
        if self.teller.interval.is_some() {
            self.metrics().await;
        }
    }

    async fn metrics(&mut self) {
        let own = |name: &str| name == self.pipeline;
        let (snapshot, resource) = (self.views.snapshot_where(own).await, self.resource());
        // Those of thousands of streams take a while.
        let written = tokio::task::spawn_blocking(move || {
            let mut page = metrics::Metrics::new(snapshot.started_ms, snapshot.now_ms);
            export(&snapshot, &mut page);
            let requests = page.parts().into_iter().map(|families| {
                let request = Metrics {
                    resource_metrics: vec![ResourceMetrics {
                        resource: Some(resource.clone()),
                        scope_metrics: vec![ScopeMetrics {
                            scope: Some(Scope::ours()),
                            metrics: families,
                        }],
                    }],
                };
                request.encode_to_vec()
            });
            requests.collect::<Vec<_>>()
        });
        for request in written.await.unwrap_or_default() {
            if !matches!(self.send(METRICS, request).await, Sent::Taken(_)) {
                break;
            }
        }
    }

    /// Sends the spans that wait; those that may be taken another time stay.
    async fn flush(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        let request = Traces {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(Scope::ours()),
                    spans: self.spans.clone(),
                }],
            }],
        };
        let dropped = match self.send(TRACES, request.encode_to_vec()).await {
            Sent::Taken(answer) => rejected(&answer).min(self.spans.len()),
            Sent::Not => return,
            Sent::Refused => self.spans.len(),
        };
        self.spans.clear();
        if let Some(line) = self.line.upgrade() {
            line.tracer().drop(dropped);
        }
    }

    async fn send(&mut self, path: &str, body: Vec<u8>) -> Sent {
        let service = &self.teller.service;
        let body = service.pack(body).await;
        let (kind, headers) = ("application/x-protobuf", &self.teller.headers);
        let sent = service.send(Method::POST, path, headers, kind, &body);
        let (sent, error) = match sent.await {
            Ok(answer) if answer.status.is_success() => (Sent::Taken(answer.body), None),
            Ok(answer) => {
                if answer.status.as_u16() == 401 {
                    service.renew_credential();
                }
                let said = excerpt(&answer.body);
                let what = format!(
                    "host `{}` answers {} to `{path}`{said}",
                    answer.host, answer.status
                );
                let error = Error::unavailable(what).help("check `telemetry.otlp`");
                // What the protocol calls retryable, and what a person can mend.
                let again = matches!(
                    answer.status.as_u16(),
                    401 | 403 | 404 | 408 | 429 | 502..=504
                );
                let sent = if again { Sent::Not } else { Sent::Refused };
                (sent, Some(error))
            }
            Err(again) => (Sent::Not, Some(again.error)),
        };
        let pipeline = &self.pipeline;
        match error {
            None => {
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(%pipeline, "the collector takes telemetry again");
                }
            }
            Some(error) if self.is_away => {
                tracing::debug!(%pipeline, %error, "the collector takes no telemetry");
            }
            Some(error) => {
                self.is_away = true;
                tracing::warn!(%pipeline, %error,
                    "the collector takes no telemetry; delivery goes on, and this is not said again until it does");
            }
        }
        sent
    }

    fn resource(&self) -> Resource {
        Resource {
            attributes: vec![
                KeyValue::text("service.name", "sluicegate"),
                KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::text("sluicegate.pipeline", &self.pipeline),
            ],
        }
    }
}

/// How many parts of a request the collector does not take, as its answer says.
fn rejected(answer: &[u8]) -> usize {
    let partial = Response::decode(answer).ok();
    let partial = partial.and_then(|answer| answer.partial_success);
    let rejected = partial.map_or(0, |partial| partial.rejected_log_records);
    usize::try_from(rejected).unwrap_or(0)
}
