//! What has to hold of an event: fields with their values, or a program that says so.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::vrl::check_condition;
use super::{Filter, check_fields};
use crate::config::check::Scope;
use crate::config::report::Path;
use crate::stage::script::Script;

/// A map of field to value or list of values, or a condition in VRL.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct ConditionSection(Value);

impl JsonSchema for ConditionSection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["object", "string", "null"],
            "x-kind": "map or text",
            "additionalProperties": true,
        })
    }
}

/// What has to hold of an event, checked.
#[derive(Clone, Debug)]
pub enum Condition {
    /// This filter keeps it.
    Fields(Filter),
    /// This program ends in `true`.
    Program(Arc<Script>),
}

impl ConditionSection {
    /// Checks it; `key` is its name.
    pub(in crate::config) fn check(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
        key: &str,
    ) -> Option<Condition> {
        match &self.0 {
            Value::Object(map) if map.get("type").is_none_or(|kind| kind != "vrl") => {
                let fields = check_fields(scope, at, key, map);
                Some(Condition::Fields(Filter { keep: true, fields }))
            }
            condition => check_condition(scope, at, condition).map(Condition::Program),
        }
    }
}
