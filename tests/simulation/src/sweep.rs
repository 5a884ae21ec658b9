//! Every crash of a small scenario: one at each effect and moment, then pairs of which the second strikes recovery.

use std::collections::BTreeMap;

use crate::collector::Machine;
use crate::effects::{CrashPlan, Moment};
use crate::plan::{Memory, Plan, Trouble};
use crate::run::{Outcome, run};
use crate::time::MINUTE_MS;

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Runs with one crash.
    pub singles: u64,
    /// Runs with two.
    pub pairs: u64,
    /// Runs that broke an invariant.
    pub failures: Vec<Outcome>,
}

/// Small scenarios, each with a name.
#[expect(clippy::too_many_lines, reason = "a list")]
pub fn scenarios() -> Vec<(&'static str, Plan)> {
    let calm = |seed: u64| Plan {
        safety_ms: MINUTE_MS,
        blobs: 2,
        records: 3,
        ..Plan::calm(seed)
    };
    let with = |seed: u64, troubles: &[Trouble]| Plan {
        troubles: troubles.to_vec(),
        ..calm(seed)
    };
    vec![
        (
            "one blob, one file",
            Plan {
                documents: false,
                blobs: 1,
                ..calm(1)
            },
        ),
        ("two blobs, two sinks", calm(2)),
        (
            "a page for each blob",
            Plan {
                blobs: 4,
                page_size: 1,
                ..calm(3)
            },
        ),
        (
            "two content types",
            Plan {
                streams: 2,
                ..calm(4)
            },
        ),
        (
            "two tenants",
            Plan {
                tenants: 2,
                ..calm(5)
            },
        ),
        (
            "a store that refuses events",
            with(6, &[Trouble::SinkRefusals]),
        ),
        (
            "a subscription to be started",
            with(7, &[Trouble::Unsubscribed]),
        ),
        (
            "copies and changed records",
            Plan {
                faults: vec![
                    (sluicegate_office::Fault::CopyInNext, 0.5),
                    (sluicegate_office::Fault::ChangedCopy, 0.5),
                ],
                blobs: 3,
                ..calm(8)
            },
        ),
        (
            "content that comes later",
            Plan {
                later: 2,
                late_ms: 5 * MINUTE_MS,
                ..calm(9)
            },
        ),
        (
            "one request at a time",
            Plan {
                in_flight: 1,
                blobs: 3,
                budget: 12,
                ..calm(10)
            },
        ),
        (
            "answers that get lost",
            with(11, &[Trouble::AcksLost, Trouble::Resets]),
        ),
        (
            "the real ledger",
            Plan {
                memory: Memory::Sqlite,
                blobs: 1,
                ..calm(12)
            },
        ),
    ]
}

/// One crash at each of a run's effects and moments, then pairs within a budget.
pub fn sweep(machine: &Machine, plan: &Plan, pairs: u64) -> Sweep {
    let whole = run(machine, plan.clone());
    let mut sweep = Sweep::default();
    // The real ledger syncs files: once at each effect has to do.
    let moments: &[Moment] = match plan.memory {
        Memory::Model => &Moment::ALL,
        Memory::Sqlite => &[Moment::After],
    };
    let mut singles = Vec::new();
    for number in 0..whole.effects {
        for moment in moments {
            singles.push((number, *moment));
        }
    }
    if !whole.violations.is_empty() {
        sweep.failures.push(whole);
    }
    let mut recoveries = Vec::new();
    for (number, moment) in singles {
        let outcome = run(machine, crashing(plan, &[(number, moment)]));
        sweep.singles += 1;
        recoveries.push((number, moment, outcome.effects));
        if !outcome.violations.is_empty() {
            sweep.failures.push(outcome);
        }
    }
    // Every so many of the pairs, so that the budget reaches over all of them.
    let all: u64 = recoveries
        .iter()
        .map(|(number, _, effects)| effects - number)
        .sum();
    let step = (all / pairs.max(1)).max(1);
    let mut index = 0_u64;
    for (number, moment, effects) in recoveries {
        for second in number + 1..effects {
            index += 1;
            if !index.is_multiple_of(step) || pairs == 0 {
                continue;
            }
            let again = Moment::ALL[usize::try_from(index / step % 3).unwrap_or(0)];
            let outcome = run(
                machine,
                crashing(plan, &[(number, moment), (second, again)]),
            );
            sweep.pairs += 1;
            if !outcome.violations.is_empty() {
                sweep.failures.push(outcome);
            }
        }
    }
    sweep
}

fn crashing(plan: &Plan, at: &[(u64, Moment)]) -> Plan {
    Plan {
        crashes: CrashPlan {
            at: at.iter().copied().collect::<BTreeMap<_, _>>(),
            ..CrashPlan::default()
        },
        ..plan.clone()
    }
}
