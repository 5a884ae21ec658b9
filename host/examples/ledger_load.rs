//! Measures the ledger: `cargo run --release --example ledger_load -- DIR [IDENTITIES] [BATCH] [DAYS]`.
//!
//! Checks and commits identities as the line does, `DAYS` days of them, and prints rates and sizes. The last
//! lines ask for what is known, restart, take splits out of a million, and ask how far a thousand tenants are.

use std::path::Path;
use std::time::{Duration, Instant};

use sluicegate::error::Error;
use sluicegate::event::{Identity, StreamKey};
use sluicegate::ledger::sqlite::SqliteLedger;
use sluicegate::ledger::{Commit, DAY_MS, Delivered, Found, Ledger, Split, SplitKey};

const HORIZON: Duration = Duration::from_hours(8 * 24);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default| {
        arguments
            .get(at)
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(default)
    };
    let Some(directory) = arguments.get(1).map(Path::new) else {
        return Err(Error::new(
            sluicegate::error::Kind::Usage,
            "name a directory",
        ));
    };
    let (count, batch, days) = (number(2, 400_000), number(3, 1000), number(4, 1));
    let stream = StreamKey::new("contoso", "Audit.Exchange");
    let ledger = SqliteLedger::open(directory, HORIZON)?;
    for day in 0..days {
        let before = Instant::now();
        let first = day * count;
        for start in (first..first + count).step_by(batch) {
            line(&ledger, &stream, start..start + batch, at_ms(day)).await?;
        }
        let seconds = before.elapsed().as_secs_f64();
        let bytes = size(directory);
        println!(
            "day {day}: {count} identities in {seconds:.2} s, {:.0}/s; {:.1} MB on disk, {:.1} bytes each; \
             {} MB resident",
            rate(count, seconds),
            rate(bytes, 1e6),
            rate(bytes, rate((day + 1) * count, 1.0)),
            resident_mb(),
        );
    }
    again(&ledger, &stream, count, batch).await?;
    splits(&ledger, &stream).await?;
    tenants(&ledger).await?;
    drop(ledger);
    let before = Instant::now();
    let ledger = SqliteLedger::open(directory, HORIZON)?;
    println!("opened again in {:?}", before.elapsed());
    again(&ledger, &stream, count, batch).await?;
    Ok(())
}

async fn line(
    ledger: &SqliteLedger,
    stream: &StreamKey,
    numbers: std::ops::Range<usize>,
    now_ms: i64,
) -> Result<(), Error> {
    let identities = identities(numbers);
    let known = ledger.known(&stream.tenant, &identities).await?;
    assert!(!known.contains(&true), "never seen");
    let commit = Commit {
        identities: vec![(stream.clone(), identities)],
        ..Commit::default()
    };
    ledger.commit(commit, now_ms).await
}

async fn again(
    ledger: &SqliteLedger,
    stream: &StreamKey,
    count: usize,
    batch: usize,
) -> Result<(), Error> {
    let before = Instant::now();
    for start in (0..count).step_by(batch) {
        let known = ledger
            .known(&stream.tenant, &identities(start..start + batch))
            .await?;
        assert!(!known.contains(&false), "all known");
    }
    let seconds = before.elapsed().as_secs_f64();
    println!(
        "{count} known ones asked for in {seconds:.2} s, {:.0}/s",
        rate(count, seconds)
    );
    Ok(())
}

async fn splits(ledger: &SqliteLedger, stream: &StreamKey) -> Result<(), Error> {
    let before = Instant::now();
    for start in (0..1_000_000_i64).step_by(10_000) {
        let splits = (start..start + 10_000).map(|number| Split {
            id: format!("20261120{number:012}$audit_exchange"),
            payload: vec![b'x'; 200],
            created_ms: number,
            expires_ms: Some(number + 7 * DAY_MS),
            weight: 1,
        });
        let found = Found {
            splits: splits.collect(),
            ..Found::default()
        };
        ledger.discovered(stream, found, 0).await?;
    }
    println!("a million splits discovered in {:?}", before.elapsed());
    let before = Instant::now();
    for _ in 0..100 {
        let taken = ledger.take(stream, 10, DAY_MS, 0).await?;
        let delivered = taken
            .into_iter()
            .map(|taken| Delivered {
                split: SplitKey {
                    stream: stream.clone(),
                    id: taken.split.id,
                },
                event_ms: Some(0),
            })
            .collect();
        ledger
            .commit(
                Commit {
                    delivered,
                    ..Commit::default()
                },
                0,
            )
            .await?;
    }
    println!(
        "100 times 10 of them taken and delivered in {:?}",
        before.elapsed()
    );
    let before = Instant::now();
    let status = ledger.status(stream).await?;
    println!("status of {} in {:?}", status.discovered, before.elapsed());
    Ok(())
}

/// A thousand tenants with five streams, each with a week of delivered splits and a few that wait.
async fn tenants(ledger: &SqliteLedger) -> Result<(), Error> {
    let before = Instant::now();
    for number in 0..5_000 {
        let stream = StreamKey::new(
            &format!("tenant-{}", number / 5),
            &format!("{}", number % 5),
        );
        let split = |created_ms: i64| Split {
            id: format!("20261120{created_ms:012}$audit_exchange"),
            payload: vec![b'x'; 200],
            created_ms,
            expires_ms: Some(created_ms + 7 * DAY_MS),
            weight: 1,
        };
        let found = Found {
            splits: (0..200).map(split).collect(),
            watermark_ms: Some(200),
            ..Found::default()
        };
        let delivered = found.splits[..195].iter().map(|split| Delivered {
            split: SplitKey {
                stream: stream.clone(),
                id: split.id.clone(),
            },
            event_ms: Some(0),
        });
        let commit = Commit {
            delivered: delivered.collect(),
            ..Commit::default()
        };
        ledger.discovered(&stream, found, 0).await?;
        ledger.commit(commit, 0).await?;
    }
    println!("5,000 streams of 200 splits in {:?}", before.elapsed());
    for _ in 0..3 {
        let before = Instant::now();
        let streams = ledger.progress().await?;
        let waiting = streams
            .iter()
            .filter(|(_, progress)| progress.oldest.is_some());
        println!(
            "how far {} of them are in {:?}",
            waiting.count(),
            before.elapsed()
        );
    }
    Ok(())
}

fn identities(numbers: std::ops::Range<usize>) -> Vec<Identity> {
    numbers
        .map(|number| Identity::of("contoso", "a", number as u64))
        .collect()
}

fn at_ms(day: usize) -> i64 {
    i64::try_from(day).unwrap_or(0) * DAY_MS
}

fn size(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| usize::try_from(file.metadata().ok()?.len()).ok())
        .sum()
}

fn resident_mb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok())
        .unwrap_or(0)
        / 1024
}

#[allow(clippy::cast_precision_loss, reason = "printed with three digits")]
fn rate(count: usize, per: f64) -> f64 {
    count as f64 / per
}
