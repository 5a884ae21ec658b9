//! Section `auth`: how the host gets a tenant's access tokens.
//!
//! The plugin never sees any of it: the host attaches the token to requests that go to the
//! resource's origin.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::check::{Scope, SecretSection};
use super::report::{Path, Place};
use crate::auth::microsoft::Cloud;
use crate::http::Origin;
use crate::secret::{SecretOrigin, SecretRef};

/// How to sign in. Without it requests go out as the plugin wrote them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
#[schemars(rename = "auth")]
pub enum AuthSection {
    /// An application registered in Microsoft Entra ID.
    Microsoft(MicrosoftSection),
    /// Any server for OAuth2 client credentials.
    OAuth2(OAuth2Section),
}

/// An application registered in Microsoft Entra ID. One of `client_secret`, `certificate` and
/// `federated_token_file` proves that it is the application.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "microsoft")]
pub struct MicrosoftSection {
    /// Which of Microsoft's clouds the tenant is in; the login and resource hosts follow from it.
    #[serde(default)]
    pub cloud: Cloud,
    /// The tenant's directory (tenant) id: Entra admin center, Overview.
    #[schemars(extend("examples" = ["11111111-2222-3333-4444-555555555555"]))]
    pub directory_id: String,
    /// The application (client) id: Entra admin center, App registrations, the application's
    /// Overview.
    #[schemars(extend("examples" = ["66666666-7777-8888-9999-000000000000"]))]
    pub client_id: String,
    /// The value (not the id) of a client secret of the application.
    pub client_secret: Option<SecretSection>,
    /// A certificate registered with the application.
    pub certificate: Option<CertificateSection>,
    /// A file with a token of another issuer that the application trusts (workload identity
    /// federation). It is read again for every sign-in.
    pub federated_token_file: Option<String>,
    /// Which of Entra's token endpoints is asked.
    #[serde(default)]
    pub token_endpoint: TokenEndpoint,
    /// Where to sign in instead. Only with `cloud: custom`.
    #[schemars(extend("examples" = ["https://login.example.com"]))]
    pub login_url: Option<String>,
    /// Where the API is instead. Only with `cloud: custom`.
    #[schemars(extend("examples" = ["https://manage.example.com"]))]
    pub resource_url: Option<String>,
}

/// OAuth2 client credentials (RFC 6749, section 4.4). One of `client_secret`, `certificate` and
/// `federated_token_file` proves that it is the client.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "oauth2")]
pub struct OAuth2Section {
    /// Where tokens are asked for.
    #[schemars(extend("examples" = ["https://login.example.com/oauth2/token"]))]
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Option<SecretSection>,
    /// A certificate whose key signs the client's assertions.
    pub certificate: Option<CertificateSection>,
    /// A file with a token of another issuer that is sent as the client's assertion. It is read
    /// again for every sign-in.
    pub federated_token_file: Option<String>,
    /// What to ask for, as the server wants it.
    pub scope: Option<String>,
    /// Where the token goes: requests to this scheme, host and port carry it, no others do.
    #[schemars(extend("examples" = ["https://api.example.com"]))]
    pub resource_url: String,
}

/// A certificate and its key, which sign a fresh assertion for every sign-in. All files are read
/// again when they change; its end is announced 30, 14 and 3 days before.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "certificate")]
pub struct CertificateSection {
    /// The certificate: a PEM file, whose further certificates are its chain, or a PKCS#12 file
    /// (`.pfx`, `.p12`) that holds the key as well. Seen from the pipeline's folder.
    #[schemars(extend("examples" = ["contoso.pem", "contoso.pfx"]))]
    pub file: String,
    /// The private key: RSA, PKCS#8 or PKCS#1 in PEM form. Without it the key is in `file`.
    pub key: Option<SecretSection>,
    /// The passphrase of an encrypted key (PKCS#8) or of a PKCS#12 file.
    pub passphrase: Option<SecretSection>,
    /// How assertions are signed.
    #[serde(default)]
    pub algorithm: Algorithm,
}

/// Which of Entra's token endpoints is asked. Either's tokens work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "token_endpoint", inline)]
pub enum TokenEndpoint {
    /// `oauth2/v2.0/token`, with a scope.
    #[default]
    V2,
    /// `oauth2/token`, with a resource; for gateways and private clouds that know no other.
    V1,
}

/// How assertions are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "algorithm", inline)]
pub enum Algorithm {
    /// RSASSA-PSS with SHA-256, and the certificate's SHA-256 thumbprint.
    #[default]
    PS256,
    /// PKCS#1 v1.5 with SHA-256, and the certificate's SHA-1 thumbprint; for older servers.
    RS256,
}

/// How a tenant's tokens are got, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Requests go out as the plugin wrote them.
    None,
    /// An application in Microsoft Entra ID.
    Microsoft(Microsoft),
    /// OAuth2 client credentials.
    OAuth2(OAuth2),
}

/// An application in Microsoft Entra ID, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Microsoft {
    /// The cloud.
    pub cloud: Cloud,
    /// The customer's directory, a GUID in lower case.
    pub directory_id: String,
    /// The application, a GUID in lower case.
    pub client_id: String,
    /// What proves that it is the application.
    pub credential: Credential,
    /// Which endpoint is asked for tokens.
    pub token_endpoint: TokenEndpoint,
    /// Where to sign in.
    pub login_url: Url,
    /// The API, and what tokens are for.
    pub resource_url: Url,
}

/// OAuth2 client credentials, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// Where tokens are asked for.
    pub token_url: Url,
    /// The client.
    pub client_id: String,
    /// What proves that it is the client.
    pub credential: Credential,
    /// What to ask for.
    pub scope: Option<String>,
    /// Where tokens go.
    pub resource_url: Url,
}

/// What proves that a client is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A shared secret.
    ClientSecret(SecretRef),
    /// Assertions signed with a key.
    Certificate(Box<Certificate>),
    /// A token of another issuer, read from a file for every sign-in.
    FederatedTokenFile(SecretRef),
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The file with the certificate: PEM, or PKCS#12.
    pub file: PathBuf,
    /// The private key in PEM form; `None` when the file holds it.
    pub key: Option<SecretRef>,
    /// What opens the key or the file.
    pub passphrase: Option<SecretRef>,
    /// How to sign.
    pub algorithm: Algorithm,
    /// Where the certificate is named.
    pub place: Place,
}

impl PartialEq for Certificate {
    /// The same certificate is the same wherever it is named.
    fn eq(&self, other: &Self) -> bool {
        let Self {
            file,
            key,
            passphrase,
            algorithm,
            place: _,
        } = self;
        *file == other.file
            && *key == other.key
            && *passphrase == other.passphrase
            && *algorithm == other.algorithm
    }
}

impl Eq for Certificate {}

impl Auth {
    /// The address whose scheme, host and port get the token.
    pub fn resource_url(&self) -> Option<&Url> {
        match self {
            Self::None => None,
            Self::Microsoft(auth) => Some(&auth.resource_url),
            Self::OAuth2(auth) => Some(&auth.resource_url),
        }
    }

    /// The only origin to which the token is attached.
    pub fn origin(&self) -> Option<Origin> {
        self.resource_url().and_then(Origin::of)
    }

    /// What the plugin may know of it.
    pub fn public_facts(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut facts = serde_json::Map::new();
        if let Some(url) = self.resource_url() {
            facts.insert(
                "resource_url".into(),
                url.as_str().trim_end_matches('/').into(),
            );
        }
        if let Self::Microsoft(auth) = self {
            facts.insert("directory_id".into(), auth.directory_id.as_str().into());
        }
        facts
    }
}

impl AuthSection {
    /// The checked form; `None` when something is wrong, which is then reported.
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Auth> {
        match self {
            Self::Microsoft(section) => section
                .check(scope, &at.key("microsoft"))
                .map(Auth::Microsoft),
            Self::OAuth2(section) => section.check(scope, &at.key("oauth2")).map(Auth::OAuth2),
        }
    }
}

impl MicrosoftSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Microsoft> {
        let application = Application {
            directory_id: &self.directory_id,
            client_id: &self.client_id,
            client_secret: self.client_secret.as_ref(),
            certificate: self.certificate.as_ref(),
            federated_token_file: self.federated_token_file.as_deref(),
        };
        let (directory_id, client_id, credential) = application.check(scope, at);
        let (login_url, resource_url) = self.urls(scope, at);
        Some(Microsoft {
            cloud: self.cloud,
            directory_id,
            client_id,
            credential: credential?,
            token_endpoint: self.token_endpoint,
            login_url: login_url?,
            resource_url: resource_url?,
        })
    }

    fn urls(&self, scope: &Scope<'_, '_>, at: &Path) -> (Option<Url>, Option<Url>) {
        let one = |key, written, known| url_of_cloud(scope, at, key, written, known);
        (
            one(
                "login_url",
                self.login_url.as_deref(),
                self.cloud.login_url(),
            ),
            one(
                "resource_url",
                self.resource_url.as_deref(),
                self.cloud.resource_url(),
            ),
        )
    }
}

/// What a section says of an application in Microsoft Entra ID.
pub(super) struct Application<'a> {
    pub directory_id: &'a str,
    pub client_id: &'a str,
    pub client_secret: Option<&'a SecretSection>,
    pub certificate: Option<&'a CertificateSection>,
    pub federated_token_file: Option<&'a str>,
}

impl Application<'_> {
    /// The directory, the client, and what proves it.
    pub fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> (String, String, Option<Credential>) {
        let directory_id = scope.guid(
            &at.key("directory_id"),
            self.directory_id,
            "find it in the Entra admin center under Overview; a domain name does not work here",
        );
        let client_id = scope.guid(
            &at.key("client_id"),
            self.client_id,
            "find it in the Entra admin center under App registrations, Application (client) ID",
        );
        let credential = credential(
            scope,
            at,
            self.client_secret,
            self.certificate,
            self.federated_token_file,
        );
        (directory_id, client_id, credential)
    }
}

/// An address that follows from the cloud, or is written for the custom one.
pub(super) fn url_of_cloud(
    scope: &Scope<'_, '_>,
    at: &Path,
    key: &str,
    written: Option<&str>,
    known: Option<&'static str>,
) -> Option<Url> {
    match (known, written) {
        (Some(known), None) => Url::parse(known).ok(),
        (None, Some(text)) => scope.url(&at.key(key), text),
        (Some(_), Some(_)) => {
            let what = format!("`{key}` goes only with `cloud: custom`");
            let help = format!("remove `{key}`, or write `cloud: custom`");
            scope.report.add_key(&at.key(key), what, help);
            None
        }
        (None, None) => {
            let what = format!("`cloud: custom` needs `{key}`");
            let help = format!("add `{key}: https://HOST`");
            scope.report.add(&at.key("cloud"), what, help);
            None
        }
    }
}

impl OAuth2Section {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<OAuth2> {
        if self.client_id.is_empty() {
            scope.report.add(
                &at.key("client_id"),
                "`client_id` is empty",
                "name the client",
            );
        }
        let token_url = scope.url(&at.key("token_url"), &self.token_url);
        let resource_url = scope.url(&at.key("resource_url"), &self.resource_url);
        let credential = credential(
            scope,
            at,
            self.client_secret.as_ref(),
            self.certificate.as_ref(),
            self.federated_token_file.as_deref(),
        );
        Some(OAuth2 {
            token_url: token_url?,
            client_id: self.client_id.clone(),
            credential: credential?,
            scope: self.scope.clone(),
            resource_url: resource_url?,
        })
    }
}

fn credential(
    scope: &Scope<'_, '_>,
    at: &Path,
    secret: Option<&SecretSection>,
    certificate: Option<&CertificateSection>,
    token_file: Option<&str>,
) -> Option<Credential> {
    let help = "write one of `client_secret`, `certificate` and `federated_token_file`";
    match (secret, certificate, token_file) {
        (Some(secret), None, None) => scope
            .secret(&at.key("client_secret"), secret)
            .map(Credential::ClientSecret),
        (None, Some(certificate), None) => {
            let at = at.key("certificate");
            let place = scope.report.place(&at.key("file"));
            let file = scope.path(&at.key("file"), &certificate.file);
            let secret = |key: &str, section: &Option<SecretSection>| match section {
                Some(section) => scope.secret(&at.key(key), section).map(Some),
                None => Some(None),
            };
            let (key, passphrase) = (
                secret("key", &certificate.key),
                secret("passphrase", &certificate.passphrase),
            );
            let algorithm = certificate.algorithm;
            Some(Credential::Certificate(Box::new(Certificate {
                file,
                key: key?,
                passphrase: passphrase?,
                algorithm,
                place,
            })))
        }
        (None, None, Some(file)) => {
            let at = at.key("federated_token_file");
            let origin = SecretOrigin::File(scope.path(&at, file));
            Some(Credential::FederatedTokenFile(SecretRef {
                origin,
                place: scope.report.place(&at),
            }))
        }
        (None, None, None) => {
            scope
                .report
                .add(at, "nothing proves who the client is", help);
            None
        }
        _ => {
            scope
                .report
                .add(at, "more than one thing proves who the client is", help);
            None
        }
    }
}
