//! Section `stages`: what happens to events between source and sinks.

mod condition;
mod edit;
mod redact;
mod vrl;

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::Scope;
use super::decode::Part;
use super::limits::{Limits, LimitsSection};
use super::report::{Path, Place};
use super::source::{Grants, GrantsSection, PluginRef, check_grants, check_limits, check_plugin};

pub use condition::{Condition, ConditionSection};
pub use edit::{DropSection, RenameSection, Sample, SampleSection};
pub use redact::{Redact, RedactSection, RedactWith, WithSection};
pub(in crate::config) use vrl::check_condition;
pub use vrl::{OnErrorSection, Remap, RemapSection};

use crate::stage::is_field;
use crate::stage::script::Script;

/// One step that every event takes. Stages run in the order of the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "stage")]
pub enum StageSection {
    /// Keeps or drops events by the values of fields.
    Filter(FilterSection),
    /// Runs events through a plugin.
    Wasm(WasmSection),
    /// Adds where addresses are, from `MaxMind` databases.
    Geoip(GeoipSection),
    /// Takes `user_agent.original` apart into name, version, system and device.
    UserAgent(UserAgentSection),
    /// Changes events by a program in VRL.
    Remap(RemapSection),
    /// Hides what must not leave.
    Redact(RedactSection),
    /// Keeps one event of several.
    Sample(SampleSection),
    /// Gives fields other names.
    Rename(RenameSection),
    /// Takes fields out of events.
    Drop(DropSection),
}

/// Keeps or drops events by the values of fields, or by a condition. An event matches when every
/// named field has (one of) the given values; text is compared exactly.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "filter", extend("examples" = [{ "drop": { "event.action": "MailItemsAccessed" } }]))]
pub struct FilterSection {
    /// Keep only the events that match: a map of field to value or list of values. Fields are named
    /// with dots.
    #[schemars(extend("examples" = [{ "event.action": ["UserLoggedIn", "UserLoginFailed"] }]))]
    pub keep: Option<Map<String, Value>>,
    /// Drop the events that match: a map of field to value or list of values.
    #[schemars(extend("examples" = [{ "event.code": "AzureActiveDirectory" }]))]
    pub drop: Option<Map<String, Value>>,
    /// Keep only the events for which this holds: a condition in VRL (<https://vrl.dev>) that ends in
    /// `true` or `false`; `{ type: vrl, source: TEXT }` is the same. One that fails does not hold, as
    /// in Vector: the event is dropped and counted.
    #[schemars(extend(
        "examples" = [".event.action == \"UserLoggedIn\" && %tenant != \"test\""],
        "x-kind" = "text"
    ))]
    pub condition: Option<Value>,
}

/// Runs events through a plugin that exports `transform`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "wasm")]
pub struct WasmSection {
    /// The plugin: `o365`, or the path of a component, seen from the pipeline's folder.
    #[schemars(extend("examples" = ["o365", "./my.wasm"]))]
    pub plugin: String,
    /// The plugin's own settings. Never put a secret here.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// What one call may use.
    #[serde(default)]
    pub limits: Part<LimitsSection>,
    /// What the plugin may reach.
    #[serde(default)]
    pub grants: Part<GrantsSection>,
}

/// Adds where addresses are, from `MaxMind` databases. At least one of them is needed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "geoip", extend("examples" = [{ "city": "GeoLite2-City.mmdb" }]))]
pub struct GeoipSection {
    /// A City or Country database (`.mmdb`), seen from the pipeline's folder. It is read again when
    /// the file changes; while there is none, events get no `geo`.
    pub city: Option<String>,
    /// An ASN database (`.mmdb`), seen from the pipeline's folder. It is read again when the file
    /// changes; while there is none, events get no `as`.
    pub asn: Option<String>,
}

/// Takes `user_agent.original` apart into name, version, system and device.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "user_agent")]
pub struct UserAgentSection {}

/// One stage, checked.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where it stands.
    pub place: Place,
    /// What it does.
    pub kind: StageKind,
}

/// What a stage does.
#[derive(Clone, Debug)]
pub enum StageKind {
    /// Keeps or drops events.
    Filter(Filter),
    /// Keeps the events for which a condition holds.
    Condition(Arc<Script>),
    /// Changes events by a program.
    Remap(Remap),
    /// Runs events through a plugin.
    Wasm(Box<Wasm>),
    /// Adds where addresses are.
    Geoip {
        /// A City or Country database.
        city: Option<PathBuf>,
        /// An ASN database.
        asn: Option<PathBuf>,
    },
    /// Takes user agents apart.
    UserAgent,
    /// Hides what must not leave.
    Redact(Redact),
    /// Keeps one event of several.
    Sample(Sample),
    /// Gives fields other names: each old name with its new one.
    Rename(Vec<(String, String)>),
    /// Takes fields out.
    Drop(Vec<String>),
}

/// Keeps or drops events by the values of fields, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Whether a match keeps the event (and no match drops it), or the other way round.
    pub keep: bool,
    /// Each field by its dotted name, with the values of which it must have one. At least one
    /// field.
    pub fields: Vec<(String, Vec<Value>)>,
}

/// Runs events through a plugin, checked.
#[derive(Clone, Debug)]
pub struct Wasm {
    /// The plugin.
    pub plugin: PluginRef,
    /// What the plugin gets as its config: one JSON object.
    pub config: Value,
    /// What one call may use.
    pub limits: Limits,
    /// What the plugin may reach.
    pub grants: Grants,
}

impl StageSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Stage> {
        let (name, kind) = match self {
            Self::Filter(section) => ("filter", section.check(scope, &at.key("filter"))),
            Self::Wasm(section) => ("wasm", Some(section.check(scope, &at.key("wasm")))),
            Self::Geoip(section) => ("geoip", section.check(scope, &at.key("geoip"))),
            Self::UserAgent(_) => ("user_agent", Some(StageKind::UserAgent)),
            Self::Remap(section) => ("remap", section.check(scope, &at.key("remap"))),
            Self::Redact(section) => ("redact", section.check(scope, &at.key("redact"))),
            Self::Sample(section) => ("sample", Some(section.check(scope, &at.key("sample")))),
            Self::Rename(section) => ("rename", Some(section.check(scope, &at.key("rename")))),
            Self::Drop(section) => ("drop", Some(section.check(scope, &at.key("drop")))),
        };
        Some(Stage {
            place: scope.report.place(&at.key(name)),
            kind: kind?,
        })
    }
}

impl FilterSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<StageKind> {
        let (keep, key, map) = match (&self.keep, &self.drop, &self.condition) {
            (Some(map), None, None) => (true, "keep", map),
            (None, Some(map), None) => (false, "drop", map),
            (None, None, Some(condition)) => {
                let at = at.key("condition");
                return check_condition(scope, &at, condition).map(StageKind::Condition);
            }
            _ => {
                let help = "for example `drop: { event.action: MailItemsAccessed }`";
                scope.report.add(
                    at,
                    "a filter has one of `keep`, `drop` and `condition`",
                    help,
                );
                return None;
            }
        };
        let fields = check_fields(scope, &at.key(key), key, map);
        Some(StageKind::Filter(Filter { keep, fields }))
    }
}

/// Fields with the values that they may have: `key` is the name of the map.
pub(super) fn check_fields(
    scope: &Scope<'_, '_>,
    at: &Path,
    key: &str,
    map: &Map<String, Value>,
) -> Vec<(String, Vec<Value>)> {
    if map.is_empty() {
        let what = format!("`{key}` names no field");
        scope
            .report
            .add(at, what, "for example `event.action: MailItemsAccessed`");
    }
    let mut fields = Vec::new();
    for (field, value) in map {
        let at = at.key(field);
        if !is_field(field) {
            let what = format!("`{}` is not the name of a field", field.escape_debug());
            let help = "write a dotted path, such as `event.action`";
            scope.report.add_key(&at, what, help);
        }
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        if values.is_empty() {
            scope.report.add(
                &at,
                "the list of values is empty",
                "name at least one value",
            );
        }
        if values
            .iter()
            .any(|value| value.is_array() || value.is_object())
        {
            let help =
                "use text, numbers, `true` or `false`; nest fields with dots: `event.action`";
            scope.report.add(
                &at,
                format!("field `{field}` is compared with a list or map"),
                help,
            );
        }
        fields.push((field.clone(), values));
    }
    fields
}

impl WasmSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> StageKind {
        StageKind::Wasm(Box::new(Wasm {
            plugin: check_plugin(scope, &at.key("plugin"), &self.plugin),
            config: self.config.clone().into(),
            limits: check_limits(scope, at, &Limits::default(), &self.limits),
            grants: check_grants(scope, &at.key("grants"), &self.grants),
        }))
    }
}

impl GeoipSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<StageKind> {
        let file = |key: &str, text: &Option<String>| {
            // Whether the file is there is the stage's to say: it waits for a database that comes
            // later.
            text.as_ref().map(|text| scope.path(&at.key(key), text))
        };
        let (city, asn) = (file("city", &self.city), file("asn", &self.asn));
        if city.is_none() && asn.is_none() {
            scope.report.add(
                at,
                "`geoip` has no database",
                "add `city: PATH` or `asn: PATH`",
            );
            return None;
        }
        Some(StageKind::Geoip { city, asn })
    }
}
