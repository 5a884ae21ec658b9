//! Where listing begins: chosen before anything is asked for, kept until it is listed or declared.

use super::model::{Office, Run};
use super::*;
use crate::cursor::FIRST_MARGIN;
use crate::fake::NOW;
use crate::time::DAY;

/// Every call fails.
fn fails(run: &mut Run, office: &mut Office) {
    office.fault_every = 1;
    assert!(run.discover(office, false).is_err(), "nothing works");
    office.fault_every = 0;
}

#[test]
fn an_absence_before_the_first_listing_is_declared() {
    let mut office = Office::new();
    office.blob(NOW - DAY, 0);
    for hours in 1..(9 * 24) {
        office.blob(NOW + hours * HOUR, 0);
    }
    let mut run = Run::new("");
    run.begin(&mut office);
    fails(&mut run, &mut office);
    run.pass(9 * DAY);
    run.settle(&mut office);
    assert_eq!(run.gaps.len(), 1, "{:?}", run.gaps);
    for blob in &office.blobs {
        let (found, declared) = (run.found(blob), run.declared(blob.created));
        assert!(found != declared, "{found}, declared {declared}: {blob:?}");
    }
}

#[test]
fn a_first_listing_that_waits_for_minutes_loses_nothing() {
    let mut office = Office::new();
    let oldest = NOW - config::RETENTION + FIRST_MARGIN + MINUTE;
    office.blob(oldest, 0);
    let mut run = Run::new("");
    run.begin(&mut office);
    run.pass(FIRST_MARGIN - MINUTE);
    run.settle(&mut office);
    assert_eq!((run.gaps.len(), run.found.len()), (0, 1), "{:?}", run.gaps);
}

#[test]
fn a_first_listing_that_waits_for_hours_declares_what_aged_out() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.begin(&mut office);
    run.pass(3 * HOUR);
    run.settle(&mut office);
    let lost: i64 = run.gaps.iter().map(|gap| gap.until - gap.since).sum();
    assert!(
        (lost - (3 * HOUR - FIRST_MARGIN)).abs() <= 2 * MINUTE,
        "{:?}",
        run.gaps
    );
}

#[test]
fn waiting_days_for_the_subscription_skips_nothing_that_can_be_had() {
    let mut office = Office::new();
    office.enabled = false;
    office.blob(NOW - 5 * HOUR, 0);
    office.blob(NOW + 3 * DAY, 0);
    let mut run = Run::new(r#""lookback":"6h""#);
    run.begin(&mut office);
    run.discover(&mut office, false).expect("announced");
    run.pass(4 * DAY);
    run.settle(&mut office);
    assert_eq!((run.found.len(), run.gaps.len()), (2, 0), "{:?}", run.gaps);
}

#[test]
fn a_beginning_chosen_by_a_wrong_clock_is_corrected() {
    for (skew, later) in [
        // The machine is ahead, and stays so; it is put right before the first listing; the same
        // for one that is behind.
        (-3 * HOUR, -3 * HOUR),
        (-3 * HOUR, 0),
        (50 * MINUTE, 50 * MINUTE),
        (50 * MINUTE, 0),
    ] {
        let mut office = Office::new();
        office.skew = skew;
        let mut run = Run::new(r#""lookback":"6h""#);
        let now = run.now() + skew;
        office.blob(now - 5 * HOUR, 0);
        office.blob(now - MINUTE, 0);
        run.begin(&mut office);
        run.pass(skew - later);
        office.skew = later;
        run.settle(&mut office);
        assert_eq!((run.found.len(), run.gaps.len()), (2, 0), "{skew} {later}");
    }
}
