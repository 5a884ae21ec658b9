//! The ledger's directory: who may use it, and what happens to a damaged database.
//!
//! One process at a time. A database that is damaged is moved to `quarantine/`, never deleted, and a fresh one is
//! started: what it knew is read again, so that costs duplicates and no event.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::schema;
use crate::append_file::sync_directory;
use crate::error::Error;

pub(super) const DATABASE: &str = "ledger.db";
const LOCK: &str = "ledger.lock";
/// Made when the running program met damage, so that the next start looks closely.
const SUSPECT: &str = "ledger.suspect";
/// The number of the last durable transaction: tells when an older database was put back.
const SEQUENCE: &str = "ledger.sequence";
const QUARANTINE: &str = "quarantine";
/// A disk that damages so many databases needs a person.
const QUARANTINE_LIMIT: u32 = 1000;

/// The directory, held as long as this lives.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    /// Locked; the lock ends with the process however it ends.
    _lock: File,
    /// Whether an earlier run left its lock file behind: then a database must be there too.
    used_before: bool,
    sequence: File,
}

/// Why a database could not be opened.
enum Trouble {
    Damaged(String),
    Other(Error),
}

impl Home {
    /// Makes the directory and locks it.
    pub(super) fn claim(directory: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::unavailable(format!(
                "cannot use `{}` for the ledger: {error}",
                directory.display()
            ))
            .help("make the directory writable for this user, or set `state.path` to another")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let path = directory.join(LOCK);
        let used_before = path.exists();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                let sequence = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .read(true)
                    .write(true)
                    .mode(0o600)
                    .open(directory.join(SEQUENCE))
                    .map_err(failed)?;
                let directory = directory.to_path_buf();
                Ok(Self {
                    directory,
                    _lock: lock,
                    used_before,
                    sequence,
                })
            }
            Err(TryLockError::WouldBlock) => {
                Err(Error::temporary("the ledger is in use by another process")
                    .at(format!("`{}`", directory.display()))
                    .help(
                        "stop the other `sluicegate`, or give each pipeline its own `state.path`",
                    ))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Opens the database, with what was wrong when it knows less than it should.
    pub(super) fn open(&self) -> Result<(Connection, Option<String>), Error> {
        let missing = self.used_before && !self.database().exists();
        let missing = missing.then(|| format!("`{}` is missing", self.database().display()));
        let (db, damaged) = match self.try_open() {
            Ok(db) => (db, None),
            Err(Trouble::Other(error)) => return Err(error),
            Err(Trouble::Damaged(reason)) => {
                let kept = self.quarantine()?;
                let kept = kept.display();
                let alarm = format!("the database is damaged ({reason}), kept as `{kept}`");
                (self.open_anew()?, Some(alarm))
            }
        };
        let rewound = self.rewound(&db)?;
        let alarm = missing.or(damaged).or(rewound);
        sync_directory(&self.directory).map_err(|error| self.io(&error))?;
        Ok((db, alarm))
    }

    /// Notes the number of a durable transaction, after it. Not synced: after a power cut the note may be
    /// older than the database, never newer.
    pub(super) fn note(&self, sequence: Option<i64>) {
        let Some(sequence) = sequence else { return };
        // Best effort: without a note an older database goes unnoticed, and is correct all the same.
        drop(
            self.sequence
                .write_all_at(format!("{sequence:020}\n").as_bytes(), 0),
        );
    }

    /// Whether the database is older than the note beside it, which is then corrected: one alarm is enough.
    fn rewound(&self, db: &Connection) -> Result<Option<String>, Error> {
        let mut note = [0; 20];
        let noted = self.sequence.read_exact_at(&mut note, 0).ok();
        let noted = noted.and_then(|()| std::str::from_utf8(&note).ok()?.parse::<i64>().ok());
        let stands: i64 = db
            .query_row("SELECT value FROM sequence", [], |row| row.get(0))
            .map_err(|error| self.failed(&error))?;
        self.note(Some(stands));
        Ok(noted.filter(|noted| *noted > stands).map(|noted| {
            format!("an older database was put back: it ends at transaction {stands} of {noted}")
        }))
    }

    fn open_anew(&self) -> Result<Connection, Error> {
        self.try_open().map_err(|trouble| match trouble {
            Trouble::Other(error) => error,
            Trouble::Damaged(again) => {
                Error::unavailable(format!("a new ledger is damaged: {again}"))
                    .at(format!("`{}`", self.directory.display()))
                    .help("check the disk, or set `state.path` to another")
            }
        })
    }

    /// Another connection, for reading.
    pub(super) fn open_reader(&self) -> Result<Connection, Error> {
        let reader = Connection::open(self.database()).and_then(|db| {
            db.execute_batch(schema::READER)?;
            db.set_prepared_statement_cache_capacity(64);
            Ok(db)
        });
        reader.map_err(|error| self.failed(&error))
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// The database as a place in an error.
    pub(super) fn place(&self) -> String {
        format!("ledger `{}`", self.database().display())
    }

    /// An error of the database, for the operator; damage has the next start look closely.
    pub(super) fn failed(&self, error: &rusqlite::Error) -> Error {
        if is_damage(error) {
            // Best effort: the error itself is on its way to the operator.
            drop(File::create(self.directory.join(SUSPECT)));
        }
        failure(error).at(self.place())
    }

    fn try_open(&self) -> Result<Connection, Trouble> {
        let path = self.database();
        let suspect = self.directory.join(SUSPECT);
        // A clean stop leaves no log behind.
        let log = fs::metadata(self.sibling("-wal")).map_or(0, |log| log.len());
        let look_closely = log > 0 || suspect.exists();
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Trouble::Other(self.io(&error)))?;
        let db = Connection::open(&path).map_err(|error| self.trouble(&error))?;
        self.prepare(&db, look_closely)?;
        drop(fs::remove_file(suspect));
        Ok(db)
    }

    fn prepare(&self, db: &Connection, look_closely: bool) -> Result<(), Trouble> {
        let trouble = |error: rusqlite::Error| self.trouble(&error);
        db.execute_batch(schema::WRITER).map_err(trouble)?;
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let version = pragma("user_version").map_err(trouble)?;
        let tables: i64 = db
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(trouble)?;
        if version == 0 && tables == 0 {
            return schema::create(db).map_err(trouble);
        }
        if pragma("application_id").map_err(trouble)? != schema::APPLICATION {
            return Err(Trouble::Other(
                Error::config("the file is a database of another program, not a ledger")
                    .at(self.place())
                    .help("set `state.path` to a directory of its own"),
            ));
        }
        if version > schema::VERSION {
            let what = format!(
                "the ledger was written by a newer sluicegate (its tables have version {version}, \
                 this one knows {})",
                schema::VERSION
            );
            return Err(Trouble::Other(Error::config(what).at(self.place()).help(
                "run the newer version, or set `state.path` to a new directory: everything still \
                 listed is then delivered again",
            )));
        }
        if look_closely {
            let found: String = db
                .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
                .map_err(trouble)?;
            if found != "ok" {
                return Err(Trouble::Damaged(found.replace('\n', "; ")));
            }
        }
        schema::migrate(db, version).map_err(trouble)
    }

    fn quarantine(&self) -> Result<PathBuf, Error> {
        let directory = self.directory.join(QUARANTINE);
        let moved = (|| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)?;
            let free = (1..=QUARANTINE_LIMIT)
                .map(|number| directory.join(format!("ledger-{number}.db")))
                .find(|path| !path.exists());
            let kept = free.ok_or_else(|| {
                io::Error::other("`quarantine/` is full; look at what is in it and clear it")
            })?;
            for suffix in ["-wal", "-shm", ""] {
                let mut to = kept.clone().into_os_string();
                to.push(suffix);
                match fs::rename(self.sibling(suffix), to) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            sync_directory(&directory)?;
            sync_directory(&self.directory)?;
            Ok(kept)
        })();
        moved.map_err(|error| self.io(&error))
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{DATABASE}{suffix}"))
    }

    fn trouble(&self, error: &rusqlite::Error) -> Trouble {
        if is_damage(error) {
            Trouble::Damaged(error.to_string())
        } else {
            Trouble::Other(failure(error).at(self.place()))
        }
    }

    fn io(&self, error: &io::Error) -> Error {
        Error::unavailable(format!("cannot open the ledger: {error}"))
            .at(self.place())
            .help("check the disk and the rights of this user")
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let found = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    );
    // Our tables are strict: only damage puts a value of another kind where we wrote one.
    let odd = matches!(
        error,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
    );
    found || odd
}

/// What an error of the database means to an operator.
pub(super) fn failure(error: &rusqlite::Error) -> Error {
    let help = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space; nothing is lost, the work is repeated",
        _ if is_damage(error) => {
            "start again: the damaged database is set aside and everything is listed anew"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "let this user write to the ledger's directory"
        }
        _ => "check the disk; the work is repeated",
    };
    Error::temporary(format!("the ledger's database failed: {error}")).help(help)
}
