//! Progress bars on standard error, while it is a terminal; nowhere else is anything drawn.
//!
//! Log lines go through [`above`], which takes the bars away while a line is written, so neither tears the other. Bars
//! are gone before a summary is printed.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::snapshot::PipelineSnapshot;
use crate::pipeline::view::Views;

/// How often a run is looked at: the ledger is asked each time, so not as often as a bar could be drawn.
const LOOK: Duration = Duration::from_millis(500);

/// The bars of this process, if it may draw any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Lets this process draw, if there is somebody who sees it.
pub(super) fn allow() {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if io::stderr().is_terminal() && !dumb {
        BARS.get_or_init(MultiProgress::new);
    }
}

/// Writes something else to the terminal, without the bars.
pub(super) fn above<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// A bar for bytes, or a spinner where nobody knows how many there will be.
pub(super) fn bytes(all: Option<u64>) -> Option<ProgressBar> {
    let bars = BARS.get()?;
    let bar = match all {
        Some(all) => ProgressBar::new(all).with_style(style(
            "[{bar:30}] {bytes}/{total_bytes}, {msg}, {bytes_per_sec}, {eta} left",
        )),
        None => ProgressBar::new_spinner()
            .with_style(style("{spinner} {bytes}, {msg}, {bytes_per_sec}")),
    };
    Some(bars.add(bar))
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read is a defect; the plain bar says enough.
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// A bar for each running pipeline, until this is dropped.
pub(super) struct Watching {
    drawn: Vec<ProgressBar>,
    _task: AbortOnDropHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.drawn.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Draws how far a single pass of these pipelines is, if anybody sees it.
pub(super) fn watch(names: Vec<String>, views: Arc<Views>) -> Option<Watching> {
    let bars = BARS.get()?;
    let new = |name: &String| {
        let bar = ProgressBar::new_spinner().with_prefix(name.clone());
        let bar =
            bars.add(bar.with_style(style("{spinner} {prefix}: looking for content {elapsed}")));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    };
    let drawn: Vec<ProgressBar> = names.iter().map(new).collect();
    let shown = drawn.clone();
    let task = tokio::spawn(async move {
        let started = Instant::now();
        loop {
            let snapshot = views.snapshot().await;
            for pipeline in &snapshot.pipelines {
                let bar = names
                    .iter()
                    .zip(&shown)
                    .find(|(name, _)| **name == pipeline.name);
                if let Some((_, bar)) = bar {
                    draw(bar, Standing::of(pipeline), started.elapsed());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    Some(Watching {
        drawn,
        _task: AbortOnDropHandle::new(task),
    })
}

fn draw(bar: &ProgressBar, standing: Standing, elapsed: Duration) {
    if standing.all == 0 {
        return;
    }
    if bar.length().is_none() {
        bar.set_style(style(
            "{prefix} [{bar:30}] {pos}/{len} splits, {msg} {elapsed}",
        ));
    }
    bar.set_length(standing.all);
    bar.set_position(standing.done);
    bar.set_message(rate(standing.events, elapsed));
}

/// How far a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// Splits that nothing is left to do for.
    done: u64,
    /// Those and all that are known and undelivered, also what an earlier run found.
    all: u64,
    events: u64,
}

impl Standing {
    fn of(pipeline: &PipelineSnapshot) -> Self {
        let backlogs = pipeline.streams.iter().filter_map(|stream| stream.backlog);
        let left: u64 = backlogs.map(|one| one.pending + one.quarantined).sum();
        let done = pipeline.all.delivered + pipeline.all.lost;
        Self {
            done,
            all: done + left,
            events: pipeline.all.events.delivered,
        }
    }
}

/// A number of events and how many that is a second.
pub(super) fn rate(events: u64, elapsed: Duration) -> String {
    let ms = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(events) * 1000 / ms).unwrap_or(u64::MAX);
    format!("{} events, {}/s", HumanCount(events), HumanCount(rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamKey;
    use crate::ledger::progress::Backlog;
    use crate::metrics::snapshot::StreamSnapshot;

    #[test]
    fn what_an_earlier_run_found_is_part_of_the_way() {
        let mut pipeline = PipelineSnapshot::default();
        pipeline.all.delivered = 30;
        pipeline.all.lost = 1;
        pipeline.all.events.delivered = 9_000;
        let stream = |name: &str, pending, quarantined| StreamSnapshot {
            key: StreamKey::new("contoso", name),
            counts: crate::metrics::streams::StreamCounts::default(),
            lag: None,
            health: None,
            progress: None,
            backlog: Some(Backlog {
                pending,
                quarantined,
            }),
        };
        pipeline.streams = vec![stream("Audit.Exchange", 60, 2), stream("DLP.All", 7, 0)];
        let wanted = Standing {
            done: 31,
            all: 100,
            events: 9_000,
        };
        assert_eq!(Standing::of(&pipeline), wanted);
    }

    #[test]
    fn a_rate_is_for_people() {
        assert_eq!(
            rate(1_234_567, Duration::from_secs(10)),
            "1,234,567 events, 123,456/s"
        );
        assert_eq!(rate(0, Duration::ZERO), "0 events, 0/s");
    }

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        // Tests have no terminal, and nobody has allowed it.
        assert!(bytes(Some(1)).is_none());
        assert_eq!(above(|| 7), 7);
    }
}
