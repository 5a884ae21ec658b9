//! What a batch passes on its way to the sinks: the stages, and the conditions of the sinks.
//!
//! A course never changes; a line that is given another one lets each batch end on the course on which it began.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;

use super::Item;
use super::route::{BY_CONDITIONS, Routed, Routes};
use crate::event::{Batch, Refused};
use crate::metrics::component::{StageCounts, StageMeter};
use crate::stage::Stage;
use crate::stage::condition::Condition;
use crate::tap::{Point, Window};

/// Stages and conditions.
pub(super) struct Course {
    pub stages: Arc<[Box<dyn Stage>]>,
    /// Of each stage.
    pub meters: Vec<Arc<StageMeter>>,
    pub routes: Routes,
}

impl Course {
    pub fn new(stages: Arc<[Box<dyn Stage>]>, conditions: Vec<Option<Condition>>) -> Self {
        let meters = stages
            .iter()
            .map(|stage| Arc::new(StageMeter::new(stage.name())));
        Self {
            meters: meters.collect(),
            stages,
            routes: Routes::new(conditions),
        }
    }

    /// The same stages before other sinks.
    pub fn with_conditions(&self, conditions: Vec<Option<Condition>>) -> Self {
        Self {
            stages: self.stages.clone(),
            meters: self.meters.clone(),
            routes: Routes::new(conditions),
        }
    }

    /// Runs the stages. A stage that panics rejects the batch: it is kept, and the line goes on.
    pub async fn stage(
        &self,
        mut batch: Batch,
        split: &Arc<str>,
        window: &Window,
    ) -> (Batch, u64, Vec<Refused>) {
        let mut dropped = 0;
        let mut refused = Vec::new();
        for (index, (stage, meter)) in self.stages.iter().zip(&self.meters).enumerate() {
            if batch.events.is_empty() {
                break;
            }
            let (stream, part) = (batch.stream.clone(), batch.part.clone());
            let mut passed = StageCounts {
                received: batch.events.len() as u64,
                ..StageCounts::default()
            };
            let before = batch.clone();
            let by = format!("stage {} ({})", index + 1, stage.name());
            match AssertUnwindSafe(stage.apply(batch)).catch_unwind().await {
                Ok(staged) => {
                    dropped += staged.dropped;
                    passed.dropped = staged.dropped;
                    passed.rejected = staged.rejected.len() as u64;
                    passed.sent = staged.passed.len() as u64;
                    let rejected = staged.rejected.into_iter();
                    refused.extend(rejected.map(|(event, reason)| {
                        Refused::event((&stream, split), &by, event, reason)
                    }));
                    batch = Batch {
                        stream,
                        events: staged.passed,
                        part,
                    };
                }
                Err(_) => {
                    tracing::error!(%by, "a stage panicked; its batch is kept as dead letters");
                    passed.rejected = passed.received;
                    let panicked = "the stage panicked";
                    refused.extend(before.events.into_iter().map(|event| {
                        Refused::event((&stream, split), &by, event, panicked.into())
                    }));
                    batch = Batch {
                        stream,
                        events: Vec::new(),
                        part,
                    };
                }
            }
            meter.add(passed);
            window.show(&Point::Stage(index + 1), &batch);
        }
        (batch, dropped, refused)
    }

    /// Routes an item whose events have passed the stages: its batch stays as it is, since sinks may have answered
    /// about it already.
    pub fn route_again(&self, item: &mut Item) -> Vec<Option<Routed>> {
        let Some(batch) = &item.batch else {
            return Vec::new();
        };
        let (routed, nowhere, unreadable) = self.routes.again(batch);
        let lost = nowhere + unreadable.len() as u64;
        item.counts.delivered = item.counts.delivered.saturating_sub(lost);
        item.counts.dropped += nowhere;
        item.counts.dead_lettered += unreadable.len() as u64;
        let place = (&item.stream, &item.split);
        for (index, reason) in unreadable {
            let event = batch.events[index].clone();
            item.rejected
                .push(Refused::event(place, BY_CONDITIONS, event, reason));
        }
        routed
    }
}
