//! `kill-rig`: campaign after campaign against the command as it is shipped, until it has been killed so often.
//!
//! ```sh
//! cargo build --release && cargo run --release -p sluicegate-tests --bin kill-rig -- --kills 1000
//! ```

use std::process::ExitCode;
use std::time::Instant;

use sluicegate_tests::rig::{Campaign, Report, Rig, Trouble};
use sluicegate_tests::shipped::{Shipped, options};

/// Kills the command at random moments in campaigns of up to 40 kills: plain ones, ones with a failing service, with a
/// full disk (needs root), with a damaged and with an older state. Prints what came of it; ends with 1 when an event is
/// missing, invented, or stands twice in the file without a lost state to excuse it.
#[derive(clap::Parser)]
struct Options {
    /// How many kills.
    #[arg(long, default_value_t = 1_000)]
    kills: u32,
    /// The first campaign's seed.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    #[command(flatten)]
    shipped: Shipped,
}

fn main() -> ExitCode {
    let asked = options::<Options>();
    let program = match asked.shipped.find() {
        Ok(program) => program,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(64);
        }
    };
    let cache = match tempfile::tempdir() {
        Ok(cache) => cache,
        Err(error) => {
            eprintln!("cannot make a temporary folder: {error}");
            return ExitCode::from(75);
        }
    };
    let rig = Rig {
        program,
        cache: cache.path().to_owned(),
    };
    let started = Instant::now();
    let mut total = Report::default();
    let mut skipped = None;
    for number in 0_u32.. {
        if total.kills >= asked.kills {
            break;
        }
        // Half of them plain: those have to be exact.
        let trouble = match number % 8 {
            3 => Trouble::FullDisk,
            5 => Trouble::DamagedState,
            7 => Trouble::OlderState,
            _ => Trouble::None,
        };
        let campaign = Campaign {
            seed: u64::from(asked.seed) + u64::from(number),
            kills: 40.min(asked.kills - total.kills),
            blobs: 4_000,
            faults: number % 2 == 1,
            trouble,
        };
        match rig.run(&campaign) {
            Ok(report) => {
                print(&format!("{campaign:?}"), &report);
                total.add(report);
            }
            Err(why) => skipped = Some(why),
        }
    }
    print(
        &format!("all, in {} s", started.elapsed().as_secs()),
        &total,
    );
    if let Some(why) = skipped {
        println!("left out: the full disk, since {why}");
    }
    if total.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(what: &str, report: &Report) {
    println!(
        "{what}\n  {} kills, {} freezes, {} stops, {} full disks; owed {}, missing {}, invented {}, repeated {} \
         (without a lost state {})\n  first new line after a start: {}\n  where seven days are listed first: {}",
        report.kills,
        report.freezes,
        report.stops,
        report.full_disks,
        report.owed,
        report.missing,
        report.invented,
        report.repeated,
        report.repeated_without_reason,
        Report::times(&report.recoveries),
        Report::times(&report.first_starts),
    );
    for wrong in &report.wrong {
        println!("  WRONG: {wrong}");
    }
}
