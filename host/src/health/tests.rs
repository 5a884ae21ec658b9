//! Each rule and each thing that is none, one row each; and a watch over streams that come and go.

use super::*;
use crate::ledger::Trouble;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const NOW_MS: i64 = 20_000 * 24 * HOUR_MS;

/// A stream that was listed a moment ago and has nothing to deliver.
fn quiet() -> Progress {
    Progress {
        watermark_ms: Some(NOW_MS - 10 * MINUTE_MS),
        advanced_ms: Some(NOW_MS - MINUTE_MS),
        listed_ms: Some(NOW_MS - MINUTE_MS),
        next_ms: Some(NOW_MS),
        ..Progress::default()
    }
}

/// Content that has been available, and has not moved, for so long.
fn oldest(age_ms: i64, still_ms: i64) -> Option<Front> {
    Some(Front {
        at_ms: NOW_MS - age_ms,
        since_ms: NOW_MS - still_ms,
    })
}

/// Content that expires after so long, and has not moved for so long.
fn expiring_in(left_ms: i64, still_ms: i64) -> Option<Front> {
    oldest(-left_ms, still_ms)
}

fn trouble(since_ms: i64) -> Option<Trouble> {
    Some(Trouble {
        kind: "unauthorised".into(),
        reason: "no consent".into(),
        since_ms,
    })
}

#[track_caller]
fn check(what: &str, progress: Progress, expected: &[&str]) {
    let health = judge(&progress, &Thresholds::default(), None, NOW_MS);
    assert_eq!(health.reasons(), expected, "{what}");
    assert_eq!(health.is_ok(), expected.is_empty(), "{what}");
}

#[test]
fn undelivered_content_that_is_old_has_to_move() {
    let cases: [(&str, i64, i64, &[&str]); 6] = [
        (
            "old and still",
            2 * HOUR_MS,
            HOUR_MS,
            &["the oldest undelivered content is 2h00m old and has not moved for 1h00m"],
        ),
        (
            "just too old, just too long",
            HOUR_MS + 1,
            10 * MINUTE_MS + 1,
            &["the oldest undelivered content is 1h00m old and has not moved for 10m"],
        ),
        (
            "a backlog of a week, worked off",
            167 * HOUR_MS,
            30 * SECOND_MS,
            &[],
        ),
        (
            "old, and still for as long as it may be",
            9 * HOUR_MS,
            10 * MINUTE_MS,
            &[],
        ),
        ("new, whatever the sink does", HOUR_MS, HOUR_MS, &[]),
        ("found a moment ago, though old", 9 * HOUR_MS, 0, &[]),
    ];
    for (what, age_ms, still_ms, expected) in cases {
        let oldest = oldest(age_ms, still_ms);
        check(what, Progress { oldest, ..quiet() }, expected);
    }
}

#[test]
fn undelivered_content_near_its_expiry_has_to_move() {
    let cases: [(&str, i64, i64, &[&str]); 6] = [
        (
            "near and still",
            5 * HOUR_MS,
            11 * MINUTE_MS,
            &["undelivered content expires in 5h00m and has not moved for 11m"],
        ),
        (
            "at the threshold",
            12 * HOUR_MS,
            11 * MINUTE_MS,
            &["undelivered content expires in 12h00m and has not moved for 11m"],
        ),
        (
            "expired and still",
            -MINUTE_MS,
            11 * MINUTE_MS,
            &["undelivered content has expired and has not moved for 11m"],
        ),
        ("near and moving", MINUTE_MS, 9 * MINUTE_MS, &[]),
        (
            "expired and moving: the origin has the last word",
            -MINUTE_MS,
            SECOND_MS,
            &[],
        ),
        ("far and still", 12 * HOUR_MS + 1, 11 * MINUTE_MS, &[]),
    ];
    for (what, left_ms, still_ms, expected) in cases {
        let expiring = expiring_in(left_ms, still_ms);
        check(
            what,
            Progress {
                expiring,
                ..quiet()
            },
            expected,
        );
    }
}

#[test]
fn listing_has_to_advance() {
    let stands = |advanced_ms: i64| Progress {
        advanced_ms: Some(NOW_MS - advanced_ms),
        ..quiet()
    };
    check("quiet, and listed", quiet(), &[]);
    check("not yet too long", stands(30 * MINUTE_MS), &[]);
    let said = "listing has not advanced for 45m";
    check(
        "listed, and the watermark stands",
        stands(45 * MINUTE_MS),
        &[said],
    );
    let refused = Progress {
        trouble: trouble(NOW_MS - 45 * MINUTE_MS),
        ..stands(45 * MINUTE_MS)
    };
    let said = "listing has not advanced for 45m: unauthorised: no consent";
    check("refused for long", refused, &[said]);
    let refused = Progress {
        trouble: trouble(NOW_MS - MINUTE_MS),
        ..quiet()
    };
    check("refused a moment ago: one error is none", refused, &[]);
    // It asks to be listed every hour: four of those may pass.
    let rare = |advanced_ms: i64| Progress {
        listed_ms: Some(NOW_MS - advanced_ms),
        next_ms: Some(NOW_MS - advanced_ms + HOUR_MS),
        ..stands(advanced_ms)
    };
    check("a long interval", rare(4 * HOUR_MS), &[]);
    check(
        "several long intervals",
        rare(4 * HOUR_MS + 1),
        &["listing has not advanced for 4h00m"],
    );
    let never = Progress {
        next_ms: Some(i64::MAX),
        ..rare(97 * HOUR_MS)
    };
    check(
        "an interval without end",
        never,
        &["listing has not advanced for 4d01h"],
    );
    let ahead = stands(-9 * HOUR_MS);
    check("a clock that was turned back", ahead, &[]);
}

#[test]
fn without_watermarks_being_listed_is_enough() {
    let listed = |ago_ms: i64| Progress {
        watermark_ms: None,
        advanced_ms: None,
        listed_ms: Some(NOW_MS - ago_ms),
        next_ms: Some(NOW_MS - ago_ms + MINUTE_MS),
        ..quiet()
    };
    check("listed", listed(MINUTE_MS), &[]);
    check(
        "not listed",
        listed(HOUR_MS),
        &["listing has not advanced for 1h00m"],
    );
}

#[test]
fn what_was_never_listed_has_its_time_too() {
    let judged = |progress: &Progress, watched_ms| {
        let health = judge(progress, &Thresholds::default(), watched_ms, NOW_MS);
        health.reasons().concat()
    };
    let ago = |ms: i64| Some(NOW_MS - ms);
    let unknown = Progress::default();
    assert_eq!(judged(&unknown, ago(29 * MINUTE_MS)), "");
    assert_eq!(
        judged(&unknown, ago(31 * MINUTE_MS)),
        "it could not be listed for 31m"
    );
    assert_eq!(judged(&unknown, None), "it was never listed");
    let refused = Progress {
        trouble: trouble(NOW_MS - 40 * MINUTE_MS),
        ..Progress::default()
    };
    let said = "it could not be listed for 40m: unauthorised: no consent";
    // An hour of trouble is no shorter for a restart, and a change of trouble none either.
    assert_eq!(judged(&refused, ago(MINUTE_MS)), said);
    assert_eq!(judged(&refused, None), said);
    assert!(judged(&refused, ago(50 * MINUTE_MS)).contains("50m"));
}

#[test]
fn content_in_quarantine_must_not_come_near_its_expiry() {
    let cases: [(&str, i64, &[&str]); 3] = [
        ("far", 12 * HOUR_MS + 1, &[]),
        (
            "near",
            3 * HOUR_MS,
            &["content in quarantine expires in 3h00m"],
        ),
        ("over", -1, &["content in quarantine has expired"]),
    ];
    for (what, left_ms, expected) in cases {
        let quarantine_expires_ms = Some(NOW_MS + left_ms);
        let progress = Progress {
            quarantine_expires_ms,
            ..quiet()
        };
        check(what, progress, expected);
    }
}

#[test]
fn every_reason_is_said() {
    let progress = Progress {
        advanced_ms: Some(NOW_MS - HOUR_MS),
        oldest: oldest(2 * HOUR_MS, 2 * HOUR_MS),
        expiring: expiring_in(HOUR_MS, 2 * HOUR_MS),
        quarantine_expires_ms: Some(NOW_MS + HOUR_MS),
        ..quiet()
    };
    let health = judge(&progress, &Thresholds::default(), None, NOW_MS);
    assert_eq!(health.reasons().len(), 4, "{health:?}");
}

#[test]
fn thresholds_are_the_pipelines_own() {
    let thresholds = Thresholds {
        max_age: Duration::from_hours(3),
        near_expiry: Duration::from_mins(30),
        stall_timeout: Duration::from_hours(2),
        listing_timeout: Duration::from_hours(5),
    };
    let progress = |age_ms, left_ms, still_ms, silent_ms| Progress {
        oldest: oldest(age_ms, still_ms),
        expiring: expiring_in(left_ms, still_ms),
        quarantine_expires_ms: Some(NOW_MS + left_ms),
        advanced_ms: Some(NOW_MS - silent_ms),
        ..quiet()
    };
    let reasons = |progress| judge(&progress, &thresholds, None, NOW_MS).reasons().len();
    let (within, beyond) = (HOUR_MS, 6 * HOUR_MS);
    assert_eq!(
        reasons(progress(2 * HOUR_MS, within, beyond, 4 * HOUR_MS)),
        0
    );
    assert_eq!(
        reasons(progress(beyond, 0, within, within)),
        1,
        "in quarantine"
    );
    assert_eq!(reasons(progress(beyond, 0, beyond, beyond)), 4);
}

#[test]
fn a_change_is_told_once_and_the_reason_stays_up_to_date() {
    let watch = Arc::new(Watch::default());
    let stream = StreamKey::new("contoso", "Audit.Exchange");
    let _at_work = watch.begin(stream.clone(), NOW_MS);
    let stands = |ms| Progress {
        oldest: oldest(HOUR_MS + ms, ms),
        ..quiet()
    };
    let look = |progress| watch.look(vec![(stream.clone(), progress)], NOW_MS);
    assert_eq!(look(quiet()), []);
    let [change] = &look(stands(HOUR_MS))[..] else {
        panic!("one change");
    };
    assert_eq!(
        (&change.stream, change.health.name()),
        (&stream, "unhealthy")
    );
    assert_eq!(look(stands(2 * HOUR_MS)), [], "it is known");
    let (_, health) = watch.streams().remove(0);
    assert!(health.reasons()[0].ends_with("for 2h00m"), "{health:?}");
    let [change] = &look(quiet())[..] else {
        panic!("one change");
    };
    assert_eq!(change.health, Health::Ok);
    assert_eq!(look(quiet()), []);
}

#[test]
fn only_streams_at_work_are_judged() {
    let watch = Arc::new(Watch::default());
    let (here, gone) = (StreamKey::new("here", "a"), StreamKey::new("gone", "a"));
    let old = Progress {
        advanced_ms: Some(NOW_MS - 99 * HOUR_MS),
        ..quiet()
    };
    let progress = vec![(gone.clone(), old.clone()), (here.clone(), quiet())];
    let at_work = watch.begin(here.clone(), NOW_MS);
    assert_eq!(watch.look(progress.clone(), NOW_MS), []);
    assert_eq!(watch.streams(), [(here.clone(), Health::Ok)]);
    // A tenant comes, is restarted before it has ended, and goes.
    let first = watch.begin(gone.clone(), NOW_MS);
    let second = watch.begin(gone, NOW_MS);
    drop(first);
    assert_eq!(watch.look(progress.clone(), NOW_MS).len(), 1);
    drop(second);
    assert_eq!(watch.look(progress, NOW_MS), []);
    assert_eq!(watch.streams().len(), 1);
    drop(at_work);
    assert_eq!(watch.streams(), []);
}
