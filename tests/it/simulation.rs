//! The collector under a simulated service, disk and sinks: thousands of seeds, every crash of small scenarios.
//!
//! A failure prints the line that repeats it. `cargo run --release -p sluicegate-simulation -- --seeds 1000000` runs
//! as many seeds as there is time for.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_simulation::coverage::Coverage;
use sluicegate_simulation::found::found;
use sluicegate_simulation::plan::Memory;
use sluicegate_simulation::shrink::shrink;
use sluicegate_simulation::sweep::{Sweep, scenarios, sweep};
use sluicegate_simulation::{Machine, Outcome, Plan, Size, run};

/// Seeds of one run of the tests; [`every_seed_keeps_every_promise`] takes them all, or the one that is asked for.
const SEEDS: u64 = 2_000;

/// Every so many seeds one is run twice.
const TWICE: u64 = 100;

/// Runs in which the second crash strikes the recovery from the first, for each scenario.
const PAIRS: u64 = 40;

static MACHINE: LazyLock<Machine> =
    LazyLock::new(|| Machine::new().expect("the component that the host embeds can be loaded"));

fn told(outcome: &Outcome) -> String {
    format!(
        "\nSLUICEGATE_SEED={} cargo test -p sluicegate-tests --test it simulation::every_seed\n  {}",
        outcome.seed,
        outcome.violations.join("\n  ")
    )
}

/// Runs jobs on all cores; returns what they have to say.
fn on_all_cores(jobs: u64, job: impl Fn(u64) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let work = || {
        let mut said = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= jobs {
                return said;
            }
            said.extend(job(index));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let said = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        said.collect()
    })
}

fn check(plan: Plan) -> Result<Outcome, String> {
    let outcome = run(&MACHINE, plan);
    if outcome.violations.is_empty() {
        Ok(outcome)
    } else {
        Err(told(&outcome))
    }
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = std::env::var("SLUICEGATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        return replay(seed);
    }
    let coverage = Coverage::default();
    let said = on_all_cores(SEEDS, |seed| {
        let outcome = match check(Plan::of(seed, Size::Small)) {
            Ok(outcome) => outcome,
            Err(said) => return Some(said),
        };
        coverage.merge(&outcome.coverage);
        if !seed.is_multiple_of(TWICE) {
            return None;
        }
        let again = run(&MACHINE, Plan::of(seed, Size::Small));
        (again.hash != outcome.hash).then(|| format!("\nseed {seed}: two runs of it differ"))
    });
    assert!(said.is_empty(), "{}", said.concat());
    let missed: Vec<_> = coverage.missed().iter().map(|point| point.text()).collect();
    assert!(missed.is_empty(), "never happened: {missed:?}");
}

/// One seed, with the smallest plan that fails in the same way.
fn replay(seed: u64) {
    let plan = Plan::of(seed, Size::Small);
    let outcome = run(&MACHINE, plan.clone());
    if outcome.violations.is_empty() {
        return;
    }
    let (mut smallest, _, runs) = shrink(&MACHINE, &plan, 400);
    smallest.log = true;
    let shown = run(&MACHINE, smallest.clone());
    panic!(
        "{}\nafter {runs} runs this is left of it: {smallest:#?}\n{}\n{}\n{}",
        told(&outcome),
        shown.log.join("\n"),
        shown.words,
        shown.violations.join("\n"),
    );
}

#[test]
fn a_crash_at_any_effect_loses_and_repeats_nothing() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 10);
    let said = on_all_cores(scenarios.len() as u64, |index| {
        let (name, plan) = &scenarios[usize::try_from(index).unwrap()];
        let Sweep {
            singles, failures, ..
        } = sweep(&MACHINE, plan, PAIRS);
        assert!(singles > 10, "{name}: there is hardly anything to crash at");
        let first = failures.first()?;
        let (crashes, count) = (&first.crashes, failures.len());
        let violations = first.violations.join("\n  ");
        Some(format!(
            "\n{name}: {count} of {singles} runs; {crashes:?}:\n  {violations}"
        ))
    });
    assert!(said.is_empty(), "{}", said.concat());
}

#[test]
fn the_real_ledger_does_what_the_model_does() {
    let said = on_all_cores(40, |seed| {
        let plan = |memory| Plan {
            memory,
            ..Plan::of(5_000_000 + seed, Size::Small)
        };
        let [model, sqlite] = [Memory::Model, Memory::Sqlite].map(|memory| check(plan(memory)));
        match (model, sqlite) {
            (Ok(model), Ok(sqlite)) if model.hash == sqlite.hash => None,
            (Ok(_), Ok(_)) => Some(format!("\nseed {seed}: the ledgers differ")),
            (model, sqlite) => Some([model.err(), sqlite.err()].into_iter().flatten().collect()),
        }
    });
    assert!(said.is_empty(), "{}", said.concat());
}

#[test]
fn what_was_found_once_stays_found() {
    for (what, plan) in found() {
        // The same trouble under other seeds, so that a change of draws leaves something of it.
        for seed in plan.seed..plan.seed + 20 {
            let outcome = run(
                &MACHINE,
                Plan {
                    seed,
                    ..plan.clone()
                },
            );
            let violations = outcome.violations.join("\n  ");
            assert!(
                violations.is_empty(),
                "{what}, seed {seed}:\n  {violations}"
            );
        }
    }
}
