//! What has to hold of an event: fields with their values, or a program in VRL that says so.
//!
//! A program that fails or aborts does not hold, as in Vector. Of an event that is no JSON object
//! nothing can be said.

use std::sync::Arc;

use async_trait::async_trait;

use super::filter::FilterStage;
use super::script::{Runner, Script};
use super::{Stage, Staged, sift};
use crate::config;
use crate::error::Error;
use crate::event::{Batch, Event, StreamKey};

/// What has to hold of an event.
#[derive(Debug)]
pub enum Condition {
    /// This filter keeps it.
    Fields(FilterStage),
    /// This program ends in `true`.
    Program(Arc<Script>),
}

impl Condition {
    /// The condition that a pipeline describes.
    pub fn of(condition: &config::Condition) -> Result<Self, Error> {
        Ok(match condition {
            config::Condition::Fields(filter) => Self::Fields(FilterStage::of(filter)?),
            config::Condition::Program(script) => Self::Program(script.clone()),
        })
    }

    /// Whether it holds; why that cannot be said, when the event is no JSON object.
    pub fn holds(
        &self,
        runner: &mut Runner,
        event: &Event,
        stream: &StreamKey,
    ) -> Result<bool, String> {
        match self {
            Self::Fields(filter) => filter.keeps(&event.body),
            Self::Program(script) => runner.holds(script, event, stream),
        }
    }
}

/// The stage `filter` with a condition: what it does not hold for is dropped and counted; an event
/// that is no JSON object is a dead letter.
#[derive(Debug)]
pub struct ConditionStage(Arc<Script>);

impl ConditionStage {
    /// Keeps what the condition holds for.
    pub fn new(condition: Arc<Script>) -> Self {
        Self(condition)
    }
}

#[async_trait]
impl Stage for ConditionStage {
    fn name(&self) -> &'static str {
        "filter"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let Batch { stream, events, .. } = batch;
        let mut runner = Runner::default();
        sift(events, |event| runner.holds(&self.0, event, &stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Identity, Part};
    use crate::stage::script::Purpose;

    #[tokio::test]
    async fn keeps_what_holds_drops_what_does_not_or_fails_and_rejects_what_is_no_object() {
        let script = Script::compile("to_int!(.n) > 1", Purpose::Condition).unwrap();
        let bodies = [r#"{"n": 2.0}"#, r#"{"n":1}"#, r#"{"n":[]}"#, "{}", "[]"];
        let events = bodies.map(|body| Event {
            id: body.into(),
            fingerprint: 0,
            time_ms: 0,
            body: body.into(),
            identity: Identity::of("contoso", body, 0),
        });
        let stream = StreamKey::new("contoso", "Audit.General");
        let batch = Batch {
            stream,
            events: events.to_vec(),
            part: Part::default(),
        };
        let staged = ConditionStage::new(Arc::new(script)).apply(batch).await;
        assert_eq!(staged.passed.len(), 1);
        assert_eq!(staged.passed[0].body, bodies[0], "its bytes stay");
        assert_eq!((staged.dropped, staged.rejected.len()), (3, 1));
    }
}
