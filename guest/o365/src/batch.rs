//! Gathers events into batches of a good size and hands them over.

use crate::world::{Batch, Entry, Failure, Limits, Output, Refusal};

/// A batch is handed over at this size: large enough that the call costs nothing, small enough
/// that the first events leave while the rest of a blob is still on its way.
const TARGET_BYTES: usize = 512 * 1024;

/// Collects events for one output.
pub struct Batcher<'a> {
    output: &'a mut dyn Output,
    target: usize,
    most_bytes: usize,
    most_events: usize,
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
            batch: Batch::default(),
            events: 0,
            rejected: 0,
        }
    }

    /// Adds one event.
    pub fn add(
        &mut self,
        id: &str,
        body: &[u8],
        fingerprint: u64,
        time: i64,
    ) -> Result<(), Failure> {
        let size = id.len() + body.len();
        let entry = Entry {
            id_length: length(id.len())?,
            body_length: length(body.len())?,
            fingerprint,
            time,
        };
        if !self.batch.entries.is_empty() && self.batch.bytes.len() + size > self.most_bytes {
            self.flush()?;
        }
        if self.batch.bytes.capacity() == 0 {
            let usual = self.target + self.target / 8;
            self.batch.bytes.reserve(size.max(usual));
        }
        self.batch.bytes.extend_from_slice(id.as_bytes());
        self.batch.bytes.extend_from_slice(body);
        self.batch.entries.push(entry);
        self.events += 1;
        if self.batch.bytes.len() >= self.target || self.batch.entries.len() >= self.most_events {
            self.flush()?;
        }
        Ok(())
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

fn length(bytes: usize) -> Result<u32, Failure> {
    u32::try_from(bytes).map_err(|_| Failure::Internal(format!("an event of {bytes} bytes")))
}

fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Closed => Failure::Cancelled,
        Refusal::Invalid(rule) => Failure::Internal(format!("the host refused a batch: {rule}")),
    }
}
