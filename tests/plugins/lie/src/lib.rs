//! Says what is not so: batches whose lengths are wrong, splits and streams that break the rules, state that may
//! not be written.

use sluicegate_fault::{
    Batch, Discovery, Failure, Limits, Plugin, Split, Stream, emit, entry, events, found, mode,
    split, state, stream,
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
            _ => split("one"),
        };
        Ok(found(vec![wrong]))
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
            "lost" => Err(Failure::SplitLost("it says so".into())),
            _ => emit(&events(&["one"])).map_err(Failure::Internal),
        }
    }
}

sluicegate_fault::bindings::export!(Lie);
