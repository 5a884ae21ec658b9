//! Lets people see events as they pass, without a line noticing.
//!
//! A line asks one atomic number whether anybody watches. If so it hands a watcher what it wants to see, if there is
//! room; if not it goes on, and the watcher is told how many events it did not see. Nothing here ever waits.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::mpsc;

use crate::event::Batch;

/// Batches and bytes that wait for one watcher: a moment of a fast line, and little beside what the line itself holds.
const WAITING_BATCHES: usize = 256;
const WAITING_BYTES: usize = 4 << 20;

/// People who watch at once; each costs the line a look and some memory.
pub const WATCHERS: usize = 4;

/// A place of a line where events can be seen. The names are those of the metrics' `component_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// New events as the plugin made them, before the first stage.
    Source,
    /// What the stage with this number, counted from 1, passed on.
    Stage(usize),
    /// What a sink is given.
    Sink(String),
    /// What at least one sink is given, each event once.
    Sinks,
}

impl Point {
    /// The point that is called so.
    pub fn parse(text: &str) -> Self {
        let stage = text.strip_prefix("stage_").and_then(|n| n.parse().ok());
        match (text, stage) {
            ("source", _) => Self::Source,
            ("sinks", _) => Self::Sinks,
            (_, Some(number)) => Self::Stage(number),
            _ => Self::Sink(text.to_owned()),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => formatter.write_str("source"),
            Self::Stage(number) => write!(formatter, "stage_{number}"),
            Self::Sink(name) => formatter.write_str(name),
            Self::Sinks => formatter.write_str("sinks"),
        }
    }
}

/// What a watcher wants to see; an empty part means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this stream.
    pub stream: Option<String>,
    /// At these points.
    pub points: Vec<Point>,
}

/// Events at a point.
#[derive(Debug)]
pub struct Seen {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Where.
    pub point: Point,
    /// The events; their bodies are shared with the line.
    pub batch: Batch,
}

/// Those who watch the lines of a process.
#[derive(Debug, Default)]
pub struct Taps {
    count: AtomicUsize,
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    wanted: Wanted,
    sender: mpsc::Sender<Seen>,
    waiting_bytes: AtomicUsize,
    missed: AtomicU64,
}

/// What one watcher sees, as long as this lives.
#[derive(Debug)]
pub struct Tap {
    taps: Arc<Taps>,
    watcher: Arc<Watcher>,
    seen: mpsc::Receiver<Seen>,
}

impl Taps {
    /// Begins to watch; `None` when too many do.
    pub fn watch(self: &Arc<Self>, wanted: Wanted) -> Option<Tap> {
        let mut watchers = self.lock();
        if watchers.len() >= WATCHERS {
            return None;
        }
        let (sender, seen) = mpsc::channel(WAITING_BATCHES);
        let watcher = Arc::new(Watcher {
            wanted,
            sender,
            waiting_bytes: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
        });
        watchers.push(watcher.clone());
        self.count.store(watchers.len(), Ordering::Relaxed);
        drop(watchers);
        Some(Tap {
            taps: self.clone(),
            watcher,
            seen,
        })
    }

    /// Shows a batch to those who want to see it.
    fn show(&self, pipeline: &Arc<str>, point: &Point, batch: &Batch) {
        if batch.events.is_empty() {
            return;
        }
        for watcher in self.lock().iter() {
            if watcher.wanted.is(pipeline, point, batch) {
                watcher.show(pipeline, point, batch);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Watcher>>> {
        // Nothing in here can fail half-way.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn is(&self, pipeline: &str, point: &Point, batch: &Batch) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|it| it == is);
        (self.points.is_empty() || self.points.contains(point))
            && fits(&self.pipeline, pipeline)
            && fits(&self.tenant, &batch.stream.tenant)
            && fits(&self.stream, &batch.stream.stream)
    }
}

impl Watcher {
    fn show(&self, pipeline: &Arc<str>, point: &Point, batch: &Batch) {
        let (events, bytes) = (batch.events.len() as u64, batch.bytes());
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One batch always fits, however large it is.
        let room = waiting == 0 || waiting + bytes <= WAITING_BYTES;
        let shown = room && {
            let seen = Seen {
                pipeline: pipeline.clone(),
                point: point.clone(),
                batch: batch.clone(),
            };
            self.sender.try_send(seen).is_ok()
        };
        if !shown {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.missed.fetch_add(events, Ordering::Relaxed);
        }
    }
}

impl Tap {
    /// The next batch that was seen.
    pub async fn next(&mut self) -> Option<Seen> {
        let seen = self.seen.recv().await?;
        let bytes = seen.batch.bytes();
        self.watcher
            .waiting_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
        Some(seen)
    }

    /// How many events there was no room for since this was last asked.
    pub fn missed(&self) -> u64 {
        self.watcher.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut watchers = self.taps.lock();
        watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.taps.count.store(watchers.len(), Ordering::Relaxed);
    }
}

/// Where a line shows its events, once it is open.
#[derive(Debug, Default)]
pub struct Window(OnceLock<(Arc<str>, Arc<Taps>)>);

impl Window {
    /// From now on the events of this pipeline can be watched; only the first call counts.
    pub fn open(&self, pipeline: &str, taps: Arc<Taps>) {
        let _ = self.0.set((pipeline.into(), taps));
    }

    /// Those who watch, if anybody does.
    fn watched(&self) -> Option<(&Arc<str>, &Taps)> {
        let (pipeline, taps) = self.0.get()?;
        (taps.count.load(Ordering::Relaxed) > 0).then_some((pipeline, taps))
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.watched().is_some()
    }

    /// Shows a batch to those who want to see it.
    pub fn show(&self, point: &Point, batch: &Batch) {
        if let Some((pipeline, taps)) = self.watched() {
            taps.show(pipeline, point, batch);
        }
    }

    /// Shows what a sink is given, if it is given anything.
    pub fn show_sink(&self, sink: &str, batch: Option<&Batch>) {
        if let (Some((pipeline, taps)), Some(batch)) = (self.watched(), batch) {
            taps.show(pipeline, &Point::Sink(sink.to_owned()), batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Identity, Part, StreamKey};

    fn batch(tenant: &str, bodies: &[&str]) -> Batch {
        let event = |body: &&str| Event {
            id: (*body).into(),
            fingerprint: 0,
            time_ms: 0,
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            identity: Identity::of(tenant, body, 0),
        };
        Batch {
            stream: StreamKey::new(tenant, "Audit.General"),
            events: bodies.iter().map(event).collect(),
            part: Part::default(),
        }
    }

    fn window(taps: &Arc<Taps>) -> Window {
        let window = Window::default();
        window.open("contoso", taps.clone());
        window
    }

    #[test]
    fn points_are_called_as_in_the_metrics() {
        for (text, point) in [
            ("source", Point::Source),
            ("sinks", Point::Sinks),
            ("stage_2", Point::Stage(2)),
            ("stage_two", Point::Sink("stage_two".into())),
            ("elasticsearch", Point::Sink("elasticsearch".into())),
        ] {
            assert_eq!(Point::parse(text), point);
            assert_eq!(point.to_string(), text);
        }
    }

    #[tokio::test]
    async fn a_watcher_sees_what_it_wants_and_nothing_else() {
        let taps = Arc::new(Taps::default());
        let window = window(&taps);
        assert!(window.watched().is_none());
        let wanted = Wanted {
            tenant: Some("contoso".into()),
            points: vec![Point::Sinks],
            ..Wanted::default()
        };
        let mut tap = taps.watch(wanted).unwrap();
        assert!(window.watched().is_some());
        window.show(&Point::Source, &batch("contoso", &["{}"]));
        window.show(&Point::Sinks, &batch("fabrikam", &["{}"]));
        window.show_sink("file", Some(&batch("contoso", &["{}"])));
        window.show(&Point::Sinks, &batch("contoso", &["{\"a\":1}"]));
        let seen = tap.next().await.unwrap();
        assert_eq!(seen.batch.events[0].body, "{\"a\":1}");
        assert_eq!((tap.missed(), tap.seen.try_recv().is_err()), (0, true));
        drop(tap);
        assert!(window.watched().is_none());
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_look_misses_events_and_is_told_how_many() {
        let taps = Arc::new(Taps::default());
        let window = window(&taps);
        let mut tap = taps.watch(Wanted::default()).unwrap();
        for _ in 0..WAITING_BATCHES + 10 {
            window.show(&Point::Sinks, &batch("contoso", &["{}", "{}"]));
        }
        assert_eq!((tap.missed(), tap.missed()), (20, 0));
        let large = "x".repeat(WAITING_BYTES);
        for _ in 0..WAITING_BATCHES {
            let _ = tap.next().await.unwrap();
        }
        window.show(&Point::Sinks, &batch("contoso", &[&large]));
        window.show(&Point::Sinks, &batch("contoso", &[&large]));
        assert_eq!(
            tap.missed(),
            1,
            "one fits, however large; no second beside it"
        );
        assert_eq!(tap.next().await.unwrap().batch.bytes(), large.len());
        window.show(&Point::Sinks, &batch("contoso", &["{}"]));
        assert_eq!(
            (tap.next().await.unwrap().batch.bytes(), tap.missed()),
            (2, 0)
        );
    }

    #[test]
    fn only_a_few_may_watch() {
        let taps = Arc::new(Taps::default());
        let mut watching: Vec<_> = (0..WATCHERS)
            .map(|_| taps.watch(Wanted::default()).unwrap())
            .collect();
        assert!(taps.watch(Wanted::default()).is_none());
        watching.pop();
        assert!(taps.watch(Wanted::default()).is_some());
    }
}
