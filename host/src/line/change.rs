//! Sinks and stages exchanged while the line runs, without losing or repeating what need not be.
//!
//! The line is drained first, for as long as its patience lasts. What is not acknowledged by then, because the old sink
//! takes nothing, is handed to the new one with the same identities. Sinks that stay keep their task, their queue and
//! whatever they have acknowledged. The committer does it between two commits, so that no position of a sink is on its
//! way to the ledger when another takes its place there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::commit::{Awaited, Committer, Job, Queue};
use super::course::Course;
use super::deliver::Lane;
use super::{BUDGET_BYTES, Line, RETRY, lock, recover};
use crate::error::Error;
use crate::sink::{Positions, Way};
use crate::stage::Stage;
use crate::stage::condition::Condition;

/// What a line is to become.
pub struct Change {
    /// Other stages; `None` for those that are there.
    pub stages: Option<Vec<Box<dyn Stage>>>,
    /// Its sinks from now on, in order.
    pub sinks: Vec<Seat>,
}

/// A sink in its place.
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Only events that this filter keeps; `None` for all.
    pub when: Option<Condition>,
    /// A new sink; `None` for the one of this name that is there.
    pub way: Option<Way>,
}

/// A change on its way to the committer.
pub(super) struct Request {
    change: Change,
    done: oneshot::Sender<Result<(), Error>>,
}

impl Line {
    /// Exchanges stages and sinks. New sinks are opened before anything is touched; an error says that all is as it
    /// was. `patience` is how long the line is given to deliver what it holds to the sinks that go.
    pub async fn change(&self, mut change: Change, patience: Duration) -> Result<(), Error> {
        self.open(&mut change).await?;
        let drained = if change.sinks.iter().any(|seat| seat.way.is_some()) {
            // All of the room there is: what is under way is settled, and nothing new comes in.
            let all = u32::try_from(BUDGET_BYTES).unwrap_or(u32::MAX);
            let drained = self.budget.clone().acquire_many_owned(all);
            tokio::time::timeout(patience, drained).await.ok()
        } else {
            None
        };
        let (done, answer) = oneshot::channel();
        let gone = || Error::temporary("the pipeline has stopped");
        let sent = self.changes.send(Request { change, done }).await;
        sent.map_err(|_| gone())?;
        let changed = answer.await.unwrap_or_else(|_| Err(gone()));
        drop(drained);
        changed
    }

    /// Brings new sinks to what was committed, but for those that follow another in the same place.
    async fn open(&self, change: &mut Change) -> Result<(), Error> {
        let running: BTreeSet<String> = {
            let order = lock(&self.order);
            let lanes = order.sinks.iter();
            lanes.flat_map(|lane| lane.positions.clone()).collect()
        };
        let new = change.sinks.iter_mut().filter_map(|seat| seat.way.as_mut());
        let apart = new.filter(|way| !shares(way, &running));
        let ledger = self.ledger.as_ref();
        let positions = recover::of_sinks(ledger, apart).await?;
        recover::commit(ledger, positions, &self.clock).await
    }
}

/// Whether a sink keeps its place under a name that another has.
fn shares(way: &Way, running: &BTreeSet<String>) -> bool {
    match way {
        Way::Ordered(sink) => sink
            .position_names()
            .iter()
            .any(|name| running.contains(name)),
        Way::Requests(..) => false,
    }
}

impl Committer {
    /// Exchanges stages and sinks; whatever is not committed is in `pending` or in `queue`.
    pub(super) async fn change(
        &mut self,
        request: Request,
        pending: &mut VecDeque<Job>,
        queue: &mut Queue,
    ) {
        let Request { change, done } = request;
        let changed = match self.line.upgrade() {
            Some(line) => self.exchange(&line, change, pending, queue).await,
            None => Err(Error::temporary("the pipeline has stopped")),
        };
        // Whoever asked may have given up.
        let _ = done.send(changed);
    }

    async fn exchange(
        &mut self,
        line: &Line,
        change: Change,
        pending: &mut VecDeque<Job>,
        queue: &mut Queue,
    ) -> Result<(), Error> {
        let kept: BTreeSet<&str> = change
            .sinks
            .iter()
            .filter(|seat| seat.way.is_none())
            .map(|seat| &*seat.name)
            .collect();
        let (mut staying, going): (Vec<Lane>, Vec<Lane>) = {
            let mut order = lock(&line.order);
            let here = |name: &str| order.sinks.iter().any(|lane| lane.name == name);
            if let Some(missing) = kept.iter().find(|name| !here(name)) {
                let what = format!("a defect: sink `{missing}` is to stay and is not there");
                return Err(Error::internal(what));
            }
            order.changing = true;
            let lanes = std::mem::take(&mut order.sinks).into_iter();
            lanes.partition(|lane| kept.contains(&*lane.name))
        };
        let stayed: BTreeSet<u64> = staying.iter().map(|lane| lane.number).collect();
        let taken: BTreeSet<String> = going
            .iter()
            .flat_map(|lane| lane.positions.clone())
            .collect();
        self.end(&going).await;
        let (mut lanes, mut whens) = (Vec::new(), Vec::new());
        for Seat { name, when, way } in change.sinks {
            whens.push(when);
            let Some(mut way) = way else {
                let index = staying.iter().position(|lane| lane.name == name);
                lanes.extend(index.map(|index| staying.swap_remove(index)));
                continue;
            };
            if shares(&way, &taken) {
                self.follow(&mut way).await;
            }
            let (mut lane, task) = Lane::start(way);
            if let Some(before) = going.iter().find(|lane| lane.name == name) {
                lane.meter = before.meter.clone();
            }
            self.tasks.insert(lane.number, task);
            lanes.push(lane);
        }
        drop(going);
        let mut order = lock(&line.order);
        let course = match change.stages {
            Some(stages) => Course::new(stages.into(), whens),
            None => order.course.with_conditions(whens),
        };
        self.meters.stages.set(course.meters.clone());
        let of_sinks = lanes.iter().map(|lane| lane.meter.clone());
        self.meters.sinks.set(of_sinks.collect());
        order.course = Arc::new(course);
        while let Ok(job) = queue.try_recv() {
            pending.push_back(job);
        }
        for job in pending {
            hand_over(job, (&lanes, &stayed), &order.course, line);
        }
        order.sinks = lanes;
        order.changing = false;
        Ok(())
    }

    /// Ends the tasks of sinks that go. What they have not acknowledged is not theirs any more.
    async fn end(&mut self, going: &[Lane]) {
        for lane in going {
            if !lane.is_acknowledged() {
                lane.retire();
                continue;
            }
            lane.stop.cancel();
            let Some(task) = self.tasks.remove(&lane.number) else {
                continue;
            };
            // Ends after the write that is under way; one that panicked has said so.
            if let Ok(Some(sink)) = task.await {
                self.take_back(Way::Ordered(sink)).await;
            }
        }
    }

    /// What an old sink has written and is not committed goes to its successor, so it is not left there.
    async fn take_back(&self, mut way: Way) {
        let old = std::iter::once(&mut way);
        if let Err(error) = recover::of_sinks(self.ledger.as_ref(), old).await {
            tracing::warn!(sink = way.name(), %error,
                "the last events of a sink that goes stand there and in the one that takes its place");
        }
    }

    /// Brings a sink to what was committed that takes the place of another: where that could write, so can this.
    async fn follow(&self, way: &mut Way) {
        let mut wait = RETRY.0;
        loop {
            let recovered = recover::of_sinks(self.ledger.as_ref(), std::iter::once(&mut *way));
            let committed = match recovered.await {
                Ok(positions) => self.keep(positions).await,
                Err(error) => Err(error),
            };
            let Err(error) = committed else { return };
            tracing::error!(sink = way.name(), %error, "the sink cannot be opened; everything waits");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn keep(&self, positions: Positions) -> Result<(), Error> {
        recover::commit(self.ledger.as_ref(), positions, &self.clock).await
    }
}

/// Hands what is not committed to the sinks that do not have it.
fn hand_over(
    job: &mut Job,
    (lanes, stayed): (&[Lane], &BTreeSet<u64>),
    course: &Course,
    line: &Line,
) {
    let routed = course.route_again(&mut job.item);
    let mut before = std::mem::take(&mut job.acks);
    for (lane, routed) in lanes.iter().zip(routed) {
        if let Some(index) = before.iter().position(|ack| ack.lane == lane.number) {
            job.acks.push(before.swap_remove(index));
            continue;
        }
        // One that stays was given the item already, unless nobody was.
        let has_it = job.given && stayed.contains(&lane.number);
        if let (Some(routed), false) = (routed, has_it) {
            job.acks.extend(Awaited::give(lane, routed, &line.totals));
        }
    }
    before.into_iter().for_each(Awaited::give_up);
    job.given = true;
}

#[cfg(test)]
mod tests;
