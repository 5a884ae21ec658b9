//! Never comes back from the calls that run before anything else: `describe` and `check-config`.

use std::hint::black_box;

use sluicegate_fault::{Descriptor, Diagnostic, Plugin};

struct SpinEarly;

fn for_ever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

impl Plugin for SpinEarly {
    const NAME: &'static str = "spin_early";

    fn describe() -> Descriptor {
        for_ever()
    }

    fn check_config(_: &str) -> Vec<Diagnostic> {
        for_ever()
    }
}

sluicegate_fault::bindings::export!(SpinEarly);
