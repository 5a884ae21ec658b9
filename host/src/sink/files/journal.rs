//! What was about to be written where, so that it can be undone: one line for each piece and each renaming, on the disk
//! before the file is touched.
//!
//! Batches are numbered; the ledger says up to which number they are committed. Whatever has a higher number is cut off
//! again after a crash. A file that is longer than the journal knows has been written to by somebody else: it is left
//! alone, and said.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::append_file::sync_directory;

/// A journal that has grown to this is written anew without what is surely committed.
const MOST_BYTES: u64 = 4 << 20;

/// So many batches may be written and not committed: more never have a share of the line's budget at once.
const UNCOMMITTED: u64 = 16 << 10;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A file is about to grow.
    Piece {
        /// The batch.
        batch: u64,
        /// The file.
        path: PathBuf,
        /// The file's own number.
        inode: u64,
        /// How long it is.
        start: u64,
        /// How long it will be.
        end: u64,
    },
    /// A file is about to be renamed.
    Renamed {
        /// The last batch before.
        batch: u64,
        /// Its name.
        path: PathBuf,
        /// Its number.
        inode: u64,
        /// Its name to be.
        to: PathBuf,
    },
}

impl Record {
    fn batch(&self) -> u64 {
        match self {
            Self::Piece { batch, .. } | Self::Renamed { batch, .. } => *batch,
        }
    }
}

/// The journal of one sink.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl Journal {
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes records durable before what they announce is done.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self
            .open
            .as_ref()
            .is_some_and(|(_, bytes)| *bytes > MOST_BYTES)
        {
            let newest = records.iter().map(Record::batch).max().unwrap_or_default();
            let kept = self.read()?.into_iter();
            let kept = kept.filter(|record| record.batch() + UNCOMMITTED > newest);
            self.replace(&kept.collect::<Vec<_>>())?;
        }
        let (mut file, bytes) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let text = lines(records)?;
        // One that fails stays closed, so that the next one begins behind what is whole.
        file.write_all(&text)?;
        file.sync_data()?;
        self.open = Some((file, bytes + text.len() as u64));
        Ok(())
    }

    /// Cuts off everything beyond a batch.
    pub fn undo(&mut self, committed: u64) -> io::Result<()> {
        self.open = None;
        let mut files: BTreeMap<(&Path, u64), (Option<u64>, u64)> = BTreeMap::new();
        let mut renamed: BTreeMap<(&Path, u64), &Path> = BTreeMap::new();
        let records = self.read()?;
        for record in &records {
            match record {
                Record::Piece {
                    batch,
                    path,
                    inode,
                    start,
                    end,
                } => {
                    let (cut, known) = files.entry((path, *inode)).or_default();
                    *known = (*known).max(*end);
                    if *batch > committed {
                        *cut = Some(cut.map_or(*start, |cut| cut.min(*start)));
                    }
                }
                Record::Renamed {
                    path, inode, to, ..
                } => {
                    renamed.insert((path, *inode), to);
                }
            }
        }
        for ((path, inode), (cut, known)) in files {
            if let Some(cut) = cut {
                let now = renamed.get(&(path, inode)).copied();
                undo(path, now, inode, cut, known)?;
            }
        }
        let done: Vec<_> = records
            .iter()
            .filter(|record| record.batch() <= committed)
            .cloned()
            .collect();
        self.replace(&done)
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> io::Result<()> {
        self.replace(&[])
    }

    /// All records; a last line that was not written to its end announces nothing that was done.
    fn read(&self) -> io::Result<Vec<Record>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut records = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(record) => records.push(record),
                Err(_) if !line.ends_with(b"\n") => {}
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, help = "what was not committed before the \
                        last crash may stand twice in the files", "a line of the journal cannot be read");
                }
            }
        }
        Ok(records)
    }

    fn replace(&mut self, records: &[Record]) -> io::Result<()> {
        self.open = None;
        let new = self.path.with_extension("journal.new");
        let mut file = create(
            OpenOptions::new().create(true).write(true).truncate(true),
            &new,
        )?;
        let text = lines(records)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_directory(folder(&self.path))?;
        let file = create(OpenOptions::new().append(true), &self.path)?;
        self.open = Some((file, text.len() as u64));
        Ok(())
    }

    /// Opens it behind its last whole line.
    fn open(&self) -> io::Result<(File, u64)> {
        let existed = self.path.exists();
        let file = create(OpenOptions::new().create(true).append(true), &self.path)?;
        if !existed {
            sync_directory(folder(&self.path))?;
        }
        let text = fs::read(&self.path)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end as u64 + 1);
        if whole < text.len() as u64 {
            file.set_len(whole)?;
        }
        Ok((file, whole))
    }
}

/// Only we read it.
fn create(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).open(path)
}

fn lines(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Cuts one file, which may have been renamed since.
fn undo(path: &Path, renamed: Option<&Path>, inode: u64, cut: u64, known: u64) -> io::Result<()> {
    let is_it = |path: &&Path| fs::metadata(path).is_ok_and(|found| found.ino() == inode);
    let Some(path) = [Some(path), renamed].into_iter().flatten().find(is_it) else {
        tracing::warn!(path = %path.display(),
            "a file with events that were not committed is gone; they are sent again");
        return Ok(());
    };
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    if length > known {
        tracing::warn!(path = %path.display(), known_bytes = known, actual_bytes = length,
            help = "let nothing else write to this file",
            "the file is longer than what we wrote; it is not cut back, and events may stand in it twice");
        return Ok(());
    }
    if length <= cut {
        return Ok(());
    }
    if cut == 0 && renamed == Some(path) {
        // Nothing is ever written to it again, and an empty file is no packed one.
        fs::remove_file(path)?;
        return sync_directory(folder(path));
    }
    file.set_len(cut)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(batch: u64, path: &Path, start: u64, end: u64) -> Record {
        let inode = fs::metadata(path).unwrap().ino();
        let path = path.to_owned();
        Record::Piece {
            batch,
            path,
            inode,
            start,
            end,
        }
    }

    #[test]
    fn undoes_what_is_not_committed_also_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut journal = Journal::new(at(".a.journal"));
        for (name, text) in [("a", "112233"), ("b", "11"), ("c", "1122 foreign")] {
            fs::write(at(name), text).unwrap();
        }
        journal
            .append(&[piece(1, &at("a"), 0, 2), piece(2, &at("a"), 2, 4)])
            .unwrap();
        journal
            .append(&[
                piece(3, &at("a"), 4, 6),
                piece(3, &at("b"), 0, 2),
                piece(3, &at("c"), 2, 4),
                Record::Renamed {
                    batch: 3,
                    path: at("a"),
                    inode: fs::metadata(at("a")).unwrap().ino(),
                    to: at("a-1"),
                },
            ])
            .unwrap();
        fs::rename(at("a"), at("a-1")).unwrap();
        fs::write(at("a"), "another").unwrap();
        // The next line was not written to its end.
        let mut torn = OpenOptions::new()
            .append(true)
            .open(journal.path())
            .unwrap();
        torn.write_all(b"{\"piece\":{\"batch\":4").unwrap();
        for _ in 0..2 {
            let mut journal = Journal::new(at(".a.journal"));
            journal.undo(1).unwrap();
            let text = |name: &str| fs::read_to_string(at(name)).unwrap();
            let found = ["a", "a-1", "b", "c"].map(text);
            assert_eq!(found, ["another", "11", "", "1122 foreign"]);
            assert_eq!(journal.read().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_closed_file_of_which_nothing_is_committed_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut journal = Journal::new(at(".a.journal"));
        fs::write(at("a"), "11").unwrap();
        let inode = fs::metadata(at("a")).unwrap().ino();
        let (path, to) = (at("a"), at("a-1"));
        let renamed = Record::Renamed {
            batch: 2,
            path,
            inode,
            to,
        };
        journal
            .append(&[piece(1, &at("a"), 0, 2), renamed])
            .unwrap();
        fs::rename(at("a"), at("a-1")).unwrap();
        fs::write(at("a"), "").unwrap();
        journal.undo(0).unwrap();
        assert!(!at("a-1").exists());
        assert!(at("a").exists());
    }

    #[test]
    fn stays_small_and_keeps_what_may_not_be_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "").unwrap();
        let mut journal = Journal::new(folder.path().join(".a.journal"));
        let records: Vec<_> = (0..2 * UNCOMMITTED)
            .map(|batch| piece(batch, &path, 0, 0))
            .collect();
        for some in records.chunks(1000) {
            journal.append(some).unwrap();
            let length = fs::metadata(journal.path()).unwrap().len();
            assert!(length < 2 * MOST_BYTES, "{length} bytes");
        }
        let kept = journal.read().unwrap();
        assert!(kept.len() as u64 >= UNCOMMITTED && kept.ends_with(&records[records.len() - 1..]));
    }
}
