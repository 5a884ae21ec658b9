//! Sink `redis`: streams and lists of Redis.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::When;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use super::template::Template;
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Period;
use crate::secret::SecretRef;

/// Adds events to streams or lists of Redis, or of a server that speaks its protocol. An event counts as delivered when
/// the server has answered: that is durable only where the server has `appendonly yes` and `appendfsync always`. What
/// is sent again after a crash or a lost answer is there twice, unless `deduplicate` is set; an entry of a stream shows
/// it by its field `id`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "redis")]
pub struct RedisSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The server's address; `rediss://` is TLS. A cluster is not followed: name the node that has the key.
    #[schemars(extend("examples" = ["redis://redis.example.com:6379"]))]
    pub endpoint: String,
    /// The key of the stream or list. `{tenant}` and `{stream}` stand for where an event comes from.
    #[schemars(extend("examples" = ["logs:{tenant}"]))]
    pub key: String,
    /// What is at the key.
    #[serde(default)]
    pub data_type: DataType,
    /// At which end of a list an event is added.
    #[serde(default)]
    pub method: ListMethod,
    /// About how many entries a stream keeps; the oldest ones go first, read or not. Default: all.
    pub max_length: Option<u32>,
    /// How long the server remembers each event, under a key of its own beside `key`, so as not to add it again. Longer
    /// than a restart may take; it costs the server some hundred bytes an event. Default: not at all.
    #[schemars(extend("examples" = ["1h"]))]
    pub deduplicate: Option<Period>,
    /// The number of the database.
    #[schemars(extend("default" = 0))]
    pub db: Option<u32>,
    /// Who we are to the server.
    pub auth: Option<Part<RedisAuthSection>>,
    /// How many events are sent together, in one pipeline.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How pipelines are sent.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// How the server is trusted, for `rediss://`.
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

/// Who we are to a Redis server. The password is read again for each connection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "redis_auth")]
pub struct RedisAuthSection {
    /// User name. Default: the server's default user.
    pub user: Option<String>,
    /// Password.
    pub password: SecretSection,
}

/// What events are added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "data_type", inline)]
pub enum DataType {
    /// A stream (XADD): each entry has the fields `id`, by which an event is known, and `event`, its JSON.
    #[default]
    Stream,
    /// A list: each element is an event's JSON.
    List,
}

/// Where in a list an event goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "list_method", inline)]
pub enum ListMethod {
    /// To its end.
    #[default]
    Rpush,
    /// To its beginning.
    Lpush,
}

/// Redis, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The server.
    pub endpoint: Url,
    /// The key.
    pub key: Template,
    /// How an event is added.
    pub adding: Adding,
    /// How long the server remembers an event.
    pub deduplicate: Option<Duration>,
    /// The database.
    pub db: u32,
    /// User name and password.
    pub login: Option<(Option<String>, SecretRef)>,
    /// How pipelines are sent.
    pub delivery: Delivery,
}

/// How an event is added, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adding {
    /// To a stream that keeps about so many.
    Stream(Option<u32>),
    /// To a list.
    List(ListMethod),
}

impl RedisSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Redis> {
        let endpoint = scope.server(&at.key("endpoint"), &self.endpoint, &["redis", "rediss"]);
        let key_at = at.key("key");
        let key = Template::check(scope, &key_at, &self.key);
        if key.prefix().is_empty() {
            let what = format!("`{}` cannot be a key", self.key.escape_debug());
            let help = "begin with letters of your own: `logs:{tenant}`";
            scope.report.add(&key_at, what, help);
        }
        let tls_at = at.key("tls");
        if self.tls.is_some() && endpoint.as_ref().is_some_and(|url| url.scheme() == "redis") {
            let help = "write `rediss://` in `endpoint`, or remove `tls`";
            scope
                .report
                .add_key(&tls_at, "`redis://` is without TLS", help);
        }
        let adding = self.adding(scope, at);
        let deduplicate = self.deduplicate.map(|period| {
            in_range(
                scope.report,
                &at.key("deduplicate"),
                Some(period.0),
                Duration::from_hours(1),
                (Duration::from_secs(1), Duration::from_hours(24 * 30)),
                |time| Period(time).to_string(),
            )
        });
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
            Some(auth) => {
                let auth = auth.0.as_ref()?;
                let at = at.key("auth").key("password");
                Some((auth.user.clone(), scope.secret(&at, &auth.password)?))
            }
        };
        Some(Redis {
            endpoint: endpoint?,
            key,
            adding,
            deduplicate,
            db: self.db.unwrap_or_default(),
            login,
            delivery,
        })
    }

    fn adding(&self, scope: &Scope<'_, '_>, at: &Path) -> Adding {
        let foreign = |key: &str, is_set: bool, word: &str| {
            if is_set {
                let what = format!("`{key}` does not go with `data_type: {word}`");
                scope.report.add_key(&at.key(key), what, "remove it");
            }
        };
        match self.data_type {
            DataType::Stream => {
                foreign("method", self.method != ListMethod::default(), "stream");
                if self.max_length == Some(0) {
                    let what = "a stream that keeps nothing";
                    let help = "write how many entries it keeps, or remove `max_length`";
                    scope.report.add(&at.key("max_length"), what, help);
                }
                Adding::Stream(self.max_length)
            }
            DataType::List => {
                foreign("max_length", self.max_length.is_some(), "list");
                Adding::List(self.method)
            }
        }
    }
}
