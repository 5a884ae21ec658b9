//! The end of the line: waits for every sink's acknowledgement, in order, and commits.
//!
//! What is acknowledged while a commit waits for the disk goes into the next one, so a slow disk makes larger
//! commits, not more of them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use futures::future::try_join_all;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::deliver::Ack;
use super::reading::Reading;
use super::{Item, Line, RETRY, Totals, lock, refuse};
use crate::clock::SharedClock;
use crate::dead_letter::DeadLetters;
use crate::event::{Identity, Refused, StreamKey};
use crate::ledger::{Commit, Delivered, Ledger};
use crate::metrics::component::{Load, Meters};
use crate::metrics::lag::{EventLag, Lags};
use crate::metrics::streams::StreamCounts;
use crate::mutant;

/// Most identities in one commit: larger transactions only make the next one wait.
const COMMIT_IDENTITIES: usize = 50_000;

/// An item whose turn has come.
pub(super) struct Job {
    pub ticket: u64,
    pub item: Item,
    pub acks: Vec<Awaited>,
}

/// An acknowledgement that is waited for.
pub(super) struct Awaited {
    pub written: oneshot::Receiver<Ack>,
    /// The number of the sink.
    pub sink: usize,
    /// What was handed to it.
    pub load: Load,
}

impl Awaited {
    /// Waits; an error says that the sink's task is gone.
    async fn acknowledged(self, meters: &Meters) -> Result<(Ack, usize, Load), RecvError> {
        let _waiting = meters.sinks[self.sink].wait();
        Ok((self.written.await?, self.sink, self.load))
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
    pub async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let Some(job) = (match next.take() {
                Some(job) => Some(job),
                None => queue.recv().await,
            }) else {
                return;
            };
            let mut group = Group::default();
            if !group.add(job, &self.meters).await {
                return;
            }
            while group.identities.len() < COMMIT_IDENTITIES {
                let Ok(mut job) = queue.try_recv() else { break };
                if !acknowledged(&mut job) {
                    next = Some(job);
                    break;
                }
                if !group.add(job, &self.meters).await {
                    return;
                }
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
                        tracing::error!(%error, "dead letters cannot be kept; everything waits");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(RETRY.1);
                    }
                }
            };
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

/// Whether every sink has answered already; keeps the answers where they are.
fn acknowledged(job: &mut Job) -> bool {
    job.acks
        .iter()
        .all(|ack| !ack.written.is_empty() || ack.written.is_terminated())
}

/// All of them.
fn waited_for(acks: Vec<Awaited>) -> Vec<Awaited> {
    if mutant::is_on("commit_before_ack") {
        return Vec::new();
    }
    acks
}

impl Group {
    /// Adds an item once every sink has acknowledged it. False when a sink's task is gone: then nothing of the
    /// item may be committed, nor anything after it.
    async fn add(&mut self, job: Job, meters: &Meters) -> bool {
        let Job { ticket, item, acks } = job;
        let Item {
            stream,
            batch,
            routed: _,
            mut rejected,
            identities,
            lag,
            delivered,
            mut counts,
            read_bytes,
            room,
        } = item;
        let mut refused = BTreeSet::new();
        // All at once, so that each sink is seen to be waited for only while it is.
        let acks = waited_for(acks)
            .into_iter()
            .map(|ack| ack.acknowledged(meters));
        let Ok(acks) = try_join_all(acks).await else {
            return false;
        };
        for (ack, sink, load) in acks {
            let Some(batch) = &batch else { continue };
            let mut given_up = Load::default();
            for (index, reason) in ack.refused {
                let Some(event) = batch.events.get(index) else {
                    continue;
                };
                let by = format!("sink {}", ack.sink);
                rejected.push(refuse(&stream, &by, event.clone(), reason));
                refused.insert(index);
                given_up.events += 1;
                given_up.bytes += event.body.len() as u64;
            }
            meters.sinks[sink].acknowledged(load, given_up);
            if !mutant::is_on("positions_forgotten") {
                self.commit.positions.extend(ack.positions);
            }
        }
        // An event that two sinks refuse is one dead letter in the counts, and two in the file.
        counts.dead_lettered += refused.len() as u64;
        counts.delivered = counts.delivered.saturating_sub(refused.len() as u64);
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
        true
    }
}
