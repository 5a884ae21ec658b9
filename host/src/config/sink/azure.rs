//! How a sink signs in to Azure: an application in Microsoft Entra ID, as for tenants, in Azure's own clouds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::auth::microsoft::token_url;
use crate::config::auth::{
    Application, Auth, CertificateSection, Credential, OAuth2, TokenEndpoint, url_of_cloud,
};
use crate::config::check::{Scope, SecretSection};
use crate::config::report::Path;

/// An application registered in Microsoft Entra ID. One of `client_secret`, `certificate` and `federated_token_file`
/// proves that it is the application.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "azure_auth", extend("examples" = [{
    "directory_id": "11111111-2222-3333-4444-555555555555",
    "client_id": "66666666-7777-8888-9999-000000000000",
    "client_secret": { "env": "AZURE_CLIENT_SECRET" },
}]))]
pub struct AzureAuthSection {
    /// Which of Azure's clouds it is in; where to sign in follows from it.
    #[serde(default)]
    pub cloud: AzureCloud,
    /// The directory (tenant) id: Entra admin center, Overview.
    #[schemars(extend("examples" = ["11111111-2222-3333-4444-555555555555"]))]
    pub directory_id: String,
    /// The application (client) id: Entra admin center, App registrations, the application's Overview.
    #[schemars(extend("examples" = ["66666666-7777-8888-9999-000000000000"]))]
    pub client_id: String,
    /// The value (not the id) of a client secret of the application.
    pub client_secret: Option<SecretSection>,
    /// A certificate registered with the application.
    pub certificate: Option<CertificateSection>,
    /// A file with a token of another issuer that the application trusts (workload identity federation). It is read
    /// again for every sign-in.
    pub federated_token_file: Option<String>,
    /// Where to sign in instead. Only with `cloud: custom`.
    #[schemars(extend("examples" = ["https://login.example.com"]))]
    pub login_url: Option<String>,
}

/// One of Azure's clouds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "azure_cloud", inline)]
pub enum AzureCloud {
    /// The public cloud: `login.microsoftonline.com`.
    #[default]
    Commercial,
    /// Azure Government: `login.microsoftonline.us`.
    UsGovernment,
    /// China, run by 21Vianet: `login.partner.microsoftonline.cn`.
    China,
    /// Whatever `login_url` says.
    Custom,
}

impl AzureCloud {
    /// Where its applications sign in; `None` for the custom one.
    fn login_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial => Some("https://login.microsoftonline.com"),
            Self::UsGovernment => Some("https://login.microsoftonline.us"),
            Self::China => Some("https://login.partner.microsoftonline.cn"),
            Self::Custom => None,
        }
    }

    /// What tokens for Azure Monitor are asked for with; `None` for the custom one.
    pub fn monitor_scope(self) -> Option<&'static str> {
        match self {
            Self::Commercial => Some("https://monitor.azure.com/.default"),
            Self::UsGovernment => Some("https://monitor.azure.us/.default"),
            Self::China => Some("https://monitor.azure.cn/.default"),
            Self::Custom => None,
        }
    }
}

/// An application, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureAuth {
    token_url: Url,
    client_id: String,
    credential: Credential,
}

impl AzureAuth {
    /// The way to tokens of a scope, which go to the origin of an address and nowhere else.
    pub fn to(self, resource_url: Url, scope: String) -> Auth {
        Auth::OAuth2(OAuth2 {
            token_url: self.token_url,
            client_id: self.client_id,
            credential: self.credential,
            scope: Some(scope),
            resource_url,
        })
    }
}

impl AzureAuthSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<AzureAuth> {
        let application = Application {
            directory_id: &self.directory_id,
            client_id: &self.client_id,
            client_secret: self.client_secret.as_ref(),
            certificate: self.certificate.as_ref(),
            federated_token_file: self.federated_token_file.as_deref(),
        };
        let (directory_id, client_id, credential) = application.check(scope, at);
        let (key, known) = ("login_url", self.cloud.login_url());
        let login_url = url_of_cloud(scope, at, key, self.login_url.as_deref(), known);
        Some(AzureAuth {
            token_url: token_url(&login_url?, &directory_id, TokenEndpoint::V2),
            client_id,
            credential: credential?,
        })
    }
}
