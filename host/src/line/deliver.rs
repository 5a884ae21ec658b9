//! The way from the line to its sinks: one queue and one task for each.
//!
//! What a sink cannot take now is tried again for as long as it takes. A sink that writes in order gets batches in
//! order and nothing overtakes them; one that sends requests (see [`requests`]) gets many at once. A sink without
//! acknowledgements holds nothing up: when its queue is full, events are dropped there, counted and logged.

mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::route::Routed;
use super::{ITEM_BYTES, MAX_ITEMS, RETRY, Totals};
use crate::event::Batch;
use crate::metrics::component::SinkMeter;
use crate::mutant;
use crate::sink::{Positions, Sink, Way, Written};

/// Most batches in one write, whatever their size.
const WRITE_BATCHES: usize = 512;

/// What may wait for a sink without acknowledgements: some seconds of a fast line, a third of its budget.
const UNACKNOWLEDGED_BYTES: usize = 16 << 20;

/// How long a sink without acknowledgements may go on with what it has, once another has taken its place.
const RETIRED: Duration = Duration::from_secs(60);

/// Every so many dropped events are logged, after the first.
const DROPS_LOGGED: u64 = 10_000;

/// A batch for one sink.
pub(super) struct Job {
    batch: Batch,
    receipt: Receipt,
}

/// How a batch is acknowledged.
#[derive(Default)]
struct Receipt {
    /// Where each event stands in the line's batch, unless it is the same one.
    indexes: Option<Vec<usize>>,
    /// Where the acknowledgement is waited for, if it is.
    ack: Option<oneshot::Sender<Ack>>,
    /// Its room in the queue of a sink without acknowledgements.
    room: Option<OwnedSemaphorePermit>,
}

/// The batch is durable on the other side.
#[derive(Debug, Default)]
pub(super) struct Ack {
    /// Who says so.
    pub sink: String,
    /// Events that no retry can deliver: index in the line's batch, why.
    pub refused: Vec<(usize, String)>,
    /// Where the sink's output ends after this batch.
    pub positions: Positions,
}

impl Receipt {
    /// Answers whoever waits; refused events are named by their index in this sink's batch.
    fn acknowledge(self, sink: &str, mut refused: Vec<(usize, String)>, positions: Positions) {
        if let Some(indexes) = &self.indexes {
            for (index, _) in &mut refused {
                *index = indexes.get(*index).copied().unwrap_or(usize::MAX);
            }
        }
        drop(self.room);
        let Some(ack) = self.ack else {
            if !refused.is_empty() {
                let (count, reason) = (refused.len(), &refused[0].1);
                tracing::warn!(sink, count, %reason, "the sink refuses events; it has no acknowledgements, so they \
                    are not kept as dead letters");
            }
            return;
        };
        // Nobody waits for it any more when the run is over.
        let _ = ack.send(Ack {
            sink: sink.to_owned(),
            refused,
            positions,
        });
    }
}

/// The task of a sink; one that writes in order is given back when it is stopped.
pub(super) type Task = JoinHandle<Option<Box<dyn Sink>>>;

/// The way to one sink.
pub(super) struct Lane {
    /// No other lane of this process has it.
    pub number: u64,
    pub name: String,
    /// What passes through it.
    pub meter: Arc<SinkMeter>,
    /// Names of the positions that the sink keeps.
    pub positions: Vec<String>,
    /// Cancelled to end the sink's task after the write that is under way; what waits is given up.
    pub stop: CancellationToken,
    jobs: mpsc::Sender<Job>,
    /// Room for what waits, where nobody waits for acknowledgements.
    unacknowledged: Option<Arc<Semaphore>>,
    dropped: AtomicU64,
}

impl Lane {
    /// Starts the task of a sink.
    pub fn start(way: Way) -> (Self, Task) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (jobs, queue) = mpsc::channel(MAX_ITEMS);
        let (name, stop) = (way.name().to_owned(), CancellationToken::new());
        let (own_name, stopped) = (name.clone(), stop.clone().cancelled_owned());
        let mut positions = Vec::new();
        let (acknowledgements, task) = match way {
            Way::Ordered(sink) => {
                positions = sink.position_names();
                (true, tokio::spawn(run(sink, queue, stop.clone())))
            }
            Way::Requests(sink, policy) => {
                let acknowledgements = policy.acknowledgements;
                let running = requests::run(sink, policy, queue);
                let task = tokio::spawn(async move {
                    tokio::select! {
                        () = running => {}
                        () = stopped => if !acknowledgements {
                            tracing::warn!(sink = own_name,
                                "the sink was exchanged; what it could not send is dropped there");
                        },
                    }
                    None
                });
                (acknowledgements, task)
            }
        };
        let lane = Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            meter: Arc::new(SinkMeter::new(&name)),
            name,
            positions,
            stop,
            jobs,
            unacknowledged: (!acknowledgements)
                .then(|| Arc::new(Semaphore::new(UNACKNOWLEDGED_BYTES))),
            dropped: AtomicU64::new(0),
        };
        (lane, task)
    }

    /// Whether somebody waits for what it has.
    pub fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_none()
    }

    /// Lets a sink without acknowledgements go on for a while with what it has; its queue closes with the lane.
    pub fn retire(&self) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RETIRED).await;
            stop.cancel();
        });
    }

    /// Hands a batch over; returns where its acknowledgement comes from, if one has to be waited for.
    pub fn give(&self, routed: Routed, totals: &Totals) -> Option<oneshot::Receiver<Ack>> {
        let Routed { batch, indexes } = routed;
        let mut receipt = Receipt {
            indexes,
            ..Receipt::default()
        };
        let Some(room) = &self.unacknowledged else {
            let (ack, written) = oneshot::channel();
            receipt.ack = Some(ack);
            super::give(&self.jobs, Job { batch, receipt });
            return Some(written);
        };
        let bytes = batch.bytes().clamp(ITEM_BYTES, UNACKNOWLEDGED_BYTES);
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        match room.clone().try_acquire_many_owned(weight) {
            Ok(room) => {
                receipt.room = Some(room);
                super::give(&self.jobs, Job { batch, receipt });
            }
            Err(_) => self.drop(batch.events.len() as u64, totals),
        }
        None
    }

    fn drop(&self, events: u64, totals: &Totals) {
        totals.dropped.fetch_add(events, Ordering::Relaxed);
        let before = self.dropped.fetch_add(events, Ordering::Relaxed);
        if before == 0 || before / DROPS_LOGGED != (before + events) / DROPS_LOGGED {
            let dropped = before + events;
            tracing::warn!(
                sink = self.name,
                dropped,
                "the sink is too slow or down, and has `acknowledgements: \
                false`: events are dropped there"
            );
        }
    }
}

async fn run(
    mut sink: Box<dyn Sink>,
    mut queue: mpsc::Receiver<Job>,
    stop: CancellationToken,
) -> Option<Box<dyn Sink>> {
    while let Some(Some(first)) = stop.run_until_cancelled(queue.recv()).await {
        let limit = sink.batch_bytes();
        let mut bytes = first.batch.bytes();
        let mut batches = vec![first.batch];
        let mut receipts = vec![first.receipt];
        while bytes < limit && batches.len() < WRITE_BATCHES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.batch.bytes();
            batches.push(job.batch);
            receipts.push(job.receipt);
        }
        if mutant::is_on("ack_before_write") {
            acknowledge(
                sink.name(),
                Written::default(),
                std::mem::take(&mut receipts),
            );
        }
        let Some(written) = write(sink.as_mut(), &batches, &stop).await else {
            return Some(sink);
        };
        acknowledge(sink.name(), written, receipts);
    }
    stop.is_cancelled().then_some(sink)
}

/// Writes until it succeeds; `None` when stopped before. A write that has begun is always waited for.
async fn write(
    sink: &mut dyn Sink,
    batches: &[Batch],
    stop: &CancellationToken,
) -> Option<Written> {
    let mut wait = RETRY.0;
    loop {
        match sink.write(batches).await {
            Ok(written) => return Some(written),
            Err(error) => {
                tracing::error!(sink = sink.name(), %error, wait = ?wait,
                    "the sink does not take events; trying again");
                stop.run_until_cancelled(tokio::time::sleep(jitter(wait)))
                    .await?;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

fn acknowledge(name: &str, written: Written, receipts: Vec<Receipt>) {
    let Written { refused, positions } = written;
    let mut positions = positions.into_iter();
    for (index, receipt) in receipts.into_iter().enumerate() {
        let refused = refused
            .iter()
            .filter(|(batch, ..)| *batch == index)
            .map(|(_, event, reason)| (*event, reason.clone()))
            .collect();
        receipt.acknowledge(name, refused, positions.next().unwrap_or_default());
    }
}

/// Between half and the whole of a wait, so that sinks that failed together do not return together.
fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}
