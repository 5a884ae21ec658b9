//! Dead letters through stages and sinks once more, outside of a running line.
//!
//! A letter is answered for when every sink that it went to has it. What is refused again stays where it is, with the
//! new reason for whoever asks.

use std::sync::Arc;

use super::deliver::{Lane, Task};
use super::route::{Routed, Routes};
use super::{RETRY, Totals};
use crate::event::{Batch, Event, Part, StreamKey};
use crate::sink::{Outlet, Positions, Way};
use crate::stage::Stage;
use crate::stage::script::Runner;

/// Stands for the split in the parts of what is replayed.
const REPLAYED: &str = "dead-letter";

/// A letter on its way.
pub struct Passenger {
    /// Where it comes from.
    pub stream: StreamKey,
    /// The event.
    pub event: Event,
    /// The stages that it passes.
    pub stages: Vec<Arc<dyn Stage>>,
    /// The one sink that it goes to; `None` for those whose conditions hold.
    pub sink: Option<usize>,
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Every sink that it was meant for has it.
    Delivered,
    /// A stage or every condition left it out, on purpose.
    LeftOut,
    /// It was refused again.
    Refused {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
}

/// Sinks for letters.
pub struct Replay {
    routes: Routes,
    lanes: Vec<Lane>,
    tasks: Vec<Task>,
    totals: Totals,
}

/// What of a letter is on its way to the sinks.
struct Sent {
    /// Which letter.
    passenger: usize,
    stream: StreamKey,
    event: Event,
    sinks: Vec<bool>,
}

impl Replay {
    /// Starts the tasks of sinks that are ready to write.
    pub fn start(sinks: Vec<Outlet>) -> Self {
        let (mut lanes, mut tasks, mut whens) = (Vec::new(), Vec::new(), Vec::new());
        for Outlet { way, when } in sinks {
            let way = match way {
                Way::Ordered(sink) => Way::Ordered(sink),
                // Whether it has them is what a replay is about.
                Way::Requests(sink, mut policy) => {
                    policy.acknowledgements = true;
                    policy.retry.0 = policy.retry.0.min(RETRY.0);
                    Way::Requests(sink, policy)
                }
            };
            let (lane, task) = Lane::start(way);
            lanes.push(lane);
            tasks.push(task);
            whens.push(when);
        }
        Self {
            routes: Routes::new(whens),
            lanes,
            tasks,
            totals: Totals::default(),
        }
    }

    /// Sends letters and waits until their sinks have answered, for as long as that takes. One fate for each, and
    /// where the sinks' output ends. An error says that a sink has ended.
    pub async fn send(&self, passengers: Vec<Passenger>) -> Result<(Vec<Fate>, Positions), String> {
        let mut fates = vec![Fate::LeftOut; passengers.len()];
        let mut sent = Vec::new();
        for (index, passenger) in passengers.into_iter().enumerate() {
            match self.prepare(index, passenger).await {
                Ok(ready) => {
                    if !ready.is_empty() {
                        fates[index] = Fate::Delivered;
                    }
                    sent.extend(ready);
                }
                Err(fate) => fates[index] = fate,
            }
        }
        let positions = self.deliver(&sent, &mut fates).await?;
        Ok((fates, positions))
    }

    /// Waits until the sinks have ended.
    pub async fn end(self) {
        drop(self.lanes);
        for task in self.tasks {
            // One that panicked has said so.
            let _ = task.await;
        }
    }

    /// Takes a letter through its stages and decides where it goes.
    async fn prepare(&self, index: usize, passenger: Passenger) -> Result<Vec<Sent>, Fate> {
        let Passenger {
            stream,
            event,
            stages,
            sink,
        } = passenger;
        let mut events = vec![event];
        for stage in stages {
            let (stream, by) = (stream.clone(), format!("stage {}", stage.name()));
            let part = Part::of(REPLAYED, &events);
            let staged = stage
                .apply(Batch {
                    stream,
                    events,
                    part,
                })
                .await;
            if let Some((_, reason)) = staged.rejected.into_iter().next() {
                return Err(Fate::Refused { by, reason });
            }
            events = staged.passed;
            if events.is_empty() {
                return Ok(Vec::new());
            }
        }
        let mut sent = Vec::new();
        let mut runner = Runner::default();
        for event in events {
            let sinks = match sink {
                Some(only) => (0..self.lanes.len()).map(|sink| sink == only).collect(),
                None => self
                    .routes
                    .sinks_of(&mut runner, &event, &stream)
                    .map_err(|reason| Fate::Refused {
                        by: super::route::BY_CONDITIONS.into(),
                        reason,
                    })?,
            };
            if sinks.contains(&true) {
                sent.push(Sent {
                    passenger: index,
                    stream: stream.clone(),
                    event,
                    sinks,
                });
            }
        }
        Ok(sent)
    }

    async fn deliver(&self, sent: &[Sent], fates: &mut [Fate]) -> Result<Positions, String> {
        let mut waiting = Vec::new();
        for (sink, lane) in self.lanes.iter().enumerate() {
            for group in of_one_stream(sent, sink) {
                let Some((first, _)) = group.split_first() else {
                    continue;
                };
                let events: Vec<_> = group.iter().map(|sent| sent.event.clone()).collect();
                let batch = Batch {
                    stream: first.stream.clone(),
                    part: Part::of(REPLAYED, &events),
                    events,
                };
                let routed = Routed {
                    batch,
                    indexes: None,
                };
                waiting.extend(lane.give(routed, &self.totals).map(|ack| (ack, group)));
            }
        }
        let mut positions = Positions::new();
        for (ack, group) in waiting {
            let ack = ack.await.map_err(|_| "a sink has ended early".to_owned())?;
            for (index, reason) in ack.refused {
                if let Some(sent) = group.get(index) {
                    let by = format!("sink {}", ack.sink);
                    fates[sent.passenger] = Fate::Refused { by, reason };
                }
            }
            positions.extend(ack.positions);
        }
        Ok(positions)
    }
}

/// What goes to a sink, in batches of one stream each.
fn of_one_stream(sent: &[Sent], sink: usize) -> Vec<Vec<&Sent>> {
    let mut groups: Vec<Vec<&Sent>> = Vec::new();
    for sent in sent.iter().filter(|sent| sent.sinks[sink]) {
        match groups
            .iter_mut()
            .find(|group| group[0].stream == sent.stream)
        {
            Some(group) => group.push(sent),
            None => groups.push(vec![sent]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::error::Error;
    use crate::event::Identity;
    use crate::sink::{Sink, Written};
    use crate::stage::Staged;

    /// Refuses what it does not like.
    struct Picky(&'static str);

    #[async_trait]
    impl Sink for Picky {
        fn name(&self) -> &str {
            self.0
        }

        async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
            let mut refused = Vec::new();
            for (number, batch) in batches.iter().enumerate() {
                for (index, event) in batch.events.iter().enumerate() {
                    if event.body == self.0 {
                        refused.push((number, index, "not for me".to_owned()));
                    }
                }
            }
            Ok(Written {
                refused,
                ..Written::default()
            })
        }
    }

    /// Drops, rejects or passes on by what the body says.
    struct Sorter;

    #[async_trait]
    impl Stage for Sorter {
        fn name(&self) -> &'static str {
            "sorter"
        }

        async fn apply(&self, batch: Batch) -> Staged {
            let mut staged = Staged::default();
            for event in batch.events {
                match &event.body[..] {
                    b"drop" => staged.dropped += 1,
                    b"bad" => staged.rejected.push((event, "bad".into())),
                    _ => staged.passed.push(event),
                }
            }
            staged
        }
    }

    fn passenger(body: &'static str, sink: Option<usize>) -> Passenger {
        Passenger {
            stream: StreamKey::new("contoso", if body.len() > 3 { "long" } else { "short" }),
            event: Event {
                id: body.into(),
                fingerprint: 0,
                time_ms: 0,
                body: body.into(),
                identity: Identity::of("contoso", body, 0),
            },
            stages: vec![Arc::new(Sorter)],
            sink,
        }
    }

    #[tokio::test]
    async fn each_letter_is_told_what_became_of_it() {
        let sinks = vec![Outlet::ordered(Picky("one")), Outlet::ordered(Picky("two"))];
        let replay = Replay::start(sinks);
        let passengers = vec![
            passenger("good", None),
            passenger("drop", None),
            passenger("bad", None),
            passenger("two", None),
            passenger("two", Some(0)),
            passenger("one", Some(0)),
        ];
        let (fates, _) = replay.send(passengers).await.unwrap();
        let refused = |by: &str, reason: &str| Fate::Refused {
            by: by.into(),
            reason: reason.into(),
        };
        let expected = [
            Fate::Delivered,
            Fate::LeftOut,
            refused("stage sorter", "bad"),
            refused("sink two", "not for me"),
            Fate::Delivered,
            refused("sink one", "not for me"),
        ];
        assert_eq!(fates, expected);
        replay.end().await;
    }
}
