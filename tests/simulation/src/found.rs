//! Runs that once found something, kept as they were: their plans, since what a seed draws may change.

use sluicegate_office::Fault;

use crate::plan::{Plan, Trouble};
use crate::time::{HOUR_MS, MINUTE_MS};

/// What was wrong, and a run that showed it.
pub fn found() -> Vec<(&'static str, Plan)> {
    vec![(
        "a blob was declared lost because its listing held an element that could not be read",
        Plan {
            blobs: 3,
            span_ms: HOUR_MS,
            safety_ms: 38 * MINUTE_MS,
            budget: 60,
            page_size: 1,
            interval_s: 600,
            token_life_s: 900,
            faults: vec![
                (Fault::ForeignBlob, 0.5),
                (Fault::BadItem, 0.4),
                (Fault::ForeignPage, 0.08),
            ],
            troubles: vec![Trouble::Resets],
            ..Plan::calm(93)
        },
    )]
}
