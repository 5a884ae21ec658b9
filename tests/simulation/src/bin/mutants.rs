//! Switches every mutant on in turn and says under which seed the simulation finds it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::Parser;
use sluicegate::mutant;
use sluicegate_simulation::{Machine, Plan, Size, run};

/// Shows that the simulation finds what is wrong on purpose.
#[derive(Parser)]
struct Options {
    /// How many seeds each mutant gets.
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 1_000_000)]
    from: u64,
    /// Threads; all cores when left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Only mutants whose name holds this.
    #[arg(default_value = "")]
    name: String,
}

/// The seed that finds the mutant, how many it took, and how.
fn hunt(machine: &Machine, name: &'static str, options: &Options) -> Option<(u64, String)> {
    mutant::set(Some(name));
    let found = (0..options.seeds).find_map(|index| {
        let outcome = run(machine, Plan::of(options.from + index, Size::Small));
        let first = outcome.violations.into_iter().next()?;
        Some((index + 1, first))
    });
    mutant::set(None);
    found
}

fn main() -> ExitCode {
    let options = Options::parse();
    let machine = match Machine::new() {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = options.threads.unwrap_or_else(cores);
    let (next, missed) = (AtomicUsize::new(0), AtomicU64::new(0));
    let chosen = |(name, _): &&(&str, &str)| name.contains(&options.name);
    let mutants: Vec<_> = mutant::ALL.iter().filter(chosen).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, what)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match hunt(&machine, name, &options) {
                        Some((seeds, how)) => {
                            let how: String = how.chars().take(100).collect();
                            println!("{name}: found after {seeds} seeds: {how}");
                        }
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            println!("{name}: NOT FOUND in {} seeds ({what})", options.seeds);
                        }
                    }
                }
            });
        }
    });
    let missed = missed.load(Ordering::Relaxed);
    println!("{} mutants, {missed} not found", mutants.len());
    if missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
