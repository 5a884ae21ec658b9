//! Discovery under chance: outages, crashes, wrong clocks, faults, late blobs.

use proptest::prelude::*;

use super::model::{Office, Run};
use super::*;
use crate::cursor::FIRST_MARGIN;
use crate::time::DAY;

/// What happens between two calls.
#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Crash,
    Settle,
    /// The machine's clock is set wrong by so much.
    Clock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_000..4 * HOUR).prop_map(Step::Pass),
        (1_000..20 * MINUTE).prop_map(Step::Pass),
        (HOUR..9 * DAY).prop_map(Step::Pass),
        Just(Step::Crash),
        Just(Step::Settle),
        Just(Step::Settle),
        (-50 * MINUTE..50 * MINUTE).prop_map(Step::Clock),
        (-30 * DAY..30 * DAY).prop_map(Step::Clock),
        Just(Step::Clock(0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, each blob is found or lies in a declared gap; declared gaps are true.
    #[test]
    fn nothing_is_skipped(
        steps in prop::collection::vec(step(), 1..25),
        lags in prop::collection::vec(0..9 * MINUTE, 40),
        spread in HOUR..20 * DAY,
        fault_every in prop_oneof![Just(0_u64), 5..40_u64],
    ) {
        let mut office = Office::new();
        office.fault_every = fault_every;
        for (index, lag) in lags.iter().enumerate() {
            let index = i64::try_from(index).expect("small");
            office.blob(NOW - 2 * DAY + index * spread / 40, *lag);
        }
        let mut run = Run::new(r#""interval":"10m""#);
        for step in steps {
            match step {
                Step::Pass(time) => run.pass(time),
                Step::Crash => {
                    let _ = run.discover(&mut office, true);
                }
                Step::Settle => {
                    // A clock that is days behind finds every window refused; it must not skip.
                    for _ in 0..20 {
                        if run.discover(&mut office, false).is_err() {
                            run.pass(1_000);
                        } else if run.next != Next::Again {
                            break;
                        }
                    }
                }
                Step::Clock(skew) => {
                    run.pass(office.skew - skew);
                    office.skew = skew;
                }
            }
        }
        run.pass(office.skew);
        office.skew = 0;
        office.fault_every = 0;
        run.settle(&mut office);
        let now = run.now();
        run.live(&mut office, 3 * HOUR);
        let oldest = run.began.expect("settled") - config::RETENTION + FIRST_MARGIN + MINUTE;
        let owed = oldest..now - HOUR;
        for blob in office.blobs.iter().filter(|blob| owed.contains(&blob.created)) {
            prop_assert!(
                run.found(blob) || run.declared(blob.created),
                "skipped {blob:?}; gaps {:?}", run.gaps
            );
        }
        for gap in &run.gaps {
            prop_assert!(gap.until <= now - config::RETENTION + MINUTE + SKEW_NOISE, "{gap:?}");
        }
    }

    /// Blobs that appear in a listing hours after their time are found by listing again.
    #[test]
    fn late_blobs_are_found(lags in prop::collection::vec(0..23 * HOUR, 30)) {
        let mut office = Office::new();
        for (index, lag) in lags.iter().enumerate() {
            let index = i64::try_from(index).expect("small");
            office.blob(NOW - 6 * HOUR + index * 17 * MINUTE, *lag);
        }
        let mut run = Run::new(r#""interval":"10m""#);
        run.live(&mut office, 36 * HOUR);
        for blob in &office.blobs {
            prop_assert!(run.found(blob), "{blob:?}");
        }
    }
}
