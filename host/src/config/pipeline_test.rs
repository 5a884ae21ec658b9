//! Section `tests`: what events should become, in the words of Vector's unit tests.
//!
//! The tests of a pipeline stand in its file, so that whoever changes a stage sees what it is for.
//! They are checked whenever the file is read and run by `sluicegate test` alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::Scope;
use super::decode::Part;
use super::report::{Path, Place, list, suggest};
use super::sink::Sink;
use super::source::Source;
use super::stage::check_condition;
use crate::stage::is_field;
use crate::stage::script::Script;

/// One test: what comes in, and what should come of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "test")]
pub struct TestSection {
    /// What it shows; printed with its outcome.
    #[schemars(extend("examples" = ["sign-ins are kept"]))]
    pub name: String,
    /// What comes in, in this order.
    pub inputs: Vec<Part<InputSection>>,
    /// The events that leave the stages for at least one sink, in this order: each of them, and no
    /// other. Without any, they are not looked at.
    #[serde(default)]
    pub outputs: Vec<Part<OutputSection>>,
    /// Sinks, by name, that get nothing.
    #[serde(default)]
    #[schemars(extend("examples" = [["alarms"]]))]
    pub no_outputs_from: Vec<String>,
    /// How many events are left out on purpose, by a stage or because no sink wants them. Default:
    /// not looked at.
    #[schemars(extend("examples" = [1]))]
    pub dropped: Option<u64>,
    /// What becomes dead letters, in this order: words of the reason for each. Any other dead letter
    /// fails the test.
    #[serde(default)]
    #[schemars(extend("examples" = [["not a JSON object"]]))]
    pub rejected: Vec<String>,
}

/// What comes in: a record, which the plugin maps first, or an event, which enters at the first
/// stage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "test_input")]
pub struct InputSection {
    /// A record as the origin writes it: a map, or its JSON as text. The plugin has to export
    /// `transform`, as `o365` does.
    #[schemars(extend(
        "examples" = [{ "Id": "1", "CreationTime": "2026-03-01T10:00:00", "Operation": "UserLoggedIn" }],
        "x-kind" = "map or text"
    ))]
    pub record: Option<Value>,
    /// An event as the plugin would write it: a map, or its JSON as text.
    #[schemars(extend(
        "examples" = [{ "event": { "action": "UserLoggedIn" } }],
        "x-kind" = "map or text"
    ))]
    pub event: Option<Value>,
    /// Whose it is, by `id`: what programs see as `%tenant`; its `config` is what a record is mapped
    /// with. Default: the first tenant.
    pub tenant: Option<String>,
    /// The stream that it is of: what programs see as `%stream`. Default: `test`.
    #[schemars(extend("examples" = ["Audit.Exchange"]))]
    pub stream: Option<String>,
}

/// One event that comes out; all that is said of it has to hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "test_output")]
pub struct OutputSection {
    /// The whole event: a map, or its JSON as text. The order of members does not matter.
    #[schemars(extend(
        "examples" = [{ "event": { "action": "UserLoggedIn" } }],
        "x-kind" = "map or text"
    ))]
    pub event: Option<Value>,
    /// Some of its fields, named with dots, with their values. `null` says that there is none.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "event.action": "UserLoggedIn" }]))]
    pub fields: Map<String, Value>,
    /// Conditions in VRL that hold for it, as for `filter`; `assert_eq!(.a, 1)` says what it found.
    #[serde(default)]
    #[schemars(extend(
        "examples" = [[{ "type": "vrl", "source": ".event.outcome == \"success\"" }]],
        "x-kind" = "text"
    ))]
    pub conditions: Vec<Value>,
    /// The sinks, by name, that it goes to: these and no others. Default: not looked at.
    #[schemars(extend("examples" = [["archive", "alarms"]]))]
    #[serde(default)]
    pub sinks: Vec<String>,
}

/// One test, checked.
#[derive(Clone, Debug)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What comes in; at least one.
    pub inputs: Vec<TestInput>,
    /// What leaves the stages, unless it is empty.
    pub outputs: Vec<TestOutput>,
    /// Sinks that get nothing.
    pub no_outputs_from: Vec<String>,
    /// How many are dropped.
    pub dropped: Option<u64>,
    /// Words of the reason of each dead letter.
    pub rejected: Vec<String>,
}

/// What comes in, checked.
#[derive(Clone, Debug)]
pub struct TestInput {
    /// Whether the plugin maps it first.
    pub is_record: bool,
    /// Its text, without line breaks.
    pub body: String,
    /// Whose it is; the first tenant's otherwise.
    pub tenant: Option<String>,
    /// Its stream.
    pub stream: Arc<str>,
}

/// What comes out, checked.
#[derive(Clone, Debug)]
pub struct TestOutput {
    /// All of it.
    pub event: Option<Value>,
    /// Some of its fields.
    pub fields: Vec<(String, Value)>,
    /// What holds for it.
    pub conditions: Vec<Arc<Script>>,
    /// Where it goes, unless this is empty.
    pub sinks: Vec<String>,
}

/// What tests may name.
struct Known<'k> {
    tenants: Vec<&'k str>,
    /// Whether more tenants may come.
    open: bool,
    sinks: Vec<&'k str>,
}

/// Checks all tests against what the pipeline has.
pub(super) fn check_all(
    scope: &Scope<'_, '_>,
    sections: &[Part<TestSection>],
    source: Option<&Source>,
    sinks: &[Sink],
) -> Vec<Test> {
    let tenants = source.map_or(&[][..], |source| &source.tenants);
    let known = Known {
        tenants: tenants.iter().map(|tenant| &*tenant.id).collect(),
        open: tenants.is_empty() || source.is_some_and(|source| source.directory.is_some()),
        sinks: sinks.iter().map(|sink| &*sink.name).collect(),
    };
    let at = Path::default().key("tests");
    let mut names = BTreeSet::new();
    let sections = sections.iter().enumerate();
    let tests = sections.filter_map(|(index, part)| {
        let (section, at) = (part.0.as_ref()?, at.index(index));
        if !names.insert(section.name.as_str()) {
            let what = format!("test name `{}` is used twice", section.name.escape_debug());
            let help = "name each test after what it alone shows";
            scope.report.add(&at.key("name"), what, help);
        }
        section.check(scope, &at, &known)
    });
    tests.collect()
}

impl TestSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path, known: &Known<'_>) -> Option<Test> {
        let report = scope.report;
        if self.name.trim().is_empty() || self.name.contains('\n') {
            let help = "say in one line what the test shows";
            report.add(&at.key("name"), "the test has no name", help);
        }
        if self.inputs.is_empty() {
            let help = "add one: `- record: {...}` or `- event: {...}`";
            report.add(&at.key("inputs"), "the test has no input", help);
        }
        let silent = self.outputs.is_empty() && self.no_outputs_from.is_empty();
        if silent && self.dropped.is_none() && self.rejected.is_empty() {
            let help = "add `outputs`, `no_outputs_from`, `dropped` or `rejected`";
            report.add(at, "the test expects nothing, so it cannot fail", help);
        }
        for (index, words) in self.rejected.iter().enumerate() {
            if words.trim().is_empty() {
                let help = "repeat some words of the reason";
                let at = at.key("rejected").index(index);
                report.add(&at, "the words are empty", help);
            }
        }
        check_sinks(
            scope,
            &at.key("no_outputs_from"),
            &self.no_outputs_from,
            known,
        );
        let inside = at.key("inputs");
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs
            .filter_map(|(index, part)| part.0.as_ref()?.check(scope, &inside.index(index), known));
        let inputs = inputs.collect();
        let inside = at.key("outputs");
        let outputs = self.outputs.iter().enumerate();
        let outputs = outputs.filter_map(|(index, part)| {
            Some(part.0.as_ref()?.check(scope, &inside.index(index), known))
        });
        Some(Test {
            name: self.name.clone(),
            place: report.place(at),
            inputs,
            outputs: outputs.collect(),
            no_outputs_from: self.no_outputs_from.clone(),
            dropped: self.dropped,
            rejected: self.rejected.clone(),
        })
    }
}

impl InputSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path, known: &Known<'_>) -> Option<TestInput> {
        if let Some(tenant) = &self.tenant
            && !known.open
            && !known.tenants.contains(&tenant.as_str())
        {
            let what = format!("there is no tenant `{}`", tenant.escape_debug());
            let help = suggest(tenant, &known.tenants);
            scope.report.add(&at.key("tenant"), what, help);
        }
        let (is_record, at, value) = match (&self.record, &self.event) {
            (Some(record), None) => (true, at.key("record"), record),
            (None, Some(event)) => (false, at.key("event"), event),
            _ => {
                let help = "for example `event: { event: { action: UserLoggedIn } }`";
                let what = "an input is either a `record` or an `event`";
                scope.report.add(at, what, help);
                return None;
            }
        };
        let body = match value {
            Value::Object(_) => value.to_string(),
            // In JSON a line break can only stand where a blank may.
            Value::String(text) if !text.trim().is_empty() => {
                text.trim().replace(['\r', '\n'], " ")
            }
            _ => {
                wrong_form(scope, &at);
                return None;
            }
        };
        Some(TestInput {
            is_record,
            body,
            tenant: self.tenant.clone(),
            stream: self.stream.as_deref().unwrap_or("test").into(),
        })
    }
}

impl OutputSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path, known: &Known<'_>) -> TestOutput {
        if self.event.is_none()
            && self.fields.is_empty()
            && self.conditions.is_empty()
            && self.sinks.is_empty()
        {
            let help = "add `event`, `fields`, `conditions` or `sinks`";
            scope.report.add(at, "nothing is said of this output", help);
        }
        for name in self.fields.keys() {
            if !is_field(name) {
                let what = format!("`{}` is not the name of a field", name.escape_debug());
                let help = "write a dotted path, such as `event.action`";
                scope
                    .report
                    .add_key(&at.key("fields").key(name), what, help);
            }
        }
        check_sinks(scope, &at.key("sinks"), &self.sinks, known);
        let event = self.event.as_ref().and_then(|event| {
            let text = event.as_str().map(serde_json::from_str);
            match text.unwrap_or_else(|| Ok(event.clone())) {
                Ok(event @ Value::Object(_)) => Some(event),
                _ => {
                    wrong_form(scope, &at.key("event"));
                    None
                }
            }
        });
        let inside = at.key("conditions");
        let conditions = self.conditions.iter().enumerate();
        let conditions =
            conditions.filter_map(|(index, one)| check_condition(scope, &inside.index(index), one));
        TestOutput {
            event,
            fields: self.fields.clone().into_iter().collect(),
            conditions: conditions.collect(),
            sinks: self.sinks.clone(),
        }
    }
}

fn wrong_form(scope: &Scope<'_, '_>, at: &Path) {
    let help = "write its members as a map, or the JSON as text after `|`";
    scope.report.add(at, "this is no JSON object", help);
}

fn check_sinks(scope: &Scope<'_, '_>, at: &Path, names: &[String], known: &Known<'_>) {
    for (index, name) in names.iter().enumerate() {
        if !known.sinks.is_empty() && !known.sinks.contains(&name.as_str()) {
            let what = format!("there is no sink `{}`", name.escape_debug());
            let help = format!("the sinks are: {}", list(&known.sinks));
            scope.report.add(&at.index(index), what, help);
        }
    }
}
