//! Sections `rename`, `drop` and `sample`: fields that change their names or go, events that go.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::StageKind;
use super::condition::{Condition, ConditionSection};
use crate::config::check::Scope;
use crate::config::report::Path;
use crate::stage::is_field;

/// Takes fields out of events. An object that loses its last member stays as an empty one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "drop")]
pub struct DropSection {
    /// The fields, named with dots; found in nested objects, as dotted keys and in the objects of
    /// lists alike.
    #[schemars(extend("examples" = [["o365.audit.ExtendedProperties", "user_agent"]]))]
    pub fields: Vec<String>,
}

/// Keeps one event of several. Which one follows from the event itself, so it is the same one after
/// a crash and on every retry; two `sample` stages in a row choose alike. The others are counted as
/// dropped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "sample")]
pub struct SampleSection {
    /// One event of this many is kept.
    #[schemars(extend("examples" = [10]))]
    pub rate: u64,
    /// The field whose value decides, so that events with one value are kept or dropped together;
    /// those without it are chosen one by one. Default: each event by itself.
    #[schemars(extend("examples" = ["user.name"]))]
    pub key_field: Option<String>,
    /// Events that are always kept: a map of field to value or list of values, or a condition in VRL,
    /// as for `filter`.
    #[schemars(extend("examples" = [{ "event.outcome": "failure" }]))]
    pub exclude: Option<ConditionSection>,
}

/// Old names with their new names, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct RenameSection(Vec<(String, String)>);

impl<'de> Deserialize<'de> for RenameSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = RenameSection;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of old names to new names")
            }

            fn visit_unit<E>(self) -> Result<RenameSection, E> {
                Ok(RenameSection::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RenameSection, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(RenameSection(pairs))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

impl JsonSchema for RenameSection {
    fn schema_name() -> Cow<'static, str> {
        "rename".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Gives fields other names: a map of old name to new name, both with \
                dots, one after the other in the order of the file. A field that has the new name \
                already is replaced. A name in another object moves the value there, into new \
                objects where there are none; an event in which something else than an object \
                stands in that place becomes a dead letter. Fields in the objects of a list can \
                only get other names in the same object.",
            "type": "object",
            "x-entries": "new name",
            "examples": [{ "o365.audit.ClientAppId": "client.application.id" }],
            "minProperties": 1,
            "additionalProperties": { "type": "string" },
        })
    }
}

/// Keeps one event of several, checked.
#[derive(Clone, Debug)]
pub struct Sample {
    /// One of this many is kept.
    pub rate: u64,
    /// Whose value decides.
    pub key_field: Option<String>,
    /// What is always kept.
    pub exclude: Option<Condition>,
}

/// Complains about what cannot be the name of a field.
pub(super) fn check_field(scope: &Scope<'_, '_>, at: &Path, name: &str) {
    if !is_field(name) {
        let what = format!("`{}` is not the name of a field", name.escape_debug());
        let help = "write a dotted path, such as `event.action`";
        scope.report.add(at, what, help);
    }
}

impl DropSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> StageKind {
        let at = at.key("fields");
        if self.fields.is_empty() {
            let help = "for example `fields: [user_agent]`";
            scope.report.add(&at, "`fields` names no field", help);
        }
        for (index, field) in self.fields.iter().enumerate() {
            check_field(scope, &at.index(index), field);
        }
        StageKind::Drop(self.fields.clone())
    }
}

impl SampleSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> StageKind {
        if self.rate == 0 {
            let help = "`rate: 10` keeps one event of ten";
            scope.report.add(&at.key("rate"), "`rate` is zero", help);
        }
        if let Some(field) = &self.key_field {
            check_field(scope, &at.key("key_field"), field);
        }
        let exclude = self.exclude.as_ref();
        let exclude =
            exclude.and_then(|exclude| exclude.check(scope, &at.key("exclude"), "exclude"));
        StageKind::Sample(Sample {
            rate: self.rate,
            key_field: self.key_field.clone(),
            exclude,
        })
    }
}

impl RenameSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> StageKind {
        if self.0.is_empty() {
            let help = "for example `rename: { old.name: new.name }`";
            scope.report.add(at, "`rename` names no field", help);
        }
        for (index, (from, to)) in self.0.iter().enumerate() {
            let at = at.key(from);
            if !is_field(from) {
                let what = format!("`{}` is not the name of a field", from.escape_debug());
                let help = "write a dotted path, such as `event.action`";
                scope.report.add_key(&at, what, help);
            }
            check_field(scope, &at, to);
            if from == to {
                let what = format!("`{from}` keeps its name");
                scope
                    .report
                    .add(&at, what, "write the new name, or remove this line");
            } else if self.0[..index].iter().any(|(_, other)| other == to) {
                let what = format!("two fields get the name `{to}`");
                let help = "the second would replace the first; choose another name";
                scope.report.add(&at, what, help);
            }
        }
        StageKind::Rename(self.0.clone())
    }
}
