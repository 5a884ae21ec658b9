//! Which sink gets which event: the fan-out at the end of the line.
//!
//! An event that no sink's condition holds for is dropped, as by a filter. One whose body no condition can be read from
//! goes nowhere: it becomes a dead letter.

use std::sync::Arc;

use crate::event::{Batch, Event, Refused, StreamKey};
use crate::stage::condition::Condition;
use crate::stage::script::Runner;

/// Who refuses an event that no condition can be read from.
pub const BY_CONDITIONS: &str = "key `when` of a sink";

/// The conditions of all sinks, in their order.
pub(crate) struct Routes(Vec<Option<Condition>>);

/// What one sink gets of a batch.
pub(super) struct Routed {
    pub batch: Batch,
    /// Where each event stands in the whole batch, unless this is all of it.
    pub indexes: Option<Vec<usize>>,
}

/// A batch on its way to the sinks.
pub(super) struct Fan {
    /// The events that go to at least one sink.
    pub batch: Batch,
    /// What each sink gets of them; `None` for nothing.
    pub routed: Vec<Option<Routed>>,
    /// How many go nowhere.
    pub unrouted: u64,
}

impl Routes {
    /// Those of all sinks, in their order.
    pub fn new(conditions: Vec<Option<Condition>>) -> Self {
        Self(conditions)
    }

    /// Decides where each event goes; what cannot be decided is refused.
    pub(super) fn route(&self, batch: Batch, split: &Arc<str>, refused: &mut Vec<Refused>) -> Fan {
        if batch.events.is_empty() {
            return Fan {
                batch,
                routed: Vec::new(),
                unrouted: 0,
            };
        }
        let everywhere = self.0.iter().all(Option::is_none);
        let (batch, goes, unrouted) = if everywhere {
            (batch, Vec::new(), 0)
        } else {
            self.decide(batch, split, refused)
        };
        let routed = self.0.iter().enumerate().map(|(sink, condition)| {
            let indexes = condition.as_ref().map(|_| indexes(&goes, sink));
            let events = match &indexes {
                None => batch.events.clone(),
                Some(indexes) => indexes.iter().map(|i| batch.events[*i].clone()).collect(),
            };
            (!events.is_empty()).then(|| Routed {
                batch: Batch {
                    stream: batch.stream.clone(),
                    events,
                    part: batch.part.clone(),
                },
                indexes,
            })
        });
        Fan {
            routed: routed.collect(),
            batch,
            unrouted,
        }
    }

    /// What each sink gets of a batch that was routed before, how many events go nowhere now, and those that no
    /// condition can be read from.
    pub(super) fn again(&self, batch: &Batch) -> (Vec<Option<Routed>>, u64, Vec<(usize, String)>) {
        let (mut nowhere, mut unreadable) = (0, Vec::new());
        let mut indexes = vec![Vec::new(); self.0.len()];
        let mut runner = Runner::default();
        for (index, event) in batch.events.iter().enumerate() {
            match self.sinks_of(&mut runner, event, &batch.stream) {
                Ok(sinks) if sinks.contains(&true) => {
                    let goes = indexes.iter_mut().zip(sinks).filter(|(_, goes)| *goes);
                    goes.for_each(|(indexes, _)| indexes.push(index));
                }
                Ok(_) => nowhere += 1,
                Err(reason) => unreadable.push((index, reason)),
            }
        }
        let routed = indexes.into_iter().map(|indexes| {
            let events: Vec<_> = indexes.iter().map(|i| batch.events[*i].clone()).collect();
            (!events.is_empty()).then(|| Routed {
                batch: Batch {
                    stream: batch.stream.clone(),
                    events,
                    part: batch.part.clone(),
                },
                indexes: Some(indexes),
            })
        });
        (routed.collect(), nowhere, unreadable)
    }

    /// The events that go somewhere, for each of them the sinks, and how many go nowhere.
    fn decide(
        &self,
        batch: Batch,
        split: &Arc<str>,
        refused: &mut Vec<Refused>,
    ) -> (Batch, Vec<Vec<bool>>, u64) {
        let Batch {
            stream,
            events,
            part,
        } = batch;
        let (mut kept, mut goes, mut unrouted) = (Vec::new(), Vec::new(), 0);
        let mut runner = Runner::default();
        for event in events {
            match self.sinks_of(&mut runner, &event, &stream) {
                Ok(sinks) if sinks.contains(&true) => {
                    kept.push(event);
                    goes.push(sinks);
                }
                Ok(_) => unrouted += 1,
                Err(reason) => {
                    let place = (&stream, split);
                    refused.push(Refused::event(place, BY_CONDITIONS, event, reason));
                }
            }
        }
        let batch = Batch {
            stream,
            events: kept,
            part,
        };
        (batch, goes, unrouted)
    }

    /// For each sink whether an event goes there.
    pub fn sinks_of(
        &self,
        runner: &mut Runner,
        event: &Event,
        stream: &StreamKey,
    ) -> Result<Vec<bool>, String> {
        let conditions = self.0.iter();
        conditions
            .map(|condition| match condition {
                None => Ok(true),
                Some(condition) => condition.holds(runner, event, stream),
            })
            .collect()
    }
}

fn indexes(goes: &[Vec<bool>], sink: usize) -> Vec<usize> {
    let chosen = goes.iter().enumerate().filter(|(_, sinks)| sinks[sink]);
    chosen.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Identity, Part};
    use crate::stage::filter::{FilterStage, FilterStageOptions};
    use crate::stage::script::{Purpose, Script};

    fn when(field: &str, value: &str) -> Option<Condition> {
        let options = FilterStageOptions {
            field: field.into(),
            equals: vec![json!(value)],
            keep: true,
        };
        Some(Condition::Fields(FilterStage::new(options).unwrap()))
    }

    fn batch(bodies: &[&'static str]) -> Batch {
        let event = |body: &&'static str| Event {
            id: (*body).into(),
            fingerprint: 0,
            time_ms: 0,
            body: bytes::Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        };
        Batch {
            stream: StreamKey::new("contoso", "Audit.General"),
            events: bodies.iter().map(event).collect(),
            part: Part::default(),
        }
    }

    const BODIES: [&str; 4] = [r#"{"a":"1"}"#, r#"{"a":"2"}"#, "[]", r#"{"a":"3"}"#];

    #[test]
    fn each_sink_gets_what_its_condition_holds_for() {
        let mut refused = Vec::new();
        let routes = Routes::new(vec![when("a", "1"), when("a", "3"), when("a", "9")]);
        let fan = routes.route(batch(&BODIES), &"split".into(), &mut refused);
        let bodies = |routed: &Option<Routed>| {
            routed
                .as_ref()
                .map(|routed| (routed.batch.events[0].body.clone(), routed.indexes.clone()))
        };
        assert_eq!(
            fan.batch.events.len(),
            2,
            "those that go nowhere are left out"
        );
        assert_eq!(
            bodies(&fan.routed[0]).unwrap(),
            (BODIES[0].into(), Some(vec![0]))
        );
        assert_eq!(
            bodies(&fan.routed[1]).unwrap(),
            (BODIES[3].into(), Some(vec![1]))
        );
        assert!(fan.routed[2].is_none());
        assert_eq!((fan.unrouted, refused.len()), (1, 1));
        assert!(refused[0].reason.contains("not a JSON object"));
    }

    #[test]
    fn a_condition_may_be_a_program_and_knows_where_an_event_comes_from() {
        let when = |source| {
            let script = Script::compile(source, Purpose::Condition).unwrap();
            Some(Condition::Program(Arc::new(script)))
        };
        let routes = Routes::new(vec![
            when("%tenant == \"contoso\" && .a != \"1\""),
            when("to_int!(.a) == 1"),
            when("%tenant == \"fabrikam\""),
        ]);
        let mut refused = Vec::new();
        let fan = routes.route(batch(&BODIES), &"a split".into(), &mut refused);
        let counts = fan.routed.iter().map(|routed| {
            let routed = routed.as_ref();
            routed.map_or(0, |routed| routed.batch.events.len())
        });
        assert_eq!(counts.collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!((fan.unrouted, refused.len()), (0, 1));
    }

    #[test]
    fn without_conditions_nothing_is_read() {
        let mut refused = Vec::new();
        let fan =
            Routes::new(vec![None, None]).route(batch(&BODIES), &"split".into(), &mut refused);
        assert_eq!(
            (fan.batch.events.len(), fan.unrouted, refused.len()),
            (4, 0, 0)
        );
        for routed in fan.routed {
            let routed = routed.unwrap();
            assert_eq!((routed.batch.events.len(), routed.indexes), (4, None));
        }
    }
}
