//! Events as NDJSON in a file that holds each event once, whatever crashes.
//!
//! Acknowledged after `fsync`. The file's length is committed with the events; after a crash `recover`
//! cuts off what was written beyond it, and the line sends that again. Bodies are never parsed.

use std::path::Path;

use async_trait::async_trait;

use super::{Positions, Sink, Written, lines};
use crate::append_file::{AppendFile, AppendTask};
use crate::error::Error;
use crate::event::Batch;

/// The group may read, others may not: audit events name people.
const FILE_MODE: u32 = 0o640;

/// Writes to a file.
#[derive(Debug)]
pub struct FileSink {
    name: String,
    file: AppendTask,
}

impl FileSink {
    /// A sink called `name` that appends to `path`.
    pub fn new(name: impl Into<String>, path: impl AsRef<Path>) -> Self {
        let name = name.into();
        let file = AppendFile::new(path.as_ref(), FILE_MODE);
        Self {
            file: AppendTask::new(format!("sink `{name}`"), file),
            name,
        }
    }

    /// A sink called `name` that appends to `file`.
    pub fn on(name: impl Into<String>, file: AppendTask) -> Self {
        Self {
            name: name.into(),
            file,
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn position_names(&self) -> Vec<String> {
        self.file.position_names()
    }

    async fn recover(&mut self, committed: &Positions) -> Result<Positions, Error> {
        self.file.recover(committed).await
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let piece = lines(batches);
        let total = piece.len() as u64;
        let end = self.file.append(piece).await?;
        // The file ends after each batch where it ends after all, less what came behind the batch.
        let mut behind = total;
        let positions = batches.iter().map(|batch| {
            behind -= batch.bytes() as u64 + batch.events.len() as u64;
            self.file.before_end(&end, behind)
        });
        Ok(Written {
            refused: Vec::new(),
            positions: positions.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Identity, Part, StreamKey};

    fn batch(bodies: &[&str]) -> Batch {
        let event = |body: &&str| Event {
            id: (*body).into(),
            fingerprint: 0,
            time_ms: 0,
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        };
        let stream = StreamKey::new("contoso", "Audit.Exchange");
        Batch {
            stream,
            events: bodies.iter().map(event).collect(),
            part: Part::default(),
        }
    }

    #[tokio::test]
    async fn holds_each_event_once_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out/events.ndjson");
        let mut sink = FileSink::new("file", &path);
        let mut committed = sink.recover(&Positions::new()).await.unwrap();
        assert_eq!(
            committed.keys().cloned().collect::<Vec<_>>(),
            sink.position_names()
        );
        let written = sink
            .write(&[batch(&["{\"a\":1}", "{}"]), batch(&["[]"])])
            .await
            .unwrap();
        committed.extend(written.positions.into_iter().flatten());
        sink.write(&[batch(&["{\"lost\":1}"])]).await.unwrap();
        drop(sink);

        let mut sink = FileSink::new("file", &path);
        assert_eq!(sink.recover(&committed).await.unwrap(), committed);
        sink.write(&[batch(&["{\"again\":1}"])]).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"a\":1}\n{}\n[]\n{\"again\":1}\n");
    }

    #[tokio::test]
    async fn a_full_disk_names_sink_and_path() {
        let mut sink = FileSink::new("file", "/dev/full");
        assert!(sink.recover(&Positions::new()).await.unwrap().is_empty());
        let error = sink.write(&[batch(&["{}"])]).await.unwrap_err();
        assert_eq!(error.places, ["sink `file`"]);
        assert!(error.what.contains("/dev/full"), "{error}");
    }
}
