//! Section `redact`: what must not leave.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageKind;
use super::edit::check_field;
use crate::config::check::{Scope, SecretSection};
use crate::config::report::Path;
use crate::secret::SecretRef;
use crate::stage::redact::pattern::{Kind, Pattern};

/// Hides what must not leave: the values of `fields`; with `patterns`, only what fits one of them,
/// in these fields or, without `fields`, in every text of the event. Names of members are never
/// changed. An event that a stage before this one refuses is kept among the dead letters as it was
/// then: redact first.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "redact", extend("examples" = [{ "fields": ["user.name"] }]))]
pub struct RedactSection {
    /// The fields, named with dots; found in nested objects, as dotted keys and in the objects of
    /// lists alike. In an object or list every text, number, `true` and `false` is hidden.
    #[schemars(extend("examples" = [["user.name", "user.email"]]))]
    #[serde(default)]
    pub fields: Vec<String>,
    /// What to look for in texts: `email`, `ipv4`, `ipv6`, `guid`, `credit_card`,
    /// `us_social_security_number`, or `{ regex: EXPRESSION }`. Where in doubt they find too much.
    #[schemars(extend("examples" = [["email", { "regex": "EMP-[0-9]{6}" }]]))]
    #[serde(default)]
    pub patterns: Vec<Kind>,
    /// What stands in the place of what is hidden.
    #[serde(default)]
    pub with: WithSection,
    /// The key of the hashes, a secret of at least 16 bytes; needed for `with: hash` only. Hashes of
    /// one text are the same as long as the salt is.
    pub salt: Option<SecretSection>,
}

/// What stands in the place of what is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "with", inline)]
pub enum WithSection {
    /// The text `[redacted]`.
    #[default]
    Mask,
    /// The first 16 bytes of HMAC-SHA-256 in hexadecimal, the same for the same text.
    Hash,
    /// Nothing: a field is taken out, what fits a pattern is cut out.
    Drop,
}

/// Hides what must not leave, checked.
#[derive(Clone, Debug)]
pub struct Redact {
    /// Where.
    pub fields: Vec<String>,
    /// What.
    pub patterns: Vec<Kind>,
    /// What takes its place.
    pub with: RedactWith,
}

/// What takes the place of what is hidden.
#[derive(Clone, Debug, PartialEq)]
pub enum RedactWith {
    /// A mask.
    Mask,
    /// A hash with this salt.
    Hash(SecretRef),
    /// Nothing.
    Drop,
}

impl RedactSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<StageKind> {
        if self.fields.is_empty() && self.patterns.is_empty() {
            let help = "add `fields: [user.name]` or `patterns: [email]`";
            scope.report.add(at, "`redact` names nothing to hide", help);
        }
        for (index, field) in self.fields.iter().enumerate() {
            check_field(scope, &at.key("fields").index(index), field);
        }
        for (index, kind) in self.patterns.iter().enumerate() {
            if let (Err(why), Kind::Regex(expression)) = (Pattern::new(kind), kind) {
                let what = format!("`{expression}` cannot be used: {why}");
                let help = "see the syntax at https://docs.rs/regex; quote it with ' in YAML";
                scope
                    .report
                    .add(&at.key("patterns").index(index).key("regex"), what, help);
            }
        }
        let with = match (self.with, &self.salt) {
            (WithSection::Mask, None) => RedactWith::Mask,
            (WithSection::Drop, None) => RedactWith::Drop,
            (WithSection::Hash, Some(salt)) => {
                RedactWith::Hash(scope.secret(&at.key("salt"), salt)?)
            }
            (WithSection::Hash, None) => {
                let help = "add `salt: { env: NAME }` or `salt: { file: PATH }`";
                scope.report.add(at, "hashes need a salt", help);
                return None;
            }
            (_, Some(_)) => {
                let help = "write `with: hash`, or remove `salt`";
                scope
                    .report
                    .add(&at.key("salt"), "a salt is for hashes only", help);
                return None;
            }
        };
        Some(StageKind::Redact(Redact {
            fields: self.fields.clone(),
            patterns: self.patterns.clone(),
            with,
        }))
    }
}
