//! Sink `logstash`: Logstash's `beats` input, and everything else that speaks Lumberjack.

use schemars::JsonSchema;
use serde::Deserialize;

use super::When;
use super::address::Address;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;

/// Where Logstash's `beats` input listens.
const PORT: u16 = 5044;

/// As Filebeat's.
const COMPRESSION_LEVEL: u32 = 3;

/// Sends events to Logstash's `beats` input, or another server of the Lumberjack protocol (version 2). An event counts
/// as delivered when the server has acknowledged it, which Logstash does when its queue has it: durable with
/// `queue.type: persisted`. A part of a request that is acknowledged is not sent again. After a crash, or when a
/// connection breaks, events come again; every event has an id in `[@metadata][_id]`, so `document_id =>
/// "%{[@metadata][_id]}"` in Logstash's elasticsearch output stores it once. One request for each endpoint is under way
/// at once, unless `request.concurrency` is a number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "logstash")]
pub struct LogstashSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The servers, each a host with its port (`5044` without one). One that is down is left out for a while.
    #[schemars(extend("examples" = [["logstash.example.com:5044"]]))]
    pub endpoints: Vec<String>,
    /// Whether the servers take turns. With `false` the first that works gets everything.
    #[schemars(extend("default" = true))]
    pub load_balance: Option<bool>,
    /// What `[@metadata][beat]` says, by which Logstash's outputs usually name their index.
    #[schemars(extend("default" = "sluicegate"))]
    pub beat: Option<String>,
    /// How much frames are packed, from 0 (not at all) to 9.
    #[schemars(extend("default" = COMPRESSION_LEVEL))]
    pub compression_level: Option<u32>,
    /// TLS, and how the server is trusted; `tls: {}` is enough. Without it nothing is encrypted.
    pub tls: Option<Part<TlsSection>>,
    /// How events are put together. A request is one window of the protocol.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How requests are sent. Its `timeout` is the longest time without any progress; Logstash says that it is still at
    /// work.
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

/// Logstash, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logstash {
    /// The servers.
    pub endpoints: Vec<Address>,
    /// Whether they take turns.
    pub load_balance: bool,
    /// What `[@metadata][beat]` says.
    pub beat: String,
    /// 0 to 9.
    pub compression_level: u32,
    /// Whether connections are encrypted; how, is in `delivery`.
    pub encrypted: bool,
    /// How requests are sent.
    pub delivery: Delivery,
}

impl LogstashSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Logstash> {
        let endpoints =
            Address::check_all(scope, &at.key("endpoints"), &self.endpoints, Some(PORT));
        let beat = self.beat.as_deref().unwrap_or("sluicegate").to_owned();
        scope.name(&at.key("beat"), &beat, 64);
        let compression_level = in_range(
            scope.report,
            &at.key("compression_level"),
            self.compression_level,
            COMPRESSION_LEVEL,
            (0, 9),
            |level| level.to_string(),
        );
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: Compression::None,
            acknowledgements: self.acknowledgements,
        };
        let mut delivery = shared.check(scope, at);
        let load_balance = self.load_balance.unwrap_or(true);
        let request = self.request.0.as_ref();
        if request.is_none_or(|request| request.concurrency.is_none()) {
            let at_once = if load_balance { endpoints.len() } else { 1 };
            delivery.policy.concurrency = Some(at_once);
        }
        (!endpoints.is_empty()).then_some(Logstash {
            endpoints,
            load_balance,
            beat,
            compression_level,
            encrypted: self.tls.is_some(),
            delivery,
        })
    }
}
