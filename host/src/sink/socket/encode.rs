//! One event as one message, in the form that a receiver reads.
//!
//! Bodies are copied as they are. An event that does not fit into what the receiver takes is refused with the reason,
//! never cut.

use std::io::Write as _;

use chrono::{DateTime, SecondsFormat};

use super::gelf;
use crate::config::sink::socket::{Encoding, Socket};
use crate::sink::request::Outgoing;

/// Writes messages as one sink wants them.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    encoding: Encoding,
    is_datagram: bool,
    most_bytes: usize,
}

/// What an event becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// One datagram, or a piece of a stream.
    Whole(Vec<u8>),
    /// Several datagrams.
    Chunks(Vec<Vec<u8>>),
}

impl Encoder {
    pub fn new(config: &Socket) -> Self {
        Self {
            encoding: config.encoding.clone(),
            is_datagram: config.mode.is_datagram(),
            most_bytes: config.max_message.unwrap_or(usize::MAX),
        }
    }

    /// The message of an event; an error says why there cannot be one.
    pub fn encode(&self, outgoing: &Outgoing) -> Result<Message, String> {
        let message = self.message(outgoing)?;
        if message.len() > self.most_bytes {
            return Err(format!(
                "the message has {} bytes, and `max_message` is {}",
                message.len(),
                self.most_bytes
            ));
        }
        if !self.is_datagram {
            return Ok(Message::Whole(self.frame(message)));
        }
        match &self.encoding {
            Encoding::Gelf { chunk_bytes, .. } if message.len() > *chunk_bytes => {
                gelf::chunks(&message, *chunk_bytes, outgoing.event.identity).map(Message::Chunks)
            }
            _ => Ok(Message::Whole(message)),
        }
    }

    fn message(&self, outgoing: &Outgoing) -> Result<Vec<u8>, String> {
        let Outgoing { stream, event, .. } = outgoing;
        let body = &event.body[..];
        match &self.encoding {
            Encoding::Json => Ok(body.to_vec()),
            Encoding::Gelf { host, level, .. } => {
                gelf::message(&stream.named_in(host), *level, event)
                    .map_err(|error| format!("the event is not a JSON object: {error}"))
            }
            Encoding::Syslog {
                priority,
                host,
                app_name,
                structured_data,
            } => {
                let host = header(&stream.named_in(host), 255);
                let stream_name = header(&stream.stream, 32);
                let mut message = Vec::with_capacity(body.len() + 200);
                let time = timestamp(event.time_ms);
                // Writing to memory does not fail.
                let _ = write!(
                    message,
                    "<{priority}>1 {time} {host} {app_name} - {stream_name} "
                );
                match structured_data {
                    None => message.push(b'-'),
                    Some(name) => {
                        let values = [
                            ("tenant", &*stream.tenant),
                            ("stream", &*stream.stream),
                            ("id", &*event.id),
                        ];
                        let _ = write!(message, "[{name}");
                        for (key, value) in values {
                            let _ = write!(message, " {key}=\"{}\"", parameter(value));
                        }
                        message.push(b']');
                    }
                }
                message.push(b' ');
                message.extend_from_slice(body);
                Ok(message)
            }
            Encoding::Wazuh {
                location,
                integration,
            } => {
                // A colon would end the location.
                let location = header(&stream.named_in(location), 255).replace(':', "_");
                let mut message = Vec::with_capacity(body.len() + 128);
                let _ = write!(message, "1:{location}:");
                match integration {
                    None => message.extend_from_slice(body),
                    Some(name) => {
                        let _ = write!(message, "{{\"integration\":\"{name}\",\"{name}\":");
                        message.extend_from_slice(body);
                        message.push(b'}');
                    }
                }
                Ok(message)
            }
        }
    }

    /// A message with what parts it from the next one of its stream.
    fn frame(&self, mut message: Vec<u8>) -> Vec<u8> {
        match self.encoding {
            Encoding::Json | Encoding::Wazuh { .. } => message.push(b'\n'),
            // JSON has no NUL of its own: it is escaped in text and nowhere else allowed.
            Encoding::Gelf { .. } => message.push(0),
            Encoding::Syslog { .. } => {
                let mut framed = format!("{} ", message.len()).into_bytes();
                framed.append(&mut message);
                return framed;
            }
        }
        message
    }
}

/// Text as it may stand in a header: visible ASCII, so long at most, `-` for nothing.
fn header(text: &str, most: usize) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_graphic() {
            letter
        } else {
            '_'
        }
    };
    let text: String = text.chars().take(most).map(plain).collect();
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// A value of structured data: three characters are escaped.
fn parameter(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The event's time as syslog writes it; `-` for what no calendar has.
fn timestamp(time_ms: i64) -> String {
    DateTime::from_timestamp_millis(time_ms).map_or_else(
        || "-".to_owned(),
        |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Event, Identity, StreamKey};

    fn outgoing(body: &str) -> Outgoing {
        Outgoing {
            stream: StreamKey::new("contoso", "Audit.Exchange"),
            event: Event {
                id: "a\"]1".into(),
                fingerprint: 0,
                time_ms: 1_767_225_600_001,
                body: Bytes::copy_from_slice(body.as_bytes()),
                identity: Identity::of("contoso", body, 0),
            },
            rewritten: None,
        }
    }

    #[track_caller]
    fn check(encoding: Encoding, is_datagram: bool, body: &str, wanted: &str) {
        let encoder = Encoder {
            encoding,
            is_datagram,
            most_bytes: 200,
        };
        let Message::Whole(found) = encoder.encode(&outgoing(body)).unwrap() else {
            panic!("in chunks");
        };
        assert_eq!(String::from_utf8(found).unwrap(), wanted);
    }

    fn syslog(structured_data: Option<&str>) -> Encoding {
        Encoding::Syslog {
            priority: 134,
            host: "{tenant}.example.com".into(),
            app_name: "sluicegate".into(),
            structured_data: structured_data.map(str::to_owned),
        }
    }

    fn wazuh(integration: Option<&str>) -> Encoding {
        Encoding::Wazuh {
            location: "office365/{tenant}".into(),
            integration: integration.map(str::to_owned),
        }
    }

    #[test]
    fn json_is_a_line_or_a_datagram() {
        check(Encoding::Json, false, "{}", "{}\n");
        check(Encoding::Json, true, "{}", "{}");
    }

    #[test]
    fn syslog_is_counted_by_octets_on_a_stream() {
        let plain = "<134>1 2026-01-01T00:00:00.001Z contoso.example.com sluicegate - Audit.Exchange - {\"ü\":1}";
        check(syslog(None), true, "{\"ü\":1}", plain);
        let counted = format!("{} {plain}", plain.len());
        check(syslog(None), false, "{\"ü\":1}", &counted);
        check(
            syslog(Some("x@32473")),
            true,
            "{}",
            "<134>1 2026-01-01T00:00:00.001Z contoso.example.com sluicegate - Audit.Exchange \
             [x@32473 tenant=\"contoso\" stream=\"Audit.Exchange\" id=\"a\\\"\\]1\"] {}",
        );
    }

    #[test]
    fn wazuh_gets_a_location_and_an_integration() {
        check(wazuh(None), true, "{}", "1:office365/contoso:{}");
        let wrapped = "1:office365/contoso:{\"integration\":\"office365\",\"office365\":{}}";
        check(wazuh(Some("office365")), true, "{}", wrapped);
    }

    #[test]
    fn what_is_too_large_is_refused_and_never_cut() {
        let encoder = Encoder {
            encoding: wazuh(None),
            is_datagram: true,
            most_bytes: 65_535,
        };
        let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        let room = 65_535 - "1:office365/contoso:".len();
        assert!(encoder.encode(&outgoing(&body(room))).is_ok());
        let reason = encoder.encode(&outgoing(&body(room + 1))).unwrap_err();
        assert_eq!(
            reason,
            "the message has 65536 bytes, and `max_message` is 65535"
        );
    }
}
