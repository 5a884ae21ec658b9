//! What no retry can deliver, kept with its reason and its exact bytes.
//!
//! One NDJSON file for each pipeline, readable by its owner only. An append is durable when it
//! returns; after a crash what was not committed is cut off and refused again, so each stands there once.

use std::path::Path;

use base64::Engine as _;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::append_file::{AppendFile, Mark};
use crate::clock::SharedClock;
use crate::error::{At as _, Error};
use crate::event::Refused;
use crate::sink::Positions;

/// Nobody else reads what may be anything.
const FILE_MODE: u32 = 0o600;

/// The dead letters of one pipeline.
#[derive(Debug)]
pub struct DeadLetters {
    file: AppendFile,
    clock: SharedClock,
}

/// How a dead letter's bytes stand in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
struct Line<'a> {
    time: String,
    tenant: &'a str,
    stream: &'a str,
    by: &'a str,
    reason: &'a str,
    identity: String,
    encoding: Encoding,
    body: &'a RawValue,
}

impl DeadLetters {
    /// The dead letters of `pipeline` in `directory`.
    pub fn new(directory: &Path, pipeline: &str, clock: SharedClock) -> Self {
        let path = directory.join(format!("{pipeline}.rejected.ndjson"));
        Self {
            file: AppendFile::new(path, FILE_MODE),
            clock,
        }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Names of the positions it keeps; the ledger's values for them are given to `recover`.
    pub fn position_names(&self) -> Vec<String> {
        let path = self.path().display();
        vec![
            format!("dead letters {path} end"),
            format!("dead letters {path} inode"),
        ]
    }

    /// Brings the file to what was committed. Returns the positions to commit before anything is appended.
    pub fn recover(&mut self, committed: &Positions) -> Result<Positions, Error> {
        let names = self.position_names();
        let mark = match (committed.get(&names[0]), committed.get(&names[1])) {
            (Some(&end), Some(&inode)) => Some(Mark { end, inode }),
            _ => None,
        };
        let mark = self.file.recover(mark).at("dead letters")?;
        Ok(self.positions(mark))
    }

    /// Keeps what was refused, durably; returns the positions to commit with it. Blocks while it writes.
    pub fn append(&mut self, refused: &[Refused]) -> Result<Positions, Error> {
        let time = time(self.clock.now_ms());
        let mut piece = Vec::new();
        for refused in refused {
            line(&mut piece, &time, refused).map_err(|error| {
                Error::internal(format!("a dead letter cannot be written as JSON: {error}"))
                    .at(&refused.stream)
            })?;
        }
        let mark = self.file.append(&piece).at("dead letters")?;
        Ok(self.positions(mark))
    }

    fn positions(&self, mark: Option<Mark>) -> Positions {
        let values = mark.map(|mark| [mark.end, mark.inode]);
        self.position_names()
            .into_iter()
            .zip(values.into_iter().flatten())
            .collect()
    }
}

fn time(now_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(now_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn line(piece: &mut Vec<u8>, time: &str, refused: &Refused) -> Result<(), serde_json::Error> {
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
    let line = Line {
        time: time.to_owned(),
        tenant: &refused.stream.tenant,
        stream: &refused.stream.stream,
        by: &refused.by,
        reason: &refused.reason,
        identity: refused.identity.delivery_id(),
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
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::event::{Identity, StreamKey};

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now_ms(&self) -> i64 {
            1_767_225_600_000
        }
    }

    fn refused(body: &'static [u8]) -> Refused {
        Refused {
            stream: StreamKey::new("contoso", "Audit.General"),
            reason: "field `client.ip` is not an \"address\"".into(),
            by: "sink elasticsearch".into(),
            body: bytes::Bytes::from_static(body),
            identity: Identity::of_bytes("contoso", body),
        }
    }

    fn letters(directory: &tempfile::TempDir) -> DeadLetters {
        DeadLetters::new(directory.path(), "contoso", Arc::new(Stopped))
    }

    fn read(letters: &DeadLetters) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(letters.path()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn keeps_exact_bytes_in_the_plainest_encoding() {
        let directory = tempfile::tempdir().unwrap();
        let mut letters = letters(&directory);
        letters.recover(&Positions::new()).unwrap();
        let bodies: [&[u8]; 5] = [
            b"{\"b\": 1.0,\"a\":2}",
            b"<html>",
            b"{}\n{}",
            b" 1",
            b"\xff\x00",
        ];
        letters.append(&bodies.map(refused)).unwrap();
        let lines = read(&letters);
        let encodings: Vec<_> = lines
            .iter()
            .map(|line| line["encoding"].as_str().unwrap())
            .collect();
        assert_eq!(encodings, ["json", "text", "text", "text", "base64"]);
        let text = std::fs::read_to_string(letters.path()).unwrap();
        assert!(text.contains("\"body\":{\"b\": 1.0,\"a\":2}}\n"), "{text}");
        assert_eq!(lines[2]["body"], "{}\n{}");
        assert_eq!(lines[4]["body"], "/wA=");
        assert_eq!(lines[0]["time"], "2026-01-01T00:00:00.000Z");
        assert_eq!(lines[0]["by"], "sink elasticsearch");
        assert_eq!(lines[0]["identity"].as_str().unwrap().len(), 22);
    }

    #[test]
    fn cuts_off_what_was_not_committed() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = letters(&directory);
        before.recover(&Positions::new()).unwrap();
        let committed = before.append(&[refused(b"1")]).unwrap();
        before.append(&[refused(b"2")]).unwrap();
        drop(before);
        let mut after = letters(&directory);
        assert_eq!(after.recover(&committed).unwrap(), committed);
        assert_eq!(committed.len(), after.position_names().len());
        after.append(&[refused(b"3")]).unwrap();
        let bodies: Vec<_> = read(&after)
            .iter()
            .map(|line| line["body"].clone())
            .collect();
        assert_eq!(bodies, [1, 3]);
    }
}
