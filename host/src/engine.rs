//! Drives one pipeline: for each tenant and stream, discover, read, and put what failed where it belongs.
//!
//! ```text
//! source.discover -> ledger -> source.read -> line (dedupe -> stages -> sinks -> ack -> ledger commit)
//! ```
//!
//! A split is committed as delivered only after every sink has acknowledged every event read from it (`line.rs`).
//! Streams run side by side and fail alone; a tenant's streams share its slots in turn. Tenants may come and go while
//! others run. Wasm, sockets and the real clock stay outside: they arrive as `Source`, `Line` and `Clock`.

mod judge;
mod reads;
mod roster;
mod storm;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::{SharedClock, millis};
use crate::event::StreamKey;
use crate::health::Watch;
use crate::ledger::{Ledger, Loss};
use crate::line::Line;
use crate::metrics::streams::StreamCounts;
use crate::schedule;
use crate::source::{Failure, Source};

/// How often delivered splits and old identities are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

/// How often the engine looks whether an operator has changed something.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Failures in a row after which `--once` gives a stream up.
const ONCE_FAILURES: u32 = 5;

/// Longest single wait that `--once` sits out before it gives a stream up.
const ONCE_PATIENCE: Duration = Duration::from_secs(60);

/// How long calls under way may go on when nothing more may be handed over. A slow answer is not worth waiting for:
/// what is not committed is done again, from the ledger's word, by whoever comes next.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// One tenant of a pipeline.
pub struct Tenant {
    /// Its id.
    pub id: Arc<str>,
    /// Its source.
    pub source: Arc<dyn Source>,
    /// Splits read at once. Some more than the requests that may be in flight, so that decoding a split does not leave
    /// the wire idle.
    pub reads: usize,
}

/// What may happen to the tenants of a running engine. What is known of a tenant stays, so that one that comes back
/// goes on where it stood.
pub enum Change {
    /// A tenant starts; when one with its id runs, that one is drained first.
    Put(Tenant),
    /// The tenant with this id is drained: nothing more is begun, what is under way may end within `drain_timeout`,
    /// and what is not delivered by then is put back.
    Remove(Arc<str>),
}

/// What an engine runs on.
pub struct Engine {
    /// The pipeline's memory.
    pub ledger: Arc<dyn Ledger>,
    /// The second half of the line.
    pub line: Arc<Line>,
    /// The time.
    pub clock: SharedClock,
    /// How its streams are.
    pub health: Arc<Watch>,
    /// Deliver what is there now, then end.
    pub once: bool,
    /// Cancelled when no more work may be begun.
    pub stop: CancellationToken,
    /// How long a tenant that leaves may go on with what is under way.
    pub drain_timeout: Duration,
}

/// Holds work back for a while, or for the rest of a `--once` run.
#[derive(Debug, Default)]
struct Gate(Mutex<Closing>);

#[derive(Debug, Default)]
struct Closing {
    until: Option<Instant>,
    for_good: bool,
    /// What the listing that closed it met.
    because: Option<Failure>,
}

impl Gate {
    /// Closes for at least this long.
    fn close(&self, wait: Duration) {
        let now = Instant::now();
        let until = now + wait;
        self.with(|closing| {
            let closed = closing.until.filter(|until| *until > now);
            if closed.is_none() {
                closing.because = None;
            }
            closing.until = Some(closed.map_or(until, |earlier| earlier.max(until)));
        });
    }

    /// Closes for at least this long, and says why to whom it holds.
    fn close_because(&self, wait: Duration, failure: &Failure) {
        self.close(wait);
        self.with(|closing| closing.because = Some(failure.clone()));
    }

    /// Why it is closed, where that is more than a reader's pause.
    fn because(&self) -> Option<Failure> {
        self.wait()?;
        self.with(|closing| closing.because.clone())
    }

    /// Opens before its time: what closed it has been put right.
    fn open(&self) {
        self.with(|closing| closing.until = None);
    }

    /// Closes for the rest of the run.
    fn give_up(&self) {
        self.with(|closing| closing.for_good = true);
    }

    fn given_up(&self) -> bool {
        self.with(|closing| closing.for_good)
    }

    /// How long it stays closed; `None` when it is open or will not open again.
    fn wait(&self) -> Option<Duration> {
        self.with(|closing| {
            let wait = closing.until?.saturating_duration_since(Instant::now());
            (!closing.for_good && !wait.is_zero()).then_some(wait)
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Closing) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What could not be completed, one sentence each.
    pub incomplete: BTreeSet<String>,
    /// Splits found for the first time.
    pub discovered: u64,
    /// Losses declared in this run.
    pub lost: u64,
    /// Splits set aside in this run.
    pub quarantined: u64,
}

/// What the tasks of one tenant share.
struct Shared {
    id: Arc<str>,
    source: Arc<dyn Source>,
    slots: Arc<Semaphore>,
    /// Cancelled when no more work may be begun for the tenant.
    stop: CancellationToken,
    /// Cancelled when nothing more may be handed over for the tenant.
    closed: CancellationToken,
    /// Closed while the whole tenant waits.
    gate: Gate,
    /// Sentences that were logged and still hold, so that five streams do not say the same five times.
    said: Mutex<BTreeSet<String>>,
    /// Changes when an operator has changed something in the ledger.
    touched: watch::Receiver<i64>,
    engine: Arc<Engine>,
    outcome: Arc<Mutex<Outcome>>,
}

impl Engine {
    /// Runs tenants until stopped, or until nothing is left to do and nobody is left to change that: with `once`
    /// until everything available is delivered.
    pub async fn run(self, tenants: Vec<Tenant>, changes: mpsc::Receiver<Change>) -> Outcome {
        let engine = Arc::new(self);
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let (sender, touched) = watch::channel(0);
        let looking = look(engine.clone(), sender);
        let (pruning, judging) = (prune(engine.clone()), judge::start(engine.clone()));
        let mut roster = roster::Roster::new(engine.clone(), outcome.clone(), touched);
        tenants.into_iter().for_each(|tenant| roster.put(tenant));
        roster.run(changes).await;
        drop((pruning, looking, judging));
        engine.line.settled().await;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *outcome)
    }
}

/// Ends with its handle: a run that is given up must not leave it behind, holding the line open.
fn prune(engine: Arc<Engine>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if let Err(error) = engine.ledger.prune(engine.clock.now_ms()).await {
                tracing::warn!(%error, "the ledger cannot forget what is old; trying again");
            }
            tokio::time::sleep(PRUNE_EVERY).await;
        }
    }))
}

/// Notices what `sluicegate retry` and `forget` do, so that streams without work need not ask all the time.
fn look(engine: Arc<Engine>, touched: watch::Sender<i64>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            // A ledger that cannot be asked says so to those who need it.
            if let Ok(number) = engine.ledger.touched().await {
                touched.send_if_modified(|last| std::mem::replace(last, number) != number);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }))
}

impl Shared {
    /// All streams of one tenant.
    async fn run(self: Arc<Self>) {
        let mut failures = 0;
        let streams = loop {
            if self.stop.is_cancelled() {
                return;
            }
            match self.unless_stopped(self.source.streams()).await {
                None => return,
                Some(Ok(streams)) => break streams,
                Some(Err(failure)) => {
                    let streams = &self.engine.line.meters().streams;
                    streams.add_to_all(StreamCounts::failure(&failure));
                    self.report(None, &failure);
                    if !self.wait_or_give_up(None, &failure, &mut failures).await {
                        return;
                    }
                }
            }
        };
        let mut running = JoinSet::new();
        for stream in streams {
            let shared = self.clone();
            running.spawn(async move { stream::run(shared, stream).await });
        }
        while running.join_next().await.is_some() {}
    }

    /// Sits a failure out. False when the run is over for this stream.
    async fn wait_or_give_up(
        &self,
        stream: Option<&StreamKey>,
        failure: &Failure,
        failures: &mut u32,
    ) -> bool {
        let wait = schedule::discover_wait(failure, *failures);
        *failures += 1;
        let place = stream.map_or(format!("tenant `{}`", self.id), ToString::to_string);
        if self.engine.once && (*failures >= ONCE_FAILURES || wait > ONCE_PATIENCE) {
            self.incomplete(format!("{place}: {failure}"));
            return false;
        }
        tokio::select! {
            biased;
            slept = self.sleep(wait) => slept,
            () = self.source.renewed() => true,
        }
    }

    /// Waits, unless the run stops first; false then.
    async fn sleep(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// The answer of a call, or `None` where nothing more may be handed over and the call does not end soon.
    async fn unless_stopped<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.closed.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            biased;
            answer = call => Some(answer),
            () = late => None,
        }
    }

    /// Waits while the whole tenant is paused; false when the run stops.
    async fn unpaused(&self) -> bool {
        self.pass(&self.gate).await
    }

    /// Waits until a gate is open; false when the run stops or the gate will not open in this run.
    async fn pass(&self, gate: &Gate) -> bool {
        while let Some(wait) = gate.wait() {
            tokio::select! {
                biased;
                slept = self.sleep(wait) => if !slept { return false },
                () = self.source.renewed() => gate.open(),
            }
        }
        !gate.given_up() && !self.stop.is_cancelled()
    }

    /// Logs a failure, once for as long as it holds.
    fn report(&self, stream: Option<&StreamKey>, failure: &Failure) {
        let tenant = &self.id;
        let sentence = failure.to_string();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *failure == Failure::Cancelled || !said.insert(sentence.clone()) {
            return;
        }
        drop(said);
        let stream = stream.map_or("", |stream| &*stream.stream);
        match failure {
            Failure::Retry { .. } => tracing::warn!(%tenant, stream, "{sentence}; trying again"),
            Failure::Internal(_) => {
                tracing::error!(%tenant, stream, "the plugin reports a defect: {sentence}");
            }
            _ => tracing::error!(%tenant, stream, "{sentence}"),
        }
    }

    /// Something worked: what is reported next is news again.
    fn well(&self) {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn incomplete(&self, sentence: String) {
        self.change(|outcome| {
            outcome.incomplete.insert(sentence);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts for the metrics.
    fn count(&self, stream: &StreamKey, counts: StreamCounts) {
        self.engine.line.meters().streams.add(stream, counts);
    }

    /// Makes a loss visible.
    fn declare(&self, loss: &Loss) {
        let (since, until) = (rfc3339(loss.since_ms), rfc3339(loss.until_ms));
        tracing::warn!(tenant = %self.id, stream = %loss.stream.stream, since, until,
            reason = %loss.reason, "content is lost; it was never delivered");
        self.change(|outcome| outcome.lost += 1);
        let lost = StreamCounts {
            lost: 1,
            ..StreamCounts::default()
        };
        self.count(&loss.stream, lost);
    }

    fn later(&self, wait: Duration) -> i64 {
        self.engine.clock.now_ms().saturating_add(millis(wait))
    }
}

/// A time for people.
pub(crate) fn rfc3339(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(
        || format!("{ms} ms"),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )
}
