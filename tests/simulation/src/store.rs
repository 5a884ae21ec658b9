//! A document store that knows documents by their ids, as a sink that sends requests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluicegate::error::Error;
use sluicegate::sink::request::{Again, Fate, Outgoing, Reply};
use sluicegate::sink::{Policy, RequestSink};
use tokio::time::sleep;

use crate::chance::{Concern, mix};
use crate::coverage::Point;
use crate::effects::Kind;
use crate::plan::Trouble;
use crate::world::{Document, World};

/// The way to the store.
pub struct Documents(pub Arc<World>);

/// How the line serves it: small requests, so that there are several.
pub fn policy() -> Policy {
    Policy {
        batch_events: 7,
        batch_timeout: Duration::from_millis(500),
        ..Policy::default()
    }
}

/// Whether the store never takes an event: some always, the same ones in every life.
pub fn is_poison(world: &World, delivery_id: &str) -> bool {
    let hash = delivery_id
        .bytes()
        .fold(world.plan.seed, |hash, byte| mix(hash ^ u64::from(byte)));
    world.plan.has(Trouble::SinkRefusals) && hash.is_multiple_of(9)
}

#[async_trait]
impl RequestSink for Documents {
    fn name(&self) -> &'static str {
        "documents"
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let world = &self.0;
        let about = format!("{} documents", events.len());
        let effect = world.effects.begin(Kind::Send, &about).await;
        let latency = self.latency();
        sleep(latency / 2).await;
        if self.is_down() {
            world.coverage.mark(Point::SinkDown);
            return Reply::Again(Again::trouble(Error::unavailable("the store is down")));
        }
        if events.len() > 1 && world.strikes(Trouble::SinkSplits, Concern::Sink, 200) {
            world.coverage.mark(Point::SinkSplit);
            return Reply::Split("the request is too large".into());
        }
        let taken = if effect.is_torn() {
            events.len() / 2
        } else {
            events.len()
        };
        let failed = self.take(&events[..taken]);
        effect.end().await;
        if world.strikes(Trouble::AcksLost, Concern::Sink, 150) {
            world.coverage.mark(Point::AckLost);
            sleep(Duration::from_secs(5)).await;
            return Reply::Again(Again::trouble(Error::temporary("no answer in time")));
        }
        sleep(latency / 2).await;
        Reply::Taken { failed, latency }
    }
}

impl Documents {
    fn latency(&self) -> Duration {
        let world = &self.0;
        let most = if world.strikes(Trouble::SinkSlow, Concern::Sink, 300) {
            world.coverage.mark(Point::AckLate);
            120_000
        } else {
            300
        };
        Duration::from_millis(world.draw(Concern::Sink, |chance| chance.between(1, most)))
    }

    /// Down for the first half of every so many minutes.
    fn is_down(&self) -> bool {
        let minutes = self.0.clock.true_ms() / 60_000;
        self.0.is_troubled() && self.0.plan.has(Trouble::SinkDown) && minutes % 20 < 9
    }

    fn take(&self, events: &[Outgoing]) -> Vec<(usize, Fate)> {
        let world = &self.0;
        let mut failed = Vec::new();
        for (index, outgoing) in events.iter().enumerate() {
            let id = outgoing.event.identity.delivery_id();
            if is_poison(world, &id) {
                world.coverage.mark(Point::SinkRefused);
                failed.push((index, Fate::Refused("the store does not take this".into())));
            } else if world.strikes(Trouble::SinkPartial, Concern::Sink, 150) {
                world.coverage.mark(Point::SinkPartial);
                let (reason, overloaded) = ("busy".into(), true);
                failed.push((index, Fate::Again { reason, overloaded }));
            } else {
                self.create(id, outgoing);
            }
        }
        failed
    }

    /// What is there already is there: the store answers with a conflict, which counts as taken.
    fn create(&self, id: String, outgoing: &Outgoing) {
        let world = &self.0;
        let mut documents = world.documents();
        if let Some(document) = documents.get_mut(&id) {
            document.copies += 1;
            let same = document.body == outgoing.event.body;
            world.coverage.mark(Point::SentAgainSameId);
            drop(documents);
            world.witness.sent_again(world, &id, same);
            return;
        }
        let document = Document {
            tenant: outgoing.stream.tenant.to_string(),
            event: outgoing.event.id.to_string(),
            body: outgoing.event.body.clone(),
            copies: 1,
        };
        documents.insert(id, document);
    }
}
