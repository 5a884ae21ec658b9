//! `neighbours`: how long content takes from its listing to its delivery, without attackers beside it and with them.
//!
//! ```sh
//! cargo build --release && cargo run --release -p sluicegate-tests --bin neighbours
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sluicegate_office::{ContentType, Office};
use sluicegate_tests::{Pipeline, Simulated, Sluicegate};

const HELP: &str = "neighbours [--rounds NUMBER] [--seconds NUMBER] [--command PATH]\n\n\
    Runs 180 tenants of a simulated service for so many seconds, in turns alone and beside 20 tenants whose plugins \
    spin, hoard, flood and sleep under the default limits. Prints percentiles of the time from the listing of a blob \
    to its delivery, of all rounds together, and their ratio. The command is the `sluicegate` beside this program \
    unless PATH is given.";

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

struct Asked {
    rounds: u32,
    seconds: u64,
    command: PathBuf,
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(words) => {
            eprintln!("{words}\n\n{HELP}");
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
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..asked.rounds {
        for (attackers, times) in [(0, &mut alone), (ATTACKERS, &mut beside)] {
            match run(&asked, cache.path(), u64::from(round), attackers) {
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
        println!(
            "{what:38}{:>8}{:>7}{:>7}{:>7}{:>11}",
            times.len(),
            percentile(times, 50),
            percentile(times, 90),
            percentile(times, 99),
            times.last().copied().unwrap_or(0)
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
    let ratio = percentile(&beside, 99) as f64 / percentile(&alone, 99).max(1) as f64;
    println!("p99 beside them is {ratio:.2} of p99 alone");
    ExitCode::SUCCESS
}

/// The times of one run, and that nothing was lost in it.
fn run(asked: &Asked, cache: &Path, seed: u64, attackers: usize) -> Result<Vec<i64>, String> {
    let time = Duration::from_secs(asked.seconds);
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
    let mut command = Sluicegate::new(&asked.command, folder.path(), cache);
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

/// Of a sorted list.
fn percentile(times: &[i64], percent: usize) -> i64 {
    let place = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(place).copied().unwrap_or(0)
}

fn asked() -> Result<Asked, String> {
    let beside = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut asked = Asked {
        rounds: 3,
        seconds: 60,
        command: beside.with_file_name("sluicegate"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--rounds" => asked.rounds = number()?,
            "--seconds" => asked.seconds = number()?.into(),
            "--command" => asked.command = value.into(),
            _ => return Err(format!("{name} is not known")),
        }
    }
    if asked.command.is_file() {
        Ok(asked)
    } else {
        Err(format!("{} is no file", asked.command.display()))
    }
}
