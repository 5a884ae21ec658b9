//! Sink `http`: any endpoint that takes events as JSON.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::When;
use super::request::{
    AuthSection, BatchSection, Compression, Delivery, Login, RequestSection, Shared, TlsSection,
    login,
};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::report::Path;

/// Posts events to an address. Statuses 2xx mean that the other side has them for good. 400 and 422 blame the events:
/// the one that is refused alone is a dead letter. Everything else is tried again. After a crash, or when an answer is
/// lost, events come again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_sink")]
pub struct HttpSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Where requests go. It may have a query; secrets belong to `auth`.
    #[schemars(extend("examples" = ["https://collector.example.com/events"]))]
    pub uri: String,
    /// The method of requests.
    #[serde(default)]
    pub method: MethodSetting,
    /// Further headers: a map of name to value.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "x-source": "sluicegate" }]))]
    pub headers: BTreeMap<String, String>,
    /// How events stand in a body.
    #[serde(default)]
    pub framing: Framing,
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

/// The method of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "method", inline)]
pub enum MethodSetting {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// How events stand in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "framing", inline)]
pub enum Framing {
    /// One event a line (`application/x-ndjson`).
    #[default]
    NewlineDelimited,
    /// One JSON array (`application/json`).
    JsonArray,
}

/// Any endpoint, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSinkConfig {
    /// Where requests go.
    pub uri: Url,
    /// The method.
    pub method: MethodSetting,
    /// Further headers.
    pub headers: HeaderMap,
    /// How events stand in a body.
    pub framing: Framing,
    /// Who we are.
    pub login: Option<Login>,
    /// How requests are sent.
    pub delivery: Delivery,
}

/// What the sink writes itself, and what belongs to `auth`.
const OWN_HEADERS: [&str; 6] = [
    "authorization",
    "content-encoding",
    "content-length",
    "host",
    "proxy-authorization",
    "transfer-encoding",
];

impl HttpSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<HttpSinkConfig> {
        let uri = scope.url_with_query(&at.key("uri"), &self.uri);
        let headers = headers(scope, &at.key("headers"), &self.headers);
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let login = login(scope, &at.key("auth"), self.auth.as_ref(), false);
        Some(HttpSinkConfig {
            uri: uri?,
            method: self.method,
            headers,
            framing: self.framing,
            login: login?,
            delivery,
        })
    }
}

/// Headers as they are written, without those that the sink or `auth` write.
pub(in crate::config) fn headers(
    scope: &Scope<'_, '_>,
    at: &Path,
    written: &BTreeMap<String, String>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let at = at.key(name);
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            let what = format!("`{}` and its value are no header", name.escape_debug());
            scope.report.add(&at, what, "a header is one line of text");
            continue;
        };
        if OWN_HEADERS.contains(&name.as_str()) {
            let what = format!("header `{name}` is written by the sink");
            let help = "remove it; credentials belong to `auth`";
            scope.report.add_key(&at, what, help);
        }
        headers.insert(name, value);
    }
    headers
}
