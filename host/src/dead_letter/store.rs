//! The dead letters of a pipeline as commands see them, beside a running collector or without one.
//!
//! Reading holds nothing up. A letter is taken out in two steps: its name is noted, durably, and at the end the file is
//! written anew without those that are noted. Whatever happens in between, a letter is either in the file or was
//! delivered.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::FILE_MODE;
use super::files::Files;
use super::letter::{Letter, Name};
use crate::append_file::sync_directory;
use crate::error::Error;

/// The letters of one pipeline.
#[derive(Clone, Debug)]
pub struct Store {
    files: Arc<Files>,
}

/// The right to take letters out, of which one exists at a time.
#[derive(Debug)]
pub struct Replaying {
    files: Arc<Files>,
    replayed: HashSet<Name>,
    _lock: File,
}

impl Store {
    /// The letters of `pipeline` in `directory`.
    pub fn new(directory: &Path, pipeline: &str) -> Self {
        Self {
            files: Arc::new(Files::new(directory, pipeline)),
        }
    }

    /// Where they stand.
    pub fn path(&self) -> &Path {
        &self.files.letters
    }

    /// Shows every letter, oldest first, until `look` says that it has seen enough. Returns how many lines are no
    /// dead letters; they are left alone.
    pub fn each(&self, mut look: impl FnMut(Letter) -> Result<bool, Error>) -> Result<u64, Error> {
        let cannot = |error: io::Error| self.files.error("read", self.path(), &error);
        let Some(mut lines) = self.lines().map_err(cannot)? else {
            return Ok(0);
        };
        let gone = self.replayed().map_err(cannot)?;
        let (mut line, mut strange) = (Vec::new(), 0);
        while next_line(&mut lines, &mut line).map_err(cannot)? {
            match Letter::read(&line) {
                Some(letter) if gone.contains(&letter.name) => {}
                Some(letter) => {
                    if !look(letter)? {
                        break;
                    }
                }
                None => strange += 1,
            }
        }
        Ok(strange)
    }

    /// The right to take letters out.
    pub fn replay(&self) -> Result<Replaying, Error> {
        let lock = self.files.replay()?;
        let cannot = |error: io::Error| self.files.error("read", &self.files.replayed, &error);
        Ok(Replaying {
            files: self.files.clone(),
            replayed: self.replayed().map_err(cannot)?,
            _lock: lock,
        })
    }

    /// The file as it is between two appends; `None` when there is none.
    fn lines(&self) -> io::Result<Option<BufReader<io::Take<File>>>> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever may only read sees a line in the making, which is no letter yet.
        let turn = self.files.wait_turn().ok();
        let length = file.metadata()?.len();
        drop(turn);
        Ok(Some(BufReader::with_capacity(1 << 20, file.take(length))))
    }

    /// Names of letters that still stand in the file and were replayed.
    fn replayed(&self) -> io::Result<HashSet<Name>> {
        match std::fs::read_to_string(&self.files.replayed) {
            Ok(text) => Ok(text.lines().filter_map(Name::parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(error),
        }
    }
}

impl Replaying {
    /// Notes, durably, that these letters were delivered.
    pub fn remove(&mut self, names: &[Name]) -> Result<(), Error> {
        let files = &self.files;
        let note = || {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .open(&files.replayed)?;
            let lines: Vec<String> = names.iter().map(Name::to_string).collect();
            file.write_all((lines.join("\n") + "\n").as_bytes())?;
            file.sync_data()?;
            sync_directory(&files.directory)
        };
        note().map_err(|error| files.error("write to", &files.replayed, &error))?;
        self.replayed.extend(names);
        Ok(())
    }

    /// Makes room: writes the file anew without what was replayed.
    pub fn finish(self) -> Result<(), Error> {
        if self.replayed.is_empty() {
            return Ok(());
        }
        let files = &self.files;
        let _turn = files.wait_turn()?;
        self.rewrite()
            .map_err(|error| files.error("write anew", &files.letters, &error))
    }

    fn rewrite(&self) -> io::Result<()> {
        let files = &self.files;
        let mut old = match File::open(&files.letters) {
            Ok(file) => BufReader::with_capacity(1 << 20, file),
            // Moved away: nothing of it is ours any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return std::fs::remove_file(&files.replayed);
            }
            Err(error) => return Err(error),
        };
        let path = files.letters.with_extension("ndjson.new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&path)?;
        let mut new = BufWriter::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        while next_line(&mut old, &mut line)? {
            let gone =
                Letter::read(&line).is_some_and(|letter| self.replayed.contains(&letter.name));
            if !gone {
                new.write_all(&line)?;
                new.write_all(b"\n")?;
            }
        }
        let file = new.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&path, &files.letters)?;
        sync_directory(&files.directory)?;
        std::fs::remove_file(&files.replayed)
    }
}

/// Reads a line without its newline; false at the end.
fn next_line(lines: &mut impl io::BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if lines.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(true)
}
