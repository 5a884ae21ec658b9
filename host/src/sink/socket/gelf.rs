//! Events as GELF 1.1: one flat object, and chunks for datagrams.
//!
//! Every value of the event is there under the path to it, such as `_event.action`. Text and numbers are copied as
//! they stand; GELF knows nothing else, so `true`, `false` and lists become text as JSON writes them, and `null` is
//! left out.

use std::collections::HashSet;
use std::io::Write as _;

use crate::event::{Event, Identity};
use crate::sink::members::Members;

/// More chunks than this make no message.
const MOST_CHUNKS: usize = 128;

/// The magic number, the message's id, the number of the chunk and how many there are.
const CHUNK_HEAD: usize = 12;

/// Objects within objects: as many as the JSON reader bears, so that every event can be read.
const DEEPEST: usize = 128;

/// The message of an event.
pub(super) fn message(host: &str, level: u8, event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    let body: Members<'_> = serde_json::from_slice(&event.body)?;
    let mut fields = Fields {
        text: Vec::with_capacity(event.body.len() * 2),
        names: HashSet::new(),
        short: None,
    };
    fields.add("", body, 0)?;
    let short = fields.short.as_deref().unwrap_or(&event.id);
    let short = if short.trim().is_empty() { "-" } else { short };
    let (seconds, millis) = (
        event.time_ms.div_euclid(1000),
        event.time_ms.rem_euclid(1000),
    );
    let mut message = Vec::with_capacity(fields.text.len() + 200);
    // Writing to memory does not fail.
    let _ = write!(
        message,
        "{{\"version\":\"1.1\",\"host\":{},\"short_message\":{},\"timestamp\":{seconds}.{millis:03},\"level\":{level}",
        text(host),
        text(short),
    );
    message.extend_from_slice(&fields.text);
    message.push(b'}');
    Ok(message)
}

/// Further fields of a message, each behind a comma.
struct Fields {
    text: Vec<u8>,
    names: HashSet<String>,
    /// What people read first: the event's message, else its action.
    short: Option<String>,
}

impl Fields {
    fn add(
        &mut self,
        path: &str,
        members: Members<'_>,
        depth: usize,
    ) -> Result<(), serde_json::Error> {
        for (name, value) in members.0 {
            let path = if path.is_empty() {
                name.into_owned()
            } else {
                format!("{path}.{name}")
            };
            let raw = value.get();
            match raw.as_bytes().first() {
                Some(b'{') if depth < DEEPEST => {
                    self.add(&path, serde_json::from_str(raw)?, depth + 1)?;
                }
                Some(b'n') => {}
                Some(b'"') => {
                    if path == "message" || path == "event.action" && self.short.is_none() {
                        self.short = Some(serde_json::from_str(raw)?);
                    }
                    self.field(&path, raw);
                }
                Some(b'-' | b'0'..=b'9') => self.field(&path, raw),
                _ => self.field(&path, &text(raw)),
            }
        }
        Ok(())
    }

    fn field(&mut self, path: &str, value: &str) {
        let fine = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        let name: String = path
            .chars()
            .map(|c| if fine(c) { c } else { '_' })
            .collect();
        let mut name = format!("_{name}");
        // `_id` belongs to Graylog. Two ways to write a path are two fields.
        while name == "_id" || !self.names.insert(name.clone()) {
            name.push('_');
        }
        let _ = write!(self.text, ",\"{name}\":{value}");
    }
}

/// Text as JSON.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A message in chunks of so many bytes at most.
pub(super) fn chunks(
    message: &[u8],
    chunk_bytes: usize,
    identity: Identity,
) -> Result<Vec<Vec<u8>>, String> {
    let most = chunk_bytes - CHUNK_HEAD;
    let count = message.len().div_ceil(most);
    if count > MOST_CHUNKS {
        return Err(format!(
            "the message has {} bytes, and {MOST_CHUNKS} chunks of `chunk_size` hold {}",
            message.len(),
            MOST_CHUNKS * most
        ));
    }
    let pieces = message.chunks(most).enumerate();
    let chunk = |(number, piece): (usize, &[u8])| {
        let mut chunk = Vec::with_capacity(CHUNK_HEAD + piece.len());
        chunk.extend_from_slice(&[0x1e, 0x0f]);
        chunk.extend_from_slice(&identity.0[..8]);
        chunk.extend([number, count].map(|number| u8::try_from(number).unwrap_or(u8::MAX)));
        chunk.extend_from_slice(piece);
        chunk
    };
    Ok(pieces.map(chunk).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn event(body: &'static str) -> Event {
        Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: 1_767_225_600_045,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        }
    }

    #[test]
    fn every_value_stands_under_its_path() {
        let body = r#"{"@timestamp":"x","event":{"action":"log\"in","id":null,"kind":["a","b"]},
            "big":12345678901234567890123,"ok":true,"a.b":1,"a":{"b":2},"id":"i","message":""}"#;
        let message = message("contoso", 5, &event(body)).unwrap();
        let text = std::str::from_utf8(&message).unwrap();
        assert!(text.contains("\"_big\":12345678901234567890123,"), "{text}");
        let mut found: Value = serde_json::from_str(text).unwrap();
        found["_big"].take();
        assert_eq!(
            found,
            json!({
                "version": "1.1", "host": "contoso", "short_message": "-", "level": 5,
                "timestamp": 1_767_225_600.045, "__timestamp": "x", "_event.action": "log\"in",
                "_event.kind": "[\"a\",\"b\"]", "_big": null, "_ok": "true", "_a.b": 1, "_a.b_": 2,
                "_id_": "i", "_message": "",
            })
        );
        assert!(super::message("contoso", 5, &event("[]")).is_err());
    }

    #[test]
    fn chunks_are_numbered_and_have_one_id() {
        let message: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let identity = Identity::of("contoso", "a", 0);
        let chunks = chunks(&message, 1_420, identity).unwrap();
        let mut whole = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            assert!(chunk.len() <= 1_420);
            assert_eq!(chunk[..2], [0x1e, 0x0f]);
            assert_eq!(chunk[2..10], identity.0[..8]);
            assert_eq!(chunk[10..12], [u8::try_from(number).unwrap(), 4]);
            whole.extend_from_slice(&chunk[12..]);
        }
        assert_eq!(whole, message);
        let largest = vec![0; 128 * 500];
        assert_eq!(super::chunks(&largest, 512, identity).unwrap().len(), 128);
        let reason = super::chunks(&vec![0; 128 * 500 + 1], 512, identity).unwrap_err();
        assert!(reason.contains("128 chunks"), "{reason}");
    }
}
