//! Sink `azure_blob`: Azure Blob Storage.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::azure::AzureAuthSection;
use super::objects::{BatchEncodingSection, DEFAULT_PREFIX, ObjectRequestSection, Objects, Shared};
use super::request::{Compression, TlsSection};
use crate::config::auth::Auth;
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::report::Path;
use crate::secret::SecretRef;

/// What tokens for any account of any cloud are asked for with.
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

/// Writes events as blobs to Azure Blob Storage, one event a line, in objects named as those of the sink `s3`:
/// `PREFIX/YYYY-MM-DD/SPLIT-PART.ndjson.gz`. What is written again after a crash replaces what is there. With
/// `batch_encoding` objects are Parquet files instead. Needs a build with the feature `s3`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "azure_blob")]
pub struct AzureBlobSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The storage account.
    #[schemars(extend("examples" = ["auditarchive"]))]
    pub account_name: String,
    /// The container, which has to be there.
    #[schemars(extend("examples" = ["audit"]))]
    pub container_name: String,
    /// What the names of blobs begin with. `{tenant}` and `{stream}` stand for where an event comes from.
    #[schemars(extend("default" = DEFAULT_PREFIX))]
    pub blob_prefix: Option<String>,
    /// The account's address. Default: `https://ACCOUNT.blob.core.windows.net`. Tokens and signatures go there and
    /// nowhere else.
    #[schemars(extend("examples" = ["https://auditarchive.blob.core.usgovcloudapi.net"]))]
    pub endpoint: Option<String>,
    /// Who we are to the service. Default: whoever the environment (`AZURE_*`), the workload or the machine's managed
    /// identity says, in this order.
    pub auth: Option<Part<AzureBlobAuthSection>>,
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

/// Who we are to Azure Blob Storage: one of three. Secrets are read again when the service refuses them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "azure_blob_auth")]
pub struct AzureBlobAuthSection {
    /// A key of the account, which may do everything there.
    pub account_key: Option<SecretSection>,
    /// A shared access signature with the permissions to create and write: what follows the question mark.
    pub sas_token: Option<SecretSection>,
    /// An application with the role Storage Blob Data Contributor.
    pub application: Option<Part<AzureAuthSection>>,
}

/// Azure Blob Storage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureBlob {
    /// The account.
    pub account_name: String,
    /// The container.
    pub container_name: String,
    /// Where it is.
    pub endpoint: Url,
    /// Who we are, unless the environment says it.
    pub auth: Option<AzureBlobAuth>,
    /// How blobs are named, packed and sent.
    pub objects: Objects,
}

/// Who we are to Azure Blob Storage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureBlobAuth {
    /// A key of the account.
    AccountKey(SecretRef),
    /// A shared access signature.
    SasToken(SecretRef),
    /// An application, whose tokens go to the endpoint.
    Application(Box<Auth>),
}

impl AzureBlobSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<AzureBlob> {
        let account = &self.account_name;
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let named = (3..=24).contains(&account.len()) && account.chars().all(plain);
        if !named {
            let what = format!("`{}` cannot be a storage account", account.escape_debug());
            let help = "3 to 24 of a-z, 0-9";
            scope.report.add(&at.key("account_name"), what, help);
        }
        let container = &self.container_name;
        let fine = |letter: char| plain(letter) || letter == '-';
        if !(3..=63).contains(&container.len()) || !container.chars().all(fine) {
            let what = format!("`{}` cannot be a container", container.escape_debug());
            let help = "3 to 63 of a-z, 0-9, `-`";
            scope.report.add(&at.key("container_name"), what, help);
        }
        let endpoint = match &self.endpoint {
            Some(text) => scope.url(&at.key("endpoint"), text),
            None if named => Url::parse(&format!("https://{account}.blob.core.windows.net")).ok(),
            None => None,
        };
        let shared = Shared {
            prefix: ("blob_prefix", &self.blob_prefix),
            compression: self.compression,
            batch_encoding: &self.batch_encoding,
            request: &self.request,
            tls: &self.tls,
        };
        let objects = shared.check(scope, at);
        let auth_at = at.key("auth");
        // `None` is for what is wrong, and reported.
        let auth = match &self.auth {
            None => Some(None),
            Some(Part(auth)) => auth
                .as_ref()
                .and_then(|auth| auth.check(scope, &auth_at, endpoint.as_ref()))
                .map(Some),
        };
        Some(AzureBlob {
            account_name: account.clone(),
            container_name: container.clone(),
            endpoint: endpoint?,
            auth: auth?,
            objects,
        })
    }
}

impl AzureBlobAuthSection {
    fn check(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
        endpoint: Option<&Url>,
    ) -> Option<AzureBlobAuth> {
        match (&self.account_key, &self.sas_token, &self.application) {
            (Some(key), None, None) => {
                let key = scope.secret(&at.key("account_key"), key)?;
                Some(AzureBlobAuth::AccountKey(key))
            }
            (None, Some(token), None) => {
                let token = scope.secret(&at.key("sas_token"), token)?;
                Some(AzureBlobAuth::SasToken(token))
            }
            (None, None, Some(Part(application))) => {
                let checked = application.as_ref()?.check(scope, &at.key("application"))?;
                let auth = checked.to(endpoint?.clone(), STORAGE_SCOPE.to_owned());
                Some(AzureBlobAuth::Application(Box::new(auth)))
            }
            _ => {
                let help = "write one of `account_key`, `sas_token` and `application`; leave `auth` out for the \
                            machine's own identity";
                scope
                    .report
                    .add(at, "`auth` needs one way to sign in", help);
                None
            }
        }
    }
}
