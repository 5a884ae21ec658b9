//! What passes through each stage and each sink of a line.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::streams::Streams;

/// The counters of a line.
#[derive(Debug, Default)]
pub struct Meters {
    /// Of each stream.
    pub streams: Streams,
    /// Of each stage, in order.
    pub stages: List<StageMeter>,
    /// Of each sink, in order.
    pub sinks: List<SinkMeter>,
    /// Of the dead letters.
    pub dead_letters: Arc<DeadLetterMeter>,
}

/// Meters of parts that may be exchanged while the line runs.
#[derive(Debug)]
pub struct List<T>(RwLock<Vec<Arc<T>>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> List<T> {
    /// Those of the parts that are there now.
    pub fn all(&self) -> Vec<Arc<T>> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }

    /// These are the parts from now on.
    pub fn set(&self, list: Vec<Arc<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list;
    }
}

/// How full the dead letters are, and whether they can be kept.
#[derive(Debug, Default)]
pub struct DeadLetterMeter {
    path: PathBuf,
    most_bytes: u64,
    trouble: Mutex<Option<(Instant, String)>>,
}

impl DeadLetterMeter {
    /// The meter of a file that may have so many bytes.
    pub fn new(path: &Path, most_bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            most_bytes,
            trouble: Mutex::default(),
        }
    }

    /// How large the file is now.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// How large it may be.
    pub fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    /// Dead letters cannot be kept. Returns for how long, and whether that is news.
    pub fn ails(&self, why: &str) -> (Duration, bool) {
        let mut trouble = self.lock();
        let before = trouble.take();
        let news = before.as_ref().is_none_or(|(_, said)| said != why);
        let since = before.map_or_else(Instant::now, |(since, _)| since);
        *trouble = Some((since, why.to_owned()));
        (since.elapsed(), news)
    }

    /// Dead letters can be kept. Returns for how long they could not.
    pub fn is_well(&self) -> Option<Duration> {
        self.lock().take().map(|(since, _)| since.elapsed())
    }

    /// Why dead letters cannot be kept, if they cannot, and for how long.
    pub fn trouble(&self) -> Option<(String, Duration)> {
        let trouble = self.lock();
        let said = trouble.as_ref();
        said.map(|(since, why)| (why.clone(), since.elapsed()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, String)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of a stage. They count what it did, also when a crash makes it do that again.
#[derive(Debug, Default)]
pub struct StageMeter {
    /// Its kind, such as `filter`.
    pub kind: &'static str,
    received: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
}

/// What a stage did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// Events that came in.
    pub received: u64,
    /// Events that went on.
    pub sent: u64,
    /// Events left out on purpose.
    pub dropped: u64,
    /// Events that it could not handle.
    pub rejected: u64,
}

impl StageMeter {
    /// The meter of a stage of this kind.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// Counts a batch.
    pub fn add(&self, batch: StageCounts) {
        self.received.fetch_add(batch.received, Ordering::Relaxed);
        self.sent.fetch_add(batch.sent, Ordering::Relaxed);
        self.dropped.fetch_add(batch.dropped, Ordering::Relaxed);
        self.rejected.fetch_add(batch.rejected, Ordering::Relaxed);
    }

    /// What it did so far.
    pub fn counts(&self) -> StageCounts {
        StageCounts {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}

/// A batch on its way to a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many events.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Load {
    fn less(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The counters of a sink: accepted by the line for it, acknowledged by it, refused by it.
#[derive(Debug, Default)]
pub struct SinkMeter {
    /// Its name in the pipeline.
    pub name: String,
    accepted: Counter,
    acknowledged: Counter,
    refused: Counter,
    withdrawn: Counter,
    /// Since when everything waits for this sink, if it does.
    waiting: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Counter {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, load: Load) {
        self.events.fetch_add(load.events, Ordering::Relaxed);
        self.bytes.fetch_add(load.bytes, Ordering::Relaxed);
    }

    fn load(&self) -> Load {
        Load {
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// What a sink did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// What was handed to it.
    pub accepted: Load,
    /// What is settled, refused events included.
    pub acknowledged: Load,
    /// Events that no retry can deliver there.
    pub refused: Load,
    /// What was taken back before it was settled, since the sink was exchanged.
    pub withdrawn: Load,
    /// For how long everything has been waiting for it.
    pub waiting: Option<Duration>,
}

impl SinkCounts {
    /// What the sink has.
    pub fn sent(&self) -> Load {
        self.acknowledged.less(self.refused)
    }

    /// What was handed to it and is not settled.
    pub fn pending(&self) -> Load {
        self.accepted.less(self.acknowledged).less(self.withdrawn)
    }
}

impl SinkMeter {
    /// The meter of a sink.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// A batch is handed to the sink.
    pub fn accepted(&self, load: Load) {
        self.accepted.add(load);
    }

    /// A batch that was handed to the sink is taken back.
    pub fn withdrawn(&self, load: Load) {
        self.withdrawn.add(load);
    }

    /// The sink has settled a batch, of which it refused a part.
    pub fn acknowledged(&self, load: Load, refused: Load) {
        self.acknowledged.add(load);
        self.refused.add(refused);
    }

    /// Everything waits for this sink's acknowledgement from now until the guard is dropped.
    pub fn wait(&self) -> Waiting<'_> {
        self.set(Some(Instant::now()));
        Waiting(self)
    }

    /// What it did so far.
    pub fn counts(&self) -> SinkCounts {
        // Acknowledged first: what is settled meanwhile then never exceeds what was accepted.
        let acknowledged = self.acknowledged.load();
        let waiting = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        SinkCounts {
            acknowledged,
            refused: self.refused.load(),
            withdrawn: self.withdrawn.load(),
            accepted: self.accepted.load(),
            waiting: waiting.map(|since| since.elapsed()),
        }
    }

    fn set(&self, since: Option<Instant>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// While this lives, everything waits for a sink.
#[derive(Debug)]
pub struct Waiting<'a>(&'a SinkMeter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_takes_nothing_is_waited_for_until_it_does() {
        let meter = SinkMeter::new("file");
        let load = Load {
            events: 10,
            bytes: 1_000,
        };
        meter.accepted(load);
        assert_eq!(meter.counts().waiting, None);
        let waiting = meter.wait();
        tokio::time::advance(Duration::from_secs(90)).await;
        let counts = meter.counts();
        assert_eq!(counts.waiting, Some(Duration::from_secs(90)));
        assert_eq!((counts.sent().events, counts.pending()), (0, load));
        drop(waiting);
        let refused = Load {
            events: 3,
            bytes: 400,
        };
        meter.acknowledged(load, refused);
        let counts = meter.counts();
        assert_eq!(counts.waiting, None);
        assert_eq!((counts.sent().events, counts.sent().bytes), (7, 600));
        assert_eq!(counts.pending(), Load::default());
    }
}
