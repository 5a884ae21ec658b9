//! The mapping as a stage: records from anywhere to events.

use std::convert::Infallible;

use sluicegate_records::{Item, Splitter, Stop};

use crate::config::{self, Use};
use crate::map::Mapper;
use crate::world::{Batch, Entry, Failure, Limits, Verdict};

/// Maps each event's body, which may be one record, an array of them or several behind each other.
///
/// An event that holds a record which cannot be mapped is rejected as a whole: a verdict cannot
/// say "these, but not that one", and the dead letter must hold every byte that went nowhere.
pub fn apply(
    config: &str,
    batch: &Batch,
    limits: Limits,
) -> Result<(Batch, Vec<Verdict>), Failure> {
    let config = config::load(config, Use::Transform).map_err(Failure::Misconfigured)?;
    let mut mapper = Mapper::new(&config.mapping);
    let mut output = Batch::default();
    output
        .bytes
        .reserve(batch.bytes.len() + batch.bytes.len() / 2);
    let mut verdicts = Vec::with_capacity(batch.entries.len());
    for (_, body, entry) in batch.events() {
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
                add(mapper, record, entry.time, output)
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

fn add(mapper: &mut Mapper, record: &[u8], time: i64, output: &mut Batch) -> Result<(), String> {
    // The id goes in front of the body but is known only behind the mapping: the body is written
    // to a buffer of the mapper and copied once.
    let mut body = Vec::with_capacity(record.len() * 2);
    let event = mapper.map(record, time, &mut body)?;
    let id = mapper.id();
    let size = |bytes: usize| u32::try_from(bytes).map_err(|_| "an event too large".to_owned());
    let entry = Entry {
        id_length: size(id.len())?,
        body_length: size(body.len())?,
        fingerprint: event.fingerprint,
        time: event.time,
    };
    output.bytes.extend_from_slice(id.as_bytes());
    output.bytes.extend_from_slice(&body);
    output.entries.push(entry);
    Ok(())
}
