//! The files of one pipeline's dead letters, and who may change them when.
//!
//! The letters stand in one file. Its lock is held for single steps: an append of the collector, or a replay that takes
//! letters out. What was replayed is noted in a second file, so that a replay that is killed is not done again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FILE_MODE;
use crate::error::Error;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Files {
    pub directory: PathBuf,
    /// The letters, one a line.
    pub letters: PathBuf,
    /// Names of letters that were replayed and still stand in the file.
    pub replayed: PathBuf,
    /// Held while the letters are changed.
    lock: PathBuf,
    /// Held by the one command that replays.
    replay_lock: PathBuf,
    /// Whether commands may change the letters.
    shared: bool,
}

impl Files {
    pub fn new(directory: &Path, pipeline: &str) -> Self {
        let file = |end: &str| directory.join(format!("{pipeline}.rejected.{end}"));
        Self {
            directory: directory.to_owned(),
            letters: file("ndjson"),
            replayed: file("replayed"),
            lock: file("lock"),
            replay_lock: file("replay.lock"),
            shared: true,
        }
    }

    /// A file of letters that no command changes.
    pub fn unshared(letters: PathBuf) -> Self {
        let directory = letters.parent().unwrap_or(Path::new("")).to_owned();
        Self {
            letters,
            shared: false,
            ..Self::new(&directory, "unshared")
        }
    }

    /// Waits until nobody else changes the letters; nobody does until the answer is dropped.
    pub fn wait_turn(&self) -> Result<File, Error> {
        let opened = self.open(&self.lock);
        let locked = opened.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| self.error("lock", &self.lock, &error))
    }

    /// [`Self::wait_turn`], for tasks.
    pub async fn turn(self: &Arc<Self>) -> Result<Option<File>, Error> {
        if !self.shared {
            return Ok(None);
        }
        let files = self.clone();
        let waited = tokio::task::spawn_blocking(move || files.wait_turn().map(Some)).await;
        waited.unwrap_or_else(|error| Err(Error::internal(format!("waiting ended early: {error}"))))
    }

    /// The right to replay, until the answer is dropped.
    pub fn replay(&self) -> Result<File, Error> {
        let path = &self.replay_lock;
        let file = self
            .open(path)
            .map_err(|error| self.error("lock", path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                let what = "another command replays these dead letters";
                let place = self.letters.display();
                Err(Error::temporary(what)
                    .at(place)
                    .help("wait for its end, or stop it: nothing is lost"))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(self.error("lock", path, &error)),
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(path)
    }

    /// What went wrong with one of the files.
    pub fn error(&self, verb: &str, path: &Path, error: &io::Error) -> Error {
        let what = format!("cannot {verb} `{}`: {error}", path.display());
        let help = "let this user write to the folder of the dead letters, and free some space";
        Error::temporary(what).at("dead letters").help(help)
    }
}
