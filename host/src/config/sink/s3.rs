//! Sink `s3`: object storage that speaks S3.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::objects::{BatchEncodingSection, DEFAULT_PREFIX, ObjectRequestSection, Objects, Shared};
use super::request::{Compression, TlsSection};
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::report::Path;
use crate::secret::SecretRef;

/// Writes events as objects to Amazon S3 or a service that speaks its protocol, one event a line. What the source hands
/// over together becomes one object for each day (UTC) of its events, `PREFIX/YYYY-MM-DD/SPLIT-PART.ndjson.gz`. The
/// name is the same whenever the split is read again, so what is written again after a crash replaces what is there.
/// With `batch_encoding` objects are Parquet files instead. Needs a build with the feature `s3`.
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
    /// How lines are packed.
    #[serde(default)]
    #[schemars(with = "Compression", extend("default" = "gzip"))]
    pub compression: Option<Compression>,
    /// Events as rows of a columnar file instead of lines.
    #[schemars(extend("examples" = [{ "codec": "parquet" }]))]
    pub batch_encoding: Option<Part<BatchEncodingSection>>,
    /// How objects are sent.
    #[serde(default)]
    pub request: Part<ObjectRequestSection>,
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

/// Object storage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The service, unless it is Amazon's.
    pub endpoint: Option<Url>,
    /// Whether the bucket stands in the path.
    pub force_path_style: bool,
    /// Id, key and token.
    pub login: Option<(String, SecretRef, Option<SecretRef>)>,
    /// How objects are named, packed and sent.
    pub objects: Objects,
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
        let shared = Shared {
            prefix: ("key_prefix", &self.key_prefix),
            compression: self.compression,
            batch_encoding: &self.batch_encoding,
            request: &self.request,
            tls: &self.tls,
        };
        let objects = shared.check(scope, at);
        Some(S3 {
            bucket: self.bucket.clone(),
            region: self.region.clone().unwrap_or_else(|| "us-east-1".into()),
            force_path_style: self.force_path_style.unwrap_or(self.endpoint.is_some()),
            endpoint: endpoint?,
            login: login?,
            objects,
        })
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
