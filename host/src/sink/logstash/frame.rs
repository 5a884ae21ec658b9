//! The frames of Lumberjack version 2: windows of events to the server, acknowledgements from it.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::event::Event;

const VERSION: u8 = b'2';

/// What every event says of its sender, as JSON.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// Up to the event's own id.
    before: String,
}

impl Metadata {
    /// Of a sender that calls itself `beat`.
    pub fn new(beat: &str) -> Self {
        let (beat, version) = (serde_json::Value::from(beat), env!("CARGO_PKG_VERSION"));
        Self {
            before: format!(
                "{{\"@metadata\":{{\"beat\":{beat},\"type\":\"_doc\",\"version\":\"{version}\",\"_id\":\""
            ),
        }
    }

    /// Puts an event's frame behind the others.
    fn frame(&self, number: u32, event: &Event, frames: &mut Vec<u8>) -> Result<(), String> {
        // A body is an object: its members follow the metadata.
        let members = event.body.trim_ascii_start().strip_prefix(b"{");
        let members = members.unwrap_or_default();
        if members.is_empty() {
            return Err("the event is not a JSON object".to_owned());
        }
        let comma: &[u8] = if members.trim_ascii_start().starts_with(b"}") {
            b""
        } else {
            b","
        };
        let id = event.identity.delivery_id();
        let parts = [
            self.before.as_bytes(),
            id.as_bytes(),
            b"\"}",
            comma,
            members,
        ];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length)
            .map_err(|_| "the event does not fit into a frame of four gigabytes".to_owned())?;
        frames.extend_from_slice(&[VERSION, b'J']);
        frames.extend_from_slice(&number.to_be_bytes());
        frames.extend_from_slice(&length.to_be_bytes());
        parts.iter().for_each(|part| frames.extend_from_slice(part));
        Ok(())
    }
}

/// A whole window. An error says what is wrong with an event of it.
pub(super) fn window(metadata: &Metadata, events: &[Event], level: u32) -> Result<Vec<u8>, String> {
    let bytes: usize = events.iter().map(|event| event.body.len() + 200).sum();
    let mut frames = Vec::with_capacity(bytes);
    for (number, event) in (1..).zip(events) {
        metadata.frame(number, event, &mut frames)?;
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    let mut window = vec![VERSION, b'W'];
    window.extend_from_slice(&count.to_be_bytes());
    if level == 0 {
        window.append(&mut frames);
        return Ok(window);
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes / 4), Compression::new(level));
    let packed = encoder.write_all(&frames).and_then(|()| encoder.finish());
    let packed = packed.map_err(|error| format!("packing failed: {error}"))?;
    let length = u32::try_from(packed.len())
        .map_err(|_| "the window does not fit into a frame of four gigabytes".to_owned())?;
    window.extend_from_slice(&[VERSION, b'C']);
    window.extend_from_slice(&length.to_be_bytes());
    window.extend_from_slice(&packed);
    Ok(window)
}

/// The number of the next acknowledgement.
pub(super) async fn acknowledged(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<u32> {
    let mut frame = [0; 6];
    reader.read_exact(&mut frame).await?;
    let [version, kind, number @ ..] = frame;
    if (version, kind) == (VERSION, b'A') {
        return Ok(u32::from_be_bytes(number));
    }
    let what = "this is no Lumberjack server: it answers something else than an acknowledgement";
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;

    use super::*;
    use crate::event::Identity;

    fn event(body: &'static str) -> Event {
        Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", "1", 0),
        }
    }

    #[test]
    fn a_window_has_its_size_and_numbered_events() {
        let id = Identity::of("contoso", "1", 0).delivery_id();
        let version = env!("CARGO_PKG_VERSION");
        let head = format!(
            "{{\"@metadata\":{{\"beat\":\"x\",\"type\":\"_doc\",\"version\":\"{version}\",\"_id\":\"{id}\"}}"
        );
        let mut frames = Vec::new();
        for (number, body) in [
            (1_u32, format!("{head},\"a\":1}}")),
            (2, format!("{head}}}")),
        ] {
            frames.extend_from_slice(b"2J");
            frames.extend_from_slice(&number.to_be_bytes());
            frames.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
            frames.extend_from_slice(body.as_bytes());
        }
        let events = [event("{\"a\":1}"), event("{}")];
        let metadata = Metadata::new("x");
        let plain = window(&metadata, &events, 0).unwrap();
        assert_eq!(plain, [&b"2W\0\0\0\x02"[..], &frames].concat());
        let packed = window(&metadata, &events, 3).unwrap();
        assert_eq!(packed[..8], *b"2W\0\0\0\x022C");
        assert_eq!(
            packed.len() - 12,
            u32::from_be_bytes(packed[8..12].try_into().unwrap()) as usize
        );
        let mut unpacked = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[12..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, frames);
        assert!(window(&metadata, &[event("[]")], 3).is_err());
    }

    #[tokio::test]
    async fn only_acknowledgements_are_read() {
        assert_eq!(
            acknowledged(&mut &b"2A\0\0\x01\x02"[..]).await.unwrap(),
            258
        );
        for wrong in [
            &b"1A\0\0\0\x01"[..],
            b"2W\0\0\0\x01",
            b"2A\0\0",
            b"HTTP/1.1 400",
        ] {
            assert!(acknowledged(&mut &*wrong).await.is_err(), "{wrong:?}");
        }
    }
}
