//! Events in files that are chosen by the event, rotated and packed, each event once, whatever crashes.
//!
//! Acknowledged after `fsync`. Every batch has a number that is committed with its events, and the journal says how
//! long each file was before it; after a crash `recover` cuts off what has a higher number, in rotated files as well,
//! and the line sends that again. A packed piece is a gzip member of its own, so a cut never parts one.

mod encode;
mod journal;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::DateTime;

use super::members::Members;
use super::{Positions, Sink, Written};
use crate::append_file::sync_directory;
use crate::clock::SharedClock;
use crate::config::sink::file::Files;
use crate::config::sink::path_template::Filling;
use crate::error::Error;
use crate::event::{Batch, Event, Identity, StreamKey};
use journal::{Journal, Record, folder};

/// The group may read, others may not: audit events name people.
const FILE_MODE: u32 = 0o640;

/// The same for folders that have to be made.
const FOLDER_MODE: u32 = 0o750;

/// Files kept open: as many tenants and days as are usually written to at once.
const MOST_OPEN: usize = 64;

/// Files of one name closed within a second; more is no rotation any more.
const MOST_NAMES: u32 = 9_999;

/// Writes to files.
#[derive(Debug)]
pub struct FilesSink {
    name: String,
    position: String,
    /// Of a plain file at the same path, whose positions must not be believed any more.
    plain: Option<[String; 2]>,
    /// Shared with the blocking thread; never waited for, since each call waits for the one before.
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    config: Files,
    clock: SharedClock,
    journal: Journal,
    open: HashMap<PathBuf, Open>,
    /// The last batch that is written.
    batch: u64,
    /// The last write failed half-way and is not undone.
    torn: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    /// How long it is with everything that is planned.
    end: u64,
    begun_ms: i64,
    last_batch: u64,
}

/// A piece on its way into a file.
struct Piece {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl FilesSink {
    /// A sink called `name`, as the config wants it.
    pub fn new(name: &str, config: &Files, clock: &SharedClock) -> Self {
        let folder = Path::new(config.template.folder());
        // Another template is another journal: its files are others, too.
        let mark = Identity::of_bytes(name, config.path.as_bytes());
        let mark: String = mark.delivery_id().chars().take(8).collect();
        let journal = Journal::new(folder.join(format!(".{name}-{mark}.journal")));
        let plain = config.template.fixed();
        Self {
            name: name.to_owned(),
            position: format!("{} batch", journal.path().display()),
            plain: plain.map(|path| ["end", "inode"].map(|part| format!("{path} {part}"))),
            writer: Arc::new(Mutex::new(Writer {
                config: config.clone(),
                clock: clock.clone(),
                journal,
                open: HashMap::new(),
                batch: 0,
                torn: false,
            })),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let writer = Arc::clone(&self.writer);
        let worked = tokio::task::spawn_blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut writer).map_err(|error| (writer.config.path.clone(), error))
        });
        let place = format!("sink `{}`", self.name);
        match worked.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err((path, error))) => {
                let what = format!("cannot write to `{path}`: {error}");
                Err(Error::temporary(what).at(place).help(help(&error)))
            }
            Err(error) => Err(Error::internal(format!("writing ended early: {error}")).at(place)),
        }
    }
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space; nothing is lost, writing is tried again"
        }
        io::ErrorKind::PermissionDenied => "let this user write to the files and their folders",
        _ => "check the disk and the path; writing is tried again",
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn position_names(&self) -> Vec<String> {
        vec![self.position.clone()]
    }

    async fn recover(&mut self, committed: &Positions) -> Result<Positions, Error> {
        let committed = committed.get(&self.position).copied();
        self.run(move |writer| writer.recover(committed)).await?;
        let mut positions = Positions::from([(self.position.clone(), committed.unwrap_or(0))]);
        // No file has the number zero, so a plain sink that comes back here cuts nothing off.
        positions.extend(self.plain.iter().flatten().map(|name| (name.clone(), 0)));
        Ok(positions)
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let batches = batches.to_vec();
        let (first, refused) = self.run(move |writer| writer.write(&batches)).await?;
        let numbers = first..;
        let count = refused.len();
        let position = |number| Positions::from([(self.position.clone(), number)]);
        Ok(Written {
            positions: numbers.take(count).map(position).collect(),
            refused: refused
                .into_iter()
                .enumerate()
                .flat_map(|(batch, refused)| {
                    let named = move |(event, reason)| (batch, event, reason);
                    refused.into_iter().map(named)
                })
                .collect(),
        })
    }
}

/// Events that cannot be written: index in the batch, why.
type Refused = Vec<(usize, String)>;

impl Writer {
    fn recover(&mut self, committed: Option<u64>) -> io::Result<()> {
        make_folder(folder(self.journal.path()))?;
        match committed {
            Some(batch) => {
                self.journal.undo(batch)?;
                self.batch = batch;
            }
            // Another ledger knows nothing of what is here; what it sends is new.
            None => self.journal.clear()?,
        }
        Ok(())
    }

    /// Writes the batches; returns the number of the first and what each refuses. After an error everything is undone,
    /// now or before the next write.
    fn write(&mut self, batches: &[Batch]) -> io::Result<(u64, Vec<Refused>)> {
        if self.torn {
            self.undo()?;
        }
        let before = self.batch;
        match self.try_write(batches) {
            Ok(refused) => Ok((before + 1, refused)),
            Err(error) => {
                self.torn = true;
                self.batch = before;
                // What fails here is tried again before the next write.
                let _ = self.undo();
                Err(error)
            }
        }
    }

    fn undo(&mut self) -> io::Result<()> {
        self.open.clear();
        self.journal.undo(self.batch)?;
        self.torn = false;
        Ok(())
    }

    fn try_write(&mut self, batches: &[Batch]) -> io::Result<Vec<Refused>> {
        let mut all_refused = Vec::new();
        let mut planned = (Vec::new(), Vec::new());
        for batch in batches {
            self.batch += 1;
            let (files, refused) = self.sort(batch);
            all_refused.push(refused);
            for (path, text) in files {
                self.plan(path, text, &mut planned)?;
            }
        }
        self.flush(&mut planned)?;
        Ok(all_refused)
    }

    /// What of a batch goes to which file.
    fn sort(&self, batch: &Batch) -> (BTreeMap<PathBuf, Vec<u8>>, Refused) {
        let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        let mut refused = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            let mut add = || {
                let path = self.path(&batch.stream, event)?;
                let mut text = Vec::new();
                encode::event(self.config.columns.as_deref(), event, &mut text)?;
                files.entry(path).or_default().append(&mut text);
                Ok::<_, String>(())
            };
            if let Err(reason) = add() {
                refused.push((index, reason));
            }
        }
        (files, refused)
    }

    fn path(&self, stream: &StreamKey, event: &Event) -> Result<PathBuf, String> {
        let template = &self.config.template;
        let filling = Filling {
            tenant: &stream.tenant,
            stream: &stream.stream,
            time_ms: event.time_ms,
        };
        let body: Option<Members<'_>> = template
            .reads_body()
            .then(|| serde_json::from_slice(&event.body))
            .transpose()
            .map_err(|error| format!("the event is not a JSON object: {error}"))?;
        Ok(PathBuf::from(template.fill(filling, body.as_ref())))
    }

    /// Plans a piece; a file that is full is closed first.
    fn plan(&mut self, path: PathBuf, text: Vec<u8>, planned: &mut Planned) -> io::Result<()> {
        let is_new = !planned.1.iter().any(|piece| piece.path == path);
        if is_new {
            self.look(&path)?;
        }
        let mut bytes = self.pack(&path, &text)?;
        if self.is_full(&path, bytes.len() as u64) {
            self.flush(planned)?;
            self.rotate(&path)?;
            self.look(&path)?;
            // A new file begins with its header.
            bytes = self.pack(&path, &text)?;
        }
        let batch = self.batch;
        let Some(open) = self.open.get_mut(&path) else {
            return Err(io::Error::other("the file is not open"));
        };
        let start = open.end;
        open.end += bytes.len() as u64;
        open.last_batch = batch;
        planned.0.push(Record::Piece {
            batch,
            path: path.clone(),
            inode: open.inode,
            start,
            end: open.end,
        });
        planned.1.push(Piece { path, bytes });
        if self.open.len() > MOST_OPEN {
            self.flush(planned)?;
            self.close_some();
        }
        Ok(())
    }

    fn pack(&self, path: &Path, text: &[u8]) -> io::Result<Vec<u8>> {
        let mut whole = Vec::with_capacity(text.len());
        let begins = self.open.get(path).is_none_or(|open| open.end == 0);
        if let (Some(columns), true, true) = (&self.config.columns, begins, self.config.header) {
            encode::header(columns, &mut whole);
        }
        whole.extend_from_slice(text);
        encode::pack(&self.config, whole)
    }

    fn is_full(&self, path: &Path, more: u64) -> bool {
        let Some(open) = self.open.get(path).filter(|open| open.end > 0) else {
            return false;
        };
        let age = self.clock.now_ms().saturating_sub(open.begun_ms);
        let most = self.config.max_age.map(crate::clock::millis);
        self.config
            .max_bytes
            .is_some_and(|most| open.end + more > most)
            || most.is_some_and(|most| age >= most)
    }

    /// Writes what is planned: first the journal, then the files.
    fn flush(&mut self, planned: &mut Planned) -> io::Result<()> {
        let (records, pieces) = std::mem::take(planned);
        if records.is_empty() {
            return Ok(());
        }
        self.journal.append(&records)?;
        let mut touched: Vec<&Path> = Vec::new();
        for piece in &pieces {
            let open = self.open.get_mut(&piece.path);
            let open = open.ok_or_else(|| io::Error::other("the file is not open"))?;
            open.file.write_all(&piece.bytes)?;
            if !touched.contains(&&*piece.path) {
                touched.push(&piece.path);
            }
        }
        for path in touched {
            if let Some(open) = self.open.get(path) {
                open.file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Closes a file and gives it a name with the time.
    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        let Some(open) = self.open.remove(path) else {
            return Ok(());
        };
        let to = (1..=MOST_NAMES)
            .map(|number| rotated(path, self.clock.now_ms(), number))
            .find(|to| !to.exists());
        let to = to.ok_or_else(|| io::Error::other("too many files are closed in one second"))?;
        self.journal.append(&[Record::Renamed {
            batch: self.batch,
            path: path.to_owned(),
            inode: open.inode,
            to: to.clone(),
        }])?;
        fs::rename(path, &to)?;
        sync_directory(folder(path))
    }

    /// Opens a file, or sees what others did to it since.
    fn look(&mut self, path: &Path) -> io::Result<()> {
        if let (Some(open), Ok(here)) = (self.open.get_mut(path), fs::metadata(path))
            && here.ino() == open.inode
        {
            if here.len() != open.end {
                tracing::warn!(path = %path.display(), expected_bytes = open.end, actual_bytes = here.len(),
                    help = "let nothing else write to this file",
                    "another process changed the length of the file; continuing at its end");
                open.end = here.len();
            }
            return Ok(());
        }
        make_folder(folder(path))?;
        let existed = path.exists();
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(FILE_MODE);
        let file = options.open(path)?;
        let here = file.metadata()?;
        if !here.is_file() {
            return Err(io::Error::other("this is no regular file"));
        }
        if !existed {
            file.sync_all()?;
            sync_directory(folder(path))?;
        }
        let begun = here.created().or_else(|_| here.modified()).ok();
        let begun = begun.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mut open = Open {
            inode: here.ino(),
            end: here.len(),
            begun_ms: match begun {
                Some(begun) if here.len() > 0 => crate::clock::millis(begun),
                _ => self.clock.now_ms(),
            },
            last_batch: self.batch,
            file,
        };
        if !self.config.gzip {
            end_line(&mut open)?;
        }
        self.open.insert(path.to_owned(), open);
        Ok(())
    }

    /// Closes the half of the files that was not written to for longest.
    fn close_some(&mut self) {
        while self.open.len() > MOST_OPEN / 2 {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.last_batch);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                return;
            };
            self.open.remove(&path);
        }
    }
}

/// Records for the journal, and the pieces that they announce.
type Planned = (Vec<Record>, Vec<Piece>);

/// A line that someone left without its newline gets one, so that ours begins a new line.
fn end_line(open: &mut Open) -> io::Result<()> {
    let mut last = [0];
    if open.end == 0 || open.file.read_at(&mut last, open.end - 1)? == 0 || last == *b"\n" {
        return Ok(());
    }
    open.file.write_all(b"\n")?;
    open.end += 1;
    Ok(())
}

/// The name of a file that is closed: `a/events.ndjson.gz` becomes `a/events-20260101T000000Z.ndjson.gz`.
fn rotated(path: &Path, now_ms: i64, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name that begins with a dot has no end there.
    let end = name
        .char_indices()
        .skip(1)
        .find(|(_, letter)| *letter == '.');
    let (stem, rest) = name.split_at(end.map_or(name.len(), |(at, _)| at));
    let time = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let time = time.format("%Y%m%dT%H%M%SZ");
    let again = if number > 1 {
        format!("-{number}")
    } else {
        String::new()
    };
    path.with_file_name(format!("{stem}-{time}{again}{rest}"))
}

/// Makes a folder durably, with those above it.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)?;
    missing
        .into_iter()
        .try_for_each(|made| sync_directory(journal::folder(made)))
}

#[cfg(test)]
mod tests;
