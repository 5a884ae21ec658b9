//! Section `telemetry`: what the host tells of itself to an OpenTelemetry collector.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::check::Scope;
use super::decode::Part;
use super::limits::in_range;
use super::report::Path;
use super::sink::http::headers;
use super::sink::request::{AuthSection, Compression, Delivery, Login, TlsSection, login};
use super::unit::Period;
use crate::sink::Policy;

/// What the host tells of itself: the metrics that `/metrics` has, and a trace of each split. Delivery never waits for
/// it. A change takes effect at the next start.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "telemetry")]
pub struct TelemetrySection {
    /// Tells it to an OpenTelemetry collector, by OTLP over HTTP (protobuf).
    pub otlp: Part<TelemetryOtlpSection>,
}

/// An OpenTelemetry collector, or a service that speaks its protocol. Metrics have the names that they have at
/// `/metrics`. A trace stands for a split: `split`, from when its content was there until its events were committed,
/// and in it `list` (until the ledger knew of it), each `read`, and one `deliver` for each sink that acknowledges.
/// Traces hold names, counts and outcomes, never an event. What does not fit into the queue while the collector is slow
/// or away is dropped and counted in `sluicegate_telemetry_dropped_spans_total`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "telemetry_otlp")]
pub struct TelemetryOtlpSection {
    /// Where the collector is, without `/v1/metrics`; its port is mostly 4318.
    #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
    pub endpoint: String,
    /// Further headers: a map of name to value.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "x-scope-orgid": "audit" }]))]
    pub headers: BTreeMap<String, String>,
    /// Who we are to the server: `basic` or `bearer`.
    pub auth: Option<Part<AuthSection>>,
    /// How the server is trusted.
    pub tls: Option<Part<TlsSection>>,
    /// How bodies are packed.
    #[serde(default)]
    pub compression: Compression,
    /// Longest time for a request and its answer.
    #[schemars(extend("default" = "10s"))]
    pub timeout: Option<Period>,
    /// Whether metrics are sent.
    #[schemars(extend("default" = true))]
    pub metrics: Option<bool>,
    /// How often they are.
    #[schemars(extend("default" = "30s"))]
    pub interval: Option<Period>,
    /// The share of splits whose traces are sent: from 0 for none to 1 for all. A split is in it or not, however often
    /// it is read.
    #[schemars(extend("default" = 1.0))]
    pub trace_ratio: Option<f64>,
}

/// A collector, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where it is.
    pub endpoint: Url,
    /// Further headers.
    pub headers: HeaderMap,
    /// Who we are.
    pub login: Option<Login>,
    /// How requests are sent.
    pub delivery: Delivery,
    /// How often metrics are sent, if at all.
    pub interval: Option<Duration>,
    /// The share of splits whose traces are sent.
    pub trace_ratio: f64,
}

impl TelemetrySection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Box<Telemetry>> {
        let otlp = self.otlp.0.as_ref()?;
        otlp.check(scope, &at.key("otlp")).map(Box::new)
    }
}

impl TelemetryOtlpSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Telemetry> {
        let endpoint_at = at.key("endpoint");
        let endpoint = scope.url(&endpoint_at, &self.endpoint);
        let path = self.endpoint.trim_end_matches('/');
        if path.ends_with("/v1/metrics") || path.ends_with("/v1/traces") {
            let help = "leave `/v1/metrics` and `/v1/traces` out; they are added";
            let what = "`endpoint` is the address without the path of a signal";
            scope.report.add(&endpoint_at, what, help);
        }
        let period = |key: &str, written: Option<Period>, default, bounds| {
            let written = written.map(|period| period.0);
            let print = |time| Period(time).to_string();
            in_range(scope.report, &at.key(key), written, default, bounds, print)
        };
        let hour = Duration::from_hours(1);
        let timeout = (Duration::from_millis(100), Duration::from_mins(1));
        let timeout = period("timeout", self.timeout, Duration::from_secs(10), timeout);
        let interval = (Duration::from_secs(1), hour);
        let interval = period("interval", self.interval, Duration::from_secs(30), interval);
        let trace_ratio = in_range(
            scope.report,
            &at.key("trace_ratio"),
            self.trace_ratio,
            1.0,
            (0.0, 1.0),
            |ratio| ratio.to_string(),
        );
        let tls = self.tls.as_ref().and_then(|tls| tls.0.as_ref());
        let delivery = Delivery {
            policy: Policy::default(),
            timeout,
            compression: self.compression,
            tls: tls.and_then(|tls| tls.check(scope, &at.key("tls"))),
        };
        let login = login(scope, &at.key("auth"), self.auth.as_ref(), false);
        Some(Telemetry {
            headers: headers(scope, &at.key("headers"), &self.headers),
            endpoint: endpoint?,
            login: login?,
            delivery,
            interval: self.metrics.unwrap_or(true).then_some(interval),
            trace_ratio,
        })
    }
}
