//! Sink `nats`: a stream of NATS JetStream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::When;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use super::template::Template;
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::report::Path;
use crate::secret::SecretRef;

/// Publishes each event as a message to a stream of NATS JetStream, and waits until the stream acknowledges it. The
/// stream has to be there. A message's id (`Nats-Msg-Id`) is made from the event's identity, so the stream does not
/// store again what is sent again within its `duplicate_window`: make that longer than a restart may take. What is
/// acknowledged is as durable as the stream is (file storage, replicas, the server's `sync_interval`).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "nats")]
pub struct NatsSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The addresses of one or several servers of a cluster; `tls://` insists on TLS.
    #[schemars(extend("examples" = [["nats://nats.example.com:4222"]]))]
    pub endpoints: Vec<String>,
    /// The subject of messages. It begins with a word of its own; `{tenant}` and `{stream}` stand for where an event
    /// comes from, with `_` for what a token may not have.
    #[schemars(extend("examples" = ["logs.{tenant}.{stream}"]))]
    pub subject: String,
    /// Who we are to the server.
    pub auth: Option<Part<NatsAuthSection>>,
    /// How many messages are sent together; all of them are on their way at once.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How messages are sent; a request is one batch of them, and `timeout` is for the acknowledgement of each.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// How the server is trusted. With it, TLS is insisted on.
    pub tls: Option<Part<TlsSection>>,
    /// Whether events count as delivered only when this sink has them. With `false` it holds nothing up, and drops what
    /// does not fit into its queue.
    #[schemars(extend("default" = true))]
    pub acknowledgements: Option<bool>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// Who we are to a NATS server. Secrets are read again for each connection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "nats_auth")]
pub struct NatsAuthSection {
    /// How.
    pub strategy: NatsStrategy,
    /// User name, for `user_password`.
    pub user: Option<String>,
    /// Password, for `user_password`.
    pub password: Option<SecretSection>,
    /// Token, for `token`.
    pub token: Option<SecretSection>,
    /// The seed of a user's key (`SU...`), for `nkey`.
    pub seed: Option<SecretSection>,
    /// The text of a credentials file (`.creds`), for `credentials`.
    pub credentials: Option<SecretSection>,
}

/// How a NATS server knows us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "nats_strategy", inline)]
pub enum NatsStrategy {
    /// User name and password.
    UserPassword,
    /// A token.
    Token,
    /// A key.
    Nkey,
    /// A credentials file with a JWT and a key.
    Credentials,
}

/// NATS JetStream, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// The servers.
    pub endpoints: Vec<Url>,
    /// The subject.
    pub subject: Template,
    /// Who we are.
    pub login: Option<NatsLogin>,
    /// How messages are sent.
    pub delivery: Delivery,
}

/// Who we are to a NATS server, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    /// User name and password.
    UserPassword(String, SecretRef),
    /// A token.
    Token(SecretRef),
    /// The seed of a key.
    Nkey(SecretRef),
    /// The text of a credentials file.
    Credentials(SecretRef),
}

impl NatsSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Nats> {
        let endpoints_at = at.key("endpoints");
        if self.endpoints.is_empty() {
            let help = "name at least one, for example `nats://nats.example.com:4222`";
            let what = "the list of endpoints is empty";
            scope.report.add(&endpoints_at, what, help);
        }
        let schemes = ["nats", "tls"];
        let endpoints = self.endpoints.iter().enumerate();
        let endpoints = endpoints
            .filter_map(|(index, text)| scope.server(&endpoints_at.index(index), text, &schemes));
        let endpoints = endpoints.collect();
        let subject_at = at.key("subject");
        let subject = Template::check(scope, &subject_at, &self.subject);
        if !is_subject(&subject) {
            let what = format!("`{}` cannot be a subject", self.subject.escape_debug());
            let help = "write words with dots between them, the first of them your own: `logs.{tenant}.{stream}`";
            scope.report.add(&subject_at, what, help);
        }
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: Compression::None,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let login = match &self.auth {
            None => None,
            Some(auth) => Some(auth.0.as_ref()?.check(scope, &at.key("auth"))?),
        };
        Some(Nats {
            endpoints,
            subject,
            login,
            delivery,
        })
    }
}

/// Whether every subject made from it is one: tokens that are not empty and no wildcards, the first one fixed.
fn is_subject(subject: &Template) -> bool {
    let whole = subject.to_string();
    let first = subject.prefix().split_once('.').map(|(first, _)| first);
    let fixed = subject.prefix() == whole;
    let first = first.unwrap_or(if fixed { subject.prefix() } else { "" });
    let fine = |letter: char| letter.is_ascii_graphic() && !"*>\\".contains(letter);
    !first.is_empty()
        // The server's own.
        && !first.starts_with(['$', '_'])
        && whole.split('.').all(|token| !token.is_empty())
        && whole.len() <= 200
        && subject.texts().all(|text| text.chars().all(fine))
}

impl NatsAuthSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<NatsLogin> {
        let (word, key, secret) = match self.strategy {
            NatsStrategy::UserPassword => ("user_password", "password", &self.password),
            NatsStrategy::Token => ("token", "token", &self.token),
            NatsStrategy::Nkey => ("nkey", "seed", &self.seed),
            NatsStrategy::Credentials => ("credentials", "credentials", &self.credentials),
        };
        let others = [
            ("user", self.user.is_some(), NatsStrategy::UserPassword),
            (
                "password",
                self.password.is_some(),
                NatsStrategy::UserPassword,
            ),
            ("token", self.token.is_some(), NatsStrategy::Token),
            ("seed", self.seed.is_some(), NatsStrategy::Nkey),
            (
                "credentials",
                self.credentials.is_some(),
                NatsStrategy::Credentials,
            ),
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
            NatsStrategy::Token => NatsLogin::Token(secret),
            NatsStrategy::Nkey => NatsLogin::Nkey(secret),
            NatsStrategy::Credentials => NatsLogin::Credentials(secret),
            NatsStrategy::UserPassword => {
                let user = self.user.clone().unwrap_or_default();
                if user.is_empty() {
                    let what = "`strategy: user_password` needs `user`";
                    scope.report.add(at, what, "add `user: NAME`");
                    return None;
                }
                NatsLogin::UserPassword(user, secret)
            }
        })
    }
}
