//! What the sinks that send requests have in common: batches, retries, TLS, credentials, compression.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::{Path, Place};
use crate::config::unit::{Period, Size};
use crate::secret::SecretRef;
use crate::sink::Policy;

/// How many events go into one request. Whichever limit is reached first ends it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "batch")]
pub struct BatchSection {
    /// Most bytes of events in one request of more than one event.
    #[schemars(extend("default" = "5MiB"))]
    pub max_bytes: Option<Size>,
    /// Most events in one request.
    #[schemars(extend("default" = 5000))]
    pub max_events: Option<u32>,
    /// How long the first event of a request waits for others.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Period>,
}

/// How requests are sent, and sent again. A request that fails is sent again for as long as it takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "request")]
pub struct RequestSection {
    /// Longest time for a request and its answer.
    #[schemars(extend("default" = "60s"))]
    pub timeout: Option<Period>,
    /// Most requests under way at once: a number, or `adaptive` for as many as the server bears.
    #[schemars(extend("default" = "adaptive"))]
    pub concurrency: Option<ConcurrencySetting>,
    /// The wait before a request is sent again; it doubles each time.
    #[schemars(extend("default" = "1s"))]
    pub retry_initial: Option<Period>,
    /// The longest such wait.
    #[schemars(extend("default" = "30s"))]
    pub retry_max: Option<Period>,
}

/// How the server is trusted, and who we are to it. Without it the certificates of the system and
/// those of `http.ca_file` are trusted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "tls")]
pub struct TlsSection {
    /// A PEM file with certificates to trust beside those, seen from the pipeline's folder.
    pub ca_file: Option<String>,
    /// A PEM file with our own certificate and its chain, where the server asks for one. Seen from
    /// the pipeline's folder.
    pub crt_file: Option<String>,
    /// A PEM file with the key of that certificate, not encrypted. Seen from the pipeline's folder.
    pub key_file: Option<String>,
    /// Whether the server's certificate is checked at all. Without it anyone on the way can read
    /// and change what is sent.
    #[schemars(extend("default" = true))]
    pub verify_certificate: Option<bool>,
    /// Whether the server's certificate has to be made out to the host's name.
    #[schemars(extend("default" = true))]
    pub verify_hostname: Option<bool>,
}

/// Who we are to the server. Secrets are read again when the server refuses them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "sink_auth")]
pub struct AuthSection {
    /// How.
    pub strategy: Strategy,
    /// User name, for `basic`.
    pub user: Option<String>,
    /// Password, for `basic`.
    pub password: Option<SecretSection>,
    /// Token, for `bearer`.
    pub token: Option<SecretSection>,
    /// API key, for `api_key`: encoded as Elasticsearch shows it, or `id:key`.
    pub api_key: Option<SecretSection>,
}

/// How a request says who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "strategy", inline)]
pub enum Strategy {
    /// User name and password.
    Basic,
    /// A bearer token.
    Bearer,
    /// An API key of Elasticsearch.
    ApiKey,
}

/// How the body of a request is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "compression", inline)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// With gzip: about a tenth of the bytes, for much of a core at full speed.
    Gzip,
}

/// Requests at once: `adaptive` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencySetting {
    /// As many as the server bears.
    Adaptive,
    /// So many.
    Fixed(u64),
}

impl<'de> Deserialize<'de> for ConcurrencySetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingVisitor;

        impl Visitor<'_> for SettingVisitor {
            type Value = ConcurrencySetting;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`adaptive` or a whole number")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(ConcurrencySetting::Fixed(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == "adaptive" {
                    return Ok(ConcurrencySetting::Adaptive);
                }
                let help = "write `adaptive`, or how many requests may be under way at once";
                Err(E::custom(format!("`{text}` is not known here\n{help}")))
            }
        }
        deserializer.deserialize_any(SettingVisitor)
    }
}

impl JsonSchema for ConcurrencySetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "concurrency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "x-kind": "`adaptive` or whole number",
            "minimum": 1,
            "pattern": "^adaptive$",
        })
    }
}

/// How the server is trusted, and who we are to it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server's certificate is checked.
    pub verify_certificate: bool,
    /// Whether it has to be made out to the host's name.
    pub verify_hostname: bool,
    /// Where it stands.
    pub place: Place,
}

/// Who we are to a server, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// User name and password.
    Basic(String, SecretRef),
    /// A word before a secret: `Bearer`, `Splunk`.
    Scheme(&'static str, SecretRef),
    /// An API key of Elasticsearch.
    ApiKey(SecretRef),
}

/// What all sinks that send requests are told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How the line serves the sink.
    pub policy: Policy,
    /// Longest time for a request and its answer.
    pub timeout: Duration,
    /// How bodies are packed.
    pub compression: Compression,
    /// How the server is trusted; `None` for as all others are.
    pub tls: Option<Tls>,
}

/// The sections that all sinks which send requests have.
pub(super) struct Shared<'a> {
    pub batch: &'a Part<BatchSection>,
    pub request: &'a Part<RequestSection>,
    pub tls: &'a Option<Part<TlsSection>>,
    pub compression: Compression,
    pub acknowledgements: Option<bool>,
}

impl Shared<'_> {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Delivery {
        let (batch, request) = (self.batch.0.clone(), self.request.0.clone());
        let batch = batch.unwrap_or_default();
        let request = request.unwrap_or_default();
        let request_at = at.key("request");
        let minute = Duration::from_mins(1);
        let bounds = (Duration::from_millis(100), LONGEST);
        let tls = self.tls.as_ref().and_then(|tls| tls.0.as_ref());
        Delivery {
            timeout: period(
                scope,
                &request_at.key("timeout"),
                request.timeout,
                minute,
                bounds,
            ),
            policy: self.policy(scope, at, &batch, &request),
            compression: self.compression,
            tls: tls.and_then(|tls| tls.check(scope, &at.key("tls"))),
        }
    }

    fn policy(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
        batch: &BatchSection,
        request: &RequestSection,
    ) -> Policy {
        let default = Policy::default();
        let (batch_at, request_at) = (at.key("batch"), at.key("request"));
        let instant = Duration::from_millis(1);
        let retry = |key: &str, value, default| {
            period(
                scope,
                &request_at.key(key),
                value,
                default,
                (instant, LONGEST),
            )
        };
        let first = retry("retry_initial", request.retry_initial, default.retry.0);
        let longest = retry("retry_max", request.retry_max, default.retry.1);
        let bytes = in_range(
            scope.report,
            &batch_at.key("max_bytes"),
            batch.max_bytes.map(|size| size.0),
            wide(default.batch_bytes),
            // More than this is more than a pipeline holds.
            (1 << 10, 32 << 20),
            |bytes| Size(bytes).to_string(),
        );
        let events = in_range(
            scope.report,
            &batch_at.key("max_events"),
            batch.max_events.map(u64::from),
            wide(default.batch_events),
            (1, 100_000),
            |number| number.to_string(),
        );
        Policy {
            batch_bytes: narrow(bytes),
            batch_events: narrow(events),
            batch_timeout: period(
                scope,
                &batch_at.key("timeout"),
                batch.timeout,
                default.batch_timeout,
                (instant, Duration::from_mins(1)),
            ),
            concurrency: Self::concurrency(scope, &request_at, request),
            retry: (first, longest.max(first)),
            acknowledgements: self.acknowledgements.unwrap_or(true),
        }
    }

    fn concurrency(scope: &Scope<'_, '_>, at: &Path, request: &RequestSection) -> Option<usize> {
        let Some(ConcurrencySetting::Fixed(number)) = request.concurrency else {
            return None;
        };
        let print = |number: u64| number.to_string();
        let at = at.key("concurrency");
        let number = in_range(scope.report, &at, Some(number), 1, (1, 1024), print);
        Some(narrow(number))
    }
}

/// No request and no wait is longer.
const LONGEST: Duration = Duration::from_hours(1);

fn period(
    scope: &Scope<'_, '_>,
    at: &Path,
    value: Option<Period>,
    default: Duration,
    bounds: (Duration, Duration),
) -> Duration {
    let print = |time| Period(time).to_string();
    in_range(
        scope.report,
        at,
        value.map(|period| period.0),
        default,
        bounds,
        print,
    )
}

fn wide(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

impl TlsSection {
    pub(in crate::config) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Tls> {
        let path = |key: &str, text: &Option<String>| {
            text.as_ref().map(|text| scope.path(&at.key(key), text))
        };
        let identity = match (
            path("crt_file", &self.crt_file),
            path("key_file", &self.key_file),
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                let help = "add `key_file: PATH`";
                scope.report.add(at, "`crt_file` without `key_file`", help);
                return None;
            }
            (None, Some(_)) => {
                let help = "add `crt_file: PATH`";
                scope.report.add(at, "`key_file` without `crt_file`", help);
                return None;
            }
        };
        Some(Tls {
            ca_file: path("ca_file", &self.ca_file),
            identity,
            verify_certificate: self.verify_certificate.unwrap_or(true),
            verify_hostname: self.verify_hostname.unwrap_or(true),
            place: scope.report.place(at),
        })
    }
}

impl AuthSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Login> {
        let (word, key, secret) = match self.strategy {
            Strategy::Basic => ("basic", "password", &self.password),
            Strategy::Bearer => ("bearer", "token", &self.token),
            Strategy::ApiKey => ("api_key", "api_key", &self.api_key),
        };
        let others = [
            ("user", self.user.is_some(), Strategy::Basic),
            ("password", self.password.is_some(), Strategy::Basic),
            ("token", self.token.is_some(), Strategy::Bearer),
            ("api_key", self.api_key.is_some(), Strategy::ApiKey),
        ];
        for (name, is_set, strategy) in others {
            if is_set && strategy != self.strategy {
                let what = format!("`{name}` does not go with `strategy: {word}`");
                scope.report.add_key(&at.key(name), what, "remove it");
            }
        }
        let Some(secret) = secret else {
            let what = format!("`strategy: {word}` needs `{key}`");
            let help = format!("add `{key}: {{ env: NAME }}` or `{key}: {{ file: PATH }}`");
            scope.report.add(at, what, help);
            return None;
        };
        let secret = scope.secret(&at.key(key), secret)?;
        Some(match self.strategy {
            Strategy::Bearer => Login::Scheme("Bearer", secret),
            Strategy::ApiKey => Login::ApiKey(secret),
            Strategy::Basic => {
                let user = self.user.clone().unwrap_or_default();
                if user.is_empty() || user.contains(':') {
                    let help = "add `user: NAME`; a name has no colon";
                    let what = "`strategy: basic` needs `user`";
                    scope.report.add(at, what, help);
                    return None;
                }
                Login::Basic(user, secret)
            }
        })
    }
}

/// Who we are to a service that may not know API keys; `None` when something is wrong, which is then reported.
pub(in crate::config) fn login(
    scope: &Scope<'_, '_>,
    at: &Path,
    auth: Option<&Part<AuthSection>>,
    api_keys: bool,
) -> Option<Option<Login>> {
    let Some(auth) = auth else {
        return Some(None);
    };
    let section = auth.0.as_ref()?;
    if section.strategy == Strategy::ApiKey && !api_keys {
        let what = "`strategy: api_key` is Elasticsearch's own";
        let help = "use `bearer`, or `basic`";
        scope.report.add(&at.key("strategy"), what, help);
    }
    section.check(scope, at).map(Some)
}

/// Addresses of one service: at least one.
pub(super) fn endpoints(scope: &Scope<'_, '_>, at: &Path, written: &[String]) -> Vec<Url> {
    if written.is_empty() {
        let help = "name at least one, for example `https://search.example.com:9200`";
        scope.report.add(at, "the list of endpoints is empty", help);
    }
    let urls = written.iter().enumerate();
    urls.filter_map(|(index, text)| scope.url(&at.index(index), text))
        .collect()
}
