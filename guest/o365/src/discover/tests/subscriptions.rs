//! Subscriptions: started when missing, stopped when asked for, and nothing of it too often.

use super::model::{Office, Run};
use super::*;
use crate::fake::NOW;

#[test]
fn a_missing_subscription_is_started_once() {
    let mut office = Office::new();
    office.enabled = false;
    office.blob(NOW - HOUR, 0);
    let mut run = Run::new("");
    run.begin(&mut office);
    run.discover(&mut office, false).expect("announced");
    assert_eq!((run.next, office.starts.len()), (Next::Again, 0));
    // Crashes behind the start: the listing shows that it worked.
    run.discover(&mut office, true).expect("started");
    run.discover(&mut office, true).expect("listed");
    run.settle(&mut office);
    assert_eq!(office.starts.len(), 1);
    assert_eq!(run.found.len(), 1);
}

#[test]
fn a_start_without_effect_is_not_repeated_for_fifteen_minutes() {
    let mut office = Office::new();
    office.enabled = false;
    let mut run = Run::new("");
    for _ in 0..60 {
        // Auditing is off: the service takes the start and nothing changes.
        let result = run.discover(&mut office, false);
        office.enabled = false;
        match result {
            Ok(()) => {}
            Err(Failure::Retry {
                after_ms: Some(after),
                ..
            }) => {
                run.pass(i64::try_from(after).expect("minutes").min(40_000));
            }
            Err(failure) => panic!("{failure:?}"),
        }
        run.pass(20_000);
    }
    assert!(office.starts.len() >= 2, "{:?}", office.starts);
    for pair in office.starts.windows(2) {
        assert!(
            pair[1] - pair[0] >= 15 * MINUTE,
            "{} s apart",
            (pair[1] - pair[0]) / 1000
        );
    }
}

#[test]
fn a_start_that_the_service_took_and_does_not_show_yet_is_not_repeated() {
    let mut office = Office::new();
    (office.enabled, office.settled) = (false, i64::MAX);
    office.blob(NOW - HOUR, 0);
    let mut run = Run::new("");
    for _ in 0..30 {
        let _ = run.discover(&mut office, false);
        run.pass(10_000);
    }
    assert_eq!(office.starts.len(), 1, "{:?}", office.starts);
    office.settled = NOW;
    run.settle(&mut office);
    assert_eq!((run.found.len(), office.starts.len()), (1, 1));
}

#[test]
fn a_subscription_that_vanishes_comes_back() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.settle(&mut office);
    office.enabled = false;
    office.blob(NOW + HOUR, 0);
    run.pass(2 * HOUR);
    run.settle(&mut office);
    assert_eq!(office.starts.len(), 1);
    assert_eq!(run.found.len(), 1);
}

#[test]
fn unsubscribing_stops_what_is_not_configured() {
    let mut office = Office::new();
    let mut run = Run::new(r#""content_types":["Audit.Exchange"],"unsubscribe":true"#);
    run.settle(&mut office);
    // `Audit.General` has no status in the list: unknown is not enabled.
    assert_eq!(office.stops, ["DLP.All"]);
}

#[test]
fn waiting_for_the_subscription_is_no_loss() {
    let mut office = Office::new();
    office.enabled = false;
    let mut run = Run::new("");
    run.begin(&mut office);
    run.pass(3 * HOUR);
    run.discover(&mut office, false).expect("announced");
    run.pass(3 * HOUR);
    run.settle(&mut office);
    assert_eq!((run.gaps.len(), office.starts.len()), (0, 1));
    assert!(run.found.is_empty() && run.watermark > NOW);
}

#[test]
fn a_stop_that_fails_is_tried_again_a_quarter_of_an_hour_later() {
    let mut office = Office::new();
    office.refuse_stops = 2;
    let mut run = Run::new(r#""content_types":["Audit.Exchange"],"unsubscribe":true"#);
    run.settle(&mut office);
    assert_eq!(office.stops.len(), 0);
    run.live(&mut office, 14 * MINUTE);
    assert_eq!(office.refuse_stops, 1, "once so far");
    run.live(&mut office, 30 * MINUTE);
    assert_eq!(
        (office.refuse_stops, &*office.stops),
        (0, &["DLP.All".to_owned()][..])
    );
}

#[test]
fn unsubscribing_can_be_switched_on_later() {
    let mut office = Office::new();
    let mut run = Run::new(r#""content_types":["Audit.Exchange"]"#);
    run.settle(&mut office);
    assert_eq!(office.stops.len(), 0, "it was not asked for");
    run.config = config(r#""content_types":["Audit.Exchange"],"unsubscribe":true"#);
    run.pass(MINUTE);
    run.settle(&mut office);
    assert_eq!(office.stops, ["DLP.All"]);
    run.live(&mut office, 20 * HOUR);
    assert_eq!(office.stops.len(), 1, "what is stopped is left alone");
}

#[test]
fn a_type_that_is_configured_no_longer_is_stopped() {
    let mut office = Office::new();
    let mut run = Run::new(r#""content_types":["Audit.Exchange","DLP.All"],"unsubscribe":true"#);
    run.settle(&mut office);
    assert_eq!(office.stops.len(), 0);
    run.config = config(r#""content_types":["Audit.Exchange"],"unsubscribe":true"#);
    run.pass(MINUTE);
    run.settle(&mut office);
    assert_eq!(office.stops, ["DLP.All"]);
}

#[test]
fn only_the_first_stream_stops_anything() {
    let mut office = Office::new();
    let types = r#""content_types":["Audit.SharePoint","Audit.Exchange"],"unsubscribe":true"#;
    let mut run = Run::new(types);
    run.settle(&mut office);
    assert_eq!(office.stops.len(), 0, "this is the second");
}

#[test]
fn looking_at_a_range_stops_nothing() {
    let mut office = Office::new();
    let until = time::show(time::floor(NOW, MINUTE));
    let mut run = Run::new(&format!(
        r#""content_types":["Audit.Exchange"],"unsubscribe":true,"until":"{until}""#
    ));
    run.settle(&mut office);
    assert_eq!(office.stops.len(), 0);
}

#[test]
fn a_disabled_subscription_is_started_once_an_hour_with_an_alarm_when_it_recurs() {
    let mut office = Office::new();
    office.disabled = true;
    let mut run = Run::new("");
    run.settle(&mut office);
    assert_eq!(
        (office.starts.len(), run.fake.alarms()),
        (1, 0),
        "it may be meant"
    );
    office.disabled = true;
    for _ in 0..50 {
        run.pass(MINUTE);
        // It waits; nothing is started and nothing given up.
        let _ = run.discover(&mut office, false);
    }
    assert_eq!((office.starts.len(), run.gaps.len()), (1, 0));
    run.pass(15 * MINUTE);
    run.settle(&mut office);
    assert_eq!(office.starts.len(), 2);
    assert!(office.starts[1] - office.starts[0] >= HOUR);
    assert_eq!(run.fake.alarms(), 1, "{:?}", run.fake.log.lines.borrow());
}

/// How often a start that is answered like this is sent within fourteen minutes.
fn starts_within_a_quarter(refusal: Answer) -> usize {
    let mut office = Office::new();
    (office.enabled, office.refuse_start) = (false, Some(refusal));
    let mut run = Run::new("");
    let end = run.now() + 14 * MINUTE;
    while run.now() < end {
        let wait = match run.discover(&mut office, false) {
            Err(Failure::Retry { after_ms, .. }) => after_ms.unwrap_or(1_000),
            Ok(()) => 1_000,
            Err(failure) => panic!("{failure:?}"),
        };
        run.pass(i64::try_from(wait).expect("minutes"));
    }
    office.starts.len()
}

#[test]
fn a_throttled_start_is_not_hammered() {
    let body = "{'error':{'code':'AF429','message':'Too many requests. Method=StartSubscription'}}";
    assert_eq!(starts_within_a_quarter(Answer::new(403, body)), 3);
    let told = Answer::new(429, body).with("Retry-After", "896");
    assert_eq!(starts_within_a_quarter(told), 1, "it said how long");
}
