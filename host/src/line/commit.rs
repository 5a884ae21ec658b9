//! The end of the line: waits for every sink's acknowledgement, in order, and commits.
//!
//! What is acknowledged while a commit waits for the disk goes into the next one, so a slow disk makes larger
//! commits, not more of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::change::Request;
use super::deliver::{Ack, Lane, Task};
use super::reading::Reading;
use super::route::Routed;
use super::{Item, Line, RETRY, Totals, lock};
use crate::clock::SharedClock;
use crate::dead_letter::DeadLetters;
use crate::event::{Identity, Refused, StreamKey};
use crate::ledger::{Commit, Delivered, Ledger};
use crate::metrics::component::{Load, Meters, SinkMeter};
use crate::metrics::lag::{EventLag, Lags};
use crate::metrics::streams::StreamCounts;
use crate::mutant;
use crate::telemetry::trace::Outcome;

/// Most identities in one commit: larger transactions only make the next one wait.
const COMMIT_IDENTITIES: usize = 50_000;

/// Longest wait before dead letters are tried again: who has made room wants to see it go on.
const DEAD_LETTERS_AGAIN: Duration = Duration::from_secs(2);

/// How often it is mentioned that they cannot be kept: in seconds that are a multiple of this.
const DEAD_LETTERS_LOGGED: Duration = Duration::from_secs(30);

/// Items in the order of their tickets.
pub(super) type Queue = mpsc::Receiver<Job>;

/// An item whose turn has come.
pub(super) struct Job {
    pub ticket: u64,
    pub item: Item,
    pub acks: Vec<Awaited>,
    /// Whether it was handed to its sinks.
    pub given: bool,
}

/// An acknowledgement that is waited for.
pub(super) struct Awaited {
    written: oneshot::Receiver<Ack>,
    ack: Option<Ack>,
    /// The number of the sink's lane.
    pub lane: u64,
    meter: Arc<SinkMeter>,
    /// What was handed to it.
    load: Load,
}

impl Awaited {
    /// Hands a batch to a sink; `None` where no acknowledgement has to be waited for.
    pub fn give(lane: &Lane, routed: Routed, totals: &Totals) -> Option<Self> {
        let load = Load {
            events: routed.batch.events.len() as u64,
            bytes: routed.batch.bytes() as u64,
        };
        let written = lane.give(routed, totals)?;
        lane.meter.accepted(load);
        Some(Self {
            written,
            ack: None,
            lane: lane.number,
            meter: lane.meter.clone(),
            load,
        })
    }

    /// Waits; an error says that the sink's task is gone. Can be given up and begun again.
    async fn wait(&mut self) -> Result<(), RecvError> {
        if self.ack.is_none() {
            let _waiting = self.meter.wait();
            self.ack = Some((&mut self.written).await?);
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.ack.is_some() || !self.written.is_empty() || self.written.is_terminated()
    }

    /// The sink never answers: what was handed to it is handed to another.
    pub fn give_up(self) {
        self.meter.withdrawn(self.load);
    }
}

impl Job {
    /// Waits for every sink. False when a sink's task is gone.
    async fn acknowledged(&mut self) -> bool {
        if mutant::is_on("commit_before_ack") {
            return true;
        }
        // All at once, so that each sink is seen to be waited for only while it is.
        let acks = self.acks.iter_mut().map(Awaited::wait);
        try_join_all(acks).await.is_ok()
    }
}

pub(super) struct Committer {
    pub ledger: Arc<dyn Ledger>,
    pub dead_letter: DeadLetters,
    pub clock: SharedClock,
    pub totals: Arc<Totals>,
    pub lags: Arc<Lags>,
    pub meters: Arc<Meters>,
    pub line: Weak<Line>,
    pub done: watch::Sender<u64>,
    /// Of the sinks, by the numbers of their lanes.
    pub tasks: BTreeMap<u64, Task>,
}

/// Acknowledged items on their way into one transaction.
#[derive(Default)]
struct Group {
    commit: Commit,
    refused: Vec<Refused>,
    identities: Vec<Identity>,
    lags: Vec<(StreamKey, EventLag)>,
    counts: Vec<(StreamKey, StreamCounts)>,
    splits: Vec<Arc<Reading>>,
    rooms: Vec<tokio::sync::OwnedSemaphorePermit>,
    bytes: u64,
    end: u64,
}

impl Committer {
    /// Commits until the line is gone, and exchanges sinks in between.
    pub async fn run(mut self, mut queue: Queue, mut changes: mpsc::Receiver<Request>) {
        self.commit_all(&mut queue, &mut changes).await;
        drop((queue, changes));
        // Those without acknowledgements may still have something to send.
        for task in self.tasks.into_values() {
            let _ = task.await;
        }
    }

    async fn commit_all(&mut self, queue: &mut Queue, changes: &mut mpsc::Receiver<Request>) {
        let mut pending = VecDeque::new();
        loop {
            let mut job = match pending.pop_front() {
                Some(job) => job,
                None => tokio::select! {
                    biased;
                    Some(request) = changes.recv() => {
                        self.change(request, &mut pending, queue).await;
                        continue;
                    }
                    job = queue.recv() => match job {
                        Some(job) => job,
                        None => return,
                    },
                },
            };
            let acknowledged = tokio::select! {
                biased;
                Some(request) = changes.recv() => {
                    pending.push_front(job);
                    self.change(request, &mut pending, queue).await;
                    continue;
                }
                acknowledged = job.acknowledged() => acknowledged,
            };
            if !acknowledged {
                // Nothing of the item may be committed, nor anything after it.
                return;
            }
            let mut group = Group::default();
            group.add(job, self.clock.now_ms());
            while group.identities.len() < COMMIT_IDENTITIES {
                let next = pending.pop_front().or_else(|| queue.try_recv().ok());
                let Some(mut job) = next else { break };
                if !job.acks.iter().all(Awaited::is_there) {
                    pending.push_front(job);
                    break;
                }
                if !job.acknowledged().await {
                    return;
                }
                group.add(job, self.clock.now_ms());
            }
            self.commit(group).await;
        }
    }

    /// Dead letters first, the ledger second: what the ledger says is kept is kept.
    async fn commit(&mut self, mut group: Group) {
        let mut wait = RETRY.0;
        if mutant::is_on("letters_after_commit") {
            let _ = self
                .ledger
                .commit(std::mem::take(&mut group.commit), self.clock.now_ms())
                .await;
        }
        if !group.refused.is_empty() && !mutant::is_on("letters_dropped") {
            let positions = loop {
                match self.dead_letter.append(&group.refused).await {
                    Ok(positions) => break positions,
                    Err(error) => {
                        let (since, news) = self.meters.dead_letters.ails(&error.what);
                        if news
                            || since
                                .as_secs()
                                .is_multiple_of(DEAD_LETTERS_LOGGED.as_secs())
                        {
                            tracing::error!(alarm = "dead_letters", %error, ?since,
                                "dead letters cannot be kept; everything waits until they can");
                        }
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(DEAD_LETTERS_AGAIN);
                    }
                }
            };
            if let Some(after) = self.meters.dead_letters.is_well() {
                tracing::info!(?after, "dead letters can be kept again");
            }
            wait = RETRY.0;
            group.commit.positions.extend(positions);
        }
        let committed_ms = loop {
            let now_ms = self.clock.now_ms();
            let Err(error) = self.ledger.commit(group.commit.clone(), now_ms).await else {
                break now_ms;
            };
            tracing::error!(%error, "the ledger cannot be written; everything waits");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        };
        self.settle(group, committed_ms);
    }

    fn settle(&self, group: Group, committed_ms: i64) {
        if let Some(line) = self.line.upgrade() {
            line.unclaim(&group.identities);
            for reading in &group.splits {
                line.tell(reading, Outcome::Delivered, committed_ms);
            }
        }
        let mut totals = lock(&self.totals.counts);
        for (_, counts) in &group.commit.counts {
            *totals += *counts;
        }
        drop(totals);
        let splits = group.splits.iter().map(|reading| {
            let stream = reading.split.stream.clone();
            (stream, reading.parts(committed_ms))
        });
        self.lags.add(group.lags, splits);
        for (stream, counts) in &group.counts {
            self.meters.streams.add(stream, *counts);
        }
        self.totals.bytes.fetch_add(group.bytes, Ordering::Relaxed);
        self.totals
            .splits
            .fetch_add(group.commit.delivered.len() as u64, Ordering::Relaxed);
        self.done.send_replace(group.end + 1);
    }
}

impl Group {
    /// Adds an item that every sink has acknowledged.
    fn add(&mut self, job: Job, now_ms: i64) {
        let Job {
            ticket, item, acks, ..
        } = job;
        let Item {
            stream,
            split,
            batch,
            routed: _,
            course: _,
            mut rejected,
            identities,
            lag,
            delivered,
            told,
            mut counts,
            read_bytes,
            room,
        } = item;
        let mut refused = BTreeSet::new();
        for Awaited {
            ack, meter, load, ..
        } in acks
        {
            let Some(ack) = ack else { continue };
            let Some(batch) = &batch else { continue };
            let mut given_up = Load::default();
            for (index, reason) in ack.refused {
                let Some(event) = batch.events.get(index) else {
                    continue;
                };
                let by = format!("sink {}", ack.sink);
                let place = (&stream, &split);
                rejected.push(Refused::event(place, &by, event.clone(), reason));
                refused.insert(index);
                given_up.events += 1;
                given_up.bytes += event.body.len() as u64;
            }
            meter.acknowledged(load, given_up);
            told.acknowledged(&ack.sink, now_ms, load, given_up);
            if !mutant::is_on("positions_forgotten") {
                self.commit.positions.extend(ack.positions);
            }
        }
        // An event that two sinks refuse is one dead letter in the counts, and two in the file.
        counts.dead_lettered += refused.len() as u64;
        counts.delivered = counts.delivered.saturating_sub(refused.len() as u64);
        told.passed(counts, read_bytes);
        let delivered_bytes = batch.as_ref().map_or(0, |batch| batch.bytes() as u64);
        self.bytes += delivered_bytes;
        let passed = StreamCounts {
            events: counts,
            read_bytes,
            delivered_bytes,
            delivered: u64::from(delivered.is_some()),
            ..StreamCounts::default()
        };
        self.counts.push((stream.clone(), passed));
        self.refused.append(&mut rejected);
        self.commit.counts.push((stream.clone(), counts));
        self.identities.extend_from_slice(&identities);
        self.lags.extend(lag.map(|lag| (stream.clone(), lag)));
        self.commit.identities.push((stream, identities));
        self.commit
            .delivered
            .extend(delivered.as_deref().map(|reading| Delivered {
                split: reading.split.clone(),
                event_ms: reading.earliest_ms(),
            }));
        self.splits.extend(delivered);
        self.rooms.push(room);
        self.end = ticket;
    }
}
