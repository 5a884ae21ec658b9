//! Every effect of the code under test, numbered; a crash is planned by these numbers.
//!
//! An effect is what the world outside can see: a request, a commit, a write. A crash happens before one, after one,
//! or inside it. From that moment on nothing of the process has an effect any more; whoever runs it drops it whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::chance::{Concern, Stream, mix};
use crate::coverage::{Coverage, Point};
use crate::time::VirtualClock;

/// What an effect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request to the service leaves.
    Request,
    /// The rest of an answer arrives.
    Body,
    /// A discovery is committed.
    Discovered,
    /// Splits are taken.
    Take,
    /// A split is put back, aside or away.
    Setback,
    /// A piece of the line is committed.
    Commit,
    /// Old things are forgotten.
    Prune,
    /// A file is brought to what was committed.
    Recover,
    /// A file is appended to.
    Append,
    /// A request to a sink leaves.
    Send,
}

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The effect does not happen.
    Before,
    /// It happens in part, where it has parts; else after.
    Inside,
    /// It happens, and nobody learns of it.
    After,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::Inside, Self::After];
}

/// Which effects the process dies at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashPlan {
    /// By the number of the effect.
    pub at: BTreeMap<u64, Moment>,
    /// So many crashes more, at random.
    pub random: u32,
    /// The share of effects, in a thousand, that random crashes strike.
    pub per_mille: u64,
}

#[derive(Debug)]
struct State {
    plan: CrashPlan,
    chance: Stream,
    next: u64,
    crashed: bool,
    /// Effects at which it crashed.
    crashes: Vec<(u64, Moment, Kind)>,
    counts: BTreeMap<Kind, u64>,
    trace: u64,
    log: Option<Vec<String>>,
}

/// The numbered effects of one run.
#[derive(Debug)]
pub struct Effects {
    state: Mutex<State>,
    crashed: Notify,
    clock: Arc<VirtualClock>,
    coverage: Arc<Coverage>,
}

/// An effect that is happening.
#[derive(Debug)]
#[must_use = "an effect ends, or it crashed"]
pub struct Effect<'a> {
    effects: &'a Effects,
    crash: Option<Moment>,
}

impl Effects {
    /// Numbers effects under a seed and a plan; `log` keeps a line for each.
    pub fn new(
        seed: u64,
        plan: CrashPlan,
        log: bool,
        clock: Arc<VirtualClock>,
        coverage: Arc<Coverage>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                plan,
                chance: Stream::new(seed, Concern::Crash),
                next: 0,
                crashed: false,
                crashes: Vec::new(),
                counts: BTreeMap::new(),
                trace: mix(seed),
                log: log.then(Vec::new),
            }),
            crashed: Notify::new(),
            clock,
            coverage,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An effect begins. Never returns when the process dies before it, or is dead.
    pub async fn begin(&self, kind: Kind, about: &str) -> Effect<'_> {
        let crash = self.number(kind, about);
        match crash {
            Ok(crash) => Effect {
                effects: self,
                crash,
            },
            Err(()) => std::future::pending().await,
        }
    }

    /// The plan for the next effect; an error when there is no process to have it.
    fn number(&self, kind: Kind, about: &str) -> Result<Option<Moment>, ()> {
        let mut state = self.lock();
        if state.crashed {
            return Err(());
        }
        let number = state.next;
        state.next += 1;
        *state.counts.entry(kind).or_default() += 1;
        let now_ms = self.clock.true_ms();
        state.note(&[number, kind as u64, now_ms.cast_unsigned()], about);
        if let Some(log) = &mut state.log {
            log.push(format!("{number} {now_ms} {kind:?} {about}"));
        }
        let crash = state.crash_at(number);
        if let Some(moment) = crash {
            state.crashes.push((number, moment, kind));
            self.coverage.mark(Point::of_crash(kind, moment));
        }
        drop(state);
        if crash == Some(Moment::Before) {
            self.crash();
            return Err(());
        }
        Ok(crash)
    }

    fn crash(&self) {
        self.lock().crashed = true;
        self.crashed.notify_one();
    }

    /// Waits for the process to die.
    pub async fn crashed(&self) {
        while !self.lock().crashed {
            self.crashed.notified().await;
        }
    }

    /// A new process begins.
    pub fn restart(&self) {
        self.lock().crashed = false;
    }

    /// Nothing crashes any more.
    pub fn calm(&self) {
        let mut state = self.lock();
        state.plan.random = 0;
    }

    /// How many effects there were.
    pub fn count(&self) -> u64 {
        self.lock().next
    }

    /// Where it crashed.
    pub fn crashes(&self) -> Vec<(u64, Moment, Kind)> {
        self.lock().crashes.clone()
    }

    /// Adds something else that two equal runs have in common.
    pub fn trace(&self, about: &str) {
        let now_ms = self.clock.true_ms();
        let mut state = self.lock();
        state.note(&[now_ms.cast_unsigned()], about);
        if let Some(log) = &mut state.log {
            log.push(format!("- {now_ms} {about}"));
        }
    }

    /// A hash over every effect so far.
    pub fn hash(&self) -> u64 {
        self.lock().trace
    }

    /// A line for every effect, where they are kept.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone().unwrap_or_default()
    }
}

impl State {
    fn note(&mut self, numbers: &[u64], about: &str) {
        for number in numbers {
            self.trace = mix(self.trace ^ number);
        }
        for chunk in about.as_bytes().chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            self.trace = mix(self.trace ^ u64::from_le_bytes(eight));
        }
    }

    fn crash_at(&mut self, number: u64) -> Option<Moment> {
        if let Some(moment) = self.plan.at.get(&number) {
            return Some(*moment);
        }
        if self.plan.random > 0 && self.chance.per_mille(self.plan.per_mille) {
            self.plan.random -= 1;
            return Some(self.chance.pick(&Moment::ALL));
        }
        None
    }
}

impl Effect<'_> {
    /// Whether the process dies inside this effect: have half of it, then call [`Effect::end`].
    pub fn is_torn(&self) -> bool {
        self.crash == Some(Moment::Inside)
    }

    /// The effect has happened. Never returns when the process dies at it.
    pub async fn end(self) {
        if self.crash.is_some() {
            self.effects.crash();
            std::future::pending::<()>().await;
        }
    }
}
