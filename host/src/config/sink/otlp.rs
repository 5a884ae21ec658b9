//! Sink `otlp`: anything that takes logs by OTLP, over HTTP or gRPC.

use std::collections::BTreeMap;

use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::When;
use super::http::headers;
use super::request::{
    AuthSection, BatchSection, Compression, Delivery, Login, RequestSection, Shared, TlsSection,
    login,
};
use super::template::Template;
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::report::Path;

/// Sends events as log records by OTLP over HTTP (protobuf) or gRPC, to an OpenTelemetry collector or a service that
/// speaks its protocol. What is sent again after a crash or a lost answer comes twice, with the same `log.record.uid`.
/// Where the other side rejects some records of a request and does not say which, the request is sent again in halves
/// to find them: they become dead letters, and the others come more than once.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "otlp")]
pub struct OtlpSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Where the collector is, without `/v1/logs`; its port is mostly 4318, for `grpc` 4317.
    #[schemars(extend("examples" = ["https://collector.example.com:4318"]))]
    pub endpoint: String,
    /// What carries the records.
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Further headers: a map of name to value.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "x-scope-orgid": "audit" }]))]
    pub headers: BTreeMap<String, String>,
    /// The attributes of the resource that records come from. `{tenant}` and `{stream}` stand for where an event comes
    /// from.
    #[schemars(extend("default" = {
        "service.name": "sluicegate", "sluicegate.tenant": "{tenant}", "sluicegate.stream": "{stream}"
    }))]
    pub resource: Option<BTreeMap<String, String>>,
    /// What the body of a record is.
    #[serde(default)]
    pub body: OtlpBody,
    /// Who we are to the server: `basic` or `bearer`.
    pub auth: Option<Part<AuthSection>>,
    /// How events are put together.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How requests are sent.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// How the server is trusted.
    pub tls: Option<Part<TlsSection>>,
    /// How bodies are packed.
    #[serde(default)]
    pub compression: Compression,
    /// Whether events count as delivered only when this sink has them. With `false` it holds nothing up, and drops what
    /// does not fit into its queue.
    #[schemars(extend("default" = true))]
    pub acknowledgements: Option<bool>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// What carries records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "otlp_protocol", inline)]
pub enum OtlpProtocol {
    /// HTTP with protobuf.
    #[default]
    Http,
    /// gRPC, over HTTP/2 with or without TLS. Collectors take 4 MiB in a call unless they are told otherwise, so
    /// `batch.max_bytes` is 2 MiB unless it is written.
    Grpc,
}

/// What the body of a log record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "otlp_body", inline)]
pub enum OtlpBody {
    /// A map with the event's members.
    #[default]
    Map,
    /// The event's JSON as text.
    String,
}

/// Half of what servers of gRPC take in a message by default: events may grow a little as records.
const GRPC_BATCH_BYTES: usize = 2 << 20;

/// OTLP, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is.
    pub endpoint: Url,
    /// What carries records.
    pub protocol: OtlpProtocol,
    /// Further headers.
    pub headers: HeaderMap,
    /// Attributes of the resource.
    pub resource: Vec<(String, Template)>,
    /// What a record's body is.
    pub body: OtlpBody,
    /// Who we are.
    pub login: Option<Login>,
    /// How requests are sent.
    pub delivery: Delivery,
}

impl OtlpSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Otlp> {
        let endpoint_at = at.key("endpoint");
        let endpoint = scope.url(&endpoint_at, &self.endpoint);
        if self.endpoint.trim_end_matches('/').ends_with("/v1/logs") {
            let help = "leave `/v1/logs` out; the sink adds it";
            let what = "`endpoint` is the address without the path of logs";
            scope.report.add(&endpoint_at, what, help);
        }
        let defaults = [
            ("service.name", "sluicegate"),
            ("sluicegate.tenant", "{tenant}"),
            ("sluicegate.stream", "{stream}"),
        ];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let resource = self.resource.clone();
        let resource = resource.unwrap_or_else(|| BTreeMap::from(defaults));
        let resource_at = at.key("resource");
        let resource = resource.into_iter().map(|(name, value)| {
            let value = Template::check(scope, &resource_at.key(&name), &value);
            (name, value)
        });
        let resource = resource.collect();
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let mut delivery = shared.check(scope, at);
        let written = self.batch.0.as_ref().and_then(|batch| batch.max_bytes);
        if self.protocol == OtlpProtocol::Grpc && written.is_none() {
            delivery.policy.batch_bytes = GRPC_BATCH_BYTES;
        }
        let login = login(scope, &at.key("auth"), self.auth.as_ref(), false);
        Some(Otlp {
            headers: headers(scope, &at.key("headers"), &self.headers),
            endpoint: endpoint?,
            protocol: self.protocol,
            resource,
            body: self.body,
            login: login?,
            delivery,
        })
    }
}
