//! One record to one event: the seam to the mapping crate.
//!
//! Only names are translated here: a person writes `tenant_names` where the mapping says `tenants`,
//! since `tenants` of a pipeline is something else.

use serde::Deserialize;
use serde_json::{Map, Value};
use sluicegate_ecs::Options as Ecs;

use crate::world::Timestamp;

/// Mapping options of the config, by the names a person writes; sorted.
pub const OPTIONS: [&str; 9] = [
    "error_mode",
    "later_record_types",
    "o365beat",
    "preserve_original_event",
    "profile",
    "string_numbers",
    "tags",
    "tenant_names",
    "tidy",
];

/// What the mapping can be asked for.
pub type Options = Ecs;

/// Reads the mapping's part of the config; an error is a pointer and what is wrong there.
pub fn options(members: Map<String, Value>) -> Result<Options, Vec<(String, String)>> {
    let rename = |(name, value): (String, Value)| {
        let lower = |(name, value): (String, Value)| (name.to_ascii_lowercase(), value);
        match (&*name, value) {
            // Ids compare in lower case; people paste them as the portal shows them.
            ("tenant_names", Value::Object(names)) => (
                "tenants".to_owned(),
                Value::Object(names.into_iter().map(lower).collect()),
            ),
            ("tenant_names", other) => ("tenants".to_owned(), other),
            (_, value) => (name, value),
        }
    };
    // One member at a time first, so that an error names its place.
    let wrong = |(name, value): (&String, &Value)| {
        let single = Map::from_iter([rename((name.clone(), value.clone()))]);
        let error = Options::deserialize(Value::Object(single)).err()?;
        Some((format!("/{name}"), error.to_string()))
    };
    let errors: Vec<_> = members.iter().filter_map(wrong).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    Options::deserialize(Value::Object(members.into_iter().map(rename).collect()))
        .map_err(|error| vec![(String::new(), error.to_string())])
}

/// One event, its body in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Content hash, independent of member order.
    pub fingerprint: u64,
    /// When it happened; when it arrived, if the record does not say.
    pub time: Timestamp,
    /// The record was read to its end.
    pub whole: bool,
}

/// Maps records, one after the other.
#[derive(Debug)]
pub struct Mapper(sluicegate_ecs::Mapper);

impl Mapper {
    /// A mapper with these options.
    pub fn new(options: &Options) -> Self {
        Self(sluicegate_ecs::Mapper::new(options.clone()))
    }

    /// The id of the event mapped last.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Appends the event's body to `out`. `arrived` is when the service made the record available.
    pub fn map(
        &mut self,
        record: &[u8],
        arrived: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Mapped, String> {
        self.0.set_arrival_ms(arrived);
        let mapped = self
            .0
            .map(record, out)
            .map_err(|rejected| rejected.reason)?;
        let time = if mapped.has_time {
            mapped.time_ms
        } else {
            arrived
        };
        Ok(Mapped {
            fingerprint: mapped.fingerprint,
            time,
            whole: mapped.whole,
        })
    }
}
