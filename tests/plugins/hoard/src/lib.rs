//! Takes memory without end, in `read`.

use std::hint::black_box;

use sluicegate_fault::{Failure, Limits, Plugin, Split};

struct Hoard;

impl Plugin for Hoard {
    const NAME: &'static str = "hoard";

    fn read(_: &str, _: Split, _: Limits) -> Result<(), Failure> {
        let mut kept = Vec::new();
        loop {
            kept.push(black_box(vec![1_u8; 64 << 10]));
        }
    }
}

sluicegate_fault::bindings::export!(Hoard);
