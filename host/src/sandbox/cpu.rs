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
        meter.restart();
    }

    /// The guest has handed something over: it makes progress.
    pub fn progress(&self) {
        self.meter().restart();
    }

    /// Whether the budget is used up.
    pub(super) fn spent(&self) -> bool {
        self.meter().over
    }

    pub(super) fn tick(&self) -> Tick {
        let mut meter = self.meter();
        let spent = meter.spent + meter.since.map_or(Duration::ZERO, |since| since.elapsed());
        if spent >= meter.budget {
            meter.over = true;
            Tick::Stop
        } else if spent >= FREE {
            Tick::Queue
        } else {
            Tick::Yield
        }
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
            self.meter().since = Some(Instant::now());
            let polled = call.as_mut().poll(context);
            self.meter().pause();
            polled
        })
        .await
    }
}

impl Meter {
    fn restart(&mut self) {
        self.spent = Duration::ZERO;
        self.since = self.since.map(|_| Instant::now());
    }

    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += since.elapsed();
        }
        self.turn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn computing_counts_until_something_is_handed_over_and_waiting_does_not() {
        let cpu = CpuBudget::default();
        cpu.rearm(Duration::from_millis(300));
        let ticks = cpu
            .measure(async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let mut ticks = vec![cpu.tick()];
                compute(FREE);
                ticks.push(cpu.tick());
                cpu.progress();
                ticks.push(cpu.tick());
                compute(Duration::from_millis(301));
                ticks.push(cpu.tick());
                ticks
            })
            .await;
        assert_eq!(ticks, [Tick::Yield, Tick::Queue, Tick::Yield, Tick::Stop]);
        assert!(cpu.spent());
        cpu.rearm(Duration::from_secs(1));
        assert!(!cpu.spent() && cpu.tick() == Tick::Yield);
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
            let waited = tokio::time::timeout(Duration::from_millis(20), waits);
            waited.await.is_ok()
        };
        // Waiting within the call gives its own turn back, so the other one got it.
        assert!(one.measure(call).await);
    }
}
