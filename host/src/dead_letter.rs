//! What no retry can deliver, kept with its reason and its exact bytes.
//!
//! One NDJSON file for each pipeline, readable by its owner only. An append is durable when it
//! returns; after a crash what was not committed is cut off and refused again, so each stands there once.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::append_file::{AppendFile, AppendTask};
use crate::clock::SharedClock;
use crate::error::Error;
use crate::event::Refused;
use crate::sink::Positions;

/// Nobody else reads what may be anything.
const FILE_MODE: u32 = 0o600;

/// The dead letters of one pipeline.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    file: AppendTask,
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
        let file = AppendTask::new("dead letters", AppendFile::new(&path, FILE_MODE));
        Self { path, file, clock }
    }

    /// Dead letters that go to `file`, which stands for the one at `path`.
    pub fn on(path: impl Into<PathBuf>, file: AppendTask, clock: SharedClock) -> Self {
        let path = path.into();
        Self { path, file, clock }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the positions it keeps; the ledger's values for them are given to `recover`.
    pub fn position_names(&self) -> Vec<String> {
        self.file.position_names()
    }

    /// Brings the file to what was committed. Returns the positions to commit before anything is appended.
    pub async fn recover(&mut self, committed: &Positions) -> Result<Positions, Error> {
        self.file.recover(committed).await
    }

    /// Keeps what was refused, durably; returns the positions to commit with it.
    pub async fn append(&mut self, refused: &[Refused]) -> Result<Positions, Error> {
        let time = time(self.clock.now_ms());
        let mut piece = Vec::new();
        for refused in refused {
            line(&mut piece, &time, refused).map_err(|error| {
                Error::internal(format!("a dead letter cannot be written as JSON: {error}"))
                    .at(&refused.stream)
            })?;
        }
        self.file.append(piece).await
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

    #[tokio::test]
    async fn keeps_exact_bytes_in_the_plainest_encoding() {
        let directory = tempfile::tempdir().unwrap();
        let mut letters = letters(&directory);
        letters.recover(&Positions::new()).await.unwrap();
        let bodies: [&[u8]; 5] = [
            b"{\"b\": 1.0,\"a\":2}",
            b"<html>",
            b"{}\n{}",
            b" 1",
            b"\xff\x00",
        ];
        letters.append(&bodies.map(refused)).await.unwrap();
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

    #[tokio::test]
    async fn cuts_off_what_was_not_committed() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = letters(&directory);
        before.recover(&Positions::new()).await.unwrap();
        let committed = before.append(&[refused(b"1")]).await.unwrap();
        before.append(&[refused(b"2")]).await.unwrap();
        drop(before);
        let mut after = letters(&directory);
        assert_eq!(after.recover(&committed).await.unwrap(), committed);
        assert_eq!(committed.len(), after.position_names().len());
        after.append(&[refused(b"3")]).await.unwrap();
        let bodies: Vec<_> = read(&after)
            .iter()
            .map(|line| line["body"].clone())
            .collect();
        assert_eq!(bodies, [1, 3]);
    }
}
