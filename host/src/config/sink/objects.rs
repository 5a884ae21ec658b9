//! What the sinks that write objects have in common: names, packing, requests, TLS.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::request::{Compression, Tls, TlsSection};
use super::template::Template;
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Period;

/// Where objects go unless the config says otherwise.
pub(super) const DEFAULT_PREFIX: &str = "{tenant}/{stream}/";

/// How objects are sent. What fails is sent again for as long as it takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "object_request")]
pub struct ObjectRequestSection {
    /// Longest time for an object and its answer.
    #[schemars(extend("default" = "60s"))]
    pub timeout: Option<Period>,
    /// Most objects under way at once.
    #[schemars(extend("default" = 16))]
    pub concurrency: Option<u32>,
}

/// How objects are named, packed and sent, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// What the names of objects begin with.
    pub prefix: Template,
    /// How objects are packed.
    pub compression: Compression,
    /// Longest time for an object.
    pub timeout: Duration,
    /// Most objects at once.
    pub concurrency: usize,
    /// How the server is trusted.
    pub tls: Option<Tls>,
}

/// The keys that all sinks which write objects have.
pub(super) struct Shared<'a> {
    /// The key of the prefix, and what is written there.
    pub prefix: (&'static str, &'a Option<String>),
    pub compression: Compression,
    pub request: &'a Part<ObjectRequestSection>,
    pub tls: &'a Option<Part<TlsSection>>,
}

pub(super) fn gzip() -> Compression {
    Compression::Gzip
}

impl Shared<'_> {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Objects {
        let request_at = at.key("request");
        let request = self.request.0.clone().unwrap_or_default();
        let prefix = self.prefix(scope, at);
        let timeout = in_range(
            scope.report,
            &request_at.key("timeout"),
            request.timeout.map(|period| period.0),
            Duration::from_mins(1),
            (Duration::from_millis(100), Duration::from_hours(1)),
            |time| Period(time).to_string(),
        );
        let concurrency = in_range(
            scope.report,
            &request_at.key("concurrency"),
            request.concurrency,
            16,
            (1, 64),
            |number| number.to_string(),
        );
        let tls = self.tls.as_ref().and_then(|tls| tls.0.as_ref());
        Objects {
            prefix,
            compression: self.compression,
            timeout,
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            tls: tls.and_then(|tls| tls.check(scope, &at.key("tls"))),
        }
    }

    fn prefix(&self, scope: &Scope<'_, '_>, at: &Path) -> Template {
        let (key, text) = self.prefix;
        let at = at.key(key);
        let text = text.as_deref().unwrap_or(DEFAULT_PREFIX);
        let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.=/".contains(letter);
        let prefix = Template::check(scope, &at, text);
        let parts = || text.trim_end_matches('/').split('/');
        let whole = text.is_empty() || parts().all(|part| !matches!(part, "" | "." | ".."));
        if !whole || text.len() > 300 || !prefix.texts().all(|text| text.chars().all(fine)) {
            let what = format!("`{}` cannot begin a name", text.escape_debug());
            let help = "write folders of letters, digits, `-`, `_`, `.`, `=` with `/` between them: `audit/{tenant}/`";
            scope.report.add(&at, what, help);
        }
        prefix
    }
}
