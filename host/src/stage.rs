//! What happens to events between source and sinks: the trait every stage implements, and the list of stages.
//!
//! A stage keeps identities: what it passes on has the identity of what came in, what it makes several of gets
//! child identities, and everything that came in is accounted for.

pub mod condition;
pub mod drop;
mod fields;
pub mod filter;
pub mod geoip;
mod json;
pub mod redact;
pub mod remap;
pub mod rename;
pub mod sample;
pub mod script;
pub mod user_agent;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::{Batch, Event};
pub(crate) use fields::is_field;

/// What a stage made of a batch. Every event that came in is passed on, dropped or rejected.
#[derive(Debug, Default)]
pub struct Staged {
    /// Events to pass on.
    pub passed: Vec<Event>,
    /// How many were left out on purpose.
    pub dropped: u64,
    /// What could not be handled, and why; kept as dead letters.
    pub rejected: Vec<(Event, String)>,
}

/// A step that every batch takes.
#[async_trait]
pub trait Stage: Send + Sync {
    /// The stage's kind, such as `filter`.
    fn name(&self) -> &'static str;

    /// Handles one batch. Must end: whatever cannot be handled is rejected, never held back.
    async fn apply(&self, batch: Batch) -> Staged;
}

/// Passes every event on, changed where `edit` says so; rejects what it cannot read.
fn change(batch: Batch, edit: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, String>) -> Staged {
    let mut staged = Staged::default();
    staged.passed.reserve(batch.events.len());
    for mut event in batch.events {
        match edit(&event.body) {
            Ok(changed) => {
                if let Some(changed) = changed {
                    event.body = Bytes::from(changed);
                }
                staged.passed.push(event);
            }
            Err(reason) => staged.rejected.push((event, reason)),
        }
    }
    staged
}

/// Passes an event on where `passes` says so and drops it otherwise; rejects one about which nothing can be said.
fn sift(events: Vec<Event>, mut passes: impl FnMut(&Event) -> Result<bool, String>) -> Staged {
    let mut staged = Staged::default();
    for event in events {
        match passes(&event) {
            Ok(true) => staged.passed.push(event),
            Ok(false) => staged.dropped += 1,
            Err(reason) => staged.rejected.push((event, reason)),
        }
    }
    staged
}
