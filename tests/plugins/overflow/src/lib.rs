//! Calls itself until the stack ends.

use std::hint::black_box;

use sluicegate_fault::{Failure, Limits, Plugin, Split};

struct Overflow;

#[allow(unconditional_recursion, reason = "the fault")]
fn deeper(depth: u64) -> u64 {
    black_box(deeper(black_box(depth + 1))) + 1
}

impl Plugin for Overflow {
    const NAME: &'static str = "overflow";

    fn read(_: &str, _: Split, _: Limits) -> Result<(), Failure> {
        Err(Failure::Internal(deeper(0).to_string()))
    }
}

sluicegate_fault::bindings::export!(Overflow);
