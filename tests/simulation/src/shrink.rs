//! Makes a failing run smaller: takes faults and crashes away one by one, then halves sizes, while it still fails.

use crate::collector::Machine;
use crate::effects::CrashPlan;
use crate::plan::Plan;
use crate::run::{Outcome, run};

/// The smallest plan found that still breaks the same invariant, with what it came to and how many runs it took.
pub fn shrink(machine: &Machine, plan: &Plan, most: u32) -> (Plan, Outcome, u32) {
    let first = run(machine, plan.clone());
    let mut search = Search {
        machine,
        invariant: invariant(&first),
        best: (plan.clone(), first),
        runs: 1,
        most,
    };
    search.pin_crashes();
    while search.round() {}
    let (plan, outcome) = search.best;
    (plan, outcome, search.runs)
}

fn invariant(outcome: &Outcome) -> Option<String> {
    let first = outcome.violations.first()?;
    Some(first.split(':').next().unwrap_or_default().to_owned())
}

struct Search<'a> {
    machine: &'a Machine,
    invariant: Option<String>,
    best: (Plan, Outcome),
    runs: u32,
    most: u32,
}

impl Search<'_> {
    /// Keeps a smaller plan if it fails in the same way.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.runs >= self.most || self.invariant.is_none() {
            return false;
        }
        self.runs += 1;
        let outcome = run(self.machine, plan.clone());
        let same =
            |violation: &String| violation.split(':').next().map(str::to_owned) == self.invariant;
        let fails = outcome.violations.iter().any(same);
        if fails {
            self.best = (plan, outcome);
        }
        fails
    }

    /// Crashes at random become crashes at numbers, which can be taken away one by one.
    fn pin_crashes(&mut self) {
        let (plan, outcome) = &self.best;
        let at = outcome
            .crashes
            .iter()
            .map(|(number, moment, _)| (*number, *moment));
        let crashes = CrashPlan {
            at: at.collect(),
            ..CrashPlan::default()
        };
        let pinned = Plan {
            crashes,
            ..plan.clone()
        };
        self.try_plan(pinned);
    }

    /// One pass over everything that could be less; whether something was.
    fn round(&mut self) -> bool {
        let mut smaller = false;
        for plan in candidates(&self.best.0) {
            smaller |= self.try_plan(plan);
            if smaller {
                break;
            }
        }
        smaller
    }
}

fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut smaller = Vec::new();
    for index in 0..plan.troubles.len() {
        let mut less = plan.clone();
        less.troubles.remove(index);
        smaller.push(less);
    }
    for index in 0..plan.faults.len() {
        let mut less = plan.clone();
        less.faults.remove(index);
        smaller.push(less);
    }
    for number in plan.crashes.at.keys() {
        let mut less = plan.clone();
        less.crashes.at.remove(number);
        smaller.push(less);
    }
    let mut halve = |more: bool, change: &dyn Fn(&mut Plan)| {
        if more {
            let mut less = plan.clone();
            change(&mut less);
            smaller.push(less);
        }
    };
    halve(plan.tenants > 1, &|less| less.tenants /= 2);
    halve(plan.streams > 1, &|less| less.streams /= 2);
    halve(plan.blobs > 1, &|less| less.blobs /= 2);
    halve(plan.later > 0, &|less| less.later /= 2);
    halve(plan.records > 1, &|less| less.records /= 2);
    halve(plan.late_ms > 0, &|less| less.late_ms = 0);
    halve(plan.safety_ms > 120_000, &|less| less.safety_ms /= 2);
    halve(plan.documents, &|less| less.documents = false);
    smaller
}
