//! The mapping as a stage: records from anywhere to events.

use std::convert::Infallible;

use sluicegate_records::{Item, Splitter, Stop};

use crate::batch;
use crate::config::{self, Use};
use crate::map::Mapper;
use crate::world::{Batch, Entry, Failure, Limits, Verdict};

/// Maps each event's body, which may be one record, an array of them or several behind each other.
///
/// An event that holds a record which cannot be mapped is rejected as a whole: a verdict cannot
/// say "these, but not that one", and the dead letter must hold every byte that went nowhere.
pub fn apply(
    config: &str,
    input: &Batch,
    limits: Limits,
) -> Result<(Batch, Vec<Verdict>), Failure> {
    let config = config::load(config, Use::Transform).map_err(Failure::Misconfigured)?;
    let mut mapper = Mapper::new(&config.mapping);
    let mut output = Batch::default();
    output
        .bytes
        .reserve(input.bytes.len() + input.bytes.len() / 2);
    let mut verdicts = Vec::with_capacity(input.entries.len());
    for (_, body, entry) in input.events() {
        let (bytes, entries) = (output.bytes.len(), output.entries.len());
        let verdict = match one(&mut mapper, body, entry, limits, &mut output) {
            Ok(()) => match output.entries.len() - entries {
                0 => Verdict::Drop("no record in it".into()),
                1 => Verdict::Keep,
                many => Verdict::Many(u32::try_from(many).unwrap_or(u32::MAX)),
            },
            Err(reason) => {
                output.bytes.truncate(bytes);
                output.entries.truncate(entries);
                Verdict::Reject(reason)
            }
        };
        verdicts.push(verdict);
    }
    Ok((output, verdicts))
}

fn one(
    mapper: &mut Mapper,
    body: &[u8],
    entry: &Entry,
    limits: Limits,
    output: &mut Batch,
) -> Result<(), String> {
    // Nearly every body is one record, and the mapping tells what is not: it reads it anyway.
    if body.len() <= limits.event_bytes as usize {
        let before = (output.bytes.len(), output.entries.len());
        if batch::append(output, mapper, body, entry.time) == Ok(true) {
            return Ok(());
        }
        output.bytes.truncate(before.0);
        output.entries.truncate(before.1);
    }
    let limits = sluicegate_records::Limits {
        element_bytes: limits.event_bytes as usize,
        salvage: false,
    };
    let mut problem = None;
    let mut index = 0_u64;
    let mut each = |item: Item<'_>| -> Result<(), Infallible> {
        index += 1;
        let outcome = match item {
            Item::Record(record) | Item::Recovered(record) => {
                batch::append(output, mapper, record, entry.time).map(drop)
            }
            Item::Bad { reason, .. } => Err(reason.to_string()),
        };
        if let Err(reason) = outcome {
            problem.get_or_insert_with(|| format!("record {index}: {reason}"));
        }
        Ok(())
    };
    let mut splitter = Splitter::new(limits);
    let split = splitter
        .push(body, &mut each)
        .and_then(|()| splitter.finish(&mut each));
    if let Err(Stop::Malformed(malformed)) = split {
        return Err(malformed.to_string());
    }
    problem.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::limits;

    fn batch(bodies: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for body in bodies {
            let body_length = u32::try_from(body.len()).expect("short");
            batch.bytes.extend_from_slice(b"x");
            batch.bytes.extend_from_slice(body.as_bytes());
            batch.entries.push(Entry {
                id_length: 1,
                body_length,
                fingerprint: 0,
                time: 7,
            });
        }
        batch
    }

    #[test]
    fn each_event_has_one_verdict() {
        let record = |id: &str| format!(r#"{{"Id":"{id}","CreationTime":"2026-01-10T08:41:07"}}"#);
        let (a, b, c) = (record("a"), record("b"), record("c"));
        let many = format!("[{a},{b}]");
        let lines = format!("{b}\n{c}\n");
        let bad = format!("[{a},5]");
        let input = batch(&[&a, &many, "[]", &bad, "{", &lines, "null"]);
        let (output, verdicts) = apply("{\"profile\":\"raw\"}", &input, limits()).expect("maps");
        assert_eq!(verdicts.len(), 7);
        assert_eq!(verdicts[0], Verdict::Keep);
        assert_eq!(verdicts[1], Verdict::Many(2));
        assert!(matches!(verdicts[2], Verdict::Drop(_)));
        assert_eq!(
            verdicts[3],
            Verdict::Reject("record 2: not a JSON object".into())
        );
        assert!(matches!(&verdicts[4], Verdict::Reject(reason) if reason.contains("too early")));
        assert_eq!(verdicts[5], Verdict::Many(2));
        assert!(matches!(verdicts[6], Verdict::Reject(_)));
        let ids: Vec<&[u8]> = output.events().map(|(id, ..)| id).collect();
        assert_eq!(ids, [&b"a"[..], b"a", b"b", b"b", b"c"]);
    }

    #[test]
    fn a_wrong_config_is_no_empty_answer() {
        let result = apply("{\"profil\":1}", &batch(&["{}"]), limits());
        assert!(matches!(result, Err(Failure::Misconfigured(_))));
    }
}
