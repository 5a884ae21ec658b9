//! Sink `s3`: object storage that speaks S3.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::request::{Compression, Tls, TlsSection};
use super::template::Template;
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Period;
use crate::secret::SecretRef;

/// Where objects go unless the config says otherwise.
const DEFAULT_PREFIX: &str = "{tenant}/{stream}/";

/// Writes events as objects to Amazon S3 or a service that speaks its protocol, one event a line. What the source hands
/// over together becomes one object for each day (UTC) of its events, `PREFIX/YYYY-MM-DD/SPLIT-PART.ndjson.gz`. The
/// name is the same whenever the split is read again, so what is written again after a crash replaces what is there.
/// Needs a build with the feature `s3`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "s3")]
pub struct S3Section {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The bucket.
    #[schemars(extend("examples" = ["audit-archive"]))]
    pub bucket: String,
    /// What the names of objects begin with. `{tenant}` and `{stream}` stand for where an event comes from.
    #[schemars(extend("default" = DEFAULT_PREFIX))]
    pub key_prefix: Option<String>,
    /// The service's region.
    #[schemars(extend("default" = "us-east-1"))]
    pub region: Option<String>,
    /// The service's address. Default: that of Amazon S3 in the region.
    #[schemars(extend("examples" = ["https://s3.example.com"]))]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path of addresses rather than in the host's name. Default: with `endpoint`.
    pub force_path_style: Option<bool>,
    /// Who we are to the service. Default: whoever the environment (`AWS_*`, web identity), the container or the
    /// machine says, in this order.
    pub auth: Option<Part<S3AuthSection>>,
    /// How objects are packed.
    #[serde(default = "gzip")]
    pub compression: Compression,
    /// How objects are sent.
    #[serde(default)]
    pub request: Part<S3RequestSection>,
    /// How the server is trusted.
    pub tls: Option<Part<TlsSection>>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// Who we are to a service that speaks S3. Secrets are read again when the service refuses them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "s3_auth")]
pub struct S3AuthSection {
    /// The id of the access key.
    #[schemars(extend("examples" = ["AKIAIOSFODNN7EXAMPLE"]))]
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: SecretSection,
    /// The token of a session, where the key belongs to one.
    pub session_token: Option<SecretSection>,
}

/// How objects are sent. What fails is sent again for as long as it takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "s3_request")]
pub struct S3RequestSection {
    /// Longest time for an object and its answer.
    #[schemars(extend("default" = "60s"))]
    pub timeout: Option<Period>,
    /// Most objects under way at once.
    #[schemars(extend("default" = 16))]
    pub concurrency: Option<u32>,
}

/// Object storage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What the names of objects begin with; it ends with a slash, unless it is empty.
    pub key_prefix: Template,
    /// The region.
    pub region: String,
    /// The service, unless it is Amazon's.
    pub endpoint: Option<Url>,
    /// Whether the bucket stands in the path.
    pub force_path_style: bool,
    /// Id, key and token.
    pub login: Option<(String, SecretRef, Option<SecretRef>)>,
    /// How objects are packed.
    pub compression: Compression,
    /// Longest time for an object.
    pub timeout: Duration,
    /// Most objects at once.
    pub concurrency: usize,
    /// How the server is trusted.
    pub tls: Option<Tls>,
}

fn gzip() -> Compression {
    Compression::Gzip
}

impl S3Section {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<S3> {
        let fine = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter)
        };
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.chars().all(fine) {
            let what = format!("`{}` cannot be a bucket", self.bucket.escape_debug());
            let help = "3 to 63 of a-z, 0-9, `-`, `.`";
            scope.report.add(&at.key("bucket"), what, help);
        }
        // `None` is for what is wrong, and reported.
        let endpoint = match &self.endpoint {
            None => Some(None),
            Some(text) => scope.url(&at.key("endpoint"), text).map(Some),
        };
        let login = match &self.auth {
            None => Some(None),
            Some(Part(auth)) => auth
                .as_ref()
                .and_then(|auth| auth.check(scope, &at.key("auth")))
                .map(Some),
        };
        let key_prefix = self.prefix(scope, &at.key("key_prefix"));
        let request_at = at.key("request");
        let request = self.request.0.clone().unwrap_or_default();
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
        let tls = tls.and_then(|tls| tls.check(scope, &at.key("tls")));
        Some(S3 {
            bucket: self.bucket.clone(),
            key_prefix,
            region: self.region.clone().unwrap_or_else(|| "us-east-1".into()),
            force_path_style: self.force_path_style.unwrap_or(self.endpoint.is_some()),
            endpoint: endpoint?,
            login: login?,
            compression: self.compression,
            timeout,
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            tls,
        })
    }

    fn prefix(&self, scope: &Scope<'_, '_>, at: &Path) -> Template {
        let text = self.key_prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
        let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.=/".contains(letter);
        let prefix = Template::check(scope, at, text);
        let parts = || text.trim_end_matches('/').split('/');
        let whole = text.is_empty() || parts().all(|part| !matches!(part, "" | "." | ".."));
        if !whole || text.len() > 300 || !prefix.texts().all(|text| text.chars().all(fine)) {
            let what = format!("`{}` cannot begin a name", text.escape_debug());
            let help = "write folders of letters, digits, `-`, `_`, `.`, `=` with `/` between them: `audit/{tenant}/`";
            scope.report.add(at, what, help);
        }
        prefix
    }
}

impl S3AuthSection {
    fn check(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
    ) -> Option<(String, SecretRef, Option<SecretRef>)> {
        if self.access_key_id.is_empty() {
            let help = "write the id that stands beside the key";
            let at = at.key("access_key_id");
            scope.report.add(&at, "the id is empty", help);
        }
        let key = scope.secret(&at.key("secret_access_key"), &self.secret_access_key);
        let token = match &self.session_token {
            None => None,
            Some(token) => Some(scope.secret(&at.key("session_token"), token)?),
        };
        Some((self.access_key_id.clone(), key?, token))
    }
}
