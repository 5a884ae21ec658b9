//! How fast one upstream may be asked: by minute, at once, and slower when it complains.
//!
//! Promises, for each limiter: never more permits alive than allowed; never more grants in any
//! sliding minute than the budget; listing before content, and first come first served within each.
//! A complaint (429 and its kin) stops everything for as long as it asks; complaints that come close together also
//! halve the rate, which grows back step by step.
//! Waiting goes through tokio's timer, so tests live through hours in no time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::mutant;

/// The stretch in which the budget holds: a minute, and a second for the network, which may hold one
/// request up and let a later one pass, so that they meet in one minute at the other end.
pub const WINDOW: Duration = Duration::from_secs(61);

/// The rate never falls below this many a minute (or the budget, if that is less): enough to see that the
/// upstream has recovered.
const FLOOR_PER_MINUTE: f64 = 10.0;

/// So often without a complaint the rate grows by a step.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(10);

/// A step is this share of the budget: from half to whole in 50 s.
const RECOVERY_SHARE: f64 = 0.1;

/// After so many requests without a complaint the next one stands alone: services refuse some requests in a hundred on
/// their bad days, and a rate that is halved each time would come to nothing. We are too fast when complaints come
/// closer than this.
const ALONE_AFTER: u32 = 20;

/// A complaint is obeyed for at least and at most so long, whatever it says: zero would be a busy loop,
/// ten years an outage by one wrong header.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// Without a `Retry-After` the pause doubles from the first to the second while complaints come close together; each is
/// between half and the whole of that, so that those who were refused together do not come back together.
const GUESS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Listing: few requests that everything else waits for.
    High,
    /// Content.
    Normal,
}

/// The limiter of one quota key.
#[derive(Clone, Debug)]
pub struct Limiter {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    budget: f64,
    cap: usize,
    in_flight: usize,
    /// When requests were granted, as far back as the window reaches.
    grants: VecDeque<Instant>,
    /// How many a minute may be granted now.
    rate: f64,
    /// The last complaint's end, or the last step of recovery.
    recovered_at: Instant,
    /// When the upstream last complained.
    complained_at: Option<Instant>,
    /// Complaints that came close together.
    complaints: u32,
    /// Requests granted since the last complaint.
    granted: u32,
    paused_until: Option<Instant>,
    high: VecDeque<Arc<Notify>>,
    normal: VecDeque<Arc<Notify>>,
}

/// Leave to have one request in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Mutex<State>>,
    granted_at: Instant,
}

/// How fast a quota may be used at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Grants a minute at most.
    pub budget: f64,
    /// Grants a minute now; less than the budget while the upstream has complained.
    pub rate: f64,
    /// Requests in flight at most.
    pub cap: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// How long nothing will be granted because the upstream asked for it.
    pub pause: Duration,
}

/// What stands between the first in line and its permit.
enum Turn {
    Granted(Instant),
    Until(Instant),
    /// Someone else has to finish first.
    Later,
}

impl Limiter {
    /// A limiter that grants `requests_per_minute` and at most `in_flight` at once; zero counts as one.
    pub fn new(requests_per_minute: u32, in_flight: usize) -> Self {
        let budget = f64::from(requests_per_minute.max(1));
        let state = State {
            budget,
            cap: in_flight.max(1),
            in_flight: 0,
            grants: VecDeque::new(),
            rate: budget,
            recovered_at: Instant::now(),
            complained_at: None,
            complaints: 0,
            granted: 0,
            paused_until: None,
            high: VecDeque::new(),
            normal: VecDeque::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits for leave to send a request. Dropping the future gives the place in line up.
    pub async fn acquire(&self, priority: Priority) -> Permit {
        let wake = Arc::new(Notify::new());
        self.lock().line(priority).push_back(Arc::clone(&wake));
        let place = Place {
            shared: &self.shared,
            priority,
            wake,
        };
        loop {
            // Bound before it is awaited, so that the lock is not held meanwhile.
            let turn = place.turn();
            match turn {
                Turn::Granted(granted_at) => {
                    return Permit {
                        shared: Arc::clone(&self.shared),
                        granted_at,
                    };
                }
                Turn::Until(time) => {
                    tokio::select! {
                        biased;
                        () = place.wake.notified() => {}
                        () = sleep_until(time) => {}
                    }
                }
                Turn::Later => place.wake.notified().await,
            }
        }
    }

    /// The upstream complained about a request that was granted at this time: nothing is granted for `retry_after`,
    /// within reason, and the rate is halved if it has complained a short while ago.
    ///
    /// Requests that were in flight together complain together; that is one complaint, so of those that were granted
    /// before the last one only the pause counts.
    pub fn throttled(&self, retry_after: Option<Duration>, granted_at: Instant) {
        self.lock().throttled(retry_after, granted_at);
    }

    /// Grants a minute at the moment; the budget unless the upstream complained.
    pub fn requests_per_minute(&self) -> f64 {
        let mut state = self.lock();
        state.recover(Instant::now());
        state.rate
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// How long nothing will be granted because the upstream asked for it.
    pub fn pause(&self) -> Duration {
        let until = self.lock().paused_until;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// All of that at one moment.
    pub fn pace(&self) -> Pace {
        let now = Instant::now();
        let mut state = self.lock();
        state.recover(now);
        let until = state.paused_until.unwrap_or(now);
        Pace {
            budget: state.budget,
            rate: state.rate,
            cap: state.cap,
            in_flight: state.in_flight,
            pause: until.saturating_duration_since(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

impl Permit {
    /// When it was granted.
    pub fn granted_at(&self) -> Instant {
        self.granted_at
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.in_flight -= 1;
        state.wake_first();
    }
}

/// A place in line, given up when it is dropped.
struct Place<'a> {
    shared: &'a Arc<Mutex<State>>,
    priority: Priority,
    wake: Arc<Notify>,
}

impl Place<'_> {
    fn turn(&self) -> Turn {
        let mut state = lock(self.shared);
        let is_first = state
            .first()
            .is_some_and(|first| Arc::ptr_eq(first, &self.wake));
        if is_first {
            state.grant(Instant::now())
        } else {
            Turn::Later
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.shared);
        state
            .line(self.priority)
            .retain(|other| !Arc::ptr_eq(other, &self.wake));
        state.wake_first();
    }
}

impl State {
    fn line(&mut self, priority: Priority) -> &mut VecDeque<Arc<Notify>> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }

    fn first(&self) -> Option<&Arc<Notify>> {
        self.high.front().or(self.normal.front())
    }

    fn wake_first(&self) {
        if let Some(first) = self.first() {
            first.notify_one();
        }
    }

    fn grant(&mut self, now: Instant) -> Turn {
        if self.in_flight >= self.cap {
            return Turn::Later;
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Turn::Until(until);
        }
        self.recover(now);
        while self
            .grants
            .front()
            .is_some_and(|grant| now >= *grant + WINDOW)
        {
            self.grants.pop_front();
        }
        let allowed = self.allowed();
        let over = self.grants.len().checked_sub(allowed);
        if let Some(over) = over.filter(|_| !mutant::is_on("budget_ignored")) {
            // Room comes when so many grants have left the window that one more fits, or with a higher rate.
            let room = self.grants[over] + WINDOW;
            let step = self.recovered_at + RECOVERY_INTERVAL;
            return Turn::Until(if self.rate < self.budget {
                room.min(step)
            } else {
                room
            });
        }
        self.grants.push_back(now);
        self.in_flight += 1;
        self.granted = self.granted.saturating_add(1);
        Turn::Granted(now)
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rate lies between one and a `u32`"
    )]
    fn allowed(&self) -> usize {
        self.rate as usize
    }

    fn recover(&mut self, now: Instant) {
        let quiet = now.saturating_duration_since(self.recovered_at);
        let steps = quiet.as_secs() / RECOVERY_INTERVAL.as_secs();
        if steps == 0 {
            return;
        }
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.rate = (self.rate + f64::from(steps) * RECOVERY_SHARE * self.budget).min(self.budget);
        self.recovered_at += RECOVERY_INTERVAL * steps;
        self.complaints = 0;
    }

    fn throttled(&mut self, retry_after: Option<Duration>, granted_at: Instant) {
        let now = Instant::now();
        self.recover(now);
        if self.complained_at.is_none_or(|last| granted_at > last) {
            if self.granted >= ALONE_AFTER {
                self.complaints = 0;
            } else {
                self.rate = (self.rate / 2.0).max(FLOOR_PER_MINUTE.min(self.budget));
            }
            self.complaints = self.complaints.saturating_add(1);
            self.complained_at = Some(now);
            self.granted = 0;
        }
        let pause = retry_after.map_or_else(
            || {
                let doublings = self.complaints.saturating_sub(1).min(16);
                let full = (GUESS.0 * 2_u32.pow(doublings)).min(GUESS.1);
                full.mul_f64(0.5 + fastrand::f64() / 2.0)
            },
            |asked| asked.clamp(PAUSE.0, PAUSE.1),
        );
        if mutant::is_on("retry_after_ignored") {
            return;
        }
        let until = now + pause;
        self.paused_until = self.paused_until.max(Some(until));
        // Silence while nothing is asked is no recovery.
        self.recovered_at = self.recovered_at.max(until);
        self.wake_first();
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing under this lock can panic half-way: it only counts.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bounds the requests of all tenants together, first come first served.
#[derive(Clone, Debug)]
pub struct GlobalLimiter {
    permits: Arc<Semaphore>,
}

/// Leave to have one of all requests in flight; given back when it is dropped.
#[derive(Debug)]
pub struct GlobalPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl GlobalLimiter {
    /// At most `in_flight` requests at once; zero counts as one.
    pub fn new(in_flight: usize) -> Self {
        let permits = in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    /// Waits for leave. Ask the tenant's own limiter first, so that a slow tenant holds nothing here.
    pub async fn acquire(&self) -> GlobalPermit {
        // Fails only for a closed semaphore, and nothing closes this one.
        GlobalPermit {
            _permit: Arc::clone(&self.permits).acquire_owned().await.ok(),
        }
    }

    /// How many more requests could start now.
    pub fn free(&self) -> usize {
        self.permits.available_permits()
    }
}

#[cfg(test)]
mod tests;
