//! The task of a sink that sends requests: fills them, keeps several under way, and sends again what did not arrive.
//!
//! A request holds what came from one or many batches of the line; a batch is acknowledged when the last of its
//! events is settled. Events overtake each other here: commits keep the line's order, since they wait for
//! acknowledgements in it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::lock;
use super::{Job, Receipt, jitter};
use crate::error::Error;
use crate::mutant;
use crate::sink::Positions;
use crate::sink::concurrency::Slot;
use crate::sink::request::{Again, Fate, Outgoing, Policy, Reply, RequestSink};

/// How often a sink that stays in trouble is mentioned.
const TROUBLE_LOGGED: Duration = Duration::from_secs(30);

/// Runs until the queue is closed and everything from it is settled.
pub(super) async fn run(sink: Arc<dyn RequestSink>, policy: Policy, queue: mpsc::Receiver<Job>) {
    let carrier = Arc::new(Carrier {
        sink,
        retry: policy.retry,
        health: Mutex::new(None),
    });
    let slots = Arc::new(policy.slots());
    let mut requests = Requests {
        queue,
        policy,
        waiting: VecDeque::new(),
    };
    if !requests.until_closed(carrier.prepare()).await {
        return;
    }
    let mut under_way = JoinSet::new();
    loop {
        // A slot first: while there is none, what waits becomes a larger request.
        let slot = slots.slot().await;
        let Some(pack) = requests.next().await else {
            break;
        };
        while under_way.try_join_next().is_some() {}
        under_way.spawn(carrier.clone().carry(pack, slot));
    }
    while under_way.join_next().await.is_some() {}
}

/// A batch of the line of which some events are not settled.
struct Pending {
    left: usize,
    refused: Vec<(usize, String)>,
    /// Taken by whoever settles the last event.
    receipt: Option<Receipt>,
}

/// Where an event comes from: its batch and its place there.
struct Origin {
    pending: Arc<Mutex<Pending>>,
    index: usize,
}

impl Origin {
    /// The event is delivered, or refused for good.
    fn settle(self, sink: &str, refused: Option<String>) {
        let mut pending = lock(&self.pending);
        pending.left -= 1;
        pending
            .refused
            .extend(refused.map(|reason| (self.index, reason)));
        if pending.left == 0
            && let Some(receipt) = pending.receipt.take()
        {
            let refused = std::mem::take(&mut pending.refused);
            receipt.acknowledge(sink, refused, Positions::new());
        }
    }
}

/// What goes into one request, event by event, and where each comes from.
#[derive(Default)]
struct Pack {
    events: Vec<Outgoing>,
    origins: Vec<Origin>,
}

impl Pack {
    fn push(&mut self, (event, origin): (Outgoing, Origin)) {
        self.events.push(event);
        self.origins.push(origin);
    }

    fn into_events(self) -> impl Iterator<Item = (Outgoing, Origin)> {
        self.events.into_iter().zip(self.origins)
    }

    /// Gives every event another identity, which nothing right ever does.
    fn rename(&mut self) {
        for outgoing in &mut self.events {
            outgoing.event.identity = outgoing.event.identity.child(1);
        }
    }

    /// Takes the second half off.
    fn split(&mut self) -> Self {
        let half = self.events.len() / 2;
        Self {
            events: self.events.split_off(half),
            origins: self.origins.split_off(half),
        }
    }
}

/// Fills requests from the queue.
struct Requests {
    queue: mpsc::Receiver<Job>,
    policy: Policy,
    /// Taken from the queue, in no request yet.
    waiting: VecDeque<(Outgoing, Origin)>,
}

impl Requests {
    /// The next request's events; `None` when the queue is closed and empty.
    async fn next(&mut self) -> Option<Pack> {
        let mut pack = Pack::default();
        let mut bytes = 0;
        let mut deadline = Instant::now() + self.policy.batch_timeout;
        loop {
            while let Some((event, _)) = self.waiting.front() {
                bytes += event.event.body.len();
                let fits = pack.events.len() < self.policy.batch_events
                    && (bytes <= self.policy.batch_bytes || pack.events.is_empty());
                if !fits {
                    return Some(pack);
                }
                if let Some(event) = self.waiting.pop_front() {
                    pack.push(event);
                }
            }
            let job = if pack.events.is_empty() {
                let job = self.queue.recv().await?;
                deadline = Instant::now() + self.policy.batch_timeout;
                job
            } else {
                match timeout_at(deadline, self.queue.recv()).await {
                    Ok(Some(job)) => job,
                    Ok(None) | Err(_) => return Some(pack),
                }
            };
            self.add(job);
        }
    }

    fn add(&mut self, job: Job) {
        let Job { batch, receipt } = job;
        let pending = Arc::new(Mutex::new(Pending {
            left: batch.events.len(),
            refused: Vec::new(),
            receipt: Some(receipt),
        }));
        for (index, event) in batch.events.into_iter().enumerate() {
            let outgoing = Outgoing {
                stream: batch.stream.clone(),
                event,
                rewritten: None,
            };
            let origin = Origin {
                pending: pending.clone(),
                index,
            };
            self.waiting.push_back((outgoing, origin));
        }
    }

    /// Waits for something; false when the queue is closed before and nothing is left to send.
    async fn until_closed(&mut self, done: impl Future<Output = ()>) -> bool {
        tokio::pin!(done);
        loop {
            tokio::select! {
                biased;
                () = &mut done => return true,
                job = self.queue.recv() => match job {
                    Some(job) => self.add(job),
                    None if self.waiting.is_empty() => return false,
                    None => {
                        done.await;
                        return true;
                    }
                },
            }
        }
    }
}

/// Carries requests to the sink.
struct Carrier {
    sink: Arc<dyn RequestSink>,
    retry: (Duration, Duration),
    /// Since when the sink is in trouble, and when that was mentioned last.
    health: Mutex<Option<(Instant, Instant)>>,
}

impl Carrier {
    async fn prepare(&self) {
        let mut wait = self.retry.0;
        while let Err(error) = self.sink.prepare().await {
            self.ails(&error);
            self.pause(&mut wait, None).await;
        }
        self.is_well();
    }

    /// Sends until every event is settled.
    async fn carry(self: Arc<Self>, pack: Pack, slot: Slot) {
        let mut wait = self.retry.0;
        let mut packs = vec![pack];
        while let Some(mut pack) = packs.pop() {
            let asked_at = Instant::now();
            match self.send(&pack.events).await {
                Reply::Taken { failed, latency } => {
                    let overloaded = |(_, fate): &(usize, Fate)| {
                        matches!(
                            fate,
                            Fate::Again {
                                overloaded: true,
                                ..
                            }
                        )
                    };
                    if failed.iter().any(overloaded) {
                        slot.overloaded(asked_at);
                    } else {
                        slot.answered(latency);
                    }
                    let sent = pack.events.len();
                    let (left, reason) = self.settle(pack, failed);
                    let progress = left.events.len() < sent;
                    if progress {
                        wait = self.retry.0;
                    }
                    match &reason {
                        Some(reason) if !progress => {
                            self.ails(&Error::temporary(reason).at(self.place()));
                        }
                        _ => self.is_well(),
                    }
                    if let Some(reason) = reason {
                        let (sink, events) = (self.sink.name(), left.events.len());
                        tracing::debug!(sink, events, %reason, "some events are sent again");
                        self.pause(&mut wait, None).await;
                    }
                    packs.extend((!left.events.is_empty()).then_some(left));
                }
                Reply::Again(_) if mutant::is_on("no_answer_is_success") => {
                    self.settle(pack, Vec::new());
                }
                Reply::Again(again) => {
                    if again.overloaded {
                        slot.overloaded(asked_at);
                    }
                    self.ails(&again.error);
                    self.pause(&mut wait, again.retry_after).await;
                    if mutant::is_on("new_id_on_retry") {
                        pack.rename();
                    }
                    packs.push(pack);
                }
                Reply::Split(reason) if pack.events.len() <= 1 => {
                    self.is_well();
                    for origin in pack.origins {
                        origin.settle(self.sink.name(), Some(reason.clone()));
                    }
                }
                Reply::Split(_) => {
                    let second = pack.split();
                    let dropped = usize::from(mutant::is_on("half_dropped"));
                    packs.extend([second, pack].into_iter().skip(dropped));
                }
            }
        }
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let sent = AssertUnwindSafe(self.sink.send(events)).catch_unwind();
        sent.await.unwrap_or_else(|_| {
            let error = Error::internal("sending panicked").at(self.place());
            Reply::Again(Again::trouble(error))
        })
    }

    /// Settles what is delivered and what is refused; returns the rest, and why some of it has to wait.
    fn settle(&self, pack: Pack, failed: Vec<(usize, Fate)>) -> (Pack, Option<String>) {
        let (mut left, mut wait) = (Pack::default(), None);
        let mut failed: VecDeque<_> = failed.into();
        for (index, (mut event, origin)) in pack.into_events().enumerate() {
            let fate = failed.pop_front_if(|(failed, _)| *failed == index);
            match fate.map(|(_, fate)| fate) {
                None => origin.settle(self.sink.name(), None),
                Some(Fate::Refused(_)) if mutant::is_on("refused_dropped") => {
                    origin.settle(self.sink.name(), None);
                }
                Some(Fate::Refused(reason)) if mutant::is_on("refused_blocks") => {
                    wait.get_or_insert(reason);
                    left.push((event, origin));
                }
                Some(Fate::Again { .. }) if mutant::is_on("partial_is_whole") => {
                    origin.settle(self.sink.name(), None);
                }
                Some(Fate::Refused(reason)) => origin.settle(self.sink.name(), Some(reason)),
                Some(Fate::Rewrite { body, reason }) => {
                    event.event.body = body;
                    event.rewritten = Some(reason);
                    left.push((event, origin));
                }
                Some(Fate::Again { reason, .. }) => {
                    wait.get_or_insert(reason);
                    left.push((event, origin));
                }
            }
        }
        (left, wait)
    }

    async fn pause(&self, wait: &mut Duration, asked: Option<Duration>) {
        let pause = jitter(*wait).max(asked.unwrap_or_default());
        *wait = (*wait * 2).min(self.retry.1);
        sleep(pause).await;
    }

    /// Mentions trouble when it begins, and every so often while it lasts.
    fn ails(&self, error: &Error) {
        let now = Instant::now();
        let mut health = lock(&self.health);
        let (since, mentioned) = health.unwrap_or((now, now));
        let first = health.is_none();
        if first || now - mentioned >= TROUBLE_LOGGED {
            *health = Some((since, now));
            tracing::error!(sink = self.sink.name(), %error, since = ?(now - since),
                "the sink does not take events; trying again");
        }
    }

    fn is_well(&self) {
        if let Some((since, _)) = lock(&self.health).take() {
            let after = since.elapsed();
            tracing::info!(
                sink = self.sink.name(),
                ?after,
                "the sink takes events again"
            );
        }
    }

    fn place(&self) -> String {
        format!("sink `{}`", self.sink.name())
    }
}

#[cfg(test)]
mod tests;
