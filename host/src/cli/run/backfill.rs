//! `run --once --since --until`: a range of time once more, into any sink, beside a running collector.
//!
//! A backfill has a ledger of its own, in a folder named after its range: it neither reads nor writes what the
//! collector remembers, so events that the collector has delivered are delivered again, and within the backfill each
//! once. One that was stopped goes on where it was when it is run again; one that is complete leaves no ledger behind.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, Sink, SinkKind};
use crate::engine::rfc3339;
use crate::error::{Error, Kind};
use crate::ledger::sqlite::view::LedgerView;
use crate::pipeline::{Report, Runtime};
use crate::sink::Sink as _;
use crate::sink::file::FileSink;
use crate::sink::files::FilesSink;

use super::super::time_range::{self, Point, TimeRange};

/// What a complete backfill leaves: nothing. Only these are ever removed.
const LEDGER: [&str; 5] = [
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.sequence",
    "ledger.lock",
];

/// The options of a backfill.
#[derive(Args, Default)]
pub(super) struct Backfill {
    /// Deliver once more what became available since this time: `2026-05-02T10:00:00Z`, `2026-05-02` or a span back
    /// from now such as `3d`. Needs `--once`.
    ///
    /// A backfill has a ledger of its own: it runs beside a collector without either noticing, events that the
    /// collector has delivered are delivered again, and within the backfill each is delivered once. The time is when
    /// content became available, not when events happened; Microsoft keeps seven days. A backfill that was stopped
    /// goes on when it is run again with the same times (a span is counted from now, so give times).
    #[arg(long, value_name = "TIME", requires = "once")]
    since: Option<Point>,
    /// The end of the range; now when it is left out.
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<Point>,
    /// Where a backfill goes instead of the pipeline's sinks: a file, or `-` for standard output.
    ///
    /// Needed when the pipeline has a file sink that the collector has written to: only one may write to a file.
    #[arg(long, value_name = "PATH", requires = "since")]
    output: Option<PathBuf>,
}

impl Backfill {
    /// Whether one is asked for.
    pub fn is_wanted(&self) -> bool {
        self.since.is_some()
    }

    /// Turns a pipeline into its backfill.
    pub async fn apply(&self, config: &mut Config, runtime: &Runtime) -> Result<(), Error> {
        let Some(since) = self.since else {
            return Ok(());
        };
        let range = TimeRange::new(since, self.until, runtime.clock.now_ms())?;
        if !time_range::is_known(config, runtime).await? {
            let what = "the plugin knows no range of time: its config has no `since` and `until`";
            return Err(Error::config(what)
                .at(&config.source.place)
                .help("a backfill needs a plugin that does, such as `o365`"));
        }
        match &self.output {
            Some(path) => config.sinks = vec![sink(path)],
            None => check_files(config, runtime)?,
        }
        range.narrow(config);
        let (since, until) = range.borders();
        tracing::info!(
            pipeline = %config.name, since, until,
            "backfill; if it is stopped, the same times continue it"
        );
        // Whoever runs the collector beside it asks that one.
        config.api = None;
        config.state_dir = config.state_dir.join("backfill").join(folder(range));
        config.name = format!("{}.backfill-{}", config.name, folder(range));
        Ok(())
    }
}

/// A name for the range that every file system takes.
fn folder(range: TimeRange) -> String {
    let compact = |ms: i64| rfc3339(ms).replace([':', '-'], "").replace("00Z", "Z");
    format!("{}-{}", compact(range.since_ms), compact(range.until_ms))
}

fn sink(path: &Path) -> Sink {
    let (name, kind) = if path == Path::new("-") {
        ("stdout", SinkKind::Stdout)
    } else {
        let path = path.to_owned();
        ("file", SinkKind::File { path })
    };
    Sink {
        name: name.into(),
        place: crate::config::Place::default(),
        when: None,
        kind,
    }
}

/// Refuses files that the collector writes to: after a crash it cuts them back to what it has committed.
fn check_files(config: &Config, runtime: &Runtime) -> Result<(), Error> {
    let view = match LedgerView::open(&config.state_dir) {
        Ok(view) => view,
        // No collector has run with this state, so none has written anything.
        Err(error) if error.kind == Kind::Unavailable => return Ok(()),
        Err(error) => return Err(error),
    };
    for sink in &config.sinks {
        let (shown, names) = match &sink.kind {
            SinkKind::File { path } => {
                let names = FileSink::new(&sink.name, path).position_names();
                (path.display().to_string(), names)
            }
            SinkKind::Files(files) => {
                let names = FilesSink::new(&sink.name, files, &runtime.clock).position_names();
                (files.path.clone(), names)
            }
            _ => continue,
        };
        for name in names {
            if view.has_position(&name)? {
                let what = format!("the collector of this pipeline writes to `{shown}` as well");
                return Err(Error::config(what).at(&sink.place).help(
                    "name another file with `--output`, or give the backfill a pipeline file of its \
                     own with other sinks",
                ));
            }
        }
    }
    Ok(())
}

/// Removes the ledger of a backfill that has nothing left to do.
pub(super) fn clear(report: &Report) {
    let outcome = &report.outcome;
    if !outcome.incomplete.is_empty() || outcome.quarantined > 0 {
        return;
    }
    let folder = &report.state_dir;
    for name in LEDGER {
        // What cannot be removed costs disk space; a later backfill of this range would deliver nothing anew.
        let _ = fs::remove_file(folder.join(name));
    }
    let _ = fs::remove_dir(folder);
    let _ = folder.parent().map(fs::remove_dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_names_its_folder() {
        let range = TimeRange {
            since_ms: 1_777_717_800_000,
            until_ms: 1_777_804_260_000,
        };
        assert_eq!(folder(range), "20260502T1030Z-20260503T1031Z");
    }
}
