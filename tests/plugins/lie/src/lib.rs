//! Says what is not so: batches whose lengths are wrong, splits and streams that break the rules, times that no
//! calendar has, state that may not be written.

use sluicegate_fault::{
    Batch, Discovery, Entry, Failure, Gap, Limits, Plugin, Retry, Scope, Split, Stream, emit,
    entry, events, found, mode, split, state, stream,
};

struct Lie;

/// Emits a batch that must be refused, and reports the refusal as its failure.
fn refused(batch: &Batch) -> Result<(), Failure> {
    match emit(batch) {
        Ok(()) => Ok(()),
        Err(why) => Err(Failure::Internal(format!("refused: {why}"))),
    }
}

fn one(id: usize, body: usize, bytes: &[u8]) -> Batch {
    Batch {
        bytes: bytes.to_vec(),
        entries: vec![entry(id, body)],
    }
}

impl Plugin for Lie {
    const NAME: &'static str = "lie";

    fn streams(config: &str) -> Result<Vec<Stream>, Failure> {
        Ok(match mode(config) {
            "same_streams" => vec![stream("feed"), stream("feed")],
            "many_streams" => (0..5_000)
                .map(|number| stream(&number.to_string()))
                .collect(),
            "stream_name" => vec![stream(&"forged\n\u{1b}[31m".repeat(100_000))],
            _ => vec![stream("feed")],
        })
    }

    fn discover(config: &str, limits: Limits) -> Result<Discovery, Failure> {
        let wrong = match mode(config) {
            "many_splits" => {
                let ids = 0..u64::from(limits.splits) + 1;
                return Ok(found(
                    ids.map(|number| split(&number.to_string())).collect(),
                ));
            }
            "split_id" => split(""),
            "split_payload" => Split {
                payload: vec![0; (16 << 10) + 1],
                ..split("big")
            },
            "times" => Split {
                created: i64::MIN,
                expires: Some(i64::MAX),
                ..split("never")
            },
            _ => split("one"),
        };
        let found = found(vec![wrong]);
        Ok(match mode(config) {
            "watermark" => Discovery {
                watermark: Some(i64::MAX),
                ..found
            },
            "gaps" => {
                let (since, until, reason) = (0, 1, "so it says".repeat(1_000));
                Discovery {
                    gaps: vec![Gap { since, until, reason }; 5_000],
                    ..found
                }
            }
            _ => found,
        })
    }

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
        match mode(config) {
            "lengths_short" => refused(&one(1, 2, b"a{}tail")),
            "lengths_long" => refused(&one(1, 200, b"a{}")),
            "lengths_overflow" => refused(&one(u32::MAX as usize, u32::MAX as usize, b"a{}")),
            "not_text" => refused(&one(1, 4, b"a{\xff\xfe}")),
            "not_json" => refused(&one(1, 2, b"a[]")),
            "newline" => refused(&one(1, 3, b"a{\n}")),
            "long_id" => refused(&one(600, 2, &[vec![b'i'; 600], b"{}".to_vec()].concat())),
            "state_in_read" => match state::set("key", b"value") {
                Ok(()) => Ok(()),
                Err(refusal) => Err(Failure::Internal(format!("refused: {refusal:?}"))),
            },
            "big_event" => {
                let body = format!("{{\"a\":\"{}\"}}", "x".repeat(70 << 10));
                refused(&one(1, body.len(), format!("a{body}").as_bytes()))
            }
            "event_times" => {
                let mut batch = events(&["before", "after"]);
                for (entry, time) in batch.entries.iter_mut().zip([i64::MIN, i64::MAX]) {
                    *entry = Entry { time, ..*entry };
                }
                refused(&batch)
            }
            "after" => Err(Failure::Retry(Retry {
                after_ms: Some(u64::MAX),
                affects: Scope::Tenant,
                reason: "come back in 584 million years".into(),
            })),
            "huge_event" => {
                let body = format!("{{\"a\":\"{}\"}}", "x".repeat(33 << 20));
                refused(&one(1, body.len(), format!("a{body}").as_bytes()))
            }
            "big_batch" => {
                let body = format!("{{\"a\":\"{}\"}}", "x".repeat(600 << 10));
                let bytes = format!("a{body}b{body}").into_bytes();
                let entries = vec![entry(1, body.len()); 2];
                refused(&Batch { bytes, entries })
            }
            "deep" => {
                let body = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
                refused(&one(4, body.len(), format!("deep{body}").as_bytes()))
            }
            "lost" => Err(Failure::SplitLost("it says so".into())),
            _ => emit(&events(&["one"])).map_err(Failure::Internal),
        }
    }
}

sluicegate_fault::bindings::export!(Lie);
