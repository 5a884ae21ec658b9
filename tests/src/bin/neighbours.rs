//! `neighbours`: how long content takes from its listing to its delivery, without attackers beside it and with them.
//!
//! ```sh
//! cargo build --release && cargo run --release -p sluicegate-tests --bin neighbours
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sluicegate_office::{ContentType, Office};
use sluicegate_tests::shipped::{Shipped, options, percentile};
use sluicegate_tests::{Pipeline, Simulated, Sluicegate};

/// Runs 180 tenants of a simulated service for so many seconds, in turns alone and beside 20 tenants whose plugins
/// spin, hoard, flood and sleep under the default limits. Prints percentiles of the time from the listing of a blob to
/// its delivery, of all rounds together, and their ratio.
#[derive(clap::Parser)]
struct Options {
    /// How often both are run.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each run lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    shipped: Shipped,
}

/// Tenants that want nothing but their content.
const HONEST: u16 = 180;

/// What the others do, in turns.
const ATTACKS: [(&str, &str); 5] = [
    ("spin", ""),
    ("hoard", ""),
    ("flood", "mode: empty"),
    ("flood", "mode: emit"),
    ("nap", ""),
];

/// How many others.
const ATTACKERS: usize = 20;

fn main() -> ExitCode {
    let asked = options::<Options>();
    let program = match asked.shipped.find() {
        Ok(program) => program,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(64);
        }
    };
    let time = Duration::from_secs(asked.seconds);
    let cache = match tempfile::tempdir() {
        Ok(cache) => cache,
        Err(error) => {
            eprintln!("cannot make a temporary folder: {error}");
            return ExitCode::from(75);
        }
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..asked.rounds {
        for (attackers, times) in [(0, &mut alone), (ATTACKERS, &mut beside)] {
            match run(&program, cache.path(), u64::from(round), time, attackers) {
                Ok(more) => times.extend(more),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!("milliseconds from listing to delivery    blobs    p50    p90    p99    longest");
    for (what, times) in [("alone", &mut alone), ("beside 20 attackers", &mut beside)] {
        times.sort_unstable();
        let [half, most, nearly, all] =
            [50, 90, 99, 100].map(|percent| percentile(times, percent).unwrap_or(0));
        let blobs = times.len();
        println!("{what:38}{blobs:>8}{half:>7}{most:>7}{nearly:>7}{all:>11}");
    }
    let [alone, beside] = [&alone, &beside].map(|times| percentile(times, 99).unwrap_or(0));
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
    let ratio = beside as f64 / alone.max(1) as f64;
    println!("p99 beside them is {ratio:.2} of p99 alone");
    ExitCode::SUCCESS
}

/// The times of one run, and that nothing was lost in it.
fn run(
    program: &Path,
    cache: &Path,
    seed: u64,
    time: Duration,
    attackers: usize,
) -> Result<Vec<i64>, String> {
    let builder = Office::builder(seed)
        .tenants(HONEST)
        .content_types(&[ContentType::AzureActiveDirectory])
        .blobs(5)
        .later(20, time)
        .events_per_blob(20)
        .subscribed();
    let office = Simulated::start(builder.latency(Duration::from_millis(20)));
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let honest = Pipeline::o365("honest", &office)
        .config("content_types: [Audit.AzureActiveDirectory], interval: 10s");
    let mut command = Sluicegate::new(program, folder.path(), cache);
    command = honest.give(command.args("run"));
    for number in 0..attackers {
        let (plugin, config) = ATTACKS[number % ATTACKS.len()];
        let path = Path::new(env!("SLUICEGATE_PLUGINS")).join(format!("{plugin}.wasm"));
        let mut pipeline = Pipeline::plugin(&format!("attack-{number}"), &path.to_string_lossy());
        if plugin == "flood" {
            pipeline = pipeline.grants("http: [\"http://127.0.0.1:9\"]");
        }
        command = pipeline.config(config).give(command);
    }
    let running = command.start();
    if running.ends_within(time) {
        return Err(format!("it ended: {}", running.stderr()));
    }
    running.signal("TERM");
    let _ = running.end().expect(0);
    let ledger = folder.path().join("state/honest/ledger.db");
    times(&ledger).map_err(|error| format!("{}: {error}", ledger.display()))
}

/// From the ledger: how long each delivered blob took.
fn times(ledger: &Path) -> rusqlite::Result<Vec<i64>> {
    let ledger = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows = ledger.prepare(
        "SELECT settled_ms - discovered_ms FROM split WHERE phase = 'delivered' AND discovered_ms IS NOT NULL",
    )?;
    rows.query_map([], |row| row.get(0))?.collect()
}
