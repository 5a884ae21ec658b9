//! A ledger that forgets everything when it is dropped: for simulations and for tests of the engine.
//!
//! It keeps every promise of the trait except durability, in the plainest way there is, so it is also
//! the model that the `SQLite` ledger is compared with. `crash` does what a restart does.

mod progress;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::progress::{Backlog, Progress};
use super::{
    Commit, Counts, Found, Ledger, Loss, Setback, Split, SplitKey, StreamStatus, Taken, Trouble,
    day, day_is_over, earlier, forget_at_ms,
};
use crate::clock::millis;
use crate::error::Error;
use crate::event::{Identity, StreamKey};

/// A ledger in memory.
#[derive(Debug)]
pub struct MemoryLedger {
    horizon_ms: i64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: BTreeMap<StreamKey, Stream>,
    /// By tenant and day.
    identities: BTreeMap<(String, i64), HashSet<Identity>>,
    positions: BTreeMap<String, u64>,
    losses: Vec<Loss>,
    /// Splits in the order in which they were found: ties are broken by it.
    found: u64,
}

#[derive(Debug, Default)]
struct Stream {
    state: BTreeMap<String, Vec<u8>>,
    splits: BTreeMap<String, Entry>,
    watermark_ms: Option<i64>,
    advanced_ms: Option<i64>,
    listed_ms: Option<i64>,
    next_ms: Option<i64>,
    oldest_moved_ms: Option<i64>,
    expiring_moved_ms: Option<i64>,
    trouble: Option<Trouble>,
    counts: Counts,
    /// Whether the oldest split is served next, and not the newest.
    oldest_next: bool,
}

#[derive(Debug)]
struct Entry {
    split: Split,
    discovered_ms: i64,
    found: u64,
    phase: Phase,
    quarantined: bool,
    attempts: u32,
    not_before_ms: i64,
    settled_ms: i64,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    Waiting,
    Reading,
    Delivered,
    Lost,
}

impl MemoryLedger {
    /// An empty ledger that remembers identities for `horizon`.
    pub fn new(horizon: Duration) -> Self {
        Self {
            horizon_ms: millis(horizon),
            inner: Mutex::default(),
        }
    }

    /// What a restart does: splits that were being read are to be read again.
    pub fn crash(&self) {
        for stream in self.lock().streams.values_mut() {
            stream.oldest_next = false;
            for entry in stream.splits.values_mut() {
                if entry.phase == Phase::Reading {
                    entry.phase = Phase::Ready;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can fail half-way, so a panic elsewhere leaves nothing half-done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn declare(&mut self, loss: Loss) {
        let same = |known: &Loss| {
            Loss {
                declared_ms: loss.declared_ms,
                ..known.clone()
            } == loss
        };
        if !self.losses.iter().any(same) {
            self.losses.push(loss);
        }
    }
}

impl Stream {
    fn find(&mut self, split: Split, found: u64, now_ms: i64) -> bool {
        if self.splits.contains_key(&split.id) {
            return false;
        }
        let entry = Entry {
            discovered_ms: now_ms,
            found,
            phase: Phase::Ready,
            quarantined: false,
            attempts: 0,
            not_before_ms: 0,
            settled_ms: 0,
            reason: String::new(),
            split,
        };
        self.splits.insert(entry.split.id.clone(), entry);
        true
    }

    fn take(&mut self, limit: usize, urgent_ms: i64, now_ms: i64) -> Vec<String> {
        for entry in self.splits.values_mut() {
            if entry.phase == Phase::Waiting && entry.not_before_ms <= now_ms {
                entry.phase = Phase::Ready;
            }
        }
        let ready = || {
            self.splits
                .values()
                .filter(|entry| entry.phase == Phase::Ready)
        };
        let horizon_ms = now_ms.saturating_add(urgent_ms);
        let mut urgent: Vec<_> = ready()
            .filter_map(|entry| Some((entry.split.expires_ms?, entry.found, &entry.split.id)))
            .filter(|(expires_ms, ..)| *expires_ms <= horizon_ms)
            .collect();
        urgent.sort_unstable();
        let mut ids: Vec<String> = urgent
            .into_iter()
            .take(limit)
            .map(|(.., id)| id.clone())
            .collect();
        let chosen: BTreeSet<_> = ids.iter().collect();
        let mut rest: Vec<_> = ready()
            .filter(|entry| !chosen.contains(&entry.split.id))
            .map(|entry| (entry.split.created_ms, entry.found, entry.split.id.clone()))
            .collect();
        rest.sort_unstable();
        let mut rest = rest.into_iter();
        while ids.len() < limit {
            let next = if self.oldest_next {
                rest.next()
            } else {
                rest.next_back()
            };
            let Some((.., id)) = next else { break };
            ids.push(id);
            self.oldest_next = !self.oldest_next;
        }
        ids
    }

    fn status(&self) -> StreamStatus {
        let mut status = StreamStatus {
            watermark_ms: self.watermark_ms,
            counts: self.counts,
            listed_ms: self.listed_ms,
            trouble: self.trouble.clone(),
            ..StreamStatus::default()
        };
        for entry in self.splits.values() {
            match entry.phase {
                Phase::Ready | Phase::Waiting if entry.quarantined => status.quarantined += 1,
                Phase::Ready | Phase::Waiting => status.discovered += 1,
                Phase::Reading => status.reading += 1,
                Phase::Delivered => status.delivered += 1,
                Phase::Lost => {}
            }
            if matches!(entry.phase, Phase::Delivered | Phase::Lost) {
                continue;
            }
            let created_ms = Some(entry.split.created_ms);
            status.oldest_undelivered_ms = earlier(status.oldest_undelivered_ms, created_ms);
            status.next_expiry_ms = earlier(status.next_expiry_ms, entry.split.expires_ms);
            if entry.phase == Phase::Waiting {
                status.next_due_ms = earlier(status.next_due_ms, Some(entry.not_before_ms));
            }
        }
        status
    }
}

impl Entry {
    fn taken(&self) -> Taken {
        Taken {
            split: self.split.clone(),
            discovered_ms: Some(self.discovered_ms),
            attempts: self.attempts,
            quarantined: self.quarantined,
        }
    }

    fn wait(&mut self, not_before_ms: i64, reason: String, quarantined: bool) {
        self.phase = Phase::Waiting;
        self.attempts += 1;
        self.not_before_ms = not_before_ms;
        self.reason = reason;
        self.quarantined = quarantined;
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn state(&self, stream: &StreamKey) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        Ok(self
            .lock()
            .streams
            .get(stream)
            .map(|stream| stream.state.clone())
            .unwrap_or_default())
    }

    async fn discovered(
        &self,
        stream: &StreamKey,
        found: Found,
        now_ms: i64,
    ) -> Result<u64, Error> {
        let mut inner = self.lock();
        let mut order = inner.found;
        let kept = inner.streams.entry(stream.clone()).or_default();
        let (mut new, lists) = (0, !found.is_only_state());
        for split in found.splits {
            order += 1;
            new += u64::from(kept.find(split, order, now_ms));
        }
        for (key, value) in found.state {
            match value {
                Some(value) => kept.state.insert(key, value),
                None => kept.state.remove(&key),
            };
        }
        if found.watermark_ms > kept.watermark_ms {
            kept.watermark_ms = found.watermark_ms;
            kept.advanced_ms = Some(now_ms);
        }
        if lists {
            kept.listed_ms = Some(now_ms);
            kept.next_ms = found.next_ms;
            kept.trouble = None;
        }
        inner.found = order;
        for gap in found.gaps {
            inner.declare(Loss {
                stream: stream.clone(),
                declared_ms: now_ms,
                ..gap
            });
        }
        Ok(new)
    }

    async fn troubled(&self, stream: &StreamKey, trouble: Trouble) -> Result<(), Error> {
        let mut inner = self.lock();
        let kept = inner.streams.entry(stream.clone()).or_default();
        let earlier = kept.trouble.take();
        let since_ms = earlier
            .filter(|earlier| earlier.kind == trouble.kind)
            .map_or(trouble.since_ms, |earlier| earlier.since_ms);
        kept.trouble = Some(Trouble {
            since_ms,
            ..trouble
        });
        Ok(())
    }

    async fn take(
        &self,
        stream: &StreamKey,
        limit: usize,
        urgent_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Taken>, Error> {
        let mut inner = self.lock();
        let Some(stream) = inner.streams.get_mut(stream) else {
            return Ok(Vec::new());
        };
        let mut taken = Vec::new();
        for id in stream.take(limit, urgent_ms, now_ms) {
            if let Some(entry) = stream.splits.get_mut(&id) {
                entry.phase = Phase::Reading;
                taken.push(entry.taken());
            }
        }
        Ok(taken)
    }

    async fn setback(&self, split: &SplitKey, setback: Setback, now_ms: i64) -> Result<(), Error> {
        let mut inner = self.lock();
        let stream = inner.streams.get_mut(&split.stream);
        let Some(entry) = stream.and_then(|stream| stream.splits.get_mut(&split.id)) else {
            return Ok(());
        };
        if entry.phase != Phase::Reading {
            return Ok(());
        }
        match setback {
            Setback::Retry {
                not_before_ms,
                reason,
            } => entry.wait(not_before_ms, reason, false),
            Setback::Quarantine {
                not_before_ms,
                reason,
            } => entry.wait(not_before_ms, reason, true),
            Setback::Released => entry.phase = Phase::Ready,
            Setback::Lost { reason } => {
                entry.phase = Phase::Lost;
                entry.settled_ms = now_ms;
                entry.reason.clone_from(&reason);
                let loss = Loss {
                    stream: split.stream.clone(),
                    split: Some(split.id.clone()),
                    since_ms: entry.split.created_ms,
                    until_ms: entry.split.created_ms,
                    reason,
                    declared_ms: now_ms,
                };
                inner.declare(loss);
            }
        }
        Ok(())
    }

    async fn known(&self, tenant: &str, identities: &[Identity]) -> Result<Vec<bool>, Error> {
        let inner = self.lock();
        let days: Vec<_> = inner
            .identities
            .iter()
            .filter(|((owner, _), _)| owner == tenant)
            .map(|(_, day)| day)
            .collect();
        Ok(identities
            .iter()
            .map(|key| days.iter().any(|day| day.contains(key)))
            .collect())
    }

    async fn commit(&self, commit: Commit, now_ms: i64) -> Result<(), Error> {
        let mut inner = self.lock();
        for (stream, identities) in commit.identities {
            let key = (stream.tenant.to_string(), day(now_ms));
            inner.identities.entry(key).or_default().extend(identities);
        }
        let mut first: BTreeMap<StreamKey, (i64, Option<i64>)> = BTreeMap::new();
        for delivered in commit.delivered {
            let SplitKey { stream: key, id } = delivered.split;
            let stream = inner.streams.get_mut(&key);
            let entry = stream.and_then(|stream| stream.splits.get_mut(&id));
            if let Some(entry) = entry.filter(|entry| entry.phase != Phase::Delivered) {
                entry.phase = Phase::Delivered;
                entry.settled_ms = now_ms;
                let Split {
                    created_ms,
                    expires_ms,
                    ..
                } = entry.split;
                let first = first.entry(key).or_insert((created_ms, expires_ms));
                *first = (first.0.min(created_ms), earlier(first.1, expires_ms));
            }
        }
        for (stream, first) in first {
            inner
                .streams
                .entry(stream)
                .or_default()
                .moved(first, now_ms);
        }
        inner.positions.extend(commit.positions);
        for (stream, counts) in commit.counts {
            inner.streams.entry(stream).or_default().counts += counts;
        }
        Ok(())
    }

    async fn position(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(self.lock().positions.get(name).copied())
    }

    async fn status(&self, stream: &StreamKey) -> Result<StreamStatus, Error> {
        let inner = self.lock();
        let mut status = inner
            .streams
            .get(stream)
            .map(Stream::status)
            .unwrap_or_default();
        status.lost = inner
            .losses
            .iter()
            .filter(|loss| loss.stream == *stream)
            .count() as u64;
        Ok(status)
    }

    async fn progress(&self) -> Result<Vec<(StreamKey, Progress)>, Error> {
        let inner = self.lock();
        let streams = inner.streams.iter();
        Ok(streams
            .map(|(key, stream)| (key.clone(), stream.progress()))
            .collect())
    }

    async fn backlog(&self) -> Result<Vec<(StreamKey, Backlog)>, Error> {
        let inner = self.lock();
        let streams = inner.streams.iter();
        Ok(streams
            .map(|(key, stream)| (key.clone(), stream.backlog()))
            .filter(|(_, backlog)| *backlog != Backlog::default())
            .collect())
    }

    async fn streams(&self) -> Result<Vec<StreamKey>, Error> {
        Ok(self.lock().streams.keys().cloned().collect())
    }

    async fn losses(&self, limit: usize) -> Result<Vec<Loss>, Error> {
        Ok(self
            .lock()
            .losses
            .iter()
            .rev()
            .take(limit)
            .cloned()
            .collect())
    }

    async fn quarantine(&self, limit: usize) -> Result<Vec<(SplitKey, Taken, String)>, Error> {
        let inner = self.lock();
        let kept = inner
            .streams
            .iter()
            .flat_map(|(stream, kept)| kept.splits.values().map(move |entry| (stream, entry)));
        Ok(kept
            .filter(|(_, entry)| {
                entry.quarantined && !matches!(entry.phase, Phase::Delivered | Phase::Lost)
            })
            .map(|(stream, entry)| {
                let key = SplitKey {
                    stream: stream.clone(),
                    id: entry.split.id.clone(),
                };
                (key, entry.taken(), entry.reason.clone())
            })
            .take(limit)
            .collect())
    }

    async fn touched(&self) -> Result<i64, Error> {
        // Nobody else can reach it.
        Ok(0)
    }

    async fn prune(&self, now_ms: i64) -> Result<(), Error> {
        let mut inner = self.lock();
        inner
            .identities
            .retain(|(_, day), _| !day_is_over(*day, self.horizon_ms, now_ms));
        for stream in inner.streams.values_mut() {
            stream.splits.retain(|_, entry| {
                !matches!(entry.phase, Phase::Delivered | Phase::Lost)
                    || forget_at_ms(entry.split.expires_ms, entry.settled_ms, self.horizon_ms)
                        > now_ms
            });
        }
        Ok(())
    }
}
