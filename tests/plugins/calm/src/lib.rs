//! Does nothing wrong: what the others are measured against.

use sluicegate_fault::Plugin;

struct Calm;

impl Plugin for Calm {
    const NAME: &'static str = "calm";
}

sluicegate_fault::bindings::export!(Calm);
