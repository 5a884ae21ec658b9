//! Section `api`: where a running collector can be asked how it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{Scope, SecretSection};
use super::report::{Path, Place};
use crate::secret::SecretRef;

/// The port that Vector's API has, too.
const PORT: u16 = 8686;

/// Answers `GET /healthz`, `/readyz`, `/metrics` (Prometheus), `/status` (JSON) and `/tap` (events as they pass; see
/// `sluicegate tap`) over HTTP while pipelines run. Without this section nothing listens. Pipelines of one process
/// share one API; a backfill has none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "api")]
pub struct ApiSection {
    /// Whether it listens.
    #[schemars(extend("default" = true))]
    pub enabled: Option<bool>,
    /// An IP address and a port; port 0 takes any that is free, and the log says which. One that other machines reach
    /// needs a `token`.
    #[schemars(extend("default" = "127.0.0.1:8686"))]
    pub address: Option<String>,
    /// What has to be sent as `Authorization: Bearer TOKEN`, except for `/healthz`, and `/readyz` without its reasons.
    /// Where there is no token, every user of the machine can read events at `/tap`.
    pub token: Option<SecretSection>,
}

/// Where the API listens, checked.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where.
    pub address: SocketAddr,
    /// What has to be sent.
    pub token: Option<SecretRef>,
    /// Where that is written.
    pub place: Place,
}

impl ApiSection {
    /// `None` when it is not enabled; what is written is checked all the same.
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<ApiConfig> {
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
        let token = self
            .token
            .as_ref()
            .map(|token| scope.secret(&at.key("token"), token));
        let address = match &self.address {
            None => default,
            Some(text) => match text.parse() {
                Ok(address) => address,
                Err(_) => {
                    let what =
                        format!("`{}` is not an IP address with a port", text.escape_debug());
                    let help = "write it like `127.0.0.1:8686` or `[::1]:8686`";
                    scope.report.add(&at.key("address"), what, help);
                    default
                }
            },
        };
        if !address.ip().to_canonical().is_loopback() && token.is_none() {
            let what = format!("other machines reach `{address}`, and there is no `token`");
            let help = "add `token: { file: PATH }`, or listen on `127.0.0.1`";
            scope.report.add(&at.key("address"), what, help);
        }
        self.enabled.unwrap_or(true).then(|| ApiConfig {
            address,
            token: token.flatten(),
            place: scope.report.place(at),
        })
    }
}
