//! Section `dead_letter`: where what no retry can deliver is kept, and how much of it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::in_range;
use super::report::{Path, Report};
use super::unit::Size;

/// Less would not hold a single large record.
const LEAST_BYTES: u64 = 64 << 10;
const MOST_BYTES: u64 = 1 << 40;
const DEFAULT_BYTES: u64 = 1 << 30;

/// What no retry can deliver: kept here with its exact bytes and the reason, readable by its owner only.
/// `sluicegate dead-letter` lists, shows and replays it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "dead_letter")]
pub struct DeadLetterSection {
    /// The folder, seen from the working directory; made when missing. Default: `dead-letters` in
    /// the state's folder.
    pub path: Option<String>,
    /// Most bytes that are kept. When they are used up, nothing more is committed, plugins wait, and `/readyz` says
    /// why; it goes on by itself once letters were replayed, or their file was moved away.
    #[schemars(extend("default" = "1GiB"))]
    pub max_size: Option<Size>,
}

impl DeadLetterSection {
    pub(super) fn max_bytes(&self, report: &Report<'_>, at: &Path) -> u64 {
        let written = self.max_size.map(|size| size.0);
        let bounds = (LEAST_BYTES, MOST_BYTES);
        let print = |bytes| Size(bytes).to_string();
        in_range(
            report,
            &at.key("max_size"),
            written,
            DEFAULT_BYTES,
            bounds,
            print,
        )
    }
}
