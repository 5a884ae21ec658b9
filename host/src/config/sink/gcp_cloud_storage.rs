//! Sink `gcp_cloud_storage`: Google Cloud Storage.

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

/// Where Google Cloud Storage is.
const DEFAULT_ENDPOINT: &str = "https://storage.googleapis.com";

/// Writes events as objects to Google Cloud Storage, one event a line, in objects named as those of the sink `s3`:
/// `PREFIX/YYYY-MM-DD/SPLIT-PART.ndjson.gz`. What is written again after a crash replaces what is there, so a retention
/// policy on the bucket may refuse it for a while. With `batch_encoding` objects are Parquet files instead. Needs a
/// build with the feature `s3`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "gcp_cloud_storage")]
pub struct GcpCloudStorageSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The bucket.
    #[schemars(extend("examples" = ["audit-archive"]))]
    pub bucket: String,
    /// What the names of objects begin with. `{tenant}` and `{stream}` stand for where an event comes from.
    #[schemars(extend("default" = DEFAULT_PREFIX))]
    pub key_prefix: Option<String>,
    /// The key of a service account: the JSON that the console gives, whole. Default: whoever the environment
    /// (`GOOGLE_*`), the application default credentials or the machine says, in this order.
    pub credentials: Option<SecretSection>,
    /// The service's address.
    #[schemars(extend("default" = DEFAULT_ENDPOINT))]
    pub endpoint: Option<String>,
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

/// Google Cloud Storage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcpCloudStorage {
    /// The bucket.
    pub bucket: String,
    /// The key of a service account, unless the environment has one.
    pub credentials: Option<SecretRef>,
    /// Where it is.
    pub endpoint: Url,
    /// How objects are named, packed and sent.
    pub objects: Objects,
}

impl GcpCloudStorageSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<GcpCloudStorage> {
        let fine = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter)
        };
        if !(3..=222).contains(&self.bucket.len()) || !self.bucket.chars().all(fine) {
            let what = format!("`{}` cannot be a bucket", self.bucket.escape_debug());
            let help = "3 to 63 of a-z, 0-9, `-`, `_`, more with dots";
            scope.report.add(&at.key("bucket"), what, help);
        }
        let endpoint = self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT);
        let endpoint = scope.url(&at.key("endpoint"), endpoint);
        let shared = Shared {
            prefix: ("key_prefix", &self.key_prefix),
            compression: self.compression,
            batch_encoding: &self.batch_encoding,
            request: &self.request,
            tls: &self.tls,
        };
        let objects = shared.check(scope, at);
        // `None` is for what is wrong, and reported.
        let credentials = match &self.credentials {
            None => Some(None),
            Some(key) => scope.secret(&at.key("credentials"), key).map(Some),
        };
        Some(GcpCloudStorage {
            bucket: self.bucket.clone(),
            credentials: credentials?,
            endpoint: endpoint?,
            objects,
        })
    }
}
