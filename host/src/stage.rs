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
