//! Switches every mutant on in turn and says under which seed the simulation finds it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::Parser;
use sluicegate::mutant;
use sluicegate_simulation::{Machine, Plan, Size, run, wrong};

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

/// What is wrong, and where it runs.
struct Mutant {
    name: &'static str,
    what: &'static str,
    machine: Machine,
    guest: bool,
}

/// How many seeds it took to find a mutant, and how it was found.
fn hunt(wrong: &Mutant, options: &Options) -> Option<(u64, String)> {
    mutant::set(Some(wrong.name));
    let found = (0..options.seeds).find_map(|index| {
        let plan = Plan {
            mutant: wrong.guest.then_some(wrong.name),
            ..Plan::of(options.from + index, Size::Small)
        };
        let outcome = run(&wrong.machine, plan);
        let first = outcome.violations.into_iter().next()?;
        Some((index + 1, first))
    });
    mutant::set(None);
    found
}

fn mutants(options: &Options) -> Result<Vec<Mutant>, String> {
    let chosen = |(name, _): &&(&str, &str)| name.contains(&options.name);
    let load = |component: &[u8]| Machine::with(component).map_err(|error| error.to_string());
    let mut all = Vec::new();
    let mut add = |list: &'static [(&str, &str)], machine: &Machine, guest| {
        all.extend(list.iter().filter(chosen).map(|(name, what)| Mutant {
            name,
            what,
            machine: machine.clone(),
            guest,
        }));
    };
    add(mutant::ALL, &load(sluicegate::plugin::O365)?, false);
    if wrong::ALL.iter().any(|known| chosen(&known)) {
        add(wrong::ALL, &load(&wrong::build()?)?, true);
    }
    Ok(all)
}

fn main() -> ExitCode {
    sluicegate::heap::settle();
    let options = Options::parse();
    let mutants = match mutants(&options) {
        Ok(mutants) => mutants,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let threads = options.threads.unwrap_or_else(cores);
    let (next, missed) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, what) = (mutant.name, mutant.what);
                    if let Some((seeds, how)) = hunt(mutant, &options) {
                        let how: String = how.chars().take(100).collect();
                        println!("{name}: found after {seeds} seeds: {how}");
                    } else {
                        missed.fetch_add(1, Ordering::Relaxed);
                        println!("{name}: NOT FOUND in {} seeds ({what})", options.seeds);
                    }
                }
            });
        }
    });
    let missed = missed.load(Ordering::Relaxed);
    println!("{} mutants, {missed} not found", mutants.len());
    if missed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
