//! Listing against a small model of the service: what is there must be found or declared lost.

mod beginning;
mod chance;
mod model;
mod subscriptions;

use std::collections::BTreeSet;

use super::*;
use crate::fake::{Answer, Fake, NOW, STREAM, config, limits};
use crate::time::DAY;
use model::{Blob, LISTED, Office, Run, describe};

#[test]
fn a_cold_start_lists_seven_days_in_one_call() {
    let mut office = Office::new();
    for hours in 1..167 {
        office.blob(NOW - hours * HOUR, 0);
    }
    office.page = 1_000;
    let mut run = Run::new("");
    run.begin(&mut office);
    run.discover(&mut office, false).expect("listed");
    assert_eq!(run.found.len(), 166);
    assert!(
        run.fake.most_outstanding >= 8,
        "{} at once",
        run.fake.most_outstanding
    );
    assert!(
        run.fake.sent.len() <= 40,
        "{} requests",
        run.fake.sent.len()
    );
    assert_eq!(run.next, Next::At(NOW + MINUTE));
    assert_eq!(run.gaps, []);
    // The last hour is complete up to ten minutes ago.
    assert_eq!(run.watermark, NOW - 10 * MINUTE);
}

#[test]
fn borders_stay_the_same() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.live(&mut office, 3 * HOUR);
    let windows: BTreeSet<_> = office.listed.iter().map(|(s, e, _)| (*s, *e)).collect();
    let ordered: Vec<_> = windows.iter().collect();
    for pair in ordered.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "windows must meet");
    }
    let hour = (time::floor(NOW, HOUR), time::floor(NOW, HOUR) + HOUR);
    let passes: Vec<_> = office
        .listed
        .iter()
        .filter(|(s, e, _)| (*s, *e) == hour)
        .map(|(.., at)| *at)
        .collect();
    assert!(
        passes.len() > 60,
        "the live edge is listed every minute: {}",
        passes.len()
    );
    let late: Vec<_> = passes
        .iter()
        .filter(|at| **at >= hour.1 + 10 * MINUTE)
        .collect();
    assert_eq!(late.len(), 2, "once to close it, once an hour later");
}

#[test]
fn a_window_that_ages_out_while_it_waits_is_cut_when_it_is_sent() {
    let mut office = Office::new();
    let oldest = NOW - config::RETENTION;
    office.blob(oldest + 2 * HOUR, 0);
    let mut run = Run::new("");
    run.begin(&mut office);
    // The oldest window is answered last, an hour later: it was computed on the right side of the edge.
    run.fake.clock.latency.set(2 * MINUTE);
    run.discover(&mut office, false).expect("listed");
    assert_eq!(run.found.len(), 1, "in the same call");
    let first =
        |(start, end, _): &&(i64, i64, i64)| *start > oldest + MINUTE && *end < oldest + 3 * HOUR;
    assert!(
        office.listed.iter().any(|window| first(&window)),
        "its start moved on"
    );
}

#[test]
fn a_closed_window_is_listed_again_at_the_promised_ages() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.live(&mut office, 27 * HOUR);
    let hour = (time::floor(NOW, HOUR), time::floor(NOW, HOUR) + HOUR);
    let passes: Vec<_> = office
        .listed
        .iter()
        .filter(|(s, e, _)| (*s, *e) == hour)
        .map(|(.., at)| *at)
        .collect();
    for age in [HOUR, 6 * HOUR, 24 * HOUR] {
        let due = hour.1 + age;
        let hit = passes.iter().any(|at| (due..due + 2 * MINUTE).contains(at));
        assert!(hit, "not listed at +{} h", age / HOUR);
    }
    assert!(
        !passes.iter().any(|at| *at > hour.1 + 25 * HOUR),
        "and then never again"
    );
}

#[test]
fn an_outage_longer_than_the_retention_is_declared() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.settle(&mut office);
    run.pass(9 * DAY);
    for hours in 1..(9 * 24) {
        office.blob(NOW + hours * HOUR, 0);
    }
    run.settle(&mut office);
    assert_eq!(run.gaps.len(), 1, "{:?}", run.gaps);
    for blob in &office.blobs {
        let (found, declared) = (run.found(blob), run.declared(blob.created));
        assert!(
            found != declared,
            "found {found}, declared {declared}: {blob:?}"
        );
    }
}

#[test]
fn a_clock_that_is_a_little_ahead_gives_nothing_up_too_soon() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.settle(&mut office);
    run.pass(105_000);
    office.skew = -105_000;
    run.pass(8 * DAY);
    run.settle(&mut office);
    let [gap] = &run.gaps[..] else {
        panic!("{:?}", run.gaps);
    };
    // Windows begin on whole minutes; beyond that, the service decides what is too old.
    let oldest = run.now() + office.skew - config::RETENTION;
    assert!(gap.until <= oldest + MINUTE, "{gap:?}, oldest {oldest}");
}

#[test]
fn since_and_until_bound_the_listing() {
    let mut office = Office::new();
    for hours in 0..(6 * 24) {
        office.blob(NOW - hours * HOUR, 0);
    }
    let (since, until) = (NOW - 50 * HOUR, NOW - 20 * HOUR);
    let (since, until) = (time::floor(since, MINUTE), time::floor(until, MINUTE));
    let (from, to) = (time::show(since), time::show(until));
    let mut run = Run::new(&format!(r#""since":"{from}","until":"{to}""#));
    run.live(&mut office, 2 * DAY);
    for blob in &office.blobs {
        let inside = (since..until).contains(&blob.created);
        assert_eq!(run.found(blob), inside, "{}", time::show(blob.created));
    }
    assert_eq!(run.watermark, until);
    assert_eq!(run.gaps, []);
}

#[test]
fn a_late_start_is_declared() {
    let mut office = Office::new();
    let since = time::floor(NOW - 10 * DAY, MINUTE);
    let mut run = Run::new(&format!(r#""since":"{}""#, time::show(since)));
    run.settle(&mut office);
    assert_eq!(run.gaps.len(), 1);
    assert_eq!(run.gaps[0].since, since);
    assert!((run.gaps[0].until - (NOW - config::RETENTION)).abs() <= MINUTE);
}

#[test]
fn a_damaged_cursor_starts_over_and_never_skips() {
    let mut office = Office::new();
    office.blob(NOW - 3 * DAY, 0);
    let mut run = Run::new("");
    run.settle(&mut office);
    let stored = run.fake.state.committed[KEY].clone();
    // Still JSON, and a hundred years ahead.
    let edited = String::from_utf8_lossy(&stored).replace("\"next\":1", "\"next\":4");
    assert_ne!(edited.as_bytes(), stored);
    for damage in [
        edited.into_bytes(),
        stored[..stored.len() - 1].to_vec(),
        b"2 x {}".to_vec(),
        Vec::new(),
    ] {
        run.fake.state.committed.insert(KEY.into(), damage);
        run.found.clear();
        run.watermark = 0;
        run.settle(&mut office);
        assert_eq!(run.found.len(), 1);
        assert_eq!(run.fake.state.committed[KEY].len(), stored.len());
    }
    assert_eq!(run.fake.count("cursors_damaged"), 4);
}

#[test]
fn a_service_whose_clock_is_far_ahead_makes_nothing_lost() {
    let mut office = Office::new();
    office.blob(NOW - 2 * DAY, 0);
    office.blob(NOW + HOUR, 0);
    let mut run = Run::new("");
    run.settle(&mut office);
    // From one call to the next its `Date` is a month ahead; what it serves is as before.
    let odd = |run: &mut Run, office: &mut Office| {
        let config = run.config.clone();
        run.fake.call(
            |request, now| {
                let mut answer = office.answer(request, now)?;
                answer.headers.retain(|(name, _)| name != "date");
                Ok(answer.with("date", "Tue, 10 Feb 2026 09:00:00 GMT"))
            },
            |world| discover(world, &config, STREAM, limits()),
        )
    };
    for _ in 0..30 {
        run.pass(10 * MINUTE);
        let discovery = odd(&mut run, &mut office).expect("listed");
        run.fake.state.commit();
        assert_eq!(discovery.gaps, []);
        assert!(discovery.watermark.expect("known") <= run.now());
        run.found
            .extend(discovery.splits.into_iter().map(|split| (split.id, 1)));
    }
    assert_eq!(run.found.len(), 2);
    assert!(run.fake.alarms() > 0);
}

#[test]
fn a_clock_put_right_behind_a_long_absence_is_believed() {
    let mut office = Office::new();
    let mut run = Run::new("");
    // The clock is eight days ahead; as long later, when nothing was asked for, it is right.
    run.pass(8 * DAY);
    office.skew = -8 * DAY;
    run.settle(&mut office);
    office.skew = 0;
    run.pass(10 * MINUTE);
    office.blob(run.now() - HOUR, 0);
    run.live(&mut office, HOUR);
    assert!(run.found(&office.blobs[0]));
}

#[test]
fn no_page_url_is_kept() {
    let mut office = Office::new();
    for minutes in 0..60 {
        office.blob(NOW - minutes * MINUTE, 0);
    }
    let mut run = Run::new("");
    run.settle(&mut office);
    let stored = String::from_utf8_lossy(&run.fake.state.committed[KEY]).into_owned();
    assert!(
        !stored.contains("http") && !stored.contains('$'),
        "{stored}"
    );
    assert!(stored.len() < 4096, "{} bytes", stored.len());
}

/// One scripted answer to every listing; what comes of it.
fn listing(mut answer: impl FnMut(u32, &Request) -> Answer) -> (Fake, Result<Discovery, Failure>) {
    let mut fake = Fake::new();
    let mut pages = 0;
    let config = config(r#""lookback":"30m""#);
    let begun = fake.call(
        |_, _| unreachable!("nothing is asked for yet"),
        |world| discover(world, &config, STREAM, limits()),
    );
    assert!(begun.is_ok(), "{begun:?}");
    fake.state.commit();
    let result = fake.call(
        |request, _| {
            if request.url.path.contains("/subscriptions/list") {
                return Ok(Answer::new(200, LISTED));
            }
            pages += 1;
            Ok(answer(pages, request))
        },
        |world| discover(world, &config, STREAM, limits()),
    );
    (fake, result)
}

fn retry_of(result: &Result<Discovery, Failure>) -> &str {
    match result {
        Err(Failure::Retry { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_loop_is_given_up() {
    let (fake, result) =
        listing(|_, request| Answer::new(200, "[]").with("NextPageUri", &request.url.to_string()));
    assert!(retry_of(&result).contains("loop"), "{result:?}");
    assert!(fake.sent.len() < 20, "{} requests", fake.sent.len());
    assert!(fake.alarms() > 0);
}

#[test]
fn a_page_that_is_refused_begins_its_window_again() {
    for code in ["AF20031", "AF20055", "AF20030"] {
        let refusal = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let mut refused = 0;
        let (fake, result) = listing(|_, request| {
            if !request.url.has_parameter("nextpage") {
                let next = format!("{}&nextpage=2026$1", request.url);
                return Answer::new(200, "[]").with("NextPageUri", &next);
            }
            refused += 1;
            if refused == 1 {
                return Answer::new(400, &refusal);
            }
            Answer::new(200, "[]")
        });
        assert!(result.is_ok(), "{code}: {result:?}");
        let first = |sent: &&Request| {
            let path = &sent.url.path;
            path.contains("/content") && !sent.url.has_parameter("nextpage")
        };
        let firsts: Vec<_> = fake
            .sent
            .iter()
            .filter(first)
            .map(|sent| &sent.url)
            .collect();
        let windows: BTreeSet<_> = firsts.iter().map(ToString::to_string).collect();
        assert_eq!(firsts.len(), windows.len() + 1, "{code}: one of them twice");
    }
}

#[test]
fn a_page_elsewhere_is_not_followed() {
    for url in [
        "https://attacker.example/api/v1.0/x",
        "http://manage.example.com/api",
        "https://manage.example.com:8443/api",
        "https://manage.example.com@attacker.example/",
        "//attacker.example/",
    ] {
        let (fake, result) = listing(|_, _| Answer::new(200, "[]").with("NextPageUrl", url));
        retry_of(&result);
        assert!(
            fake.sent
                .iter()
                .all(|sent| sent.url.origin() == "https://manage.example.com")
        );
        assert!(fake.alarms() > 0, "{url}");
    }
}

#[test]
fn what_is_no_list_is_asked_for_again() {
    for body in [
        "null",
        "{}",
        "\"x\"",
        "5",
        "",
        "<html></html>",
        "[{\"contentUri\":",
    ] {
        let (fake, result) = listing(|_, _| Answer::new(200, body));
        assert!(retry_of(&result).contains("not a list"), "{result:?}");
        assert!(fake.sent.len() > 4, "each page has some tries");
    }
    // A mark in front and an empty page in the middle are fine.
    let (_, result) = listing(|page, request| {
        let answer = Answer::new(200, "\u{feff}[]");
        if page < 3 {
            return answer.with("NEXTPAGEURI", &format!("{}&nextpage={page}", request.url));
        }
        answer
    });
    assert!(
        matches!(
            result,
            Ok(Discovery {
                next: Next::At(_),
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn an_unusable_element_keeps_its_window_open() {
    let blob = Blob {
        id: "good".into(),
        created: NOW,
        visible: NOW,
    };
    for element in [
        "{}",
        "5",
        "null",
        r#"{"contentId":"x"}"#,
        r#"{"contentUri":5,"contentId":"x"}"#,
    ] {
        let (fake, result) =
            listing(|_, _| Answer::new(200, &format!("[{element},{}]", describe(&blob))));
        let discovery = result.expect("the good one is taken");
        assert_eq!(discovery.splits.len(), 1);
        assert!(
            discovery.watermark.expect("known") <= NOW - 29 * MINUTE,
            "{element}"
        );
        assert!(fake.count("list_items_invalid") > 0);
        assert_ne!(discovery.next, Next::Again, "no hot loop");
    }
}

#[test]
fn refusals_of_a_listing_become_failures() {
    let check = |status, body: &str, expected: fn(&Failure) -> bool| {
        let (fake, result) = listing(|_, _| Answer::new(status, body));
        assert!(
            result.as_ref().is_err_and(expected),
            "{status} {body}: {result:?}"
        );
        assert!(fake.state.staged.is_empty());
    };
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
    check(401, &error("AF10001"), |failure| {
        matches!(failure, Failure::Unauthorised(_))
    });
    check(401, r#"{"Message":"denied"}"#, |failure| {
        matches!(failure, Failure::Unauthorised(_))
    });
    check(400, &error("AF20013"), |failure| {
        matches!(failure, Failure::Misconfigured(_))
    });
    check(400, &error("AF20055"), |failure| {
        matches!(failure, Failure::Retry { .. })
    });
    check(500, &error("AF50000"), |failure| {
        matches!(failure, Failure::Retry { .. })
    });
    check(404, "", |failure| matches!(failure, Failure::Retry { .. }));
    check(403, "{'error':{'code':'AF429','message':'m'}}", |failure| {
        matches!(
            failure,
            Failure::Retry {
                affects: Scope::Tenant,
                ..
            }
        )
    });
    // Subscribed, says the list, and yet not: it is starting.
    check(400, &error("AF20022"), |failure| {
        matches!(
            failure,
            Failure::Retry {
                affects: Scope::Stream,
                after_ms: Some(30_000),
                ..
            }
        )
    });
}

#[test]
fn splits_are_limited_by_whole_windows() {
    let mut office = Office::new();
    for minutes in 0..(48 * 60) {
        office.blob(NOW - minutes * MINUTE, 0);
    }
    office.page = 200;
    let mut fake = Fake::new();
    let config = config("");
    let mut found = BTreeSet::new();
    for calls in 1.. {
        let few = Limits {
            splits: 500,
            ..limits()
        };
        let discovery = fake
            .call(
                |request, now| office.answer(request, now),
                |world| discover(world, &config, STREAM, few),
            )
            .expect("listed");
        fake.state.commit();
        // Only a window that alone has more may pass the limit.
        assert!(discovery.splits.len() <= 1440, "{}", discovery.splits.len());
        found.extend(discovery.splits.into_iter().map(|split| split.id));
        if discovery.next != Next::Again {
            assert!(calls > 2);
            break;
        }
        assert!(calls < 20, "no end");
    }
    assert_eq!(found.len(), office.blobs.len());
}

#[test]
fn a_window_too_large_for_one_call_is_divided() {
    let mut office = Office::new();
    let start = time::floor(NOW, DAY) - 2 * DAY;
    for number in 0..30_000 {
        office.blob(start + number * 2_000, 0);
    }
    office.page = 5_000;
    let mut run = Run::new("");
    run.settle(&mut office);
    assert_eq!(run.found.len(), 30_000);
    let parts = office
        .listed
        .iter()
        .filter(|(s, e, _)| *s >= start && *e <= start + DAY);
    assert!(parts.count() >= 8, "{:?}", office.listed.len());
}

#[test]
fn a_call_ends_in_time_however_slow_answers_are() {
    let mut office = Office::new();
    for hours in 1..60 {
        office.blob(NOW - hours * HOUR, 0);
    }
    office.page = 2;
    let mut fake = Fake::new();
    fake.clock.latency.set(10_000);
    let config = config(r#""lookback":"60h""#);
    let mut found = BTreeSet::new();
    for calls in 0.. {
        // Less than one window's pages take in turn with the others'.
        let deadline = fake.clock.now.get() + 5 * MINUTE;
        let limits = Limits {
            deadline,
            ..limits()
        };
        let discovery = fake
            .call(
                |request, now| office.answer(request, now),
                |world| discover(world, &config, STREAM, limits),
            )
            .expect("listed");
        fake.state.commit();
        assert!(fake.clock.now.get() < deadline, "it would be cut off");
        found.extend(discovery.splits.into_iter().map(|split| split.id));
        if discovery.next != Next::Again {
            break;
        }
        assert!(calls < 50, "no end");
    }
    assert_eq!(found.len(), office.blobs.len());
}
