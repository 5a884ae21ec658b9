//! Runs that once found something, kept as they were: their plans, since what a seed draws may change.

use sluicegate_office::Fault;

use crate::plan::{Plan, Trouble};
use crate::time::{HOUR_MS, MINUTE_MS};

/// What was wrong, and a run that showed it.
pub fn found() -> Vec<(&'static str, Plan)> {
    vec![
        (
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
        ),
        (
            "what expired before the first listing that worked was not declared",
            Plan {
                seed: 786,
                faults: vec![(Fault::Redirect, 0.9), (Fault::BadPage, 0.5)],
                ..away(9, &[])
            },
        ),
        (
            "a listing that a small budget makes long was cut off and began again for ever",
            Plan {
                seed: 74,
                budget: 12,
                interval_s: 600,
                ..away(3, &[])
            },
        ),
        (
            "what was there before the subscription was started was not listed after an absence",
            Plan {
                seed: 780,
                later: 0,
                faults: vec![(Fault::Redirect, 0.5), (Fault::Throttle, 0.2)],
                ..away(3, &[Trouble::Unsubscribed, Trouble::Refusals])
            },
        ),
        (
            "a blob whose URL leads elsewhere was not declared lost when it had expired",
            Plan {
                seed: 5_003_044,
                blobs: 5,
                span_ms: HOUR_MS,
                safety_ms: 9 * MINUTE_MS,
                budget: 12,
                interval_s: 600,
                token_life_s: 900,
                faults: vec![
                    (Fault::EmptyBody, 0.15),
                    (Fault::ForeignBlob, 0.9),
                    (Fault::BadItem, 0.075),
                ],
                documents: false,
                ..away(9, &[Trouble::Refusals, Trouble::Resets, Trouble::ClockBack])
            },
        ),
    ]
}

/// A collector that stays away for days, in which more content comes.
fn away(days: i64, troubles: &[Trouble]) -> Plan {
    let away_ms = days * 24 * HOUR_MS;
    Plan {
        blobs: 4,
        later: 3,
        span_ms: 5 * HOUR_MS,
        safety_ms: 6 * MINUTE_MS,
        away_ms,
        later_ms: away_ms,
        troubles: [&[Trouble::Absence], troubles].concat(),
        ..Plan::calm(0)
    }
}
