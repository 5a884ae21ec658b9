//! What of a running pipeline can be looked at, without holding it up or keeping it alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use super::tenants::tally::Tally;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::Error;
use crate::event::StreamKey;
use crate::health::{Health, Watch};
use crate::ledger::Ledger;
use crate::ledger::progress::{Backlog, Progress};
use crate::line::{BUDGET_BYTES, Line};
use crate::metrics::process::Process;
use crate::metrics::snapshot::{
    DeadLetterSnapshot, PipelineSnapshot, SinkSnapshot, Snapshot, StageSnapshot, StreamSnapshot,
    TenantSnapshot,
};
use crate::metrics::{faults, plugin_counters};
use crate::plugin::Plugin;
use crate::sandbox::PEAK_GUEST_BYTES;
use crate::tap::{Point, Taps};

/// How long the ledger may take to answer; it writes while it is asked.
const LEDGER_PATIENCE: Duration = Duration::from_secs(5);

/// A sink that has been waited for so long takes no events. A sink that is tried again after a failure is back sooner.
const SINK_PATIENCE: Duration = Duration::from_secs(60);

/// The pipelines of a process.
#[derive(Debug)]
pub struct Views {
    clock: SharedClock,
    started_ms: i64,
    pipelines: Mutex<Pipelines>,
    taps: Arc<Taps>,
}

#[derive(Debug, Default)]
struct Pipelines {
    /// Names of those that should run.
    expected: BTreeSet<String>,
    running: BTreeMap<String, Arc<View>>,
}

/// A pipeline that runs.
pub(super) struct View {
    name: String,
    about: RwLock<Arc<About>>,
    /// Why its file, as it is now, cannot be used, if it cannot.
    config_trouble: Mutex<Option<String>>,
    health: Arc<Watch>,
    ledger: Weak<dyn Ledger>,
    line: Weak<Line>,
    tally: Arc<Tally>,
}

/// What its file says of a pipeline.
pub(super) struct About {
    name: String,
    file: String,
    /// Deliver what is there now, then end: no stream is judged, and tenants end one by one.
    once: bool,
    plugin: String,
    plugin_digest: String,
    /// Kinds of the sinks, in their order.
    sinks: Vec<&'static str>,
}

impl About {
    pub fn new(config: &Config, once: bool, plugin: &Plugin) -> Self {
        let sinks = config.sinks.iter().map(|sink| sink.kind.key());
        Self {
            name: config.name.clone(),
            file: config.file.to_string(),
            once,
            plugin: plugin.name.clone(),
            plugin_digest: plugin.digest.clone(),
            sinks: sinks.collect(),
        }
    }
}

/// Something that keeps a process from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// The pipeline.
    pub pipeline: String,
    /// What of it: a tenant, a stream of it, or a sink; `None` for all of it.
    pub part: Part,
    /// Why, a sentence.
    pub reason: String,
}

/// A part of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// A tenant.
    Tenant(Arc<str>),
    /// A stream.
    Stream(StreamKey),
    /// A sink.
    Sink(String),
    /// The dead letters.
    DeadLetters,
}

/// What of a pipeline can be watched.
#[derive(Clone, Debug)]
pub struct Watchable {
    /// Its name.
    pub pipeline: String,
    /// Its tenants.
    pub tenants: Vec<String>,
    /// Where its events can be seen; see [`crate::tap::Point`].
    pub points: Vec<String>,
}

/// While this lives, the pipeline can be looked at.
pub(super) struct Shown {
    views: Arc<Views>,
    name: String,
}

impl Views {
    /// No pipeline yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            started_ms: clock.now_ms(),
            clock,
            pipelines: Mutex::default(),
            taps: Arc::default(),
        }
    }

    /// Those who watch events of the pipelines.
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// What of each running pipeline can be watched.
    pub fn watchable(&self) -> Vec<Watchable> {
        let running = self.lock().running.clone();
        running
            .values()
            .filter_map(|view| view.watchable())
            .collect()
    }

    /// Pipelines with these names should run; as long as one does not, the process is not ready.
    pub fn expect(&self, names: impl IntoIterator<Item = String>) {
        self.lock().expected.extend(names);
    }

    /// Shows a pipeline from now on.
    pub(super) fn show(self: &Arc<Self>, view: Arc<View>) -> Shown {
        let name = view.name.clone();
        self.lock().running.insert(name.clone(), view);
        Shown {
            views: self.clone(),
            name,
        }
    }

    /// Why the process is not ready; none when it is.
    ///
    /// Asks nobody but the last judgement and the line's own counters, so that it can be asked often.
    pub fn unready(&self) -> Vec<Unready> {
        let (expected, running) = {
            let pipelines = self.lock();
            (pipelines.expected.clone(), pipelines.running.clone())
        };
        let missing = expected.iter().filter(|name| !running.contains_key(*name));
        let mut unready: Vec<_> = missing
            .map(|name| Unready {
                pipeline: name.clone(),
                part: Part::Whole,
                reason: "the pipeline does not run".into(),
            })
            .collect();
        running.values().for_each(|view| view.unready(&mut unready));
        unready
    }

    /// Everything at this moment.
    pub async fn snapshot(&self) -> Snapshot {
        self.snapshot_where(|_| true).await
    }

    /// Everything at this moment, of some of the pipelines.
    pub async fn snapshot_where(&self, wanted: impl Fn(&str) -> bool) -> Snapshot {
        let mut running = self.lock().running.clone();
        running.retain(|name, _| wanted(name));
        let mut pipelines = Vec::with_capacity(running.len());
        for view in running.values() {
            pipelines.extend(view.snapshot().await);
        }
        Snapshot {
            now_ms: self.clock.now_ms(),
            started_ms: self.started_ms,
            process: Process::now(),
            pipelines,
            plugin_counters: plugin_counters(),
            faults: faults(),
            guest_peak_bytes: PEAK_GUEST_BYTES.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pipelines> {
        // Nothing in here can fail half-way.
        self.pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut pipelines = self.views.lock();
        let view = pipelines.running.remove(&self.name);
        // What it holds is let go of outside the lock.
        drop(pipelines);
        drop(view);
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "View({})", self.name)
    }
}

impl View {
    pub fn new(
        about: About,
        (health, ledger, line): (Arc<Watch>, Weak<dyn Ledger>, Weak<Line>),
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            name: about.name.clone(),
            about: RwLock::new(Arc::new(about)),
            config_trouble: Mutex::default(),
            health,
            ledger,
            line,
            tally,
        }
    }

    fn about(&self) -> Arc<About> {
        let about = self.about.read().unwrap_or_else(PoisonError::into_inner);
        about.clone()
    }

    /// Its file says this from now on.
    pub fn changed(&self, about: About) {
        *self.about.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(about);
    }

    /// Its file was read again: it is good, or cannot be used for this reason.
    pub fn read_again(&self, trouble: Option<String>) {
        *self.trouble() = trouble;
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        let trouble = self.config_trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner)
    }

    fn watchable(&self) -> Option<Watchable> {
        let line = self.line.upgrade()?;
        let tenants = self.tally.tenants().into_iter();
        let meters = line.meters();
        let stages = (1..=meters.stages.all().len()).map(Point::Stage);
        let sinks = meters
            .sinks
            .all()
            .into_iter()
            .map(|sink| Point::Sink(sink.name.clone()));
        let ends = [Point::Source, Point::Sinks].into_iter();
        let points = ends.chain(stages).chain(sinks);
        Some(Watchable {
            pipeline: self.about().name.clone(),
            tenants: tenants.map(|tenant| tenant.id.to_string()).collect(),
            points: points.map(|point| point.to_string()).collect(),
        })
    }

    fn unready(&self, unready: &mut Vec<Unready>) {
        let mut add = |part: Part, reason: String| {
            unready.push(Unready {
                pipeline: self.name.clone(),
                part,
                reason,
            });
        };
        let mut at_work = BTreeSet::new();
        for (stream, health) in self.health.streams() {
            at_work.insert(stream.tenant.clone());
            for reason in health.reasons() {
                add(Part::Stream(stream.clone()), reason.clone());
            }
        }
        if !self.about().once {
            let tenants = self.tally.tenants().into_iter().map(|tenant| tenant.id);
            for id in tenants.filter(|id| !at_work.contains(id)) {
                add(Part::Tenant(id), "no stream of it is at work".into());
            }
        }
        let Some(line) = self.line.upgrade() else {
            return;
        };
        if let Some((why, waiting)) = line.meters().dead_letters.trouble() {
            let seconds = waiting.as_secs();
            add(
                Part::DeadLetters,
                format!("everything waits for them since {seconds} s: {why}"),
            );
        }
        for sink in line.meters().sinks.all() {
            let waiting = sink
                .counts()
                .waiting
                .filter(|waiting| *waiting >= SINK_PATIENCE);
            if let Some(waiting) = waiting {
                let seconds = waiting.as_secs();
                let reason = format!("it has not taken any events for {seconds} s");
                add(Part::Sink(sink.name.clone()), reason);
            }
        }
    }

    /// `None` when it has just ended.
    async fn snapshot(&self) -> Option<PipelineSnapshot> {
        let ledger = self.ledger.upgrade()?;
        let asked = tokio::time::timeout(LEDGER_PATIENCE, ask(ledger.as_ref())).await;
        drop(ledger);
        let (known, ledger_trouble) = match asked {
            Ok(Ok(known)) => (known, None),
            Ok(Err(error)) => (Known::default(), Some(error.what)),
            Err(_) => (
                Known::default(),
                Some("it does not answer in time".to_owned()),
            ),
        };
        let line = self.line.upgrade()?;
        let tenants = self.tenants();
        let streams = self.streams(&line, &tenants, known);
        let about = self.about();
        let stages = line.meters().stages.all().into_iter();
        let stages = stages.map(|stage| StageSnapshot {
            kind: stage.kind,
            counts: stage.counts(),
        });
        let sinks = line.meters().sinks.all().into_iter().zip(&about.sinks);
        let sinks = sinks.map(|(sink, &kind)| SinkSnapshot {
            name: sink.name.clone(),
            kind,
            counts: sink.counts(),
        });
        let dead_letters = &line.meters().dead_letters;
        Some(PipelineSnapshot {
            name: about.name.clone(),
            file: about.file.clone(),
            plugin: about.plugin.clone(),
            plugin_digest: about.plugin_digest.clone(),
            all: line.meters().streams.all(),
            waited: line.waited(),
            held_bytes: line.held_bytes() as u64,
            room_bytes: BUDGET_BYTES as u64,
            dropped_spans: line.tracer().dropped(),
            ledger_trouble,
            config_trouble: self.trouble().clone(),
            dead_letters: DeadLetterSnapshot {
                bytes: dead_letters.bytes(),
                most_bytes: dead_letters.most_bytes(),
                trouble: dead_letters.trouble().map(|(why, _)| why),
            },
            streams,
            stages: stages.collect(),
            sinks: sinks.collect(),
            tenants,
        })
    }

    fn tenants(&self) -> Vec<TenantSnapshot> {
        let tenants = self.tally.tenants().into_iter();
        let shown = tenants.map(|tenant| {
            let egress = tenant.source.egress();
            TenantSnapshot {
                id: tenant.id,
                requests: tenant.requests,
                paces: egress.paces(),
                token_expires_ms: egress.token_expires_ms(),
            }
        });
        shown.collect()
    }

    /// Streams that are at work, or were in this run, of the tenants that run.
    fn streams(
        &self,
        line: &Line,
        tenants: &[TenantSnapshot],
        mut known: Known,
    ) -> Vec<StreamSnapshot> {
        let ids: BTreeSet<&str> = tenants.iter().map(|tenant| &*tenant.id).collect();
        let runs = |tenant: &str| ids.contains(tenant);
        let mut counts = line.meters().streams.each(runs);
        line.lags().keep(runs);
        let mut lags: BTreeMap<_, _> = line.lags().streams().into_iter().collect();
        let mut health: BTreeMap<StreamKey, Health> = self.health.streams().into_iter().collect();
        health.retain(|key, _| runs(&key.tenant));
        let keys: BTreeSet<StreamKey> = counts.keys().chain(health.keys()).cloned().collect();
        if self.about().once {
            // Nobody judges a single pass.
            health.clear();
        }
        let of_key = |key: StreamKey| StreamSnapshot {
            counts: counts.remove(&key).unwrap_or_default(),
            lag: lags.remove(&key),
            health: health.remove(&key),
            backlog: known
                .asked
                .then(|| known.backlog.remove(&key).unwrap_or_default()),
            progress: known.progress.remove(&key),
            key,
        };
        keys.into_iter().map(of_key).collect()
    }
}

/// What the ledger knows of every stream.
#[derive(Default)]
struct Known {
    asked: bool,
    progress: BTreeMap<StreamKey, Progress>,
    backlog: BTreeMap<StreamKey, Backlog>,
}

async fn ask(ledger: &dyn Ledger) -> Result<Known, Error> {
    Ok(Known {
        asked: true,
        progress: ledger.progress().await?.into_iter().collect(),
        backlog: ledger.backlog().await?.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests;
