//! How many requests a sink has under way at once: a number, or as many as the server bears.
//!
//! The adaptive limit grows by one for each round (a request's time) in which it was used up, and shrinks when answers
//! take longer than they used to or the server says that it has too much to do: additive increase, multiplicative
//! decrease. Requests that were under way together complain together; that is one complaint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What an adaptive limit begins with: enough to overlap sending with waiting.
const FIRST: f64 = 2.0;

/// The adaptive limit ends here: the line's budget does not fill more requests.
const MOST: f64 = 64.0;

/// Requests at once, limited.
#[derive(Debug)]
pub struct Concurrency {
    state: Mutex<State>,
    freed: Notify,
}

/// Leave to have one request under way; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Concurrency>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    adaptive: bool,
    in_flight: usize,
    round: Round,
    /// What answers usually take, in seconds, and how far they usually are from it.
    usual: Option<(f64, f64)>,
    shrunk_at: Option<Instant>,
}

/// The answers that are judged together.
#[derive(Debug)]
struct Round {
    ends_at: Instant,
    seconds: f64,
    answers: u32,
    /// Most requests under way at once.
    peak: usize,
}

impl Round {
    fn new(ends_at: Instant) -> Self {
        Self {
            ends_at,
            seconds: 0.0,
            answers: 0,
            peak: 0,
        }
    }
}

impl Concurrency {
    /// A limit that finds out what the server bears.
    pub fn adaptive() -> Self {
        Self::new(FIRST, true)
    }

    /// A limit that stays; zero counts as one.
    pub fn fixed(requests: usize) -> Self {
        let requests = u32::try_from(requests.max(1)).unwrap_or(u32::MAX);
        Self::new(f64::from(requests), false)
    }

    fn new(limit: f64, adaptive: bool) -> Self {
        Self {
            state: Mutex::new(State {
                limit,
                adaptive,
                in_flight: 0,
                round: Round::new(Instant::now()),
                usual: None,
                shrunk_at: None,
            }),
            freed: Notify::new(),
        }
    }

    /// Requests that may be under way at once now.
    pub fn limit(&self) -> usize {
        self.lock().whole_limit()
    }

    /// Waits for leave to send. Meant for one task: of several that wait only one is woken at a time.
    pub async fn slot(self: &Arc<Self>) -> Slot {
        while !self.lock().take() {
            self.freed.notified().await;
        }
        Slot { of: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way: it only counts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The server answered as it should, after so long.
    pub fn answered(&self, latency: Duration) {
        self.of
            .lock()
            .answered(Instant::now(), latency.as_secs_f64());
        self.of.freed.notify_one();
    }

    /// The server has too much to do; it was asked at this time.
    pub fn overloaded(&self, asked_at: Instant) {
        self.of.lock().overloaded(Instant::now(), asked_at);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.of.lock().in_flight -= 1;
        self.of.freed.notify_one();
    }
}

impl State {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the limit lies between one and a `u32`"
    )]
    fn whole_limit(&self) -> usize {
        self.limit as usize
    }

    fn take(&mut self) -> bool {
        let free = self.in_flight < self.whole_limit();
        if free {
            self.in_flight += 1;
            self.round.peak = self.round.peak.max(self.in_flight);
        }
        free
    }

    fn answered(&mut self, now: Instant, seconds: f64) {
        if !self.adaptive {
            return;
        }
        self.round.seconds += seconds;
        self.round.answers += 1;
        if now >= self.round.ends_at {
            self.end_round(now);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let mean = self.round.seconds / f64::from(self.round.answers.max(1));
        let (usual, deviation) = self.usual.unwrap_or((mean, mean / 2.0));
        // Half as long again is within the mood of any server; so is what it does all the time.
        if mean > usual + (usual / 2.0).max(2.5 * deviation) {
            self.shrink(now, 0.9);
        } else if self.round.peak >= self.whole_limit() {
            self.limit = (self.limit + 1.0).min(MOST);
        }
        // A fifth of each round: a server that has become slower for good is the usual one after some rounds.
        self.usual = Some((
            usual + (mean - usual) / 5.0,
            deviation + ((mean - usual).abs() - deviation) / 5.0,
        ));
        self.round = Round::new(now + Duration::from_secs_f64(mean));
        self.round.peak = self.in_flight;
    }

    fn overloaded(&mut self, now: Instant, asked_at: Instant) {
        if self.adaptive && self.shrunk_at.is_none_or(|shrunk_at| asked_at > shrunk_at) {
            self.shrink(now, 0.5);
            self.round = Round::new(now);
        }
    }

    fn shrink(&mut self, now: Instant, share: f64) {
        self.limit = (self.limit * share).max(1.0);
        self.shrunk_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Fills the limit, then lets every request be answered after so long.
    async fn round(concurrency: &Arc<Concurrency>, latency: Duration) {
        let mut slots = Vec::new();
        for _ in 0..concurrency.limit() {
            slots.push(concurrency.slot().await);
        }
        tokio::time::advance(latency).await;
        for slot in slots {
            slot.answered(latency);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn grows_by_one_a_round_while_it_is_used_up() {
        let concurrency = Arc::new(Concurrency::adaptive());
        for _ in 0..10 {
            round(&concurrency, TICK).await;
        }
        assert!((10..=13).contains(&concurrency.limit()), "{concurrency:?}");
        for _ in 0..200 {
            round(&concurrency, TICK).await;
        }
        assert_eq!(concurrency.limit(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_grow_while_it_is_not_used_up() {
        let concurrency = Arc::new(Concurrency::adaptive());
        for _ in 0..5 {
            round(&concurrency, TICK).await;
        }
        let before = concurrency.limit();
        for _ in 0..20 {
            let slot = concurrency.slot().await;
            tokio::time::advance(TICK).await;
            slot.answered(TICK);
        }
        assert!(concurrency.limit() <= before + 1, "{concurrency:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_wave_of_complaints_halves_once() {
        let concurrency = Arc::new(Concurrency::adaptive());
        for _ in 0..14 {
            round(&concurrency, TICK).await;
        }
        let before = concurrency.limit();
        let asked_at = Instant::now();
        let mut slots = Vec::new();
        for _ in 0..before {
            slots.push(concurrency.slot().await);
        }
        tokio::time::advance(TICK).await;
        slots.iter().for_each(|slot| slot.overloaded(asked_at));
        assert_eq!(concurrency.limit(), before / 2);
        tokio::time::advance(TICK).await;
        slots[0].overloaded(Instant::now());
        assert_eq!(concurrency.limit(), before / 4);
        for _ in 0..20 {
            tokio::time::advance(TICK).await;
            slots[0].overloaded(Instant::now());
        }
        assert_eq!(concurrency.limit(), 1, "one request always goes");
    }

    #[tokio::test(start_paused = true)]
    async fn shrinks_when_answers_take_longer_and_gets_used_to_it() {
        let concurrency = Arc::new(Concurrency::adaptive());
        for _ in 0..18 {
            round(&concurrency, TICK).await;
        }
        let before = concurrency.limit();
        round(&concurrency, TICK * 5).await;
        round(&concurrency, TICK * 5).await;
        assert!(concurrency.limit() < before, "{concurrency:?}");
        for _ in 0..40 {
            round(&concurrency, TICK * 5).await;
        }
        assert!(concurrency.limit() > before, "{concurrency:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_at_once_than_the_limit() {
        let concurrency = Arc::new(Concurrency::fixed(3));
        let mut slots = Vec::new();
        for _ in 0..3 {
            slots.push(concurrency.slot().await);
        }
        let late = tokio::time::timeout(TICK, concurrency.slot()).await;
        assert!(late.is_err(), "a fourth request at once");
        slots[0].overloaded(Instant::now());
        slots[0].answered(TICK);
        slots.pop();
        let _next = concurrency.slot().await;
        assert_eq!(concurrency.limit(), 3, "a fixed limit stays");
    }
}
