//! A dead letter as a line of its file: written once, read back by commands.
//!
//! A line is a JSON object. Lines of older versions, which lack the split and what is known of an event, are read as
//! well; what is no letter at all is left alone.

use std::fmt;

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::event::{Event, EventFacts, Identity, Refused, StreamKey};
use crate::secret::hex;

/// How a dead letter's bytes stand in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// The very JSON.
    Json,
    /// UTF-8, as a JSON string.
    Text,
    /// Anything else.
    Base64,
}

#[derive(Serialize)]
struct Written<'a> {
    time: String,
    tenant: &'a str,
    stream: &'a str,
    split: &'a str,
    by: &'a str,
    reason: &'a str,
    identity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Facts<'a>>,
    encoding: Encoding,
    body: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    id: std::borrow::Cow<'a, str>,
    fingerprint: u64,
    time_ms: i64,
}

#[derive(Deserialize)]
struct Read<'a> {
    time: String,
    tenant: String,
    stream: String,
    #[serde(default)]
    split: Option<String>,
    by: String,
    reason: String,
    identity: String,
    #[serde(default)]
    event: Option<Facts<'static>>,
    encoding: Encoding,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// What a letter is called: made from its line, so that it never changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(u64);

impl Name {
    /// The name of a line.
    fn of(line: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(line).into();
        let mut half = [0; 8];
        half.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(half))
    }

    /// Reads a whole name.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = text.len() == 16;
        whole.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0.to_be_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A dead letter that was read back.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What it is called.
    pub name: Name,
    /// When it was kept.
    pub time_ms: i64,
    /// What was kept, and why.
    pub refused: Refused,
}

impl Letter {
    /// Reads a line, without its newline; `None` when it is no dead letter.
    pub fn read(line: &[u8]) -> Option<Self> {
        let read: Read<'_> = serde_json::from_slice(line).ok()?;
        let text = || serde_json::from_str::<String>(read.body.get()).ok();
        let body = match read.encoding {
            Encoding::Json => Bytes::copy_from_slice(read.body.get().as_bytes()),
            Encoding::Text => text()?.into(),
            Encoding::Base64 => {
                let standard = base64::engine::general_purpose::STANDARD;
                standard.decode(text()?).ok()?.into()
            }
        };
        let time = chrono::DateTime::parse_from_rfc3339(&read.time).ok()?;
        Some(Self {
            name: Name::of(line),
            time_ms: time.timestamp_millis(),
            refused: Refused {
                stream: StreamKey::new(&read.tenant, &read.stream),
                reason: read.reason,
                by: read.by,
                body,
                identity: Identity::parse(&read.identity)?,
                split: read.split.unwrap_or_default().into(),
                event: read.event.map(|event| EventFacts {
                    id: ByteString::from(event.id.as_ref()),
                    fingerprint: event.fingerprint,
                    time_ms: event.time_ms,
                }),
            },
        })
    }

    /// The letter as an event on its way to sinks. What an older version has not written down is taken from the
    /// body, as far as it is there: identity, by which sinks know the event, was always kept.
    pub fn event(&self) -> Event {
        let Refused {
            body,
            identity,
            event,
            ..
        } = &self.refused;
        let facts = event.clone().unwrap_or_else(|| {
            let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let id = json.pointer("/event/id").or_else(|| json.get("Id"));
            let id = id.and_then(serde_json::Value::as_str).unwrap_or_default();
            let time = json.get("@timestamp").and_then(serde_json::Value::as_str);
            let time = time.and_then(|time| chrono::DateTime::parse_from_rfc3339(time).ok());
            EventFacts {
                id: id.into(),
                fingerprint: 0,
                time_ms: time.map_or(self.time_ms, |time| time.timestamp_millis()),
            }
        });
        Event {
            id: facts.id,
            fingerprint: facts.fingerprint,
            time_ms: facts.time_ms,
            body: body.clone(),
            identity: *identity,
        }
    }
}

/// Writes the line of what was refused, with its newline.
pub(super) fn write(
    piece: &mut Vec<u8>,
    time: &str,
    refused: &Refused,
) -> Result<(), serde_json::Error> {
    let quoted;
    let (encoding, body) = if let Ok(text) = std::str::from_utf8(&refused.body) {
        if let Some(json) = json(text) {
            (Encoding::Json, json)
        } else {
            quoted = serde_json::value::to_raw_value(text)?;
            (Encoding::Text, &*quoted)
        }
    } else {
        let text = base64::engine::general_purpose::STANDARD.encode(&refused.body);
        quoted = serde_json::value::to_raw_value(&text)?;
        (Encoding::Base64, &*quoted)
    };
    let line = Written {
        time: time.to_owned(),
        tenant: &refused.stream.tenant,
        stream: &refused.stream.stream,
        split: &refused.split,
        by: &refused.by,
        reason: &refused.reason,
        identity: refused.identity.delivery_id(),
        event: refused.event.as_ref().map(|event| Facts {
            id: (&*event.id).into(),
            fingerprint: event.fingerprint,
            time_ms: event.time_ms,
        }),
        encoding,
        body,
    };
    serde_json::to_writer(&mut *piece, &line)?;
    piece.push(b'\n');
    Ok(())
}

/// The text as JSON that fits in a line byte for byte; otherwise it is kept as a string.
fn json(text: &str) -> Option<&RawValue> {
    let padded = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
    if padded || text.contains(['\n', '\r']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &'static [u8]) -> Refused {
        Refused {
            stream: StreamKey::new("contoso", "Audit.General"),
            reason: "field `client.ip` is not an \"address\"".into(),
            by: "sink elasticsearch".into(),
            body: Bytes::from_static(body),
            identity: Identity::of_bytes("contoso", body),
            split: "blob-1".into(),
            event: Some(EventFacts {
                id: "a".into(),
                fingerprint: u64::MAX,
                time_ms: 7,
            }),
        }
    }

    #[test]
    fn what_was_written_is_read_back_byte_for_byte() {
        let bodies: [&[u8]; 6] = [
            b"{\"b\": 1.0,\"a\":2}",
            b"<html>",
            b"{}\n{}",
            b" 1",
            b"\xff\x00",
            b"",
        ];
        for body in bodies {
            let mut line = Vec::new();
            write(&mut line, "2026-01-01T00:00:00.123Z", &refused(body)).unwrap();
            assert_eq!(line.pop(), Some(b'\n'));
            let letter = Letter::read(&line).unwrap();
            assert_eq!(letter.time_ms, 1_767_225_600_123);
            assert_eq!(
                format!("{:?}", letter.refused),
                format!("{:?}", refused(body))
            );
            let event = letter.event();
            assert_eq!((&*event.id, event.fingerprint), ("a", u64::MAX));
            assert_eq!((event.time_ms, &event.body[..]), (7, body));
        }
    }

    #[test]
    fn the_line_of_an_older_version_is_a_letter_too() {
        let line = concat!(
            r#"{"time":"2026-01-01T00:00:00.000Z","tenant":"contoso","stream":"Audit.General","#,
            r#""by":"sink file","reason":"too blue","identity":"AAAAAAAAAAAAAAAAAAAAAA","#,
            r#""encoding":"json","body":{"@timestamp":"2026-01-01T00:00:01Z","event":{"id":"x"}}}"#,
        );
        let letter = Letter::read(line.as_bytes()).unwrap();
        let event = letter.event();
        assert_eq!((&*event.id, event.time_ms), ("x", 1_767_225_601_000));
        assert_eq!(event.identity, Identity([0; 16]));
        assert_eq!(Name::parse(&letter.name.to_string()), Some(letter.name));
    }

    #[test]
    fn what_is_no_letter_is_none() {
        for line in ["", "{}", "[1]", "{\"time\":\"2026"] {
            assert!(Letter::read(line.as_bytes()).is_none(), "{line}");
        }
    }
}
