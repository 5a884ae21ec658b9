//! The second half of the line: dedupe, stages, sinks, ack, commit.
//!
//! Every batch gets a ticket when its events are claimed, and everything behind that point keeps the order of
//! tickets: sinks are handed batches in it, and the ledger is committed in it. So whatever is committed is durable in
//! every sink, a file cut back to its committed length holds exactly the committed events, and a split
//! that dropped an event because another split had claimed it is never committed before that event.
//!
//! Nothing is given up here: a sink or a ledger that fails is tried again, and what waits holds its bytes of the
//! line's budget, which suspends the plugins that want to emit more.

pub mod change;
mod commit;
mod course;
mod deliver;
pub mod reading;
mod recover;
pub mod replay;
pub(crate) mod route;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::dead_letter::DeadLetters;
use crate::error::Error;
use crate::event::{Batch, Event, Identity, Part, Refused, StreamKey};
use crate::ledger::{Commit, Counts, Delivered, Ledger};
use crate::metrics::component::Meters;
use crate::metrics::lag::{EventLag, Lags};
use crate::metrics::streams::StreamCounts;
use crate::mutant;
use crate::sink::Outlet;
use crate::source::Closed;
use crate::stage::Stage;
use crate::tap::{Point, Window};
use crate::telemetry::trace::{Outcome, Told, Tracer};
use course::Course;
use reading::Reading;
pub(crate) use recover::committed;

/// Bytes of events between a plugin's `emit` and the commit, for one pipeline. Enough to keep every sink busy while a
/// commit waits for the disk; small beside the memory bar of 350 MB.
pub const BUDGET_BYTES: usize = 48 << 20;

/// What the smallest item weighs, so that the number of items is bounded as well.
const ITEM_BYTES: usize = 4 << 10;

/// No more items than this can hold a share of the budget; queues of this length never fill.
const MAX_ITEMS: usize = BUDGET_BYTES / ITEM_BYTES + 1;

/// First and longest wait before a sink or the ledger is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Where read events go. Cheap to share; the tasks behind it end when every handle is gone.
pub struct Line {
    ledger: Arc<dyn Ledger>,
    budget: Arc<Semaphore>,
    order: Mutex<Order>,
    committed: watch::Receiver<u64>,
    totals: Arc<Totals>,
    lags: Arc<Lags>,
    meters: Arc<Meters>,
    /// How often an emit had to wait for room.
    waited: AtomicU64,
    clock: SharedClock,
    /// To the committer, between whose commits sinks are exchanged.
    changes: mpsc::Sender<change::Request>,
    window: Window,
    tracer: Tracer,
}

/// What has to happen in one order: claims, tickets and the hand-over.
struct Order {
    /// Identities with a ticket and not yet in the ledger.
    claims: HashSet<Identity>,
    next_ticket: u64,
    /// Items whose turn has not come.
    waiting: BTreeMap<u64, Item>,
    next_turn: u64,
    sinks: Vec<deliver::Lane>,
    /// The stages and conditions that go with these sinks.
    course: Arc<Course>,
    /// While sinks are exchanged nothing is handed to any of them.
    changing: bool,
    commits: mpsc::Sender<commit::Job>,
}

/// One ticket's worth of the line, ready for the sinks.
struct Item {
    stream: StreamKey,
    /// The split that all of it was read from.
    split: Arc<str>,
    batch: Option<Batch>,
    /// What each sink gets of the batch, in the order of the sinks.
    routed: Vec<Option<route::Routed>>,
    /// What it was routed by.
    course: Option<Arc<Course>>,
    rejected: Vec<Refused>,
    identities: Vec<Identity>,
    /// How late the batch's events became available.
    lag: Option<EventLag>,
    delivered: Option<Arc<Reading>>,
    /// What is told of it, if anything.
    told: Told,
    counts: Counts,
    /// Bytes that the source handed over.
    read_bytes: u64,
    room: OwnedSemaphorePermit,
}

/// Sums over all streams since the line started.
#[derive(Debug, Default)]
pub struct Totals {
    counts: Mutex<Counts>,
    bytes: AtomicU64,
    splits: AtomicU64,
    dropped: AtomicU64,
}

impl Totals {
    /// Committed counts.
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Bytes of delivered event bodies.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Splits committed as delivered.
    pub fn splits(&self) -> u64 {
        self.splits.load(Ordering::Relaxed)
    }

    /// Events that sinks without acknowledgements had no room for.
    pub fn dropped_by_sinks(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Locks a mutex whose holder cannot leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a line is made of.
pub struct Parts {
    /// The pipeline's memory.
    pub ledger: Arc<dyn Ledger>,
    /// Steps that every batch takes, in order.
    pub stages: Vec<Box<dyn Stage>>,
    /// Where events go; each gets every event that its condition holds for.
    pub sinks: Vec<Outlet>,
    /// Where refused events are kept.
    pub dead_letter: DeadLetters,
    /// The time of commits.
    pub clock: SharedClock,
}

impl Line {
    /// Brings sinks and dead letters to what was committed, and starts the line's tasks.
    pub async fn start(parts: Parts) -> Result<(Arc<Self>, JoinHandle<()>), Error> {
        let Parts {
            ledger,
            stages,
            mut sinks,
            mut dead_letter,
            clock,
        } = parts;
        recover::recover(ledger.as_ref(), &mut sinks, &mut dead_letter, &clock).await?;
        let totals = Arc::new(Totals::default());
        let lags = Arc::new(Lags::default());
        let (ways, whens): (Vec<_>, Vec<_>) =
            sinks.into_iter().map(|sink| (sink.way, sink.when)).unzip();
        let course = Arc::new(Course::new(stages.into(), whens));
        let (lanes, tasks): (Vec<_>, Vec<_>) = ways.into_iter().map(deliver::Lane::start).unzip();
        let meters = Arc::new(Meters {
            dead_letters: dead_letter.meter(),
            ..Meters::default()
        });
        meters.stages.set(course.meters.clone());
        let of_sinks = lanes.iter().map(|lane| lane.meter.clone());
        meters.sinks.set(of_sinks.collect());
        let tasks = lanes.iter().map(|lane| lane.number).zip(tasks).collect();
        // One change at a time.
        let (changes, requests) = mpsc::channel(1);
        let (commits, queue) = mpsc::channel(MAX_ITEMS);
        let (done, committed) = watch::channel(0);
        let line = Arc::new(Self {
            ledger: ledger.clone(),
            budget: Arc::new(Semaphore::new(BUDGET_BYTES)),
            order: Mutex::new(Order {
                claims: HashSet::new(),
                next_ticket: 0,
                waiting: BTreeMap::new(),
                next_turn: 0,
                sinks: lanes,
                course,
                changing: false,
                commits,
            }),
            committed,
            totals: totals.clone(),
            lags: lags.clone(),
            meters: meters.clone(),
            waited: AtomicU64::new(0),
            clock: clock.clone(),
            changes,
            window: Window::default(),
            tracer: Tracer::default(),
        });
        // The committer must not keep the line alive: the queues close when the last handle is gone.
        let committer = commit::Committer {
            ledger,
            dead_letter,
            clock,
            totals,
            lags,
            meters,
            line: Arc::downgrade(&line),
            done,
            tasks,
        };
        Ok((line, tokio::spawn(committer.run(queue, requests))))
    }

    /// Where its events can be watched, once it is open.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Where traces of its splits go.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// What was committed since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How late events were since the start.
    pub fn lags(&self) -> &Lags {
        &self.lags
    }

    /// What passed through since the start.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// How often an emit had to wait for room.
    pub fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    /// Bytes between a plugin's `emit` and the commit, of [`BUDGET_BYTES`].
    pub fn held_bytes(&self) -> usize {
        BUDGET_BYTES.saturating_sub(self.budget.available_permits())
    }

    /// Takes a batch of a split over, waiting while the line is full.
    ///
    /// Once there is room the batch goes through even when the caller is dropped: a ticket that was drawn is
    /// always handed in.
    pub async fn accept(
        self: &Arc<Self>,
        batch: Batch,
        reading: &Arc<Reading>,
    ) -> Result<(), Closed> {
        let room = self.room(batch.bytes()).await?;
        let (line, reading) = (self.clone(), reading.clone());
        tokio::spawn(async move { line.pass(batch, &reading, room).await })
            .await
            .map_err(|_| Closed)
    }

    /// Keeps a record that could not become an event.
    pub async fn reject(
        self: &Arc<Self>,
        reading: &Reading,
        body: Bytes,
        reason: String,
    ) -> Result<(), Closed> {
        let room = self.room(body.len()).await?;
        let identity = Identity::of_bytes(&reading.split.stream.tenant, &body);
        let refused = Refused {
            stream: reading.split.stream.clone(),
            reason,
            by: "source".into(),
            body,
            identity,
            split: reading.split.id.as_str().into(),
            event: None,
        };
        let (line, told) = (self.clone(), Told::of(reading.trace.as_ref()));
        tokio::spawn(async move { line.pass_refused(refused, told, room).await })
            .await
            .map_err(|_| Closed)
    }

    /// Says that every event of a split has been accepted: it is committed as delivered once they are.
    pub async fn finish(self: &Arc<Self>, reading: Arc<Reading>) -> Result<(), Closed> {
        let room = self.room(0).await?;
        if mutant::is_on("split_before_events") {
            let (split, event_ms) = (reading.split.clone(), None);
            let mut early = Commit::default();
            early.delivered.push(Delivered { split, event_ms });
            let _ = self.ledger.commit(early, reading.created_ms).await;
        }
        let ticket = self.claim(&mut []).0;
        self.hand_in(
            ticket,
            Item {
                stream: reading.split.stream.clone(),
                split: reading.split.id.as_str().into(),
                batch: None,
                routed: Vec::new(),
                course: None,
                rejected: Vec::new(),
                identities: Vec::new(),
                lag: None,
                told: Told::of(reading.trace.as_ref()),
                delivered: Some(reading),
                counts: Counts::default(),
                read_bytes: 0,
                room,
            },
        );
        Ok(())
    }

    /// Waits until everything accepted so far is committed.
    pub async fn settled(&self) {
        let tickets = lock(&self.order).next_ticket;
        let mut committed = self.committed.clone();
        // An error says that the committer is gone, and nothing is left to wait for.
        let _ = committed.wait_for(|done| *done >= tickets).await;
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Closed> {
        let weight = u32::try_from(bytes.clamp(ITEM_BYTES, BUDGET_BYTES)).unwrap_or(u32::MAX);
        if self.budget.available_permits() < weight as usize {
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
        self.budget
            .clone()
            .acquire_many_owned(weight)
            .await
            .map_err(|_| Closed)
    }

    /// Draws a ticket and claims identities: `fresh[i]` turns false where someone else has claimed it.
    fn claim(&self, fresh: &mut [(Identity, bool)]) -> (u64, u64) {
        let mut order = lock(&self.order);
        let ticket = order.next_ticket;
        order.next_ticket += 1;
        let mut duplicates = 0;
        for (identity, fresh) in fresh {
            *fresh = order.claims.insert(*identity);
            duplicates += u64::from(!*fresh);
        }
        (ticket, duplicates)
    }

    async fn pass(&self, batch: Batch, reading: &Reading, room: OwnedSemaphorePermit) {
        let mut counts = Counts {
            read: batch.events.len() as u64,
            ..Counts::default()
        };
        let read_bytes = batch.bytes() as u64;
        let part = Part::of(&reading.split.id, &batch.events);
        let mut fresh: Vec<_> = batch
            .events
            .iter()
            .map(|event| (event.identity, true))
            .collect();
        let (ticket, claimed) = self.claim(&mut fresh);
        counts.duplicates += claimed;
        let stream = batch.stream;
        let mut events = keep(batch.events, fresh.iter().map(|(_, fresh)| *fresh));
        let mut known = self.known(&stream, &identities(&events)).await;
        if mutant::is_on("dedupe_forgotten") {
            known.fill(false);
        }
        if mutant::is_on("dedupe_before_delivery") {
            let early = Commit {
                identities: vec![(stream.clone(), identities(&events))],
                ..Commit::default()
            };
            let _ = self.ledger.commit(early, reading.created_ms).await;
        }
        let repeated = keep(identities(&events), known.iter().copied());
        self.unclaim(&repeated);
        counts.duplicates += repeated.len() as u64;
        events = keep(events, known.iter().map(|known| !known));
        let identities = identities(&events);
        let lag = reading.note(&events);
        let sent = events.len() as u64;
        let split: Arc<str> = reading.split.id.as_str().into();
        let batch = Batch {
            stream: stream.clone(),
            events,
            part,
        };
        let course = lock(&self.order).course.clone();
        self.window.show(&Point::Source, &batch);
        let (batch, dropped, mut rejected) = course.stage(batch, &split, &self.window).await;
        let route::Fan {
            batch,
            routed,
            unrouted,
        } = course.routes.route(batch, &split, &mut rejected);
        self.show(&batch, &routed);
        counts.dropped = dropped + unrouted;
        counts.dead_lettered = rejected.len() as u64;
        counts.delivered = sent.saturating_sub(counts.dropped + counts.dead_lettered);
        let batch = (!batch.events.is_empty()).then_some(batch);
        let item = Item {
            stream,
            split,
            batch,
            routed,
            course: Some(course),
            rejected,
            identities,
            lag,
            delivered: None,
            told: Told::of(reading.trace.as_ref()),
            counts,
            read_bytes,
            room,
        };
        self.hand_in(ticket, item);
    }

    /// Shows whoever watches what goes where.
    fn show(&self, batch: &Batch, routed: &[Option<route::Routed>]) {
        if !self.window.is_watched() {
            return;
        }
        self.window.show(&Point::Sinks, batch);
        for (sink, routed) in self.meters.sinks.all().iter().zip(routed) {
            let routed = routed.as_ref().map(|routed| &routed.batch);
            self.window.show_sink(&sink.name, routed);
        }
    }

    async fn pass_refused(&self, refused: Refused, told: Told, room: OwnedSemaphorePermit) {
        let mut fresh = [(refused.identity, true)];
        let (ticket, _) = self.claim(&mut fresh);
        let mut new = fresh[0].1;
        if new
            && self
                .known(&refused.stream, &[refused.identity])
                .await
                .contains(&true)
        {
            self.unclaim(&[refused.identity]);
            new = false;
        }
        let rejected = StreamCounts {
            rejected: u64::from(new),
            ..StreamCounts::default()
        };
        self.meters.streams.add(&refused.stream, rejected);
        let counts = Counts {
            read: 1,
            duplicates: u64::from(!new),
            dead_lettered: u64::from(new),
            ..Counts::default()
        };
        let (stream, read_bytes) = (refused.stream.clone(), refused.body.len() as u64);
        let split = refused.split.clone();
        let identities = if new {
            vec![refused.identity]
        } else {
            Vec::new()
        };
        let rejected = if new { vec![refused] } else { Vec::new() };
        let item = Item {
            stream,
            split,
            batch: None,
            routed: Vec::new(),
            course: None,
            rejected,
            identities,
            lag: None,
            delivered: None,
            told,
            counts,
            read_bytes,
            room,
        };
        self.hand_in(ticket, item);
    }

    async fn known(&self, stream: &StreamKey, identities: &[Identity]) -> Vec<bool> {
        if identities.is_empty() {
            return Vec::new();
        }
        let mut wait = RETRY.0;
        loop {
            match self.ledger.known(&stream.tenant, identities).await {
                Ok(known) => return known,
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be read; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Hands an item to the sinks and the committer when its turn comes.
    fn hand_in(&self, ticket: u64, item: Item) {
        let mut order = lock(&self.order);
        order.waiting.insert(ticket, item);
        loop {
            let turn = order.next_turn;
            let Some(mut item) = order.waiting.remove(&turn) else {
                return;
            };
            order.next_turn += 1;
            let given = !order.changing;
            item.told.handed(self.clock.now_ms());
            if let (true, Some(course)) = (given, &item.course)
                && !Arc::ptr_eq(course, &order.course)
            {
                // Sinks were exchanged since it was routed.
                let course = order.course.clone();
                item.routed = course.route_again(&mut item);
            }
            let routed = std::mem::take(&mut item.routed);
            let lanes = order.sinks.iter().zip(routed).filter(|_| given);
            let acks = lanes
                .filter_map(|(lane, routed)| commit::Awaited::give(lane, routed?, &self.totals))
                .collect();
            let job = commit::Job {
                ticket: turn,
                item,
                acks,
                given,
            };
            give(&order.commits, job);
        }
    }

    /// Tells of an attempt to read a split whoever traces it.
    pub(crate) fn tell(&self, reading: &Reading, outcome: Outcome, now_ms: i64) {
        if let Some(trace) = &reading.trace {
            let times = (reading.created_ms, reading.discovered_ms);
            self.tracer.offer(trace.spans(outcome, times, now_ms));
        }
    }

    fn unclaim(&self, identities: &[Identity]) {
        let mut order = lock(&self.order);
        for identity in identities {
            order.claims.remove(identity);
        }
    }
}

/// Puts a job into a queue that cannot be full, because every item holds at least [`ITEM_BYTES`] of the budget.
fn give<T>(queue: &mpsc::Sender<T>, job: T) {
    if queue.try_send(job).is_err() {
        // Only at the very end, when the tasks are gone: the item stays uncommitted and is read again.
        tracing::warn!("the line has stopped; an item stays uncommitted and will be read again");
    }
}

fn identities(events: &[Event]) -> Vec<Identity> {
    events.iter().map(|event| event.identity).collect()
}

fn keep<T>(items: Vec<T>, keep: impl Iterator<Item = bool>) -> Vec<T> {
    items
        .into_iter()
        .zip(keep)
        .filter_map(|(item, keep)| keep.then_some(item))
        .collect()
}
