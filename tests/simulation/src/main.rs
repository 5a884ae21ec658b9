//! Runs any number of seeds on all cores and says what they came to.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sluicegate_simulation::coverage::{Coverage, Point};
use sluicegate_simulation::{Machine, Plan, Size, run};

/// So many seeds have to have been in every situation.
const BATCH: u64 = 2_000;

/// Simulates the collector under many seeds.
#[derive(Parser)]
struct Options {
    /// How many.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Hundreds of blobs and half a day each.
    #[arg(long)]
    large: bool,
    /// Threads; all cores when left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Every so many seeds one is run twice, and both runs have to be equal.
    #[arg(long, default_value_t = 100)]
    twice: u64,
    /// Prints every effect and every log line of each run.
    #[arg(long)]
    log: bool,
}

#[expect(clippy::too_many_lines, reason = "one loop and what it came to")]
fn main() -> ExitCode {
    sluicegate::heap::settle();
    let options = Options::parse();
    let size = if options.large {
        Size::Large
    } else {
        Size::Small
    };
    let machine = match Machine::new() {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let threads = threads.unwrap_or(1);
    let (next, coverage) = (AtomicU64::new(0), Arc::<Coverage>::default());
    let (failed, effects, virtual_ms) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let twice = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= options.seeds {
                        break;
                    }
                    let mut plan = Plan::of(options.from + index, size);
                    plan.log = options.log;
                    let outcome = run(&machine, plan.clone());
                    if index.is_multiple_of(options.twice) {
                        let again = run(&machine, plan.clone());
                        twice.fetch_add(1, Ordering::Relaxed);
                        if again.hash != outcome.hash {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {}: two runs differ", outcome.seed);
                        }
                    }
                    coverage.merge(&outcome.coverage);
                    effects.fetch_add(outcome.effects, Ordering::Relaxed);
                    virtual_ms.fetch_add(outcome.virtual_ms.unsigned_abs(), Ordering::Relaxed);
                    if options.log {
                        println!("{}", outcome.log.join("\n"));
                        println!("{}", outcome.words);
                        println!("{plan:?}");
                    }
                    if !outcome.violations.is_empty() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!(
                            "seed {}:\n  {}",
                            outcome.seed,
                            outcome.violations.join("\n  ")
                        );
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = options.seeds as f64 / seconds * 60.0;
    println!(
        "{} seeds in {seconds:.1} s, {rate:.0} a minute on {threads} threads; {} run twice; {} effects, {} virtual \
         hours, {} failed",
        options.seeds,
        twice.load(Ordering::Relaxed),
        effects.load(Ordering::Relaxed),
        virtual_ms.load(Ordering::Relaxed) / 3_600_000,
        failed.load(Ordering::Relaxed),
    );
    let counts = coverage.counts();
    for point in Point::ALL {
        println!(
            "{:>9}  {}",
            counts.get(point).copied().unwrap_or(0),
            point.text()
        );
    }
    println!("checked: I1 to I6, I9 to I11 and I13 to I15, as tests/README.md says");
    let missed = coverage.missed();
    if options.seeds >= BATCH && !missed.is_empty() {
        println!(
            "{} situations never came up: the net has holes",
            missed.len()
        );
        return ExitCode::FAILURE;
    }
    if failed.load(Ordering::Relaxed) > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
