//! Sink `azure_logs_ingestion`: tables of Azure Monitor Logs, by Microsoft's Logs Ingestion API.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::When;
use super::azure::AzureAuthSection;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use crate::config::auth::Auth;
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::report::Path;

/// The column that every table has.
const TIME_COLUMN: &str = "TimeGenerated";

/// No request is larger: Microsoft takes 1 MB in a call, packed and unpacked alike
/// (<https://learn.microsoft.com/azure/azure-monitor/service-limits#logs-ingestion-api>).
pub const REQUEST_BYTES: usize = 1_000_000;

/// Sends events to a table of Azure Monitor Logs, where Microsoft Sentinel reads them, by Microsoft's Logs Ingestion
/// API. A data collection rule (DCR) names the columns that a stream has: members of an event that are no column of it,
/// such as `event` or `user` of type `dynamic`, are dropped by the service. An event that is sent again after a crash
/// or a lost answer comes twice. An event that is too large (413) is a dead letter; what is wrong with the rule, the
/// stream or our rights (400, 403, 404) holds events back until it is put right.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "azure_logs_ingestion")]
pub struct AzureLogsIngestionSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Where logs go: the logs ingestion address of the rule, or of a data collection endpoint. The token goes to its
    /// scheme, host and port and nowhere else.
    #[schemars(extend("examples" = ["https://audit-a1b2.westeurope-1.ingest.monitor.azure.com"]))]
    pub endpoint: String,
    /// The rule's immutable id: Azure portal, the rule, JSON View, `immutableId`.
    #[schemars(extend("examples" = ["dcr-00000000000000000000000000000000"]))]
    pub dcr_immutable_id: String,
    /// The stream of the rule, as its `streamDeclarations` name it.
    #[schemars(extend("examples" = ["Custom-Office365_CL"]))]
    pub stream_name: String,
    /// The member that the event's time is put into, unless the event has it already.
    #[schemars(extend("default" = TIME_COLUMN))]
    pub timestamp_field: Option<String>,
    /// What to ask a token for. Default: Azure Monitor in the cloud that `auth` names, such as
    /// `https://monitor.azure.com/.default`.
    #[schemars(extend("examples" = ["https://monitor.azure.us/.default"]))]
    pub token_scope: Option<String>,
    /// Who we are: an application with the role Monitoring Metrics Publisher on the rule.
    pub auth: Part<AzureAuthSection>,
    /// How events are put together. Whatever it says, no request is larger than 1 MB, which is all that the service
    /// takes.
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

/// Azure Monitor Logs, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureLogsIngestion {
    /// Where it is.
    pub endpoint: Url,
    /// The path of the rule's stream, with the version of the API.
    pub path: String,
    /// The member with the event's time.
    pub timestamp_field: String,
    /// How tokens are got.
    pub auth: Auth,
    /// How requests are sent.
    pub delivery: Delivery,
}

impl AzureLogsIngestionSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<AzureLogsIngestion> {
        let endpoint = scope.url(&at.key("endpoint"), &self.endpoint);
        self.check_names(scope, at);
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: self.compression,
            acknowledgements: self.acknowledgements,
        };
        let mut delivery = shared.check(scope, at);
        let bytes = &mut delivery.policy.batch_bytes;
        *bytes = REQUEST_BYTES.min(*bytes);
        let auth_at = at.key("auth");
        let section = self.auth.0.as_ref()?;
        let known = section.cloud.monitor_scope().map(str::to_owned);
        let token_scope = self.token_scope.clone().or(known);
        if token_scope.is_none() {
            let what = "`cloud: custom` needs `token_scope`";
            let help = "add `token_scope: https://HOST/.default` to the sink";
            scope.report.add(&auth_at.key("cloud"), what, help);
        }
        let auth = section.check(scope, &auth_at);
        let endpoint = endpoint?;
        Some(AzureLogsIngestion {
            path: format!(
                "/dataCollectionRules/{}/streams/{}?api-version=2023-01-01",
                self.dcr_immutable_id, self.stream_name
            ),
            timestamp_field: self
                .timestamp_field
                .as_deref()
                .unwrap_or(TIME_COLUMN)
                .into(),
            auth: auth?.to(endpoint.clone(), token_scope?),
            endpoint,
            delivery,
        })
    }

    fn check_names(&self, scope: &Scope<'_, '_>, at: &Path) {
        let rule = &self.dcr_immutable_id;
        let number = rule.strip_prefix("dcr-").unwrap_or_default();
        if number.len() != 32 || !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let what = format!("`{}` is no immutable id of a rule", rule.escape_debug());
            let help = "write `dcr-` and 32 hex digits: in the Azure portal open the data collection rule, JSON View, \
                        and take `immutableId`; its name does not work here";
            scope.report.add(&at.key("dcr_immutable_id"), what, help);
        }
        let stream = &self.stream_name;
        let name = ["Custom-", "Microsoft-"];
        let name = name.iter().find_map(|begin| stream.strip_prefix(begin));
        if !name.is_some_and(|name| is_column(name, "-_")) {
            let what = format!("`{}` is no stream of a rule", stream.escape_debug());
            let help = "take its name from `streamDeclarations` or `dataFlows` of the rule: `Custom-` or `Microsoft-`, \
                        then letters, digits, `-`, `_`";
            scope.report.add(&at.key("stream_name"), what, help);
        }
        let field = self.timestamp_field.as_deref();
        if field.is_some_and(|field| !is_column(field, "_")) {
            let what = "`timestamp_field` is no name of a column";
            let help = "use letters, digits and `_`; leave it out for `TimeGenerated`";
            scope.report.add(&at.key("timestamp_field"), what, help);
        }
    }
}

/// Whether it is of letters, digits and a few more.
fn is_column(name: &str, more: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || more.contains(letter);
    !name.is_empty() && name.chars().all(fine)
}
