//! What a pipeline may ask of the mapping.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The options of the mapping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which documents are made: `newer` (ECS 8.11), `1.7.1` (ECS 8.3), `o365beat` (flat, ECS 1.1)
    /// or `raw`. Default: `newer`.
    pub profile: Profile,
    /// What a record does that breaks a rule: `robust` maps all the rest and says so in
    /// `error.message`; `reference` stops there, as the reference mapping does. Default: `robust`.
    pub error_mode: ErrorMode,
    /// Keep the record's exact bytes in `event.original`. Default: false.
    pub preserve_original_event: bool,
    /// The first values of `tags`. Default: none.
    pub tags: Vec<String>,
    /// Directory (tenant) id in lower case to the name that becomes `organization.name`. Default:
    /// none.
    pub tenants: BTreeMap<String, String>,
    /// Numbers of the record become texts. Default: true for `newer`, false for all others.
    pub string_numbers: Option<bool>,
    /// Also tidy what the reference mapping leaves untidy without an error: no value twice in
    /// `event.category` and `event.type`, `host:port` split, zone ids cut from addresses, a single
    /// `user.email`, outcome `unknown` for a status nobody knows, `event.code` also for unknown
    /// record types (their number), an empty `DeviceName` taken as missing. Default: false.
    pub tidy: bool,
    /// Give `event.code` also to record types newer than the reference mapping. Default: false.
    pub later_record_types: bool,
    /// The directory (tenant) id that records should have; an event of another one gets the tag
    /// `tenant_mismatch`. Default: any.
    pub directory_id: Option<String>,
    /// Choices of profile `o365beat`.
    pub o365beat: BeatOptions,
}

/// Which documents are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Profile {
    /// ECS 8.11, every number of the record a text, nothing empty.
    #[default]
    #[serde(rename = "newer")]
    Newer,
    /// ECS 8.3, the mapping of mid-2022.
    #[serde(rename = "1.7.1")]
    V1_7_1,
    /// The record at the top level with some ECS members beside it.
    #[serde(rename = "o365beat")]
    O365beat,
    /// The record as it came.
    #[serde(rename = "raw")]
    Raw,
}

/// What a record does that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// Map the rest, say so in `error.message`.
    #[default]
    Robust,
    /// Stop there and emit what is there.
    Reference,
}

/// Choices of profile `o365beat`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeatOptions {
    /// `copy` keeps the converted members at the top level, `rename` takes them away. Default:
    /// `copy`.
    pub mode: BeatMode,
    /// What becomes of `Parameters`, `ExtendedProperties` and `ModifiedProperties`: `text` (as
    /// o365beat prints them), `json` (a JSON text), `objects` (name to value) or `arrays`
    /// (unchanged). Default: `text`.
    pub name_values: BeatNameValues,
    /// Add `processed.Parameters` and `processed.ExtendedProperties`: objects of name to value.
    /// Default: false.
    pub processed: bool,
}

/// What o365beat does with a converted member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeatMode {
    /// Keep it at the top level too.
    #[default]
    Copy,
    /// Take it away.
    Rename,
}

/// What o365beat does with arrays of names and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeatNameValues {
    /// The print form of o365beat: `[map[Name:a Value:b]]`.
    #[default]
    Text,
    /// A JSON text.
    Json,
    /// Objects of name to value.
    Objects,
    /// As they came.
    Arrays,
}

impl Options {
    /// Whether numbers of the record become texts.
    pub(crate) fn quotes_numbers(&self) -> bool {
        self.string_numbers
            .unwrap_or(self.profile == Profile::Newer)
    }
}
