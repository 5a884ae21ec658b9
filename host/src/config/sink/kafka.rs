//! Sink `kafka`: topics of Apache Kafka.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::When;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use super::template::Template;
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Size;
use crate::secret::SecretRef;

/// Produces each event as a message of Apache Kafka, or of a service that speaks its protocol: idempotently, and
/// delivered when all replicas in sync have it (`acks=all`). Each message has the header `id`, which is the same
/// whenever its event comes again, after a crash or a timeout. Needs a build with the feature `kafka`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "kafka")]
pub struct KafkaSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Some of the brokers, with commas between them.
    #[schemars(extend("examples" = ["kafka-1.example.com:9092,kafka-2.example.com:9092"]))]
    pub bootstrap_servers: String,
    /// The topic. `{tenant}` and `{stream}` stand for where an event comes from, with `_` for what a name may not have.
    #[schemars(extend("examples" = ["o365-{tenant}"]))]
    pub topic: String,
    /// The field of events whose value is the key of messages, such as `user.id`: a key's messages stay in order, on
    /// one partition. Default, and for events without it: the tenant.
    pub key_field: Option<String>,
    /// How messages are packed.
    #[serde(default)]
    pub compression: KafkaCompression,
    /// The largest message; larger events are dead letters. The brokers and the topic have limits of their own
    /// (`message.max.bytes`, `max.message.bytes`).
    #[schemars(extend("default" = "1MB"))]
    pub max_message_bytes: Option<Size>,
    /// Who we are to the brokers.
    pub sasl: Option<Part<SaslSection>>,
    /// How many messages are handed to the client together; it packs them anew for each partition.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How messages are sent; `timeout` is for the delivery of each.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// How brokers are trusted. With it, TLS is spoken; `ca_file` replaces the system's certificates here.
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

/// Who we are to the brokers. The password is read again when they refuse it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "sasl")]
pub struct SaslSection {
    /// How.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// Password.
    pub password: SecretSection,
}

/// A mechanism of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "sasl_mechanism", inline)]
pub enum SaslMechanism {
    /// The password itself: only with `tls`.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// How messages are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "kafka_compression", inline)]
pub enum KafkaCompression {
    /// As they are.
    #[default]
    None,
    /// With gzip.
    Gzip,
    /// With LZ4.
    Lz4,
    /// With Snappy.
    Snappy,
}

/// Apache Kafka, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Some of the brokers.
    pub bootstrap_servers: String,
    /// The topic.
    pub topic: Template,
    /// The path of the field that is the key.
    pub key_field: Option<String>,
    /// How messages are packed.
    pub compression: KafkaCompression,
    /// The largest message.
    pub max_message_bytes: u64,
    /// Mechanism, user name, password.
    pub sasl: Option<(SaslMechanism, String, SecretRef)>,
    /// How messages are sent.
    pub delivery: Delivery,
}

impl SaslMechanism {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaCompression {
    /// Its name in Kafka's own settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
        }
    }
}

impl KafkaSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Kafka> {
        let servers_at = at.key("bootstrap_servers");
        if !self.bootstrap_servers.split(',').all(is_broker) {
            let what = format!(
                "`{}` names no brokers",
                self.bootstrap_servers.escape_debug()
            );
            let help = "write hosts and ports, with commas between: `kafka-1.example.com:9092`";
            scope.report.add(&servers_at, what, help);
        }
        let topic_at = at.key("topic");
        let topic = Template::check(scope, &topic_at, &self.topic);
        let fine = topic.texts().all(|text| text.chars().all(is_topic_letter));
        if topic.prefix().is_empty() || !fine || self.topic.len() > 120 {
            let what = format!("`{}` cannot be a topic", self.topic.escape_debug());
            let help =
                "use letters, digits, `-`, `_`, `.`; begin with some of your own: `o365-{tenant}`";
            scope.report.add(&topic_at, what, help);
        }
        let max_message_bytes = in_range(
            scope.report,
            &at.key("max_message_bytes"),
            self.max_message_bytes.map(|size| size.0),
            1_000_000,
            (1_000, 64 << 20),
            |bytes| Size(bytes).to_string(),
        );
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: Compression::None,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let sasl = match &self.sasl {
            None => None,
            Some(sasl) => {
                let (sasl, at) = (sasl.0.as_ref()?, at.key("sasl"));
                if sasl.mechanism == SaslMechanism::Plain && self.tls.is_none() {
                    let what = "`PLAIN` without TLS shows the password to the network";
                    let help = "add `tls: {}`, or use `SCRAM-SHA-512`";
                    scope.report.add(&at.key("mechanism"), what, help);
                }
                let password = scope.secret(&at.key("password"), &sasl.password)?;
                Some((sasl.mechanism, sasl.username.clone(), password))
            }
        };
        Some(Kafka {
            bootstrap_servers: self.bootstrap_servers.clone(),
            topic,
            key_field: self.key_field.clone(),
            compression: self.compression,
            max_message_bytes,
            sasl,
            delivery,
        })
    }
}

fn is_broker(text: &str) -> bool {
    let (host, port) = text
        .trim()
        .rsplit_once(':')
        .unwrap_or((text.trim(), "9092"));
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.:[]".contains(letter);
    !host.is_empty() && host.chars().all(fine) && port.parse::<u16>().is_ok()
}

/// Whether a topic's name may have this letter.
pub fn is_topic_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.".contains(letter)
}
