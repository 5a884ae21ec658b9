//! Sink `fluent`: Fluentd and Fluent Bit, over the forward protocol.

use schemars::JsonSchema;
use serde::Deserialize;

use super::When;
use super::address::Address;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::report::Path;
use crate::secret::SecretRef;

/// Where Fluentd and Fluent Bit listen.
const PORT: u16 = 24_224;

/// The tag of events.
const TAG: &str = "sluicegate.{tenant}.{stream}";

/// Sends events to Fluentd or Fluent Bit over the forward protocol. An event counts as delivered when the server has
/// acknowledged its chunk: Fluentd does so when its buffer has it, which survives a crash with `@type file`; Fluent Bit
/// when its own has it, which does with `storage.type filesystem`. After a crash, or when a connection breaks, events
/// come again. One request for each endpoint is under way at once, unless `request.concurrency` is a number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "fluent")]
pub struct FluentSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The servers, each a host with its port (`24224` without one). One that is down is left out for a while.
    #[schemars(extend("examples" = [["fluentd.example.com:24224"]]))]
    pub endpoints: Vec<String>,
    /// Whether the servers take turns. With `false` the first that works gets everything.
    #[schemars(extend("default" = true))]
    pub load_balance: Option<bool>,
    /// The tag of events. `{tenant}` and `{stream}` are filled in.
    #[schemars(extend("default" = TAG))]
    pub tag: Option<String>,
    /// The key that both sides know, where the server wants one (`shared_key`, in Fluent Bit `Shared_Key`).
    pub shared_key: Option<SecretSection>,
    /// User name, where the server wants one.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretSection>,
    /// What we call ourselves when we sign in.
    #[schemars(extend("default" = "sluicegate"))]
    pub hostname: Option<String>,
    /// How entries are packed.
    #[serde(default)]
    pub compression: Compression,
    /// TLS, and how the server is trusted; `tls: {}` is enough. Without it nothing is encrypted.
    pub tls: Option<Part<TlsSection>>,
    /// How events are put together. A request is one chunk for each tag.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How requests are sent. Its `timeout` is the longest time without any progress.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// Whether events count as delivered only when this sink has them. With `false` it holds nothing up, and drops what
    /// does not fit into its queue.
    #[schemars(extend("default" = true))]
    pub acknowledgements: Option<bool>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// Fluentd or Fluent Bit, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fluent {
    /// The servers.
    pub endpoints: Vec<Address>,
    /// Whether they take turns.
    pub load_balance: bool,
    /// May hold `{tenant}` and `{stream}`.
    pub tag: String,
    /// Who we are, where the server wants to know.
    pub login: Option<FluentLogin>,
    /// Whether connections are encrypted; how, is in `delivery`.
    pub encrypted: bool,
    /// How requests are sent.
    pub delivery: Delivery,
}

/// Who we are to a server that wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluentLogin {
    /// What we call ourselves.
    pub hostname: String,
    /// The key that both sides know; without one it is empty.
    pub shared_key: Option<SecretRef>,
    /// User name and password.
    pub user: Option<(String, SecretRef)>,
}

impl FluentSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Fluent> {
        let endpoints =
            Address::check_all(scope, &at.key("endpoints"), &self.endpoints, Some(PORT));
        let tag = self.tag.as_deref().unwrap_or(TAG).to_owned();
        if tag.is_empty() || tag.len() > 255 || tag.chars().any(|c| c.is_control() || c == ' ') {
            let what = format!("`{}` cannot be a tag", tag.escape_debug());
            let help = "use words with dots between them, such as `o365.{stream}`";
            scope.report.add(&at.key("tag"), what, help);
        }
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let mut delivery = shared.check(scope, at);
        let load_balance = self.load_balance.unwrap_or(true);
        let request = self.request.0.as_ref();
        if request.is_none_or(|request| request.concurrency.is_none()) {
            let at_once = if load_balance { endpoints.len() } else { 1 };
            delivery.policy.concurrency = Some(at_once);
        }
        let login = self.login(scope, at);
        (!endpoints.is_empty()).then_some(Fluent {
            endpoints,
            load_balance,
            tag,
            login: login?,
            encrypted: self.tls.is_some(),
            delivery,
        })
    }

    /// `None` when something is wrong, which is then reported.
    fn login(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Option<FluentLogin>> {
        let hostname = self.hostname.as_deref().unwrap_or("sluicegate").to_owned();
        scope.name(&at.key("hostname"), &hostname, 255);
        let secret = |key: &str, section: &Option<SecretSection>| {
            let section = section.as_ref();
            section.map(|section| scope.secret(&at.key(key), section))
        };
        let shared_key = secret("shared_key", &self.shared_key);
        let password = secret("password", &self.password);
        let user = match (&self.username, password) {
            (Some(name), Some(password)) => Some((name.clone(), password?)),
            (None, None) => None,
            (Some(_), None) => {
                let help = "add `password: { env: NAME }` or `password: { file: PATH }`";
                scope.report.add(at, "`username` without `password`", help);
                return None;
            }
            (None, Some(_)) => {
                let help = "add `username: NAME`";
                scope.report.add(at, "`password` without `username`", help);
                return None;
            }
        };
        let shared_key = match shared_key {
            Some(key) => Some(key?),
            None => None,
        };
        let wanted = shared_key.is_some() || user.is_some();
        Some(wanted.then_some(FluentLogin {
            hostname,
            shared_key,
            user,
        }))
    }
}
