//! Sink `elasticsearch`: Elasticsearch and OpenSearch.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::request::{
    AuthSection, BatchSection, Compression, Delivery, Login, RequestSection, Shared, TlsSection,
    endpoints, login,
};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::report::Path;

/// Where the index template of `pipelines/elasticsearch` applies.
const DEFAULT_INDEX: &str = "logs-o365.audit-default";

/// Stands for the tenant in an index's name.
const TENANT: &str = "{tenant}";

/// Creates events as documents of Elasticsearch or OpenSearch. A document's id is made from the event's identity, so an
/// event that is sent again after a crash is not stored again. A document that the mapping refuses is stored in a safe
/// form, with the event as text under `event.original`; what is refused even so is a dead letter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "elasticsearch")]
pub struct ElasticsearchSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The service's addresses: one, or several nodes that take turns. One that is down is left out for a while.
    #[schemars(extend("examples" = [["https://search.example.com:9200"]]))]
    pub endpoints: Vec<String>,
    /// The data stream or index. `{tenant}` stands for the tenant's `id` in lower case, with `_` for what a name may
    /// not have. After a rollover of a data stream a document's id is no longer known to it.
    #[schemars(extend("default" = DEFAULT_INDEX))]
    pub index: Option<String>,
    /// An ingest pipeline of the service for the documents.
    pub pipeline: Option<String>,
    /// Whether the index template of the events is installed at the start, when it is missing or older.
    #[serde(default)]
    pub manage_template: bool,
    /// Who we are to the server.
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

/// Elasticsearch or OpenSearch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elasticsearch {
    /// The service's addresses.
    pub endpoints: Vec<Url>,
    /// The data stream or index.
    pub index: IndexName,
    /// An ingest pipeline.
    pub pipeline: Option<String>,
    /// Whether the index template is installed.
    pub manage_template: bool,
    /// Who we are.
    pub login: Option<Login>,
    /// How requests are sent.
    pub delivery: Delivery,
}

/// The name of a data stream or index, which may depend on the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexName {
    before: String,
    /// What follows the tenant, if the tenant is part of it.
    after: Option<String>,
}

impl IndexName {
    /// The name for all tenants, if it is one.
    pub fn fixed(&self) -> Option<&str> {
        self.after.is_none().then_some(self.before.as_str())
    }

    /// The name for the events of a tenant.
    pub fn of(&self, tenant: &str) -> Cow<'_, str> {
        let Some(after) = &self.after else {
            return Cow::Borrowed(&self.before);
        };
        // `-` parts the name of a data stream, so it may not stand in a part of it.
        let fine = |letter: char| match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() || letter == '.' => letter,
            _ => '_',
        };
        let tenant: String = tenant.chars().map(fine).collect();
        Cow::Owned(format!("{}{tenant}{after}", self.before))
    }

    /// What matches the names for all tenants, as index templates write it.
    pub fn pattern(&self) -> String {
        match &self.after {
            None => self.before.clone(),
            Some(after) => format!("{}*{after}", self.before),
        }
    }

    fn check(scope: &Scope<'_, '_>, at: &Path, text: &str) -> Self {
        let (before, after) = match text.split_once(TENANT) {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        let fine = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter)
        };
        let rest = after.unwrap_or_default();
        let begins = before.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            || before.starts_with('.') && before.len() > 1;
        // A name has at most 255 bytes; a tenant's id has up to 64 of them.
        let short = before.len() + rest.len() <= 180;
        if !(begins && short && before.chars().all(fine) && rest.chars().all(fine)) {
            let what = format!("`{}` cannot be the name of an index", text.escape_debug());
            let help = "use a-z, 0-9, `-`, `_`, `.` and at most one `{tenant}`; begin with a letter or digit";
            scope.report.add(at, what, help);
        }
        Self {
            before: before.to_owned(),
            after: after.map(str::to_owned),
        }
    }
}

impl ElasticsearchSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Elasticsearch> {
        let endpoints = endpoints(scope, &at.key("endpoints"), &self.endpoints);
        let index = self.index.as_deref().unwrap_or(DEFAULT_INDEX);
        let index = IndexName::check(scope, &at.key("index"), index);
        if let Some(pipeline) = &self.pipeline {
            scope.name(&at.key("pipeline"), pipeline, 200);
        }
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let login = login(scope, &at.key("auth"), self.auth.as_ref(), true);
        Some(Elasticsearch {
            endpoints,
            index,
            pipeline: self.pipeline.clone(),
            manage_template: self.manage_template,
            login: login?,
            delivery,
        })
    }
}
