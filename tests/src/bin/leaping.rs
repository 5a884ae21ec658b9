//! The real pipeline under a clock that leaps: `sluicegate-leaping PIPELINE`.
//!
//! Time passes as on the machine, until the file `leap` beside it says how many milliseconds the clock is to be ahead:
//! then that much time has passed for everything, for whoever waits and for whoever asks what time it is. The file
//! `leapt` says that it has. SIGTERM drains and ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sluicegate::clock::{Clock, SystemClock};
use sluicegate::config::Config;
use sluicegate::error::Error;
use sluicegate::pipeline::{Runtime, prepare};
use sluicegate::secret::Redactor;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often the file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The machine's clock, so many milliseconds ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(Ordering::Relaxed)
    }
}

fn main() -> Result<(), Vec<Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let file = std::env::args().nth(1).unwrap_or_default();
    // Time can be stopped only where there is one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| vec![Error::unavailable(error.to_string())])?;
    runtime.block_on(run(Path::new(&file)))
}

async fn run(file: &Path) -> Result<(), Vec<Error>> {
    let config = Config::load(file)?;
    let clock = Arc::new(Ahead::default());
    let mut runtime = Runtime::new(Arc::new(Redactor::new())).map_err(|error| vec![error])?;
    runtime.clock = clock.clone();
    let prepared = prepare(config, &runtime).await?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| vec![Error::unavailable(error.to_string())])?;
    let mut running = std::pin::pin!(prepared.run(false, stop.clone()));
    loop {
        tokio::select! {
            ended = running.as_mut() => return ended.map(drop).map_err(|error| vec![error]),
            _ = terminate.recv() => stop.cancel(),
            () = tokio::time::sleep(LOOK_EVERY) => leap(&clock).await,
        }
    }
}

/// Moves both times, if the file asks for it: the clock's, and that of everything that waits.
async fn leap(clock: &Ahead) {
    let asked = std::fs::read_to_string("leap").ok();
    let Some(ahead) = asked.and_then(|text| text.trim().parse::<i64>().ok()) else {
        return;
    };
    let before = clock.0.swap(ahead, Ordering::Relaxed);
    let Some(step) = u64::try_from(ahead - before).ok().filter(|step| *step > 0) else {
        return;
    };
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(step)).await;
    tokio::time::resume();
    // Whoever waits for it fails with the test's own words when it does not come.
    let _ = std::fs::write("leapt.new", ahead.to_string());
    let _ = std::fs::rename("leapt.new", "leapt");
}
