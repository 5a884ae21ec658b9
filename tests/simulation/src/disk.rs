//! Files that the process appends to: the real code on real files, which the simulation tears and fills.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sluicegate::append_file::{AppendFile, AppendTask, Appends, Mark};
use sluicegate::error::Error;

use crate::chance::Concern;
use crate::coverage::Point;
use crate::effects::Kind;
use crate::plan::Trouble;
use crate::world::World;

/// A file of the simulation.
pub struct File {
    world: Arc<World>,
    path: PathBuf,
    content: Mutex<AppendFile>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("File").field(&self.path).finish()
    }
}

impl File {
    /// What appends to the file at `path`.
    pub fn task(world: &Arc<World>, place: &str, path: &Path) -> AppendTask {
        let file = Self {
            world: world.clone(),
            path: path.to_owned(),
            content: Mutex::new(AppendFile::new(path, 0o600)),
        };
        AppendTask::on(place, path, Arc::new(file))
    }

    fn with<T>(&self, work: impl FnOnce(&mut AppendFile) -> T) -> T {
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Leaves the first part of a piece on the disk, as a power cut does.
    fn tear(&self, piece: &[u8]) {
        let length = self
            .world
            .draw(Concern::Disk, |chance| chance.below(piece.len() as u64 + 1));
        let part = &piece[..usize::try_from(length).unwrap_or(0)];
        let file = std::fs::OpenOptions::new().append(true).open(&self.path);
        // A file that is not there yet has no part either.
        let _ = file.and_then(|mut file| file.write_all(part));
    }
}

#[async_trait]
impl Appends for File {
    async fn recover(&self, committed: Option<Mark>) -> Result<Option<Mark>, Error> {
        let effect = self.world.effects.begin(Kind::Recover, &self.name()).await;
        let length = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if committed.is_some_and(|mark| mark.end < length) {
            self.world.coverage.mark(Point::CutBack);
        }
        let recovered = self.with(|file| file.recover(committed));
        effect.end().await;
        recovered
    }

    async fn append(&self, piece: Vec<u8>) -> Result<Option<Mark>, Error> {
        let about = format!("{} {}", self.name(), piece.len());
        let effect = self.world.effects.begin(Kind::Append, &about).await;
        if effect.is_torn() {
            self.tear(&piece);
            effect.end().await;
        } else {
            let full = self.world.strikes(Trouble::DiskFull, Concern::Disk, 200);
            if full {
                self.world.coverage.mark(Point::DiskFull);
                return Err(Error::temporary("no space left on device"));
            }
            let appended = self.with(|file| file.append(&piece));
            effect.end().await;
            return appended;
        }
        std::future::pending().await
    }
}
