//! A trace for each split: what became of it, and how long each part took.
//!
//! Its id is made of the split's own, so that every attempt to read it, also that of a later process, belongs to the
//! same trace. Nothing waits here: what finds no room in the queue is dropped and counted. Spans hold names, counts and
//! outcomes; no event, no sentence of an error, no secret.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::message::{Span, Status};
use crate::ledger::{Counts, SplitKey};
use crate::metrics::component::Load;
use crate::sink::otlp::message::{KeyValue, nanoseconds};

/// Traces that wait for the collector; each has a handful of spans of some hundred bytes.
const QUEUE: usize = 4_096;

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_CLIENT`
const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;

/// Where traces go; nowhere, unless the pipeline tells a collector.
#[derive(Debug, Default)]
pub struct Tracer {
    open: OnceLock<Open>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Open {
    pipeline: String,
    ratio: f64,
    queue: mpsc::Sender<Vec<Span>>,
}

impl Tracer {
    /// Traces a share of the splits of a pipeline from now on; what is to be sent comes out of the queue.
    pub(super) fn open(&self, pipeline: &str, ratio: f64) -> mpsc::Receiver<Vec<Span>> {
        let (queue, traces) = mpsc::channel(QUEUE);
        let pipeline = pipeline.to_owned();
        let _ = self.open.set(Open {
            pipeline,
            ratio,
            queue,
        });
        traces
    }

    /// An attempt to read a split begins; `None` where the split is not traced.
    pub fn begin(&self, split: &SplitKey, number: u32, now_ms: i64) -> Option<Arc<Attempt>> {
        let open = self.open.get()?;
        let mut hash = Sha256::new();
        let parts: [&str; 4] = [
            &open.pipeline,
            &split.stream.tenant,
            &split.stream.stream,
            &split.id,
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let trace: [u8; 16] = first(hash);
        is_in(trace, open.ratio).then(|| {
            Arc::new(Attempt {
                trace,
                split: split.clone(),
                number,
                began_ms: now_ms,
                log: Mutex::default(),
            })
        })
    }

    /// Takes spans over, if there is room.
    pub(crate) fn offer(&self, spans: Vec<Span>) {
        let Some(open) = self.open.get() else {
            return;
        };
        if let Err(full) = open.queue.try_send(spans) {
            self.drop(full.into_inner().len());
        }
    }

    /// Counts spans that nobody gets.
    pub(super) fn drop(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Spans that nobody got; `None` where nothing is traced.
    pub fn dropped(&self) -> Option<u64> {
        let open = self.open.get()?;
        (open.ratio > 0.0).then(|| self.dropped.load(Ordering::Relaxed))
    }
}

/// Whether a trace belongs to a share of all: the same for everybody who asks, as the W3C's last 56 bits say it.
#[allow(
    clippy::cast_precision_loss,
    reason = "a share need not be exact to 2^-53"
)]
fn is_in(trace: [u8; 16], ratio: f64) -> bool {
    let last = trace.last_chunk::<8>().copied().unwrap_or_default();
    let random = u64::from_be_bytes(last) & ((1 << 56) - 1);
    (random as f64) < ratio * (1_u64 << 56) as f64
}

fn first<const BYTES: usize>(hash: Sha256) -> [u8; BYTES] {
    let digest = hash.finalize();
    let mut first = [0; BYTES];
    first.copy_from_slice(&digest[..BYTES]);
    first
}

/// One attempt to read a split that is traced.
#[derive(Debug)]
pub struct Attempt {
    trace: [u8; 16],
    split: SplitKey,
    number: u32,
    began_ms: i64,
    log: Mutex<Log>,
}

/// What is known of it so far.
#[derive(Debug, Default)]
struct Log {
    ended_ms: Option<i64>,
    counts: Counts,
    bytes: u64,
    sinks: BTreeMap<String, Delivery>,
}

/// What a sink got of it.
#[derive(Debug)]
struct Delivery {
    first_ms: i64,
    last_ms: i64,
    given: Load,
    refused: Load,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is committed.
    Delivered,
    /// It is read again: what failed, in a word.
    Failed(&'static str),
    /// It is never read again.
    Lost(&'static str),
}

impl Attempt {
    /// The call that reads has returned.
    pub fn ended(&self, now_ms: i64) {
        self.log().ended_ms = Some(now_ms);
    }

    /// A part of it is acknowledged by all, or needs no acknowledgement.
    fn passed(&self, counts: Counts, bytes: u64) {
        let mut log = self.log();
        log.counts += counts;
        log.bytes += bytes;
    }

    /// A sink has acknowledged a part of it, `refused` of which it never takes.
    fn acknowledged(
        &self,
        sink: &str,
        (handed_ms, now_ms): (i64, i64),
        given: Load,
        refused: Load,
    ) {
        let mut log = self.log();
        let delivery = log.sinks.entry(sink.to_owned()).or_insert(Delivery {
            first_ms: handed_ms,
            last_ms: now_ms,
            given: Load::default(),
            refused: Load::default(),
        });
        delivery.first_ms = delivery.first_ms.min(handed_ms);
        delivery.last_ms = delivery.last_ms.max(now_ms);
        delivery.given.events += given.events;
        delivery.given.bytes += given.bytes;
        delivery.refused.events += refused.events;
    }

    /// What is to be told of it. What stands for the split as a whole is told once, at its end.
    pub(crate) fn spans(
        &self,
        outcome: Outcome,
        (created_ms, discovered_ms): (i64, Option<i64>),
        now_ms: i64,
    ) -> Vec<Span> {
        let log = self.log();
        let error = match outcome {
            Outcome::Delivered => None,
            Outcome::Failed(error) | Outcome::Lost(error) => Some(error),
        };
        let mut spans = Vec::new();
        if !matches!(outcome, Outcome::Failed(_)) {
            let start = created_ms.min(discovered_ms.unwrap_or(self.began_ms));
            let start = start.min(self.began_ms);
            spans.push(self.whole(&log, error, (start, now_ms)));
            if let Some(discovered_ms) = discovered_ms {
                spans.push(self.span("list", "list", INTERNAL, (start, discovered_ms)));
            }
        }
        let of = |name: &str| format!("{name} {}", self.began_ms);
        let times = (self.began_ms, log.ended_ms.unwrap_or(now_ms));
        let mut read = self.span("read", &of("read"), CLIENT, times);
        let number = i64::from(self.number) + 1;
        read.attributes
            .push(KeyValue::int("sluicegate.attempt", number));
        fail(&mut read, error);
        spans.push(read);
        for (sink, delivery) in &log.sinks {
            let times = (delivery.first_ms, delivery.last_ms);
            let label = format!("{} {sink}", of("deliver"));
            let mut span = self.span("deliver", &label, CLIENT, times);
            span.attributes.extend([
                KeyValue::text("sluicegate.sink", sink),
                count("events", delivery.given.events),
                count("bytes", delivery.given.bytes),
                count("refused", delivery.refused.events),
            ]);
            spans.push(span);
        }
        spans
    }

    /// The span that holds all others.
    fn whole(&self, log: &Log, error: Option<&'static str>, times: (i64, i64)) -> Span {
        let mut span = self.span("split", "split", INTERNAL, times);
        span.parent_span_id.clear();
        let outcome = if error.is_some() { "lost" } else { "delivered" };
        let Counts {
            read,
            delivered,
            duplicates,
            dropped,
            dead_lettered,
        } = log.counts;
        span.attributes.extend([
            KeyValue::text("sluicegate.outcome", outcome),
            count("bytes", log.bytes),
            count("events.read", read),
            count("events.delivered", delivered),
            count("events.known", duplicates),
            count("events.dropped", dropped),
            count("events.dead_lettered", dead_lettered),
        ]);
        fail(&mut span, error);
        span
    }

    /// A span below the one that holds all others; `label` is its own in the trace.
    fn span(&self, name: &str, label: &str, kind: i32, (start, end): (i64, i64)) -> Span {
        Span {
            trace_id: self.trace.to_vec(),
            span_id: self.id(label).to_vec(),
            parent_span_id: self.id("split").to_vec(),
            name: name.to_owned(),
            kind,
            start_time_unix_nano: nanoseconds(start),
            // Two clocks may differ.
            end_time_unix_nano: nanoseconds(end.max(start)),
            attributes: vec![
                KeyValue::text("sluicegate.tenant", &*self.split.stream.tenant),
                KeyValue::text("sluicegate.stream", &*self.split.stream.stream),
                KeyValue::text("sluicegate.split", &self.split.id),
            ],
            status: None,
        }
    }

    fn id(&self, label: &str) -> [u8; 8] {
        let mut hash = Sha256::new();
        hash.update(self.trace);
        hash.update(label);
        first(hash)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // What it holds is whole at every step.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a split on its way through the line, as far as its trace is concerned.
#[derive(Debug, Default)]
pub(crate) struct Told {
    attempt: Option<Arc<Attempt>>,
    /// When the sinks got it.
    handed_ms: i64,
}

impl Told {
    /// A part that was read in an attempt.
    pub fn of(attempt: Option<&Arc<Attempt>>) -> Self {
        Self {
            attempt: attempt.cloned(),
            handed_ms: 0,
        }
    }

    /// The sinks get it now.
    pub fn handed(&mut self, now_ms: i64) {
        self.handed_ms = now_ms;
    }

    /// A sink has acknowledged it, but for what it never takes.
    pub fn acknowledged(&self, sink: &str, now_ms: i64, given: Load, refused: Load) {
        if let Some(attempt) = &self.attempt {
            attempt.acknowledged(sink, (self.handed_ms, now_ms), given, refused);
        }
    }

    /// All have.
    pub fn passed(&self, counts: Counts, bytes: u64) {
        if let Some(attempt) = &self.attempt {
            attempt.passed(counts, bytes);
        }
    }
}

fn fail(span: &mut Span, error: Option<&'static str>) {
    if let Some(error) = error {
        span.attributes.push(KeyValue::text("error.type", error));
        span.status = Some(Status { code: 2 });
    }
}

fn count(name: &str, number: u64) -> KeyValue {
    let name = format!("sluicegate.{name}");
    KeyValue::int(name, i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamKey;

    fn split(id: &str) -> SplitKey {
        SplitKey {
            stream: StreamKey::new("contoso", "Audit.General"),
            id: id.to_owned(),
        }
    }

    #[test]
    fn nothing_is_traced_unless_somebody_listens() {
        let tracer = Tracer::default();
        assert!(tracer.begin(&split("a"), 0, 0).is_none());
        assert_eq!(tracer.dropped(), None);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let tracer = Tracer::default();
        let mut queue = tracer.open("p", 1.0);
        let attempt = tracer.begin(&split("a"), 0, 1_000).unwrap();
        let spans = || attempt.spans(Outcome::Delivered, (500, Some(900)), 2_000);
        for _ in 0..QUEUE {
            tracer.offer(spans());
        }
        assert_eq!(tracer.dropped(), Some(0));
        tracer.offer(spans());
        assert_eq!(tracer.dropped(), Some(3), "split, list and read");
        assert_eq!(queue.try_recv().unwrap().len(), 3);
        tracer.offer(spans());
        assert_eq!(tracer.dropped(), Some(3));
    }

    #[test]
    fn attempts_of_any_process_belong_to_one_trace() {
        let spans = |began_ms: i64, outcome| {
            let tracer = Tracer::default();
            let _queue = tracer.open("p", 1.0);
            let attempt = tracer.begin(&split("a"), 1, began_ms).unwrap();
            attempt.ended(began_ms + 10);
            let load = Load {
                events: 2,
                bytes: 20,
            };
            let told = Told::of(Some(&attempt));
            told.acknowledged("file", began_ms + 20, load, Load::default());
            attempt.spans(outcome, (500, Some(900)), began_ms + 30)
        };
        let failed = spans(1_000, Outcome::Failed("request_failed"));
        let delivered = spans(2_000, Outcome::Delivered);
        let names = |spans: &[Span]| -> Vec<String> {
            spans.iter().map(|span| span.name.clone()).collect()
        };
        assert_eq!(names(&failed), ["read", "deliver"]);
        assert_eq!(names(&delivered), ["split", "list", "read", "deliver"]);
        let whole = &delivered[0];
        assert!(whole.parent_span_id.is_empty() && whole.status.is_none());
        let others: Vec<_> = failed.iter().chain(&delivered[1..]).collect();
        for span in &others {
            assert_eq!(span.trace_id, whole.trace_id);
            assert_eq!(span.parent_span_id, whole.span_id);
        }
        let ids: std::collections::BTreeSet<_> = others.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), others.len());
        assert_eq!(failed[0].status, Some(Status { code: 2 }));
    }

    #[test]
    fn a_share_is_the_same_for_all_and_about_as_large_as_it_should_be() {
        let traced = |ratio: f64| -> Vec<bool> {
            let tracer = Tracer::default();
            let _queue = tracer.open("p", ratio);
            let splits = (0..1_000).map(|number| split(&number.to_string()));
            let traced = splits.map(|split| tracer.begin(&split, 0, 0).is_some());
            traced.collect()
        };
        let count = |traced: &[bool]| traced.iter().filter(|is| **is).count();
        let (none, fifth, half, all) = (traced(0.0), traced(0.2), traced(0.5), traced(1.0));
        assert_eq!((count(&none), count(&all)), (0, 1_000));
        assert!((150..250).contains(&count(&fifth)), "{}", count(&fifth));
        assert!((440..560).contains(&count(&half)), "{}", count(&half));
        assert!(fifth.iter().zip(&half).all(|(fifth, half)| !fifth || *half));
        assert_eq!(fifth, traced(0.2));
    }
}
