//! Sink `loki`: Grafana Loki.

use std::collections::BTreeMap;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::request::{
    AuthSection, BatchSection, Compression, Delivery, Login, RequestSection, Shared, TlsSection,
    login,
};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::report::Path;

/// Pushes events to Grafana Loki as lines of JSON. Loki knows a line that is sent again by its time and text. Lines
/// that it refuses (400), such as those older than it takes, are found by halving and become dead letters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "loki")]
pub struct LokiSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Where Loki is, without the path of its API.
    #[schemars(extend("examples" = ["https://loki.example.com:3100"]))]
    pub endpoint: String,
    /// Loki's tenant (`X-Scope-OrgID`), where it has several.
    pub tenant_id: Option<String>,
    /// The labels of lines: few, with few values. `{tenant}` and `{stream}` stand for where an event comes from.
    #[schemars(extend("default" = { "job": "sluicegate", "tenant": "{tenant}", "stream": "{stream}" }))]
    pub labels: Option<BTreeMap<String, String>>,
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

/// Grafana Loki, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loki {
    /// Where it is.
    pub endpoint: Url,
    /// Its tenant.
    pub tenant_id: Option<HeaderValue>,
    /// Names and values, which may hold `{tenant}` and `{stream}`.
    pub labels: Vec<(String, String)>,
    /// Who we are.
    pub login: Option<Login>,
    /// How requests are sent.
    pub delivery: Delivery,
}

impl LokiSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Loki> {
        let endpoint = scope.url(&at.key("endpoint"), &self.endpoint);
        let tenant_id = self.tenant_id.as_ref().map(HeaderValue::try_from);
        if let Some(Err(_)) = &tenant_id {
            let what = "`tenant_id` has a character that no header takes";
            scope
                .report
                .add(&at.key("tenant_id"), what, "a name is one line of text");
        }
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let labels = self.labels(scope, &at.key("labels"));
        let login = login(scope, &at.key("auth"), self.auth.as_ref(), false);
        Some(Loki {
            endpoint: endpoint?,
            tenant_id: tenant_id.and_then(Result::ok),
            labels,
            login: login?,
            delivery,
        })
    }

    fn labels(&self, scope: &Scope<'_, '_>, at: &Path) -> Vec<(String, String)> {
        let default = [
            ("job", "sluicegate"),
            ("tenant", "{tenant}"),
            ("stream", "{stream}"),
        ];
        let Some(labels) = &self.labels else {
            let owned = default.map(|(name, value)| (name.to_owned(), value.to_owned()));
            return owned.to_vec();
        };
        if labels.is_empty() {
            let help = "name at least one, for example `job: sluicegate`";
            scope
                .report
                .add(at, "lines without labels cannot be found", help);
        }
        for name in labels.keys() {
            let fine = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !begins || !name.chars().all(fine) || name.starts_with("__") {
                let what = format!("`{}` cannot be the name of a label", name.escape_debug());
                let help = "use letters, digits and `_`; begin with a letter or one `_`";
                scope.report.add_key(&at.key(name), what, help);
            }
        }
        labels.clone().into_iter().collect()
    }
}
