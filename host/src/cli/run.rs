//! `sluicegate run`: pipelines until stopped, or once through.

mod backfill;
mod listen;
mod reload;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Done, progress};
use crate::api::Api;
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::pipeline::{Prepared, Report, Runtime, prepare};
use crate::secret::Redactor;

/// Run pipelines until stopped. SIGTERM and SIGINT end them after what is under way.
///
/// SIGHUP has them read their files again: tenants, stages and sinks that differ are exchanged and nothing else is
/// disturbed. A file that cannot be used is reported as `validate` would, and its pipeline goes on as it was.
#[derive(Args)]
pub(super) struct Run {
    /// Pipeline files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Discover and deliver everything available now, then exit: 0 when it was all delivered, 75 when not.
    #[arg(long)]
    once: bool,
    /// Read a pipeline's file again when it changes, as SIGHUP does.
    #[arg(long, conflicts_with = "once")]
    watch_config: bool,
    #[command(flatten)]
    backfill: backfill::Backfill,
}

impl Run {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let runtime = super::runtime(redactor).map_err(|error| vec![error])?;
        let prepared = prepare_with(&self.files, &runtime, &self.backfill).await?;
        let api = listen::agree(&prepared)?;
        let stop = stop_on_signal().map_err(|error| vec![error])?;
        let views = runtime.views.clone();
        views.expect(prepared.iter().map(|one| one.name().to_owned()));
        let listening = match api {
            Some(settings) => Some(Api::start(settings, views, stop.clone()).await),
            None => None,
        };
        let listening = listening.transpose().map_err(|error| vec![error])?;
        let reloading = if self.once {
            None
        } else {
            let watched = if self.watch_config {
                &self.files[..]
            } else {
                &[]
            };
            let reloading = reload::start(&runtime, watched);
            Some(reloading.map_err(|error| vec![error])?)
        };
        // Events on the same terminal would run through the bars, and show progress enough.
        let hidden = !self.once
            || io::stdout().is_terminal() && prepared.iter().any(Prepared::prints_events);
        let names = prepared.iter().map(|one| one.name().to_owned()).collect();
        let bars = (!hidden).then(|| progress::watch(names, runtime.views.clone()));
        let reports = run_all(prepared, self.once, &stop).await;
        drop(bars);
        let reports = reports?;
        drop((listening, reloading));
        let code = finish(&reports, self.once);
        if self.backfill.is_wanted() {
            reports.iter().for_each(backfill::clear);
        }
        Ok(code)
    }
}

/// Shows how runs ended; the exit code says whether all was delivered that a single pass should deliver.
pub(super) fn finish(reports: &[Report], once: bool) -> u8 {
    reports.iter().for_each(summarise);
    let complete = reports
        .iter()
        .all(|report| report.outcome.incomplete.is_empty());
    if complete || !once {
        0
    } else {
        Kind::Temporary.code()
    }
}

/// Prepares every file and says all that is wrong with any of them.
pub(super) async fn prepare_all(
    files: &[PathBuf],
    runtime: &Runtime,
) -> Result<Vec<Prepared>, Vec<Error>> {
    prepare_with(files, runtime, &backfill::Backfill::default()).await
}

async fn prepare_with(
    files: &[PathBuf],
    runtime: &Runtime,
    backfill: &backfill::Backfill,
) -> Result<Vec<Prepared>, Vec<Error>> {
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        let made = match Config::load(file) {
            Ok(mut config) => match backfill.apply(&mut config, runtime).await {
                Ok(()) => prepare(config, runtime).await,
                Err(error) => Err(vec![error]),
            },
            Err(errors) => Err(errors),
        };
        match made {
            Ok(made) => {
                for warning in &made.warnings {
                    eprintln!("warning: {warning}");
                }
                prepared.push(made);
            }
            Err(found) => errors.extend(found),
        }
    }
    for (index, one) in prepared.iter().enumerate() {
        let clash = prepared[..index]
            .iter()
            .find(|other| other.state_dir() == one.state_dir());
        if let Some(other) = clash {
            let shown = one.state_dir().display();
            errors.push(
                Error::config(format!("two pipelines keep their state in `{shown}`"))
                    .at(format!("{} and {}", other.file(), one.file()))
                    .help("give each its own `state.path`"),
            );
        }
    }
    if let Err(found) = listen::agree(&prepared) {
        errors.extend(found);
    }
    if errors.is_empty() {
        Ok(prepared)
    } else {
        Err(errors)
    }
}

/// Runs pipelines side by side.
pub(super) async fn run_all(
    prepared: Vec<Prepared>,
    once: bool,
    stop: &CancellationToken,
) -> Result<Vec<Report>, Vec<Error>> {
    let mut running = JoinSet::new();
    for pipeline in prepared {
        running.spawn(pipeline.run(once, stop.clone()));
    }
    let mut reports = Vec::new();
    let mut errors = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(report)) => reports.push(report),
            Ok(Err(error)) => {
                // One that cannot start must not leave the others running unnoticed.
                stop.cancel();
                errors.push(error);
            }
            Err(error) => errors.push(Error::internal(format!("a pipeline panicked: {error}"))),
        }
    }
    if errors.is_empty() {
        Ok(reports)
    } else {
        Err(errors)
    }
}

/// A token that the first SIGTERM or SIGINT cancels; the second ends the process, which is safe at any time.
pub(super) fn stop_on_signal() -> Result<CancellationToken, Error> {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let cannot = |error| Error::unavailable(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(i32::from(Kind::Temporary.code()));
            }
            tracing::info!("stopping after what is under way; once more to stop at once");
            token.cancel();
        }
    });
    Ok(stop)
}

/// The end of a run, for people.
fn summarise(report: &Report) {
    let Report {
        name,
        outcome,
        counts,
        ..
    } = report;
    let seconds = report.elapsed.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = counts.delivered as f64 / seconds.max(0.001);
    eprintln!(
        "{name}: {} tenant(s), {} split(s) and {} event(s) delivered in {seconds:.2} s \
         ({rate:.0} events/s)",
        report.tenants, report.splits, counts.delivered
    );
    eprintln!(
        "  {} request(s), {} duplicate(s) not sent again, {} dropped by stages, {} dead letter(s), \
         {} declared loss(es), {} split(s) set aside",
        report.requests,
        counts.duplicates,
        counts.dropped,
        counts.dead_lettered,
        outcome.lost,
        outcome.quarantined
    );
    if report.dropped_by_sinks > 0 {
        let dropped = report.dropped_by_sinks;
        eprintln!("  {dropped} event(s) dropped by sinks with `acknowledgements: false`");
    }
    if let Some(first) = report.first_request {
        eprintln!("  first request after {} ms", first.as_millis());
    }
    eprintln!("  state is kept in {}", report.state_dir.display());
    for sentence in &outcome.incomplete {
        eprintln!("  incomplete: {sentence}");
    }
}
