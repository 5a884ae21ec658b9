//! Section `http`: how the host reaches the network.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::check::{Scope, SecretSection};
use super::report::{Path, Place};
use crate::secret::SecretRef;

/// How the host reaches the network.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http")]
pub struct HttpSection {
    /// A PEM file with certificates to trust beside those of the system, seen from the pipeline's
    /// folder.
    pub ca_file: Option<String>,
    /// A proxy for all requests. Environment variables such as `HTTPS_PROXY` are not read.
    pub proxy: Option<ProxySection>,
    /// Hosts that are reached without the proxy: `host`, `.domain` for a domain with all its hosts,
    /// an address.
    #[serde(default)]
    pub no_proxy: Vec<String>,
}

/// A proxy for all requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "proxy")]
pub struct ProxySection {
    /// Where it is. The connection to the proxy itself is plain HTTP; what goes to an https host is
    /// encrypted through it.
    #[schemars(extend("examples" = ["http://proxy.example.com:3128"]))]
    pub url: String,
    /// User name, where the proxy asks for one.
    pub username: Option<String>,
    /// Password, where the proxy asks for one.
    pub password: Option<SecretSection>,
}

/// How the host reaches the network, checked.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// Certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// A proxy for all requests.
    pub proxy: Option<Proxy>,
    /// Hosts that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// Where the certificates are named.
    pub place: Place,
}

/// A proxy, checked.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it is: scheme http, a host, a port.
    pub url: Url,
    /// Who we are to it.
    pub login: Option<(String, Option<SecretRef>)>,
}

impl HttpSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> HttpConfig {
        let ca_file = self
            .ca_file
            .as_ref()
            .map(|file| scope.path(&at.key("ca_file"), file));
        let proxy = self
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.check(scope, &at.key("proxy")));
        for (index, host) in self.no_proxy.iter().enumerate() {
            if host.is_empty() || host.contains(['/', '*', ' ']) {
                let help = "write a host, a domain such as `.example.com`, or an address";
                let what = format!("`{host}` is not a host");
                scope
                    .report
                    .add(&at.key("no_proxy").index(index), what, help);
            }
        }
        let no_proxy = self
            .no_proxy
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect();
        HttpConfig {
            ca_file,
            proxy,
            no_proxy,
            place: scope.report.place(&at.key("ca_file")),
        }
    }
}

impl ProxySection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Proxy> {
        let password = self
            .password
            .as_ref()
            .map(|secret| scope.secret(&at.key("password"), secret));
        if self.username.is_none() && password.is_some() {
            scope.report.add(
                &at.key("password"),
                "`password` without `username`",
                "add `username`",
            );
        }
        let url = scope.url(&at.key("url"), &self.url)?;
        if url.scheme() != "http" || url.path() != "/" {
            let what = "a proxy is reached by plain http and has no path";
            scope.report.add(
                &at.key("url"),
                what,
                "write it like `http://proxy.example.com:3128`",
            );
            return None;
        }
        let login = self.username.clone().map(|name| (name, password.flatten()));
        Some(Proxy { url, login })
    }
}
