//! Where a plugin's events enter the host: checked, given their identity, and held back while the line is full.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::capability::log::{REASON_BYTES, escape};
use crate::capability::source_world::sluicegate::plugin::output::{Host, Refusal};
use crate::capability::source_world::sluicegate::plugin::types::{Batch, Entry};
use crate::event::{Event, Identity};
use crate::sandbox::{Call, CpuBudget, Limits, WallBudget};
use crate::source::Output;

/// Longest id of an event.
const ID_BYTES: u32 = 512;

/// What a dead letter takes beside its body and reason, about: one without either costs something too.
const LETTER_BYTES: usize = 256;

/// The output of one call.
pub struct CallOutput {
    /// Whose events these are.
    pub tenant: Arc<str>,
    /// Where they go.
    pub output: Arc<dyn Output>,
    /// What a batch may hold.
    pub limits: Limits,
    /// Bytes that the call may still hand over.
    pub bytes_left: u64,
    /// Stands still while the line is full.
    pub wall: WallBudget,
    /// Starts again with every batch that is taken.
    pub cpu: CpuBudget,
}

impl CallOutput {
    /// Counts bytes against what the call may hand over; false when they are too many.
    fn spend(&mut self, bytes: usize) -> bool {
        match self.bytes_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes_left = left;
                true
            }
            None => false,
        }
    }
}

/// Cuts a batch into events without copying their bytes; `identity` is told the id and the fingerprint of each. The
/// error says which rule the batch breaks.
pub fn events(
    batch: Batch,
    limits: &Limits,
    identity: impl Fn(&str, u64) -> Identity,
) -> Result<Vec<Event>, String> {
    let Batch { bytes, entries } = batch;
    let count = entries.len();
    if count > limits.batch_events as usize {
        return Err(format!(
            "{count} events in a batch; at most {} are allowed",
            limits.batch_events
        ));
    }
    if count > 1 && bytes.len() > limits.batch_bytes as usize {
        let (size, most) = (bytes.len(), limits.batch_bytes);
        return Err(format!(
            "{size} bytes in a batch of {count} events; at most {most} are allowed"
        ));
    }
    let mut rest = Bytes::from(bytes);
    let mut events = Vec::with_capacity(count);
    for (index, entry) in entries.iter().enumerate() {
        let event = cut(&mut rest, entry, limits, &identity);
        events.push(event.map_err(|rule| format!("event {index} of the batch: {rule}"))?);
    }
    if !rest.is_empty() {
        return Err(format!(
            "{} bytes of the batch belong to no event",
            rest.len()
        ));
    }
    Ok(events)
}

fn cut(
    rest: &mut Bytes,
    entry: &Entry,
    limits: &Limits,
    identity: impl Fn(&str, u64) -> Identity,
) -> Result<Event, String> {
    let Entry {
        id_length,
        body_length,
        fingerprint,
        time,
    } = *entry;
    if id_length == 0 || id_length > ID_BYTES {
        return Err(format!(
            "its id has {id_length} bytes; 1 to {ID_BYTES} are allowed"
        ));
    }
    if body_length > limits.event_bytes {
        let most = limits.event_bytes;
        return Err(format!(
            "its body has {body_length} bytes; at most {most} are allowed"
        ));
    }
    let length = id_length as usize + body_length as usize;
    if rest.len() < length {
        return Err("its lengths go past the end of the bytes".into());
    }
    let id = ByteString::try_from(rest.split_to(id_length as usize))
        .map_err(|_| "its id is not UTF-8".to_owned())?;
    let body = rest.split_to(body_length as usize);
    // Nearly all bodies are ASCII, which is seen faster.
    if !body.is_ascii() && std::str::from_utf8(&body).is_err() {
        return Err("its body is not UTF-8".into());
    }
    if body.first() != Some(&b'{') || body.last() != Some(&b'}') {
        return Err("its body is not a JSON object".into());
    }
    if memchr::memchr(b'\n', &body).is_some() {
        return Err("its body has a newline".into());
    }
    let identity = identity(&id, fingerprint);
    Ok(Event {
        id,
        fingerprint,
        time_ms: time,
        body,
        identity,
    })
}

impl Host for Call {
    async fn emit(&mut self, batch: Batch) -> wasmtime::Result<Result<(), Refusal>> {
        let Some(to) = &mut self.output else {
            return Ok(Err(no_output()));
        };
        if !to.spend(batch.bytes.len()) {
            return Ok(Err(too_much()));
        }
        let identity = |id: &str, fingerprint| Identity::of(&to.tenant, id, fingerprint);
        let events = match events(batch, &to.limits, identity) {
            Ok(events) => events,
            Err(rule) => return Ok(Err(Refusal::Invalid(rule))),
        };
        if events.is_empty() {
            return Ok(Ok(()));
        }
        to.cpu.progress();
        let _held = to.wall.hold();
        Ok(to.output.emit(events).await.map_err(|_| Refusal::Closed))
    }

    async fn reject(
        &mut self,
        body: Vec<u8>,
        reason: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        let Some(to) = &mut self.output else {
            return Ok(Err(no_output()));
        };
        let reason = escape(&reason, REASON_BYTES);
        if !to.spend(LETTER_BYTES + reason.len() + body.len()) {
            return Ok(Err(too_much()));
        }
        to.cpu.progress();
        let _held = to.wall.hold();
        Ok(to
            .output
            .reject(Bytes::from(body), reason)
            .await
            .map_err(|_| Refusal::Closed))
    }

    async fn draining(&mut self) -> wasmtime::Result<bool> {
        Ok(self.output.as_ref().is_some_and(|to| to.output.draining()))
    }
}

fn too_much() -> Refusal {
    Refusal::Invalid("the call has handed over all that it may (`limits.output_bytes`)".into())
}

fn no_output() -> Refusal {
    Refusal::Invalid("only `source.read` has an output".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id_length: u32, body_length: u32) -> Entry {
        Entry {
            id_length,
            body_length,
            fingerprint: 1,
            time: 2,
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], entries: Vec<Entry>, expected: Result<usize, &str>) {
        let limits = Limits {
            batch_bytes: 20,
            batch_events: 3,
            event_bytes: 30,
            ..Limits::default()
        };
        let batch = Batch {
            bytes: bytes.to_vec(),
            entries,
        };
        let got = events(batch, &limits, |id, fingerprint| {
            Identity::of("t", id, fingerprint)
        });
        match (got, expected) {
            (Ok(events), Ok(count)) => assert_eq!(events.len(), count),
            (Err(rule), Err(word)) => assert!(rule.contains(word), "{rule}"),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_batch_is_cut_exactly_or_refused() {
        check(b"", vec![], Ok(0));
        check(b"a{}b{}", vec![entry(1, 2), entry(1, 2)], Ok(2));
        check(b"a{}b{}", vec![entry(1, 2)], Err("belong to no event"));
        check(b"a{}", vec![entry(1, 3)], Err("past the end"));
        check(b"a{}", vec![entry(u32::MAX, 3)], Err("1 to 512"));
        check(b"{}", vec![entry(0, 2)], Err("1 to 512"));
        check(b"a[]", vec![entry(1, 2)], Err("not a JSON object"));
        check(b"a{\n}", vec![entry(1, 3)], Err("newline"));
        check(b"\xff{}", vec![entry(1, 2)], Err("id is not UTF-8"));
        check(b"a{\xff}", vec![entry(1, 3)], Err("body is not UTF-8"));
        check(b"a{}a{}a{}a{}", vec![entry(1, 2); 4], Err("4 events"));
        check(
            b"a{       }b{       }xx",
            vec![entry(1, 9), entry(1, 9)],
            Err("22 bytes"),
        );
        check(b"a{                    }", vec![entry(1, 22)], Ok(1));
        check(
            b"a{                             }",
            vec![entry(1, 31)],
            Err("at most 30"),
        );
    }
}
