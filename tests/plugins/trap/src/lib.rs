//! Traps: at once, after half of its events, or in a panic whose words are an attack on the log.

use sluicegate_fault::{Failure, Limits, Plugin, Split, emit, events, log, mode};

struct Trap;

impl Plugin for Trap {
    const NAME: &'static str = "trap";

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
        match mode(config) {
            "midway" => {
                emit(&events(&["first", "second"])).map_err(Failure::Internal)?;
            }
            "panic" => {
                let words = format!(
                    "panic: \u{1b}[2J\nerror: forged line {}",
                    "x".repeat(1 << 20)
                );
                log::log(log::Level::Error, &words, &[]);
            }
            _ => {}
        }
        std::process::abort()
    }
}

sluicegate_fault::bindings::export!(Trap);
