//! Never comes back: an endless loop in `read` or `discover`, with and without bulk memory operations.

use std::hint::black_box;

use sluicegate_fault::{Discovery, Failure, Limits, Plugin, Split, found, mode, split};

/// Filled again and again; a fill is one instruction that nothing interrupts.
const FILLED_BYTES: usize = 32 << 20;

struct Spin;

fn for_ever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

impl Plugin for Spin {
    const NAME: &'static str = "spin";

    fn discover(config: &str, _: Limits) -> Result<Discovery, Failure> {
        if mode(config) == "discover" {
            for_ever()
        }
        Ok(found(vec![split("one")]))
    }

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
        if mode(config) == "fill" {
            let mut memory = vec![0_u8; FILLED_BYTES];
            let mut value = 0;
            loop {
                memory.fill(black_box(value));
                value = black_box(memory[FILLED_BYTES / 2]).wrapping_add(1);
            }
        }
        for_ever()
    }
}

sluicegate_fault::bindings::export!(Spin);
