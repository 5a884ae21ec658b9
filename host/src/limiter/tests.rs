//! The limiter's promises, under paused time.

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep, timeout};

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

/// Asks `requests` times at once, each held for `held`; when each was granted.
async fn run(limiter: &Limiter, requests: usize, held: Duration) -> Vec<Instant> {
    let mut tasks = JoinSet::new();
    for _ in 0..requests {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let permit = limiter.acquire(Priority::Normal).await;
            let granted_at = permit.granted_at;
            sleep(held).await;
            granted_at
        });
    }
    let mut grants = tasks.join_all().await;
    grants.sort_unstable();
    grants
}

fn most_in_a_window(grants: &[Instant]) -> usize {
    let within = |(from, start): (usize, &Instant)| {
        grants[from..]
            .iter()
            .take_while(|grant| **grant < *start + WINDOW)
            .count()
    };
    grants.iter().enumerate().map(within).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_burst_takes_the_budget_at_once_and_then_waits_for_the_window() {
    let limiter = Limiter::new(100, 1000);
    let start = Instant::now();
    let grants = run(&limiter, 250, Duration::from_millis(50)).await;
    let seconds: Vec<u64> = grants
        .iter()
        .map(|grant| (*grant - start).as_secs())
        .collect();
    assert_eq!((seconds[0], seconds[99]), (0, 0));
    assert_eq!((seconds[100], seconds[199]), (61, 61));
    assert_eq!((seconds[200], seconds[249]), (122, 122));
}

#[tokio::test(start_paused = true)]
async fn never_more_in_flight_than_allowed_and_never_fewer_without_need() {
    let limiter = Limiter::new(100_000, 50);
    let start = Instant::now();
    let grants = run(&limiter, 1000, Duration::from_millis(50)).await;
    assert_eq!(grants.len(), 1000);
    // Twenty rounds of fifty, each as long as a request: the timer counts whole milliseconds.
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    assert!(elapsed <= Duration::from_millis(1025), "{elapsed:?}");
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served_and_listing_first() {
    let limiter = Limiter::new(1000, 1);
    let held = limiter.acquire(Priority::Normal).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (name, priority) in [
        ("a", Priority::Normal),
        ("b", Priority::Normal),
        ("list", Priority::High),
        ("c", Priority::Normal),
    ] {
        let (limiter, order) = (limiter.clone(), Arc::clone(&order));
        tasks.spawn(async move {
            let _permit = limiter.acquire(priority).await;
            order.lock().unwrap().push(name);
            sleep(Duration::from_millis(1)).await;
        });
        tokio::task::yield_now().await;
    }
    drop(held);
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["list", "a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_holds_nobody_up() {
    let limiter = Limiter::new(1000, 1);
    let held = limiter.acquire(Priority::Normal).await;
    let second = limiter.acquire(Priority::High);
    assert!(timeout(MINUTE, second).await.is_err());
    let third = tokio::spawn({
        let limiter = limiter.clone();
        async move { drop(limiter.acquire(Priority::Normal).await) }
    });
    tokio::task::yield_now().await;
    drop(held);
    timeout(MINUTE, third).await.unwrap().unwrap();
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_complaint_halves_once_pauses_and_recovers_in_steps() {
    let limiter = Limiter::new(1000, 100);
    let mut permits = Vec::new();
    for _ in 0..10 {
        permits.push(limiter.acquire(Priority::Normal).await);
    }
    advance(Duration::from_secs(1)).await;
    for permit in &permits {
        limiter.throttled(Some(Duration::from_secs(30)), permit.granted_at);
    }
    let check = |expected: f64| {
        let rate = limiter.requests_per_minute();
        assert!((rate - expected).abs() < 0.5, "{rate}, not {expected}");
    };
    check(500.0);
    assert_eq!(limiter.pause(), Duration::from_secs(30));
    let start = Instant::now();
    let next = limiter.acquire(Priority::Normal).await;
    assert_eq!((next.granted_at - start).as_secs(), 30);
    check(500.0);
    advance(Duration::from_secs(10)).await;
    check(600.0);
    advance(Duration::from_secs(25)).await;
    check(800.0);
    limiter.throttled(None, next.granted_at);
    check(400.0);
    advance(Duration::from_secs(1000)).await;
    check(1000.0);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_within_reason() {
    for (asked, obeyed) in [
        (Some(Duration::ZERO), 1),
        (Some(Duration::from_secs(17)), 17),
        (Some(Duration::from_hours(24 * 3_650)), 3_600),
    ] {
        let limiter = Limiter::new(1000, 100);
        limiter.throttled(asked, Instant::now());
        let start = Instant::now();
        drop(limiter.acquire(Priority::High).await);
        assert_eq!(start.elapsed().as_secs(), obeyed, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn complaints_without_a_time_pause_longer_and_longer() {
    let limiter = Limiter::new(1000, 100);
    for full_ms in [500, 1000, 2000, 4000, 8000, 15_000, 15_000] {
        let granted_at = limiter.acquire(Priority::Normal).await.granted_at;
        limiter.throttled(None, granted_at);
        let pause = limiter.pause().as_millis();
        assert!(
            (full_ms / 2..=full_ms).contains(&pause),
            "{pause} of {full_ms}"
        );
        // Time that passes between grant and complaint, so that each is a complaint of its own.
        sleep(limiter.pause() + Duration::from_millis(1)).await;
    }
    assert!(limiter.requests_per_minute() >= FLOOR_PER_MINUTE);
}

/// Requests a second with `budget` a minute, when each of `one_in` requests is refused.
async fn throughput(budget: u32, one_in: usize) -> f64 {
    let limiter = Limiter::new(budget, 100);
    let start = Instant::now();
    for number in 1..=20_000_usize {
        let permit = limiter.acquire(Priority::Normal).await;
        if number.is_multiple_of(one_in) {
            sleep(Duration::from_millis(1)).await;
            limiter.throttled(None, permit.granted_at);
        }
    }
    20_000.0 / start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn one_refusal_in_a_hundred_hardly_slows_down_and_many_do() {
    let undisturbed = throughput(2_000, usize::MAX).await;
    let seldom = throughput(2_000, 100).await;
    assert!(seldom > 0.8 * undisturbed, "{seldom} of {undisturbed}");
    let often = throughput(2_000, 10).await;
    assert!(often < 0.3 * undisturbed, "{often} of {undisturbed}");
}

#[tokio::test(start_paused = true)]
async fn all_tenants_together_stay_under_the_global_cap() {
    let global = GlobalLimiter::new(2);
    let (one, two) = (global.acquire().await, global.acquire().await);
    assert_eq!(global.free(), 0);
    assert!(timeout(MINUTE, global.acquire()).await.is_err());
    drop(one);
    drop(timeout(MINUTE, global.acquire()).await.unwrap());
    drop(two);
    assert_eq!(global.free(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_sliding_minute_is_over_budget(
        budget in 1_u32..80,
        cap in 1_usize..40,
        requests in 1_usize..300,
        held_ms in 0_u64..40_000,
        complaints in proptest::collection::vec((0_u64..100_000, 0_u64..40), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(budget, cap);
            for (at_ms, retry_after) in complaints {
                let limiter = limiter.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(at_ms)).await;
                    limiter.throttled(Some(Duration::from_secs(retry_after)), Instant::now());
                });
            }
            let grants = run(&limiter, requests, Duration::from_millis(held_ms)).await;
            assert_eq!(grants.len(), requests);
            assert!(most_in_a_window(&grants) <= budget as usize);
            assert_eq!(limiter.in_flight(), 0);
        });
    }
}
