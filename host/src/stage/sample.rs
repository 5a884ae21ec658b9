//! Keeps one event of several.
//!
//! Which one is decided by the event's identity, or by the value of a field: the same event is
//! chosen again after a crash and on every retry, and events with one value stay together.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::condition::Condition;
use super::fields::{find, text, unescape};
use super::script::Runner;
use super::{Stage, Staged, sift};
use crate::event::{Batch, Event};

/// The stage `sample`.
#[derive(Debug)]
pub struct SampleStage {
    /// One of this many is kept.
    rate: u64,
    /// Whose value decides.
    key_field: Option<String>,
    /// What is kept whatever its number.
    exclude: Option<Condition>,
}

impl SampleStage {
    /// Keeps one event of `rate`, and all that is excluded from that.
    pub fn new(rate: u64, key_field: Option<String>, exclude: Option<Condition>) -> Self {
        Self {
            rate: rate.max(1),
            key_field,
            exclude,
        }
    }

    fn chosen(&self, event: &Event) -> Result<bool, String> {
        let key = match &self.key_field {
            Some(field) => key(&event.body, field)?,
            None => None,
        };
        let number = key.unwrap_or_else(|| half(event.identity.0));
        Ok(number.is_multiple_of(self.rate))
    }
}

/// A number that stands for the value of a field; of several the last.
fn key(body: &[u8], field: &str) -> Result<Option<u64>, String> {
    let objects = find(body, &[field])?;
    let values = objects.iter().flat_map(|object| {
        object
            .hits
            .iter()
            .map(|hit| object.members[*hit].value.clone())
    });
    let Some(value) = values.max_by_key(|at| at.start) else {
        return Ok(None);
    };
    let value = &text(body)?[value];
    let value = if value.starts_with('"') {
        unescape(value)?
    } else {
        value.into()
    };
    let digest: [u8; 32] = Sha256::digest(value.as_bytes()).into();
    Ok(Some(half(digest)))
}

/// The first half of the half of a hash.
fn half<const N: usize>(bytes: [u8; N]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[async_trait]
impl Stage for SampleStage {
    fn name(&self) -> &'static str {
        "sample"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let Batch { stream, events, .. } = batch;
        let mut runner = Runner::default();
        sift(events, |event| {
            let excluded = match &self.exclude {
                Some(condition) => condition.holds(&mut runner, event, &stream)?,
                None => false,
            };
            Ok(excluded || self.chosen(event)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Identity, Part, StreamKey};
    use crate::stage::filter::{FilterStage, FilterStageOptions};
    use crate::stage::script::{Purpose, Script};

    fn event(id: usize, body: String) -> Event {
        Event {
            id: id.to_string().into(),
            fingerprint: 0,
            time_ms: 0,
            body: body.into(),
            identity: Identity::of("contoso", &id.to_string(), 0),
        }
    }

    async fn sample(stage: &SampleStage, events: &[Event]) -> Staged {
        let stream = StreamKey::new("contoso", "Audit.General");
        let events = events.to_vec();
        let part = Part::default();
        stage
            .apply(Batch {
                stream,
                events,
                part,
            })
            .await
    }

    fn ids(staged: &Staged) -> Vec<String> {
        staged
            .passed
            .iter()
            .map(|event| event.id.to_string())
            .collect()
    }

    #[tokio::test]
    async fn keeps_about_one_of_ten_and_the_same_ones_in_whatever_batch() {
        let events: Vec<_> = (0..10_000).map(|id| event(id, "{}".into())).collect();
        let stage = SampleStage::new(10, None, None);
        let staged = sample(&stage, &events).await;
        let kept = ids(&staged);
        assert_eq!(staged.dropped, 10_000 - kept.len() as u64);
        // Identities are hashes of fixed names, so this number is no chance.
        assert!((900..1_100).contains(&kept.len()), "{}", kept.len());
        let again = SampleStage::new(10, None, None);
        let mut one_by_one = Vec::new();
        for event in events.iter().rev() {
            one_by_one.extend(ids(&sample(&again, std::slice::from_ref(event)).await));
        }
        one_by_one.reverse();
        assert_eq!(one_by_one, kept);
    }

    #[tokio::test]
    async fn events_with_one_value_stay_together() {
        let body = |id: usize| match id % 3 {
            0 => format!(r#"{{"user":{{"name":"{}"}}}}"#, id % 30),
            1 => format!(r#"{{"user.name":"\u003{}"}}"#, id % 10),
            _ => "{}".to_owned(),
        };
        let events: Vec<_> = (0..3_000).map(|id| event(id, body(id))).collect();
        let stage = SampleStage::new(2, Some("user.name".into()), None);
        let staged = sample(&stage, &events).await;
        for name in 0..10 {
            let of = |id: &usize| match id % 3 {
                0 => id % 30 == name,
                1 => id % 10 == name,
                _ => false,
            };
            let kept = ids(&staged)
                .iter()
                .filter(|id| of(&id.parse().unwrap()))
                .count();
            let all = (0..3_000).filter(of).count();
            assert!(kept == 0 || kept == all, "{name}: {kept} of {all}");
        }
        // Those without the field are chosen one by one.
        let without = ids(&staged)
            .iter()
            .filter(|id| id.parse::<usize>().unwrap() % 3 == 2)
            .count();
        assert!((400..600).contains(&without), "{without}");
    }

    #[tokio::test]
    async fn what_is_excluded_is_kept_whatever_the_rate() {
        let body = |id: usize| format!(r#"{{"n":{}}}"#, id % 2);
        let mut events: Vec<_> = (0..100).map(|id| event(id, body(id))).collect();
        events.push(event(100, "[]".into()));
        let fields = FilterStage::new(FilterStageOptions {
            field: "n".into(),
            equals: vec![1.into()],
            keep: true,
        });
        let program = Script::compile(".n == 1", Purpose::Condition).unwrap();
        for exclude in [
            Condition::Fields(fields.unwrap()),
            Condition::Program(Arc::new(program)),
        ] {
            let stage = SampleStage::new(u64::MAX, None, Some(exclude));
            let staged = sample(&stage, &events).await;
            let counts = (staged.passed.len(), staged.dropped, staged.rejected.len());
            assert_eq!(counts, (50, 50, 1));
            assert!(staged.rejected[0].1.contains("not a JSON object"));
        }
    }
}
