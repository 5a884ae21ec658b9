//! How long a call computes, and how those that compute for long share what the others leave.
//!
//! A guest is interrupted every [`TICK`] and lets others run. That alone is not fair: a call that only computes is
//! ready all the time, while one that waits for its service queues again after each answer. So a call that has
//! computed for [`FREE`] without handing anything over needs a turn for every further tick. There is one turn fewer
//! than cores, turns are given in order, and each waits up to [`PATIENCE`] for a moment in which nobody else is ready.
//! On an idle machine that costs nothing.

use std::future::poll_fn;
use std::num::NonZero;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a running guest is interrupted to let others run.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Computing time without progress that a call has like all others.
const FREE: Duration = Duration::from_millis(100);

/// The longest that a turn waits while others are ready: a call that computes for long gets on all the same.
const PATIENCE: Duration = Duration::from_millis(90);

/// When giving way takes longer than this, somebody else was ready.
const CROWDED: Duration = Duration::from_micros(200);

/// The turns of all calls that compute for long.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))))
    }
}

/// Computing time of a call since it last handed something over.
#[derive(Clone, Debug, Default)]
pub struct CpuBudget(Arc<Mutex<Meter>>);

#[derive(Debug, Default)]
struct Meter {
    budget: Duration,
    /// Before the present stretch.
    spent: Duration,
    /// Since when it computes, if it does.
    since: Option<Instant>,
    /// Kept for as long as it computes.
    turn: Option<OwnedSemaphorePermit>,
    over: bool,
}

/// What becomes of a call at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// It gives way once and goes on.
    Yield,
    /// It needs a [turn](CpuBudget::turn).
    Queue,
    /// It has used up its budget.
    Stop,
}

impl CpuBudget {
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins.
    pub(super) fn rearm(&self, budget: Duration) {
        let mut meter = self.meter();
        meter.budget = budget;
        meter.over = false;
        meter.restart(Instant::now());
    }

    /// The guest has handed something over: it makes progress.
    pub fn progress(&self) {
        self.meter().restart(Instant::now());
    }

    /// Whether the budget is used up.
    pub(super) fn spent(&self) -> bool {
        self.meter().over
    }

    pub(super) fn tick(&self) -> Tick {
        self.meter().tick(Instant::now())
    }

    /// Waits until it may compute for one more tick.
    pub(super) async fn turn(self, turns: Turns) {
        // Nobody closes it.
        let Ok(turn) = turns.0.acquire_owned().await else {
            return;
        };
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            tokio::task::yield_now().await;
            if asked.elapsed() < CROWDED || begun.elapsed() >= PATIENCE {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        self.meter().turn = Some(turn);
    }

    /// Drives a call and measures it; what the host does on its behalf counts, waiting does not.
    pub async fn measure<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|context| {
            self.meter().resume(Instant::now());
            let polled = call.as_mut().poll(context);
            self.meter().pause(Instant::now());
            polled
        })
        .await
    }
}

impl Meter {
    fn resume(&mut self, now: Instant) {
        self.since = Some(now);
    }

    fn pause(&mut self, now: Instant) {
        self.spent = self.computed(now);
        self.since = None;
        self.turn = None;
    }

    fn restart(&mut self, now: Instant) {
        self.spent = Duration::ZERO;
        self.since = self.since.map(|_| now);
    }

    fn computed(&self, now: Instant) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now - since)
    }

    fn tick(&mut self, now: Instant) -> Tick {
        let computed = self.computed(now);
        if computed >= self.budget {
            self.over = true;
            Tick::Stop
        } else if computed >= FREE {
            Tick::Queue
        } else {
            Tick::Yield
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_counts_until_something_is_handed_over_and_waiting_does_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter {
            budget: Duration::from_millis(300),
            ..Meter::default()
        };
        meter.resume(at(0));
        meter.pause(at(60));
        meter.resume(at(5_000));
        assert_eq!(meter.tick(at(5_039)), Tick::Yield);
        assert_eq!(meter.tick(at(5_040)), Tick::Queue);
        meter.restart(at(5_100));
        assert_eq!(meter.tick(at(5_199)), Tick::Yield);
        assert_eq!(meter.tick(at(5_399)), Tick::Queue);
        assert!(!meter.over);
        assert_eq!(meter.tick(at(5_400)), Tick::Stop);
        assert!(meter.over);
    }

    #[tokio::test]
    async fn a_turn_is_given_back_when_the_call_waits() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let (one, two) = (CpuBudget::default(), CpuBudget::default());
        let mine = one.clone();
        let call = async {
            mine.clone().turn(turns.clone()).await;
            assert_eq!(turns.0.available_permits(), 0, "it computes");
            tokio::task::yield_now().await;
            assert_eq!(turns.0.available_permits(), 1, "it has waited");
            // Whoever has no turn waits for whoever has one.
            mine.clone().turn(turns.clone()).await;
            let waits = two.clone().turn(turns.clone());
            let waited = tokio::time::timeout(Duration::from_secs(60), waits);
            waited.await.is_ok()
        };
        // Waiting within the call gives its own turn back, so the other one got it.
        assert!(one.measure(call).await);
    }
}
