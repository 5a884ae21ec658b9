//! Events as messages of Apache Kafka.
//!
//! The producer is idempotent, so what it sends again by itself the brokers know. What we send again, after a crash or
//! when nobody could say whether a message arrived, is another message with the same `id` in its headers.

mod producer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use tokio::time::Instant;

use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::sink::kafka::{Kafka, is_topic_letter};
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::secret::Redactor;
use producer::{Packing, Producer, Producers};

/// The header by which a message is known.
const ID: &str = "id";

/// Delivers to Kafka.
#[derive(Debug)]
pub struct KafkaSink {
    name: String,
    producers: Producers,
    topic: Template,
    /// JSON Pointer, and the same with a name that has dots in it.
    key_field: Option<String>,
    timeout: Duration,
}

impl KafkaSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(name: &str, config: &Kafka, redactor: &Arc<Redactor>) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            producers: Producers::new(name, config, redactor)?,
            topic: config.topic.clone(),
            key_field: config.key_field.clone(),
            timeout: config.delivery.timeout,
        })
    }

    /// Those of the events, by their index, that were not delivered.
    async fn produce(
        &self,
        producer: &Producer,
        events: &[Outgoing],
        which: impl Iterator<Item = usize>,
    ) -> Vec<(usize, KafkaError)> {
        let sends =
            which.map(async |index| (index, self.produce_one(producer, &events[index]).await));
        let answers = join_all(sends).await.into_iter();
        answers
            .filter_map(|(index, answer)| Some((index, answer.err()?)))
            .collect()
    }

    /// What becomes of those of the events when nothing travels with them.
    async fn produce_alone(&self, events: &[Outgoing], which: &[usize]) -> Vec<(usize, Fate)> {
        let producer = match self.producers.get(Packing::Alone) {
            Ok(producer) => producer,
            Err(error) => {
                let again = |index: &usize| {
                    let reason = error.to_string();
                    let overloaded = false;
                    (*index, Fate::Again { reason, overloaded })
                };
                return which.iter().map(again).collect();
            }
        };
        let failed = self.produce(&producer, events, which.iter().copied()).await;
        if producer.is_lost() {
            self.producers.give_up(&producer);
        }
        fates(&failed, &producer)
    }

    async fn produce_one(
        &self,
        producer: &Producer,
        outgoing: &Outgoing,
    ) -> Result<(), KafkaError> {
        let Outgoing { stream, event, .. } = outgoing;
        let topic = self.topic.fill(stream, is_topic_letter);
        let field = self.key_field.as_deref();
        let key = field.and_then(|field| value_at(&event.body, field));
        let key = key.unwrap_or_else(|| stream.tenant.to_string());
        let id = event.identity.delivery_id();
        let header = Header {
            key: ID,
            value: Some(&id),
        };
        let record = FutureRecord::to(&topic)
            .key(&key)
            .payload(&event.body[..])
            .timestamp(event.time_ms.max(0))
            .headers(OwnedHeaders::new().insert(header));
        let sent = producer.client().send(record, self.timeout).await;
        sent.map(drop).map_err(|(error, _)| error)
    }
}

#[async_trait]
impl RequestSink for KafkaSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.producers.reach().await
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let producer = match self.producers.get(Packing::Together) {
            Ok(producer) => producer,
            Err(error) => return Reply::Again(Again::trouble(error)),
        };
        let asked_at = Instant::now();
        let all = self.produce(&producer, events, 0..events.len()).await;
        // A broker refuses all messages that came together for what is wrong with one of them, or with all together.
        let (refused, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, error)| is_refused(error));
        if others.len() == events.len() || producer.is_lost() {
            self.producers.give_up(&producer);
        }
        let mut failed = fates(&others, &producer);
        if !refused.is_empty() {
            let refused: Vec<_> = refused.into_iter().map(|(index, _)| index).collect();
            failed.extend(self.produce_alone(events, &refused).await);
        }
        Reply::Taken {
            failed,
            latency: asked_at.elapsed(),
        }
    }
}

fn fates(failed: &[(usize, KafkaError)], producer: &Producer) -> Vec<(usize, Fate)> {
    let trouble = producer.trouble();
    let fates = failed
        .iter()
        .map(|(index, error)| (*index, fate(error, trouble.as_deref())));
    fates.collect()
}

/// Whether sending a message once more, as it is, would end in the same way.
fn is_refused(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord)
    )
}

/// What becomes of an event that was not delivered; `trouble` is what the client said last of its connections.
fn fate(error: &KafkaError, trouble: Option<&str>) -> Fate {
    if is_refused(error) {
        return Fate::Refused(format!("the message is not taken: {error}"));
    }
    let again = |help: &str, overloaded| Fate::Again {
        reason: format!("{error}{help}"),
        overloaded,
    };
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            again("; create the topic, or check `topic`", false)
        }
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => again(
            "; give the user the right to write and to be idempotent",
            false,
        ),
        Some(Code::MessageTimedOut | Code::RequestTimedOut) => {
            let why = trouble.map(|trouble| format!("; {trouble}"));
            again(&why.unwrap_or_default(), true)
        }
        Some(Code::QueueFull) => again("", true),
        _ => again("", false),
    }
}

/// The value of a field, written with dots, as text. A member may have the dots in its own name.
fn value_at(body: &[u8], field: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_slice(body).ok()?;
    let nested = field
        .split('.')
        .try_fold(&event, |value, name| value.get(name));
    match nested.or_else(|| event.get(field))? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_value_of_a_field() {
        let body = br#"{"user":{"id":"a","n":1},"user.name":"b","c":null}"#;
        for (field, expected) in [
            ("user.id", Some("a")),
            ("user.n", Some("1")),
            ("user.name", Some("b")),
            ("c", None),
            ("user.id.x", None),
        ] {
            assert_eq!(value_at(body, field).as_deref(), expected, "{field}");
        }
        assert_eq!(value_at(b"[]", "a"), None);
    }

    #[test]
    fn only_what_no_retry_can_deliver_is_refused() {
        let error = KafkaError::MessageProduction;
        let refused = fate(&error(Code::MessageSizeTooLarge), None);
        assert!(matches!(refused, Fate::Refused(_)), "{refused:?}");
        for (code, words) in [
            (Code::UnknownTopic, "create the topic"),
            (Code::TopicAuthorizationFailed, "the right to write"),
            (Code::MessageTimedOut, "refused there"),
            (Code::NotEnoughReplicas, ""),
        ] {
            let found = fate(&error(code), Some("refused there"));
            let Fate::Again { reason, .. } = found else {
                panic!("{code:?}: {found:?}")
            };
            assert!(reason.contains(words), "{reason}");
        }
    }
}
