//! What no retry can deliver, kept with its reason and its exact bytes.
//!
//! One NDJSON file for each pipeline, readable by its owner only and never larger than it may be. An append is durable
//! when it returns; after a crash what was not committed is cut off and refused again, so each stands there once. What
//! commands take out of it ([`store`]) they take between two appends.

mod files;
pub mod letter;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::append_file::{AppendFile, AppendTask};
use crate::clock::SharedClock;
use crate::config::unit::Size;
use crate::error::Error;
use crate::event::Refused;
use crate::metrics::component::DeadLetterMeter;
use crate::sink::Positions;
use files::Files;

/// Nobody else reads what may be anything.
const FILE_MODE: u32 = 0o600;

/// What to do when there is no room.
const FULL_HELP: &str = "`sluicegate dead-letter list FILE` shows why they were refused; replay them, move their file \
    away, or start again with a larger `dead_letter.max_size`";

/// The dead letters of one pipeline.
#[derive(Debug)]
pub struct DeadLetters {
    files: Arc<Files>,
    file: AppendTask,
    clock: SharedClock,
    most_bytes: u64,
    meter: Arc<DeadLetterMeter>,
}

impl DeadLetters {
    /// The dead letters of `pipeline` in `directory`, as many as there are.
    pub fn new(directory: &Path, pipeline: &str, clock: SharedClock) -> Self {
        let files = Files::new(directory, pipeline);
        let file = AppendFile::new(&files.letters, FILE_MODE);
        Self {
            file: AppendTask::new("dead letters", file),
            meter: Arc::new(DeadLetterMeter::new(&files.letters, u64::MAX)),
            files: Arc::new(files),
            clock,
            most_bytes: u64::MAX,
        }
    }

    /// The same, of at most so many bytes.
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self.meter = Arc::new(DeadLetterMeter::new(&self.files.letters, bytes));
        self
    }

    /// Dead letters that go to `file`, which stands for the one at `path` and which no command changes.
    pub fn on(path: impl Into<PathBuf>, file: AppendTask, clock: SharedClock) -> Self {
        let files = Files::unshared(path.into());
        Self {
            file,
            meter: Arc::new(DeadLetterMeter::new(&files.letters, u64::MAX)),
            files: Arc::new(files),
            clock,
            most_bytes: u64::MAX,
        }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.files.letters
    }

    /// How full they are, and whether they can be kept.
    pub fn meter(&self) -> Arc<DeadLetterMeter> {
        self.meter.clone()
    }

    /// Names of the positions it keeps; the ledger's values for them are given to `recover`.
    pub fn position_names(&self) -> Vec<String> {
        self.file.position_names()
    }

    /// Brings the file to what was committed. Returns the positions to commit before anything is appended.
    pub async fn recover(&mut self, committed: &Positions) -> Result<Positions, Error> {
        let _turn = self.files.turn().await?;
        if self.replaced(committed) {
            // A replay has taken letters out: what is left is all there is.
            return self.file.recover(&Positions::new()).await;
        }
        self.file.recover(committed).await
    }

    fn replaced(&self, committed: &Positions) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let [_, inode] = &self.position_names()[..] else {
            return false;
        };
        let here = std::fs::metadata(self.path());
        here.is_ok_and(|here| {
            committed
                .get(inode)
                .is_some_and(|inode| *inode != here.ino())
        })
    }

    /// Keeps what was refused, durably; returns the positions to commit with it. An error says that nothing of it is
    /// kept, for one because there is no room.
    pub async fn append(&mut self, refused: &[Refused]) -> Result<Positions, Error> {
        let time = time(self.clock.now_ms());
        let mut piece = Vec::new();
        for refused in refused {
            letter::write(&mut piece, &time, refused).map_err(|error| {
                Error::internal(format!("a dead letter cannot be written as JSON: {error}"))
                    .at(&refused.stream)
            })?;
        }
        let _turn = self.files.turn().await?;
        // An empty file takes whatever comes: what is larger than all room would wait for ever.
        let stands = self.meter.bytes();
        let end = stands.saturating_add(piece.len() as u64);
        if stands > 0 && end > self.most_bytes {
            let most = Size(self.most_bytes);
            let what = format!("there is no room for more dead letters: `max_size` is {most}");
            let place = self.path().display();
            return Err(Error::temporary(what).at(place).help(FULL_HELP));
        }
        self.file.append(piece).await
    }
}

fn time(now_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(now_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
