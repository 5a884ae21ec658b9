//! Section `health`: when a stream counts as unhealthy.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::Scope;
use super::limits::in_range;
use super::report::Path;
use super::unit::Period;
use crate::health::Thresholds;

/// When a stream counts as unhealthy: by what it delivers and lists, not by errors. What is found wrong is logged once,
/// shown by `sluicegate state`, and makes `sluicegate state --check` exit 75.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "health")]
pub struct HealthSection {
    /// Content that has been available for longer and is not delivered has to move: a backlog that is worked off does,
    /// one that waits for a sink does not.
    #[schemars(extend("default" = "1h"))]
    pub max_age: Option<Period>,
    /// Content that expires within this time and is not delivered has to move; in quarantine it is unhealthy at once.
    #[schemars(extend("default" = "12h"))]
    pub near_expiry: Option<Period>,
    /// How long content that has to move may stand still.
    #[schemars(extend("default" = "10m"))]
    pub stall_timeout: Option<Period>,
    /// How long a stream may list nothing further. A quiet tenant is listed all the same; four of the source's own
    /// listing intervals are always allowed.
    #[schemars(extend("default" = "30m"))]
    pub listing_timeout: Option<Period>,
}

impl HealthSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Thresholds {
        let Thresholds {
            max_age,
            near_expiry,
            stall_timeout,
            listing_timeout,
        } = Thresholds::default();
        let period = |key: &str, written: Option<Period>, default| {
            // Judged every half minute; longer than content is kept anywhere.
            let bounds = (Duration::from_mins(1), Duration::from_hours(400 * 24));
            let written = written.map(|period| period.0);
            let print = |time| Period(time).to_string();
            in_range(scope.report, &at.key(key), written, default, bounds, print)
        };
        Thresholds {
            max_age: period("max_age", self.max_age, max_age),
            near_expiry: period("near_expiry", self.near_expiry, near_expiry),
            stall_timeout: period("stall_timeout", self.stall_timeout, stall_timeout),
            listing_timeout: period("listing_timeout", self.listing_timeout, listing_timeout),
        }
    }
}
