//! An event on its way through the line, and the identity by which it is known.
//!
//! An event's body is never parsed after the plugin wrote it unless a stage or sink asks to: sinks that need JSON pass
//! the bytes on. Identity is made of the tenant, the origin's id and the fingerprint, so one
//! tenant can never hide another's event and a changed record under a known id is kept.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;
use sha2::{Digest as _, Sha256};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The origin's own identity, such as an audit record's `Id`.
    pub id: ByteString,
    /// A hash over the content, independent of the order of members; made by the plugin.
    pub fingerprint: u64,
    /// When the event happened: milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: i64,
    /// One JSON object as UTF-8, without a newline.
    pub body: Bytes,
    /// What deduplication and sinks know the event by; survives stages.
    pub identity: Identity,
}

/// 128 bits that stand for one event of one tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub [u8; 16]);

impl Identity {
    /// The identity of an event of `tenant`.
    ///
    /// Lengths stand in front of the parts, so no two different triples give the same input.
    pub fn of(tenant: &str, id: &str, fingerprint: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update((tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update((id.len() as u64).to_le_bytes());
        hash.update(id);
        hash.update(fingerprint.to_le_bytes());
        Self::first_half(&hash.finalize().into())
    }

    /// The identity of bytes that never became an event, so that a dead letter is kept once.
    pub fn of_bytes(tenant: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"bytes");
        hash.update((tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update(body);
        Self::first_half(&hash.finalize().into())
    }

    /// The identity of the `index`-th event that a stage made of this one.
    #[must_use]
    pub fn child(self, index: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(index.to_le_bytes());
        Self::first_half(&hash.finalize().into())
    }

    /// The name under which sinks that can (Elasticsearch, NATS, Kafka) recognise the event: 22
    /// characters of the URL-safe base64 alphabet.
    pub fn delivery_id(self) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads what [`Self::delivery_id`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        engine.decode(text).ok()?.try_into().ok().map(Self)
    }

    fn first_half(digest: &[u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(half)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.delivery_id())
    }
}

/// Events of one stream that travel together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where the events come from.
    pub stream: StreamKey,
    /// The events, in the order in which they were read.
    pub events: Vec<Event>,
    /// Which part of its split it is.
    pub part: Part,
}

/// Which part of a split a batch is: the same whenever the split is read again and falls into the same batches,
/// whichever of the events are known by then.
///
/// A number would not do: when the batches fall otherwise, after an update, the same number is another part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The split's id.
    pub split: Arc<str>,
    /// Made of the identities of all events that the source handed over in the batch.
    pub digest: Identity,
}

impl Part {
    /// The part of `split` that these events are.
    pub fn of(split: &str, events: &[Event]) -> Self {
        let mut hash = Sha256::new();
        hash.update((split.len() as u64).to_le_bytes());
        hash.update(split);
        for event in events {
            hash.update(event.identity.0);
        }
        Self {
            split: split.into(),
            digest: Identity::first_half(&hash.finalize().into()),
        }
    }
}

impl Default for Part {
    /// A part of nothing, for what does not come from a source.
    fn default() -> Self {
        Self::of("", &[])
    }
}

impl Batch {
    /// Bytes of all bodies: what the batch weighs against a limit.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.body.len()).sum()
    }
}

/// A stream of a tenant of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The tenant's `id` in the pipeline.
    pub tenant: Arc<str>,
    /// The stream's name, such as `Audit.Exchange`.
    pub stream: Arc<str>,
}

impl StreamKey {
    /// The key of `stream` of `tenant`.
    pub fn new(tenant: &str, stream: &str) -> Self {
        Self {
            tenant: tenant.into(),
            stream: stream.into(),
        }
    }

    /// A text with the names in place of `{tenant}` and `{stream}`.
    pub fn named_in(&self, text: &str) -> String {
        text.replace("{tenant}", &self.tenant)
            .replace("{stream}", &self.stream)
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "tenant `{}`, stream `{}`",
            self.tenant, self.stream
        )
    }
}

/// A record or event that no retry can deliver, on its way to the dead letters.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Where it comes from.
    pub stream: StreamKey,
    /// Why it stays behind; a sentence for the operator.
    pub reason: String,
    /// Who refused it: `source`, `stage 2 (wasm)`, `sink elasticsearch`.
    pub by: String,
    /// Its exact bytes.
    pub body: Bytes,
    /// What it is known by.
    pub identity: Identity,
    /// The split that it was read from.
    pub split: Arc<str>,
    /// What else is known of an event; nothing of a record that never became one.
    pub event: Option<EventFacts>,
}

/// What an event has besides its body and identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFacts {
    /// The origin's own identity.
    pub id: ByteString,
    /// A hash over the content.
    pub fingerprint: u64,
    /// When it happened.
    pub time_ms: i64,
}

impl Refused {
    /// An event that stays behind.
    pub fn event(place: (&StreamKey, &Arc<str>), by: &str, event: Event, reason: String) -> Self {
        let (stream, split) = place;
        Self {
            stream: stream.clone(),
            reason,
            by: by.into(),
            body: event.body,
            identity: event.identity,
            split: split.clone(),
            event: Some(EventFacts {
                id: event.id,
                fingerprint: event.fingerprint,
                time_ms: event.time_ms,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_by_its_split_and_all_of_its_events() {
        let event = |id: &'static str| Event {
            id: id.into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::new(),
            identity: Identity::of("contoso", id, 0),
        };
        let events = [event("a"), event("b")];
        let part = Part::of("split", &events);
        assert_eq!(part, Part::of("split", &events));
        for other in [
            Part::of("split", &events[..1]),
            Part::of("split", &[event("b"), event("a")]),
            Part::of("other", &events),
        ] {
            assert_ne!(part.digest, other.digest);
        }
    }

    #[test]
    fn identity_keeps_tenants_ids_and_fingerprints_apart() {
        let one = Identity::of("contoso", "a", 1);
        assert_eq!(one, Identity::of("contoso", "a", 1));
        for other in [
            Identity::of("contos", "oa", 1),
            Identity::of("contoso", "a", 2),
            Identity::of("contoso", "b", 1),
            Identity::of_bytes("contoso", b"a"),
            one.child(0),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one.delivery_id().len(), 22);
    }
}
