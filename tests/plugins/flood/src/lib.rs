//! Too much of a thing that is allowed: log lines, events, empty batches, handles, requests, state.

use sluicegate_fault::bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use sluicegate_fault::bindings::wasi::http::types::Fields;
use sluicegate_fault::{
    Batch, Discovery, Failure, Limits, Next, Plugin, Split, emit, entry, events, found, log, mode,
    output, split, state,
};

struct Flood;

fn internal(why: impl ToString) -> Failure {
    Failure::Internal(why.to_string())
}

impl Plugin for Flood {
    const NAME: &'static str = "flood";

    fn discover(config: &str, _: Limits) -> Result<Discovery, Failure> {
        if mode(config) == "state" {
            for number in 0_u64.. {
                if let Err(refusal) = state::set(&format!("key{number}"), &[7; 8_192]) {
                    return Err(internal(format!("after {number} keys: {refusal:?}")));
                }
            }
        }
        if mode(config) == "churn" {
            // Each key is gone before the next one comes, so that the quota never says no.
            for number in 0..50_000 {
                let key = format!("{number:0>500}");
                state::set(&key, &[7; 512]).map_err(|refusal| internal(format!("{refusal:?}")))?;
                state::delete(&key).map_err(|refusal| internal(format!("{refusal:?}")))?;
            }
        }
        if mode(config) == "keys" {
            for number in 0_u64.. {
                if let Err(refusal) = state::set(&format!("key{number}"), &[]) {
                    return Err(internal(format!("after {number} keys: {refusal:?}")));
                }
            }
        }
        let found = found(vec![split("one")]);
        if mode(config) == "again" {
            return Ok(Discovery {
                next: Next::Again,
                ..found
            });
        }
        Ok(found)
    }

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
        match mode(config) {
            "log" => {
                for number in 0..100_000 {
                    let line = format!("line {number}\r\n\u{1b}[31m{{\"level\":\"ERROR\"}}");
                    log::log(log::Level::Warn, &line, &[("field".into(), "a\nb".into())]);
                }
                log::log(log::Level::Warn, &"x".repeat(4 << 20), &[]);
                emit(&events(&["flood-log"])).map_err(internal)
            }
            "letters" => loop {
                // No body, and reasons that nobody wants to read.
                output::reject(&[], &"why not ".repeat(100_000))
                    .map_err(|refusal| internal(format!("{refusal:?}")))?;
            },
            "churn" => emit(&events(&["churned"])).map_err(internal),
            "again" => emit(&events(&["again"])).map_err(internal),
            "emit" => loop {
                emit(&events(&["same"])).map_err(internal)?;
            },
            "empty" => loop {
                emit(&Batch {
                    bytes: Vec::new(),
                    entries: Vec::new(),
                })
                .map_err(internal)?;
            },
            "entries" => {
                let entries = vec![entry(1, 2); 1_500_000];
                emit(&Batch {
                    bytes: Vec::new(),
                    entries,
                })
                .map_err(internal)
            }
            "handles" => {
                let mut kept = Vec::new();
                loop {
                    kept.push((Fields::new(), subscribe_duration(1)));
                }
            }
            "fields" => {
                let fields = Fields::new();
                for number in 0..40_000 {
                    let appended = fields.append(&format!("x-{number}"), &vec![b'a'; 100]);
                    appended.map_err(|error| internal(format!("field {number}: {error:?}")))?;
                }
                Ok(())
            }
            other => Err(internal(format!("no such mode `{other}`"))),
        }
    }
}

sluicegate_fault::bindings::export!(Flood);
