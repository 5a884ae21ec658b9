//! Which sink gets which event: the fan-out at the end of the line.
//!
//! An event that no sink's condition holds for is dropped, as by a filter. One whose body no condition can be read from
//! goes nowhere: it becomes a dead letter.

use super::refuse;
use crate::event::{Batch, Event, Refused};
use crate::stage::filter::FilterStage;

/// The conditions of all sinks, in their order.
pub(super) struct Routes(Vec<Option<FilterStage>>);

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
    pub fn new(conditions: Vec<Option<FilterStage>>) -> Self {
        Self(conditions)
    }

    /// Decides where each event goes; what cannot be decided is refused.
    pub fn route(&self, batch: Batch, refused: &mut Vec<Refused>) -> Fan {
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
            self.decide(batch, refused)
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

    /// The events that go somewhere, for each of them the sinks, and how many go nowhere.
    fn decide(&self, batch: Batch, refused: &mut Vec<Refused>) -> (Batch, Vec<Vec<bool>>, u64) {
        let Batch {
            stream,
            events,
            part,
        } = batch;
        let (mut kept, mut goes, mut unrouted) = (Vec::new(), Vec::new(), 0);
        for event in events {
            match self.sinks_of(&event) {
                Ok(sinks) if sinks.contains(&true) => {
                    kept.push(event);
                    goes.push(sinks);
                }
                Ok(_) => unrouted += 1,
                Err(error) => {
                    let reason = format!("the event is not a JSON object: {error}");
                    refused.push(refuse(&stream, "key `when` of a sink", event, reason));
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

    fn sinks_of(&self, event: &Event) -> Result<Vec<bool>, serde_json::Error> {
        let conditions = self.0.iter();
        conditions
            .map(|condition| match condition {
                None => Ok(true),
                Some(condition) => condition.keeps(&event.body),
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
    use crate::event::{Identity, Part, StreamKey};
    use crate::stage::filter::FilterStageOptions;

    fn when(field: &str, value: &str) -> Option<FilterStage> {
        let options = FilterStageOptions {
            field: field.into(),
            equals: vec![json!(value)],
            keep: true,
        };
        Some(FilterStage::new(options).unwrap())
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
        let fan = routes.route(batch(&BODIES), &mut refused);
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
    fn without_conditions_nothing_is_read() {
        let mut refused = Vec::new();
        let fan = Routes::new(vec![None, None]).route(batch(&BODIES), &mut refused);
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
