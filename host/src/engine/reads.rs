//! One stream's reading side: takes splits that are due, reads them side by side, settles what failed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use super::rfc3339;
use super::storm::Storm;
use super::{Gate, ONCE_FAILURES, ONCE_PATIENCE, Shared};
use crate::clock::millis;
use crate::event::{Batch, Event, Part, StreamKey};
use crate::ledger::{Loss, Setback, SplitKey, StreamStatus, Taken};
use crate::line::Line;
use crate::line::reading::Reading;
use crate::metrics::streams::{ErrorType, StreamCounts};
use crate::mutant;
use crate::schedule::{self, Pause, QUARANTINE_AFTER};
use crate::source::{Closed, Failure, Output, Stream};
use crate::telemetry::trace::Outcome;

/// Splits taken from the ledger at a time. Enough for a few round trips of every slot, few enough that a
/// split near expiry found meanwhile need not wait long.
const TAKE: usize = 128;

/// Splits that expire within this time are read before all others.
const URGENT_MS: i64 = 12 * 60 * 60 * 1_000;

/// How often a stream without work looks again, in case a wake-up was for work that is not due yet.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The same for one that has nothing it could be woken for: what is found, and what people do, is told.
const LOOK_AT_NOTHING: Duration = Duration::from_mins(5);

/// The ids of splits on their way between `reading` and whatever becomes of them.
type Unsettled = Mutex<BTreeSet<String>>;

pub(super) struct Reads {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    key: StreamKey,
    found: Arc<Notify>,
    listed: watch::Receiver<bool>,
    ready: VecDeque<Taken>,
    running: JoinSet<()>,
    /// Splits that a task reads and has not settled.
    unsettled: Arc<Unsettled>,
    /// Closed while this stream's content cannot be read.
    gate: Arc<Gate>,
    storm: Arc<Storm>,
    touched: watch::Receiver<i64>,
}

impl Reads {
    pub fn new(
        shared: Arc<Shared>,
        stream: Stream,
        key: StreamKey,
        found: Arc<Notify>,
        listed: watch::Receiver<bool>,
    ) -> Self {
        Self {
            touched: shared.touched.clone(),
            shared,
            stream: Arc::new(stream),
            key,
            found,
            listed,
            ready: VecDeque::new(),
            running: JoinSet::new(),
            unsettled: Arc::default(),
            gate: Arc::default(),
            storm: Arc::default(),
        }
    }

    /// Reads until the run ends or, with `once`, until nothing is left that could be read now.
    pub async fn run(mut self) {
        while self.shared.unpaused().await && self.shared.pass(&self.gate).await {
            while self.running.try_join_next().is_some() {}
            if self.ready.is_empty() {
                self.refill().await;
            }
            let Some(taken) = self.ready.pop_front() else {
                if self.wait_for_work().await {
                    continue;
                }
                break;
            };
            let stop = self.shared.stop.clone();
            // The semaphore is fair, so the tenant's streams get slots in turn.
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                slot = self.shared.slots.clone().acquire_owned() => slot.ok(),
            };
            let Some(slot) = slot else {
                self.ready.push_front(taken);
                break;
            };
            let read = Read {
                shared: self.shared.clone(),
                stream: self.stream.clone(),
                key: self.key.clone(),
                found: self.found.clone(),
                gate: self.gate.clone(),
                storm: self.storm.clone(),
                unsettled: self.unsettled.clone(),
            };
            lock(&self.unsettled).insert(taken.split.id.clone());
            self.running.spawn(read.run(taken, slot));
        }
        let unread: Vec<_> = self.ready.drain(..).map(|taken| taken.split.id).collect();
        self.put_back(unread).await;
        let running = async { while self.running.join_next().await.is_some() {} };
        self.shared.unless_stopped(running).await;
        // What is given up here waits for the network or for room; whoever comes next reads it again.
        self.running.shutdown().await;
        let unsettled = std::mem::take(&mut *lock(&self.unsettled));
        self.put_back(unsettled).await;
    }

    async fn refill(&mut self) {
        let engine = &self.shared.engine;
        let taken = engine
            .ledger
            .take(&self.key, TAKE, URGENT_MS, engine.clock.now_ms())
            .await;
        match taken {
            Ok(taken) => self.ready.extend(taken),
            Err(error) => tracing::error!(%error, "the ledger cannot be read; trying again"),
        }
    }

    /// Waits until there may be something to read. False when there will be nothing more.
    async fn wait_for_work(&mut self) -> bool {
        let engine = &self.shared.engine;
        // Whether all is listed is asked before the ledger is: what is found later is then not missed.
        let listed = *self.listed.borrow();
        let asked = engine.ledger.status(&self.key).await;
        let nothing =
            |status: &StreamStatus| status.discovered + status.reading + status.quarantined == 0;
        let look_again = if asked.as_ref().is_ok_and(nothing) {
            LOOK_AT_NOTHING
        } else {
            LOOK_AGAIN
        };
        let status = asked.unwrap_or_default();
        let idle = self.running.is_empty();
        if engine.once && listed && idle && status.discovered == 0 {
            if status.quarantined > 0 {
                self.shared.incomplete(format!(
                    "{}: {} split(s) in quarantine; they are kept and tried until they expire",
                    self.key, status.quarantined
                ));
            }
            return false;
        }
        let wait_ms = status
            .next_due_ms
            .map_or(0, |due| due - engine.clock.now_ms());
        if engine.once && listed && idle && wait_ms > millis(ONCE_PATIENCE) {
            let (count, until) = (status.discovered, rfc3339(engine.clock.now_ms() + wait_ms));
            let sentence = format!("{}: {count} split(s) wait until {until}", self.key);
            self.shared.incomplete(sentence);
            return false;
        }
        let due = status.next_due_ms.map_or(look_again, |due| {
            let wait = due.saturating_sub(engine.clock.now_ms());
            Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(look_again)
        });
        if status.discovered > 0 && due.is_zero() {
            return true;
        }
        tokio::select! {
            biased;
            () = self.found.notified() => {}
            Ok(()) = self.touched.changed() => {}
            () = tokio::time::sleep(due.max(Duration::from_millis(10))) => {}
            Some(_) = self.running.join_next(), if !idle => {}
            () = self.shared.stop.cancelled() => return false,
        }
        true
    }

    /// What was taken and is not delivered goes back, so that whoever comes next need not wait for the clean-up of a
    /// restart.
    async fn put_back(&self, ids: impl IntoIterator<Item = String>) {
        let engine = &self.shared.engine;
        for id in ids {
            let key = SplitKey {
                stream: self.key.clone(),
                id,
            };
            let put = engine
                .ledger
                .setback(&key, Setback::Released, engine.clock.now_ms())
                .await;
            if let Err(error) = put {
                tracing::warn!(%error, "a split stays marked as being read until the next start");
            }
        }
    }
}

/// One split being read.
struct Read {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    key: StreamKey,
    found: Arc<Notify>,
    gate: Arc<Gate>,
    storm: Arc<Storm>,
    unsettled: Arc<Unsettled>,
}

impl Read {
    async fn run(self, taken: Taken, slot: OwnedSemaphorePermit) {
        let reading = self.begin(&taken);
        let Taken {
            split,
            attempts,
            quarantined,
            ..
        } = taken;
        let engine = &self.shared.engine;
        let output = Arc::new(LineOutput {
            reading: reading.clone(),
            line: engine.line.clone(),
            closed: self.shared.closed.clone(),
        });
        let read = self
            .shared
            .source
            .read(&self.stream, &split, attempts, output)
            .await;
        drop(slot);
        if let Some(trace) = &reading.trace {
            trace.ended(engine.clock.now_ms());
        }
        match read {
            Ok(()) => {
                self.shared.well();
                self.storm.over();
                // Refused only when the run is over; the split is then read again by the next one.
                let _ = engine.line.finish(reading).await;
                lock(&self.unsettled).remove(&split.id);
            }
            Err(_) if mutant::is_on("failed_read_is_delivered") => {
                let _ = engine.line.finish(reading).await;
            }
            Err(failure) => {
                self.shared
                    .count(&self.key, StreamCounts::failure(&failure));
                let setback = self.judge(&failure, attempts + 1, quarantined);
                self.tell(&reading, &failure, &setback);
                if let Setback::Lost { reason } = &setback {
                    self.shared.declare(&Loss {
                        stream: self.key.clone(),
                        split: Some(split.id.clone()),
                        since_ms: split.created_ms,
                        until_ms: split.created_ms,
                        reason: reason.clone(),
                        declared_ms: engine.clock.now_ms(),
                    });
                }
                if self.settle(&reading.split, setback).await {
                    lock(&self.unsettled).remove(&split.id);
                }
                self.found.notify_one();
            }
        }
    }

    fn begin(&self, taken: &Taken) -> Arc<Reading> {
        let engine = &self.shared.engine;
        let reading = Reading::new(&self.key, taken);
        let (tracer, now_ms) = (engine.line.tracer(), engine.clock.now_ms());
        let trace = tracer.begin(&reading.split, taken.attempts, now_ms);
        Arc::new(reading.traced(trace))
    }

    /// Tells of a failed read whoever traces it.
    fn tell(&self, reading: &Reading, failure: &Failure, setback: &Setback) {
        let engine = &self.shared.engine;
        let error = ErrorType::of(failure).map_or("cancelled", ErrorType::name);
        let outcome = match setback {
            Setback::Lost { .. } => Outcome::Lost(error),
            _ => Outcome::Failed(error),
        };
        engine.line.tell(reading, outcome, engine.clock.now_ms());
    }

    /// What a failed read means for its split, its stream and its tenant.
    fn judge(&self, failure: &Failure, attempts: u32, quarantined: bool) -> Setback {
        let shared = &self.shared;
        let reason = failure.to_string();
        let (wait, gate) = match schedule::pause(failure, attempts.saturating_sub(1)) {
            Pause::None => (None, &*self.gate),
            Pause::Stream(wait) => (Some(wait), &*self.gate),
            Pause::Tenant(wait) => (Some(wait), &shared.gate),
        };
        if let Some(wait) = wait {
            // Not this split's fault: its attempts do not count, and whatever shares the trouble waits too.
            shared.report(Some(&self.key), failure);
            if shared.engine.once && wait > ONCE_PATIENCE {
                shared.incomplete(format!("{}: {failure}", self.key));
                gate.give_up();
            } else {
                gate.close(wait);
            }
            return Setback::Released;
        }
        match failure {
            Failure::SplitLost(_) => return Setback::Lost { reason },
            Failure::Cancelled => return Setback::Released,
            _ => {}
        }
        // One that is set aside is tried slowly whatever the others do, and says nothing about them.
        if !quarantined && let Some(blows) = self.storm.blow() {
            self.wait_out(failure, blows);
            return Setback::Released;
        }
        self.retry(failure, attempts, quarantined)
    }

    /// Nothing of this stream can be read: the stream waits, and no split's attempts count.
    fn wait_out(&self, failure: &Failure, blows: u32) {
        self.shared.report(Some(&self.key), failure);
        if self.gate.wait().is_some() {
            return;
        }
        self.storm.wait();
        if self.shared.engine.once && blows >= ONCE_FAILURES {
            self.shared.incomplete(format!("{}: {failure}", self.key));
            self.gate.give_up();
        } else {
            self.gate.close(schedule::storm_wait(blows));
        }
    }

    /// A failure of the split itself: again soon, and after too many set aside.
    fn retry(&self, failure: &Failure, attempts: u32, quarantined: bool) -> Setback {
        let shared = &self.shared;
        let reason = failure.to_string();
        if mutant::is_on("lost_at_first_failure") {
            return Setback::Lost { reason };
        }
        if attempts < QUARANTINE_AFTER && !quarantined {
            tracing::debug!(place = %self.key, attempts, %reason, "a split will be read again");
            let after = match failure {
                Failure::Retry { after, .. } => *after,
                _ => None,
            };
            let not_before_ms = shared.later(schedule::split_wait(attempts, after));
            return Setback::Retry {
                not_before_ms,
                reason,
            };
        }
        if !quarantined {
            tracing::error!(tenant = %shared.id, stream = %self.key.stream, attempts, %reason,
                "a split is set aside; it is kept and tried slowly until it expires");
            shared.change(|outcome| outcome.quarantined += 1);
            if mutant::is_on("quarantine_blocks") {
                self.gate.give_up();
            }
            let aside = StreamCounts {
                quarantined: 1,
                ..StreamCounts::default()
            };
            shared.count(&self.key, aside);
        }
        let not_before_ms = shared.later(schedule::quarantine_wait(attempts));
        Setback::Quarantine {
            not_before_ms,
            reason,
        }
    }

    /// Writes down what becomes of a split; false when the run stops before that can be done.
    async fn settle(&self, key: &SplitKey, setback: Setback) -> bool {
        let engine = &self.shared.engine;
        let mut failures = 0;
        while let Err(error) = engine
            .ledger
            .setback(key, setback.clone(), engine.clock.now_ms())
            .await
        {
            tracing::error!(%error, "the ledger cannot be written; trying again");
            failures += 1;
            let wait = schedule::split_wait(failures, None);
            if !self.shared.sleep(wait).await {
                return false;
            }
        }
        true
    }
}

fn lock(unsettled: &Unsettled) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
    unsettled.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands one split's events to the line.
struct LineOutput {
    reading: Arc<Reading>,
    line: Arc<Line>,
    closed: tokio_util::sync::CancellationToken,
}

#[async_trait]
impl Output for LineOutput {
    async fn emit(&self, events: Vec<Event>) -> Result<(), Closed> {
        if mutant::is_on("closed_is_taken") && self.draining() {
            return Ok(());
        }
        let batch = Batch {
            stream: self.reading.split.stream.clone(),
            events,
            part: Part::default(),
        };
        tokio::select! {
            biased;
            accepted = self.line.accept(batch, &self.reading) => accepted,
            () = self.closed.cancelled() => Err(Closed),
        }
    }

    async fn reject(&self, body: Bytes, reason: String) -> Result<(), Closed> {
        tokio::select! {
            biased;
            kept = self.line.reject(&self.reading, body, reason) => kept,
            () = self.closed.cancelled() => Err(Closed),
        }
    }

    fn draining(&self) -> bool {
        self.closed.is_cancelled()
    }
}
