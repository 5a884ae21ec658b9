//! Sink `splunk_hec`: Splunk's HTTP event collector.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::request::{
    BatchSection, Compression, Delivery, Login, RequestSection, Shared, TlsSection,
};
use crate::config::check::{Scope, SecretSection};
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Period;

/// Sends events to Splunk's HTTP event collector. With indexer acknowledgement an event counts as delivered when it is
/// indexed. What is sent again, after a crash or when Splunk does not acknowledge in time, Splunk indexes again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "splunk_hec")]
pub struct SplunkHecSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Where the collector is, without a path. Behind a load balancer it needs sticky sessions: the node that took a
    /// request is the one that acknowledges it.
    #[schemars(extend("examples" = ["https://splunk.example.com:8088"]))]
    pub endpoint: String,
    /// The collector's token.
    pub default_token: SecretSection,
    /// The index. Default: that of the token.
    pub index: Option<String>,
    /// The events' `source`. Default: that of the token.
    pub source: Option<String>,
    /// The events' `sourcetype`. Default: that of the token.
    #[schemars(extend("examples" = ["_json"]))]
    pub sourcetype: Option<String>,
    /// The events' `host`. Default: what Splunk makes of the connection.
    pub host: Option<String>,
    /// Whether to wait until events are indexed; the token has to allow it. Without it an event counts as delivered
    /// when Splunk has it in memory.
    #[schemars(extend("default" = true))]
    pub indexer_acknowledgements: Option<bool>,
    /// How long to wait for that before a request is sent again.
    #[schemars(extend("default" = "5m"))]
    pub ack_timeout: Option<Period>,
    /// How events are put together.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How requests are sent.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// How the server is trusted.
    pub tls: Option<Part<TlsSection>>,
    /// How bodies are packed.
    #[serde(default)]
    pub compression: Compression,
    /// Whether events count as delivered only when this sink has them. With `false` it holds nothing up, and drops what
    /// does not fit into its queue.
    #[schemars(extend("default" = true))]
    pub acknowledgements: Option<bool>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// Splunk's HTTP event collector, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplunkHec {
    /// Where it is.
    pub endpoint: Url,
    /// The token.
    pub login: Login,
    /// What every event is sent with: Splunk's name for it, its value.
    pub metadata: Vec<(&'static str, String)>,
    /// How long to wait for the indexers; `None` for not at all.
    pub ack_timeout: Option<Duration>,
    /// How requests are sent.
    pub delivery: Delivery,
}

impl SplunkHecSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<SplunkHec> {
        let endpoint = scope.url(&at.key("endpoint"), &self.endpoint);
        let token = scope.secret(&at.key("default_token"), &self.default_token);
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let delivery = shared.check(scope, at);
        let metadata = [
            ("index", &self.index),
            ("source", &self.source),
            ("sourcetype", &self.sourcetype),
            ("host", &self.host),
        ];
        let metadata = metadata
            .into_iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name, value)));
        let ack_timeout = in_range(
            scope.report,
            &at.key("ack_timeout"),
            self.ack_timeout.map(|period| period.0),
            Duration::from_mins(5),
            (Duration::from_millis(100), Duration::from_hours(1)),
            |time| Period(time).to_string(),
        );
        let waits = self.indexer_acknowledgements.unwrap_or(true);
        Some(SplunkHec {
            endpoint: endpoint?,
            login: Login::Scheme("Splunk", token?),
            metadata: metadata.collect(),
            ack_timeout: waits.then_some(ack_timeout),
            delivery,
        })
    }
}
