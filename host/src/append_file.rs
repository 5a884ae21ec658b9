//! A file that only grows by whole, durable pieces, and that can be cut back to where a piece ended.
//!
//! A piece is reported as written after it reached the disk; a piece that failed half-way is cut off
//! again. What others do to the file meanwhile (rotate it, truncate it, append to it) is noticed
//! before each piece and never answered by cutting off what they wrote. Knows nothing of events.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{At as _, Error};

/// Mode of directories that have to be made for the file: others may not look in.
const DIRECTORY_MODE: u32 = 0o750;

/// Where a file's durable content ended, and of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its length.
    pub end: u64,
    /// The file's inode: a rotated file has the same path and another inode.
    pub inode: u64,
}

/// A file that is appended to.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    mode: u32,
    open: Option<Open>,
}

/// An [`AppendFile`] for tasks: it blocks a thread of its own, and names its marks for the ledger.
#[derive(Debug)]
pub struct AppendTask {
    /// What it is in errors, such as ``sink `file` ``.
    place: String,
    /// Names of the end and of the inode.
    names: [String; 2],
    file: Arc<dyn Appends>,
}

/// Something that is appended to: a file on a disk, or one of a simulation.
#[async_trait]
pub trait Appends: Send + Sync + std::fmt::Debug {
    /// [`AppendFile::recover`].
    async fn recover(&self, committed: Option<Mark>) -> Result<Option<Mark>, Error>;

    /// [`AppendFile::append`].
    async fn append(&self, piece: Vec<u8>) -> Result<Option<Mark>, Error>;
}

/// A file behind a blocking thread; never waited for, since each call waits for the one before.
#[derive(Debug)]
struct Blocking(Arc<Mutex<AppendFile>>);

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    /// Where our content ends: everything before this is whole and durable.
    end: u64,
    /// Pipes and devices have no length to cut back to.
    regular: bool,
    /// A failed piece could not be cut off yet.
    torn: bool,
}

impl AppendFile {
    /// A file at `path`, made with `mode` when it is missing. Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self {
            path: path.into(),
            mode,
            open: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file and brings it to what was committed: what lies beyond is cut off.
    ///
    /// Without a committed mark, and when the file is another or a shorter one than what was
    /// committed, it is continued where it ends. `None` for pipes and devices.
    pub fn recover(&mut self, committed: Option<Mark>) -> Result<Option<Mark>, Error> {
        let existed = self.path.exists();
        let mut open = self.open().map_err(|error| self.error("open", &error))?;
        if let (true, Some(committed)) = (open.regular, committed) {
            if !existed || committed.inode != open.inode {
                self.warn_replaced(committed, &open);
            } else if committed.end > open.end {
                self.warn_shorter(committed, &open);
            } else if committed.end < open.end && !crate::mutant::is_on("file_not_cut_back") {
                open.cut(committed.end)
                    .map_err(|error| self.error("cut back", &error))?;
            }
        }
        end_line(&self.path, &mut open)
            .map_err(|error| self.error("end the last line of", &error))?;
        let mark = open.mark();
        self.open = Some(open);
        Ok(mark)
    }

    /// Appends one piece and returns when it is durable, with where it ends; `None` for pipes and
    /// devices. After an error the file is as it was before.
    pub fn append(&mut self, piece: &[u8]) -> Result<Option<Mark>, Error> {
        self.look().map_err(|error| self.error("open", &error))?;
        let Some(open) = self.open.as_mut() else {
            return Err(Error::internal(format!(
                "`{}` is not open",
                self.path.display()
            )));
        };
        match open.append(piece) {
            Ok(()) => Ok(open.mark()),
            Err(error) => Err(self.error("write to", &error)),
        }
    }

    /// Sees what others did to the file since the last piece.
    fn look(&mut self) -> io::Result<()> {
        let here = match std::fs::metadata(&self.path) {
            Ok(here) => Some(here),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let same = match (&self.open, &here) {
            (Some(open), Some(here)) => open.inode == here.ino(),
            _ => false,
        };
        if !same {
            if self.open.is_some() {
                tracing::info!(path = %self.path.display(), "the file was rotated; continuing in a new one");
            }
            let mut open = self.open()?;
            end_line(&self.path, &mut open)?;
            self.open = Some(open);
            return Ok(());
        }
        let (Some(open), Some(here)) = (self.open.as_mut(), here) else {
            return Ok(());
        };
        if !open.regular {
            return Ok(());
        }
        if open.torn {
            return open.cut(open.end);
        }
        if here.len() != open.end {
            tracing::warn!(
                path = %self.path.display(),
                expected_bytes = open.end,
                actual_bytes = here.len(),
                help = "let nothing else write to this file; rotate it by renaming it",
                "another process changed the length of the file; continuing at its end"
            );
            open.end = here.len();
            end_line(&self.path, open)?;
        }
        Ok(())
    }

    fn open(&self) -> io::Result<Open> {
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(parent)?;
        let existed = self.path.exists();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(self.mode)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !existed {
            file.sync_all()?;
            sync_directory(parent)?;
        }
        Ok(Open::new(file, &metadata))
    }

    fn error(&self, verb: &str, error: &io::Error) -> Error {
        let help = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space; nothing is lost, writing is tried again"
            }
            io::ErrorKind::PermissionDenied => "let this user write to the file and its directory",
            io::ErrorKind::IsADirectory => "name a file, not a directory",
            _ => "check the disk and the path; writing is tried again",
        };
        Error::temporary(format!("cannot {verb} `{}`: {error}", self.path.display())).help(help)
    }

    fn warn_replaced(&self, committed: Mark, open: &Open) {
        tracing::warn!(
            path = %self.path.display(),
            committed_bytes = committed.end,
            actual_bytes = open.end,
            help = "expected after a rotation; otherwise put the file back, its events are not sent again",
            "the file is missing or another one than was written to; continuing at its end"
        );
    }

    fn warn_shorter(&self, committed: Mark, open: &Open) {
        tracing::warn!(
            path = %self.path.display(),
            committed_bytes = committed.end,
            actual_bytes = open.end,
            help = "events that stood there are not sent again; restore the file from a copy if you need them",
            "the file is shorter than what was delivered to it; continuing at its end"
        );
    }
}

impl AppendTask {
    /// Puts `file` behind a blocking thread; `place` says in errors whose it is.
    pub fn new(place: impl Into<String>, file: AppendFile) -> Self {
        let path = file.path.clone();
        Self::on(place, &path, Arc::new(Blocking(Arc::new(Mutex::new(file)))))
    }

    /// Appends to whatever stands for the file at `path`.
    pub fn on(place: impl Into<String>, path: &Path, file: Arc<dyn Appends>) -> Self {
        let names = ["end", "inode"].map(|part| format!("{} {part}", path.display()));
        Self {
            place: place.into(),
            names,
            file,
        }
    }

    /// Positions that lie `behind` bytes before these.
    #[must_use]
    pub fn before_end(&self, end: &BTreeMap<String, u64>, behind: u64) -> BTreeMap<String, u64> {
        let mut before = end.clone();
        if let Some(end) = self
            .position_names()
            .first()
            .and_then(|name| before.get_mut(name))
        {
            *end = end.saturating_sub(behind);
        }
        before
    }

    /// Names of the positions it keeps: they contain the path.
    pub fn position_names(&self) -> Vec<String> {
        self.names.to_vec()
    }

    /// [`AppendFile::recover`], by positions.
    pub async fn recover(
        &self,
        committed: &BTreeMap<String, u64>,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let [end, inode] = self
            .names
            .each_ref()
            .map(|name| committed.get(name).copied());
        let mark = end.zip(inode).map(|(end, inode)| Mark { end, inode });
        self.named(self.file.recover(mark).await)
    }

    /// [`AppendFile::append`], by positions.
    pub async fn append(&self, piece: Vec<u8>) -> Result<BTreeMap<String, u64>, Error> {
        self.named(self.file.append(piece).await)
    }

    fn named(&self, mark: Result<Option<Mark>, Error>) -> Result<BTreeMap<String, u64>, Error> {
        let values = mark.at(&self.place)?.map(|mark| [mark.end, mark.inode]);
        Ok(self
            .names
            .iter()
            .cloned()
            .zip(values.into_iter().flatten())
            .collect())
    }
}

impl Blocking {
    async fn run(
        &self,
        work: impl FnOnce(&mut AppendFile) -> Result<Option<Mark>, Error> + Send + 'static,
    ) -> Result<Option<Mark>, Error> {
        let file = Arc::clone(&self.0);
        let worked = tokio::task::spawn_blocking(move || {
            // A panic while writing leaves a length that the next call compares with the file's own.
            work(&mut file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        worked
            .await
            .unwrap_or_else(|error| Err(Error::internal(format!("writing ended early: {error}"))))
    }
}

#[async_trait]
impl Appends for Blocking {
    async fn recover(&self, committed: Option<Mark>) -> Result<Option<Mark>, Error> {
        self.run(move |file| file.recover(committed)).await
    }

    async fn append(&self, piece: Vec<u8>) -> Result<Option<Mark>, Error> {
        self.run(move |file| file.append(&piece)).await
    }
}

impl Open {
    fn new(file: File, metadata: &Metadata) -> Self {
        let regular = metadata.is_file();
        let end = if regular { metadata.len() } else { 0 };
        Self {
            file,
            inode: metadata.ino(),
            end,
            regular,
            torn: false,
        }
    }

    fn mark(&self) -> Option<Mark> {
        self.regular.then_some(Mark {
            end: self.end,
            inode: self.inode,
        })
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(piece).and_then(|()| {
            if self.regular {
                self.file.sync_data()
            } else {
                self.file.flush()
            }
        });
        if let Err(error) = written {
            if self.regular && self.cut(self.end).is_err() {
                self.torn = true;
            }
            return Err(error);
        }
        self.end += piece.len() as u64;
        Ok(())
    }

    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.file.sync_data()?;
        self.end = end;
        self.torn = false;
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A line that someone left without its newline gets one, so that ours begins a new line.
fn end_line(path: &Path, open: &mut Open) -> io::Result<()> {
    if !open.regular || open.end == 0 {
        return Ok(());
    }
    let mut last = [0];
    let mut reader = File::open(path)?;
    reader.seek(SeekFrom::Start(open.end - 1))?;
    reader.read_exact(&mut last)?;
    if last == *b"\n" {
        Ok(())
    } else {
        open.append(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(directory: &tempfile::TempDir) -> AppendFile {
        AppendFile::new(directory.path().join("a/b/out.ndjson"), 0o640)
    }

    fn text(file: &AppendFile) -> String {
        fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn makes_directories_and_keeps_others_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        let mark = file.recover(None).unwrap().unwrap();
        assert_eq!(mark.end, 0);
        assert_eq!(file.append(b"one\n").unwrap().unwrap().end, 4);
        assert_eq!(text(&file), "one\n");
        assert_eq!(
            fs::metadata(file.path()).unwrap().mode() & 0o777 & !0o640,
            0
        );
    }

    #[test]
    fn cuts_off_what_lies_beyond_the_committed_mark() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = file(&directory);
        before.recover(None).unwrap();
        let committed = before.append(b"one\n").unwrap();
        before.append(b"two\nthr").unwrap();
        drop(before);
        let mut after = file(&directory);
        assert_eq!(after.recover(committed).unwrap(), committed);
        assert_eq!(text(&after), "one\n");
        after.append(b"two\n").unwrap();
        assert_eq!(text(&after), "one\ntwo\n");
    }

    #[test]
    fn a_shorter_or_missing_file_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = file(&directory);
        before.recover(None).unwrap();
        let mut committed = before.append(b"one\n").unwrap().unwrap();
        committed.end = 400;
        let mut after = file(&directory);
        assert_eq!(after.recover(Some(committed)).unwrap().unwrap().end, 4);
        fs::remove_file(after.path()).unwrap();
        let mut again = file(&directory);
        assert_eq!(again.recover(Some(committed)).unwrap().unwrap().end, 0);
    }

    #[test]
    fn a_file_from_before_is_kept_and_its_last_line_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        fs::create_dir_all(file.path().parent().unwrap()).unwrap();
        fs::write(file.path(), "old").unwrap();
        assert_eq!(file.recover(None).unwrap().unwrap().end, 4);
        file.append(b"new\n").unwrap();
        assert_eq!(text(&file), "old\nnew\n");
    }

    #[test]
    fn follows_a_rotation_and_never_cuts_the_new_file_by_the_old_mark() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        file.recover(None).unwrap();
        let committed = file.append(b"one\n").unwrap();
        let rotated = directory.path().join("rotated");
        fs::rename(file.path(), &rotated).unwrap();
        assert_eq!(file.append(b"two two\n").unwrap().unwrap().end, 8);
        assert_eq!(fs::read_to_string(rotated).unwrap(), "one\n");
        assert_eq!(text(&file), "two two\n");
        let mut after = AppendFile::new(file.path(), 0o640);
        assert_eq!(after.recover(committed).unwrap().unwrap().end, 8);
        assert_eq!(text(&after), "two two\n");
    }

    #[test]
    fn notices_truncation_and_foreign_lines() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        file.recover(None).unwrap();
        file.append(b"one\n").unwrap();
        fs::write(file.path(), "").unwrap();
        assert_eq!(file.append(b"two\n").unwrap().unwrap().end, 4);
        fs::write(file.path(), "two\nforeign").unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(text(&file), "two\nforeign\nthree\n");
    }

    #[test]
    fn a_full_disk_is_an_error_with_help() {
        let mut file = AppendFile::new("/dev/full", 0o640);
        assert_eq!(file.recover(None).unwrap(), None);
        let error = file.append(b"one\n").unwrap_err();
        assert!(
            error.to_string().contains("cannot write to `/dev/full`"),
            "{error}"
        );
        assert!(error.help.contains("free some space"), "{error}");
    }

    #[test]
    fn a_torn_piece_is_cut_off_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        file.recover(None).unwrap();
        file.append(b"one\n").unwrap();
        let open = file.open.as_mut().unwrap();
        open.file.write_all(b"tw").unwrap();
        open.torn = true;
        file.append(b"two\n").unwrap();
        assert_eq!(text(&file), "one\ntwo\n");
    }
}
