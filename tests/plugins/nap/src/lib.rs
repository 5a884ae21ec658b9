//! Sleeps for thirty days: in `read`, or where `early` is asked for in `check-config`.

use sluicegate_fault::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use sluicegate_fault::{Diagnostic, Failure, Limits, Plugin, Split, mode};

const THIRTY_DAYS_NS: u64 = 30 * 24 * 3_600 * 1_000_000_000;

struct Nap;

impl Plugin for Nap {
    const NAME: &'static str = "nap";

    fn check_config(config: &str) -> Vec<Diagnostic> {
        if mode(config) == "early" {
            subscribe_duration(THIRTY_DAYS_NS).block();
        }
        Vec::new()
    }

    fn read(_: &str, _: Split, _: Limits) -> Result<(), Failure> {
        subscribe_duration(THIRTY_DAYS_NS).block();
        Ok(())
    }
}

sluicegate_fault::bindings::export!(Nap);
