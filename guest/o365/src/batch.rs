//! Gathers events into batches of a good size and hands them over.

use crate::map::Mapper;
use crate::world::{Batch, Entry, Failure, Limits, Output, Refusal, Timestamp};

/// A batch is handed over at this size: large enough that the call costs nothing, small enough
/// that the first events leave while the rest of a blob is still on its way.
const TARGET_BYTES: usize = 512 * 1024;

/// Length of nearly every id: a UUID. A body whose id is as long stays where it was written.
const USUAL_ID: usize = 36;

/// Collects events for one output.
pub struct Batcher<'a> {
    output: &'a mut dyn Output,
    target: usize,
    most_bytes: usize,
    most_events: usize,
    most_event_bytes: usize,
    batch: Batch,
    /// Events handed over or waiting.
    pub events: u64,
    /// Records that went to the dead letters.
    pub rejected: u64,
}

impl<'a> Batcher<'a> {
    /// A batcher within the host's limits.
    pub fn new(output: &'a mut dyn Output, limits: &Limits) -> Self {
        let most_bytes = limits.batch_bytes as usize;
        Self {
            output,
            target: TARGET_BYTES.min(most_bytes),
            most_bytes,
            most_events: (limits.batch_events as usize).max(1),
            most_event_bytes: limits.event_bytes as usize,
            batch: Batch::default(),
            events: 0,
            rejected: 0,
        }
    }

    /// Maps one record to an event of the batch; the inner error says why that cannot be done.
    pub fn map(
        &mut self,
        mapper: &mut Mapper,
        record: &[u8],
        arrived: Timestamp,
    ) -> Result<Result<(), String>, Failure> {
        if self.batch.bytes.capacity() == 0 {
            let usual = self.target + self.target / 8;
            self.batch
                .bytes
                .reserve(usual.max(record.len() + record.len() / 4));
        }
        let start = self.batch.bytes.len();
        if let Err(reason) = append(&mut self.batch, mapper, record, arrived) {
            return Ok(Err(reason));
        }
        let size = self
            .batch
            .entries
            .last()
            .map_or(0, |entry| entry.body_length as usize);
        if size > self.most_event_bytes {
            self.batch.bytes.truncate(start);
            self.batch.entries.pop();
            let limit = self.most_event_bytes;
            return Ok(Err(format!(
                "its event has {size} bytes; the limit is {limit}"
            )));
        }
        self.events += 1;
        let full = start > 0 && self.batch.bytes.len() > self.most_bytes;
        if full && let Some(last) = self.batch.entries.pop() {
            let bytes = self.batch.bytes.split_off(start);
            self.flush()?;
            self.batch = Batch {
                bytes,
                entries: vec![last],
            };
        }
        if self.batch.bytes.len() >= self.target || self.batch.entries.len() >= self.most_events {
            self.flush()?;
        }
        Ok(Ok(()))
    }

    /// Hands over a record that could not become an event.
    pub fn reject(&mut self, record: &[u8], reason: &str) -> Result<(), Failure> {
        self.rejected += 1;
        self.output.reject(record, reason).map_err(refused)
    }

    /// Hands over a full batch, unless the host wants an end.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.output.draining() {
            return Err(Failure::Cancelled);
        }
        self.finish()
    }

    /// Hands over the last batch: stopping now would only make the split be read again.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.batch.entries.is_empty() {
            return Ok(());
        }
        self.output
            .emit(std::mem::take(&mut self.batch))
            .map_err(refused)
    }
}

/// Maps one record to an event at the end of a batch; on an error the batch is as before. False when
/// the record was too deep to be read to its end.
///
/// The body is written where it will stay: an event may be as large as a third of the memory.
pub fn append(
    batch: &mut Batch,
    mapper: &mut Mapper,
    record: &[u8],
    arrived: Timestamp,
) -> Result<bool, String> {
    let start = batch.bytes.len();
    // The id goes in front of the body, but is known only behind the mapping.
    batch.bytes.resize(start + USUAL_ID, 0);
    let event = mapper
        .map(record, arrived, &mut batch.bytes)
        .inspect_err(|_| {
            batch.bytes.truncate(start);
        })?;
    let id = mapper.id().as_bytes();
    let (body, end) = (start + USUAL_ID, batch.bytes.len());
    let (Ok(id_length), Ok(body_length)) = (u32::try_from(id.len()), u32::try_from(end - body))
    else {
        batch.bytes.truncate(start);
        return Err("its event has more than 4 GiB".into());
    };
    // A copy of a length known here is no call.
    if let Ok(id) = <&[u8; USUAL_ID]>::try_from(id) {
        batch.bytes[start..body].copy_from_slice(id);
    } else {
        batch.bytes.resize(end.max(end - USUAL_ID + id.len()), 0);
        batch.bytes.copy_within(body..end, start + id.len());
        batch.bytes.truncate(end - USUAL_ID + id.len());
        batch.bytes[start..start + id.len()].copy_from_slice(id);
    }
    let (fingerprint, time) = (event.fingerprint, event.time);
    batch.entries.push(Entry {
        id_length,
        body_length,
        fingerprint,
        time,
    });
    Ok(event.whole)
}

fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Closed => Failure::Cancelled,
        Refusal::Invalid(rule) => Failure::Internal(format!("the host refused a batch: {rule}")),
    }
}
