//! The ledger as seen from outside, beside a running collector: read-only, without its lock.
//!
//! Readers of a write-ahead log hold nobody up and see one commit at a time. Nothing here changes a byte of the
//! database, so whoever may read the folder may look.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use super::home::{DATABASE, failure};
use super::identities::{self, Mask};
use super::{progress, read, schema};
use crate::error::Error;
use crate::event::{Identity, StreamKey};
use crate::ledger::progress::Progress;
use crate::ledger::{DAY_MS, Loss, SplitKey, StreamStatus};
use crate::metrics::lag::Parts;

/// A read-only connection.
#[derive(Debug)]
pub struct LedgerView {
    db: Connection,
    path: PathBuf,
}

/// Where a split stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Found, being read, or waiting for its next attempt.
    Pending,
    /// Set aside, tried slowly.
    Quarantined,
    /// Delivered.
    Delivered,
    /// Declared lost.
    Lost,
}

/// A split as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRow {
    /// Which.
    pub key: SplitKey,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it is being read right now (or was, when a run was killed).
    pub reading: bool,
    /// Failed attempts.
    pub attempts: u32,
    /// When its content became available.
    pub created_ms: i64,
    /// When the origin forgets it.
    pub expires_ms: Option<i64>,
    /// Earliest next attempt.
    pub next_try_ms: i64,
    /// Why the last attempt failed.
    pub reason: String,
}

/// How many identities of a day's delivered events should be remembered, and how many are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayCount {
    /// The day's first instant.
    pub start_ms: i64,
    /// Should be.
    pub remembered: i64,
    /// Are.
    pub found: i64,
}

/// The columns of a [`SplitRow`].
const ROW: &str = "tenant, stream.stream, split.id, phase, quarantined, attempts, created_ms, \
                   expires_ms, not_before_ms, reason";

impl LedgerView {
    /// Opens the ledger in `directory` as it stands.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(DATABASE);
        if !path.exists() {
            return Err(missing(directory));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags)
            .and_then(|db| check(&db).map(|checked| (db, checked)));
        let (db, checked) = match opened {
            Ok(opened) => opened,
            // Without the right to write here the log's index cannot be made; a database without a log needs none.
            Err(error) if !has_log(&path) => immutable(&path, flags)
                .map_err(|_| error)
                .map_err(|error| place(failure(&error), &path))?,
            Err(error) => return Err(place(failure(&error), &path)),
        };
        checked.map_err(|error| place(error, &path))?;
        let view = Self { db, path };
        view.ask(|db| db.execute_batch(schema::READER))?;
        Ok(view)
    }

    /// Calls that follow see the ledger as it stands now, until the view is dropped.
    pub fn hold(&self) -> Result<(), Error> {
        // A read transaction begins with its first look at the database.
        self.ask(|db| db.execute_batch("BEGIN; SELECT count(*) FROM sequence"))
    }

    /// Ends what [`Self::hold`] began: the collector can tidy its log up again.
    pub fn release(&self) -> Result<(), Error> {
        self.ask(|db| db.execute_batch("COMMIT"))
    }

    /// Every stream, by tenant and name.
    pub fn streams(&self) -> Result<Vec<StreamKey>, Error> {
        self.ask(read::streams)
    }

    /// How a stream stands.
    pub fn status(&self, stream: &StreamKey) -> Result<StreamStatus, Error> {
        self.ask(|db| read::status(db, stream))
    }

    /// How far every stream is, by tenant and name.
    pub fn progress(&self) -> Result<Vec<(StreamKey, Progress)>, Error> {
        self.ask(progress::progress)
    }

    /// The lag of a stream's delivered splits, newest content first, at most `limit`.
    pub fn lags(&self, stream: &StreamKey, limit: usize) -> Result<Vec<Parts>, Error> {
        self.ask(|db| progress::lags(db, stream, limit))
    }

    /// A stream's declared losses that touch `[since_ms, until_ms)`, newest first, at most `limit`.
    pub fn losses(
        &self,
        stream: &StreamKey,
        (since_ms, until_ms): (i64, i64),
        limit: usize,
    ) -> Result<Vec<Loss>, Error> {
        self.ask(|db| read::losses_of(db, stream, (since_ms, until_ms), limit))
    }

    /// How many losses were declared for a stream since a time.
    pub fn losses_declared(&self, stream: &StreamKey, since_ms: i64) -> Result<u64, Error> {
        self.ask(|db| {
            db.query_row(
                "SELECT count(*) FROM loss JOIN stream ON stream.id = loss.stream
                 WHERE tenant = ?1 AND stream.stream = ?2 AND declared_ms >= ?3",
                (&stream.tenant, &stream.stream, since_ms),
                |row| read::count(row, 0),
            )
        })
    }

    /// A stream's splits in quarantine, oldest first, at most `limit`.
    pub fn quarantine(&self, stream: &StreamKey, limit: usize) -> Result<Vec<SplitRow>, Error> {
        let select = format!(
            "SELECT {ROW} FROM split JOIN stream ON stream.id = split.stream
             WHERE tenant = ?1 AND stream.stream = ?2 AND quarantined = 1
             ORDER BY created_ms, split.id LIMIT ?3"
        );
        let key = (&stream.tenant, &stream.stream, read::signed(limit));
        self.ask(|db| db.prepare(&select)?.query_map(key, split)?.collect())
    }

    /// A stream's splits whose content became available in `[since_ms, until_ms)`, by id.
    pub fn splits(
        &self,
        stream: &StreamKey,
        (since_ms, until_ms): (i64, i64),
    ) -> Result<HashMap<String, SplitRow>, Error> {
        let select = format!(
            "SELECT {ROW} FROM split JOIN stream ON stream.id = split.stream
             WHERE tenant = ?1 AND stream.stream = ?2 AND created_ms >= ?3 AND created_ms < ?4"
        );
        let key = (&stream.tenant, &stream.stream, since_ms, until_ms);
        self.ask(|db| {
            let mut select = db.prepare(&select)?;
            let rows = select.query_map(key, split)?;
            rows.map(|row| row.map(|row| (row.key.id.clone(), row)))
                .collect()
        })
    }

    /// A split by its id.
    pub fn split(&self, stream: &StreamKey, id: &str) -> Result<Option<SplitRow>, Error> {
        use rusqlite::OptionalExtension as _;
        let select = format!(
            "SELECT {ROW} FROM split JOIN stream ON stream.id = split.stream
             WHERE tenant = ?1 AND stream.stream = ?2 AND split.id = ?3"
        );
        let key = (&stream.tenant, &stream.stream, id);
        self.ask(|db| db.prepare_cached(&select)?.query_row(key, split).optional())
    }

    /// Whether a committed position stands under a name.
    pub fn has_position(&self, name: &str) -> Result<bool, Error> {
        self.ask(|db| Ok(read::position(db, name)?.is_some()))
    }

    /// For each day that is remembered: how many identities of delivered events there should be, and are.
    pub fn identity_counts(&self) -> Result<Vec<DayCount>, Error> {
        let counts = self.ask(identities::counts)?;
        let counted = |(day, remembered, found): (i64, i64, i64)| DayCount {
            start_ms: day.saturating_mul(DAY_MS),
            remembered,
            found,
        };
        Ok(counts.into_iter().map(counted).collect())
    }

    /// Which of these identities are remembered as delivered for the tenant; one answer for each.
    pub fn known(
        &self,
        tenant: &str,
        identities: &[Identity],
        fresh: &FreshKeys,
    ) -> Result<Vec<bool>, Error> {
        let mask = Mask::of(tenant);
        let keys: Vec<u128> = identities
            .iter()
            .map(|identity| mask.key(*identity))
            .collect();
        self.ask(|db| {
            let mut known: Vec<bool> = keys.iter().map(|key| fresh.0.contains(key)).collect();
            for day in identities::days(db)? {
                identities::mark(db, day, &keys, &mut known)?;
            }
            Ok(known)
        })
    }

    /// Identities that are not yet in the table of their day, for [`Self::known`].
    pub fn fresh_keys(&self) -> Result<FreshKeys, Error> {
        self.ask(identities::fresh_keys).map(FreshKeys)
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        question(&self.db).map_err(|error| place(failure(&error), &self.path))
    }
}

/// Identities that were committed a moment ago.
#[derive(Debug)]
pub struct FreshKeys(std::collections::HashSet<u128>);

fn split(row: &Row<'_>) -> rusqlite::Result<SplitRow> {
    let phase = row.get_ref(3)?.as_str()?;
    let quarantined: bool = row.get(4)?;
    Ok(SplitRow {
        key: SplitKey {
            stream: read::stream_key(row, 0)?,
            id: row.get(2)?,
        },
        standing: match phase {
            "delivered" => Standing::Delivered,
            "lost" => Standing::Lost,
            _ if quarantined => Standing::Quarantined,
            _ => Standing::Pending,
        },
        reading: phase == "reading",
        attempts: row.get(5)?,
        created_ms: row.get(6)?,
        expires_ms: row.get(7)?,
        next_try_ms: row.get(8)?,
        reason: row.get(9)?,
    })
}

/// Whether this program knows the tables; the inner error is about what is in the file.
pub(super) fn check(db: &Connection) -> rusqlite::Result<Result<(), Error>> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application != schema::APPLICATION {
        let what = "the file is not a ledger";
        let help = "is `state.path` the folder that the collector uses?";
        return Ok(Err(Error::config(what).help(help)));
    }
    if version == schema::VERSION {
        return Ok(Ok(()));
    }
    let what = format!(
        "the ledger's tables have version {version}, this sluicegate knows {}",
        schema::VERSION
    );
    let help = "use the version that runs the collector; starting the collector brings an older \
                ledger up to date";
    Ok(Err(Error::config(what).help(help)))
}

/// The error for a folder in which no pipeline has run.
pub(super) fn missing(directory: &Path) -> Error {
    Error::unavailable("there is no ledger: the pipeline has not run with this state folder")
        .at(format!("`{}`", directory.display()))
        .help(
            "run the command in the collector's working directory and environment, or set \
             `state.path` to an absolute path",
        )
}

/// Hexadecimal digits.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn immutable(path: &Path, flags: OpenFlags) -> rusqlite::Result<(Connection, Result<(), Error>)> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        // What has a meaning in a URI is written as its number.
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => {
                uri.push('%');
                uri.extend(
                    [byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)])),
                );
            }
        }
    }
    uri.push_str("?immutable=1");
    let db = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
    let checked = check(&db)?;
    Ok((db, checked))
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

pub(super) fn place(error: Error, path: &Path) -> Error {
    error.at(format!("ledger `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::sqlite::SqliteLedger;
    use crate::ledger::{Commit, Found, Ledger as _, Split};

    const HORIZON: Duration = Duration::from_hours(48);

    fn stream() -> StreamKey {
        StreamKey::new("contoso", "Audit.Exchange")
    }

    fn identities(count: u32) -> Vec<Identity> {
        let identity = |number: u32| Identity::of("contoso", &number.to_string(), 7);
        (0..count).map(identity).collect()
    }

    async fn remember(ledger: &SqliteLedger, count: u32, now_ms: i64) {
        let commit = Commit {
            identities: vec![(stream(), identities(count))],
            ..Commit::default()
        };
        ledger.commit(commit, now_ms).await.unwrap();
    }

    fn counts(folder: &Path) -> Vec<(i64, i64, i64)> {
        let counts = LedgerView::open(folder).unwrap().identity_counts().unwrap();
        let of = |count: DayCount| (count.start_ms / DAY_MS, count.remembered, count.found);
        counts.into_iter().map(of).collect()
    }

    #[tokio::test]
    async fn looks_on_while_the_collector_writes_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(
            LedgerView::open(folder).unwrap_err().kind,
            crate::error::Kind::Unavailable
        );
        let ledger = SqliteLedger::open(folder, HORIZON).unwrap();
        let view = LedgerView::open(folder).unwrap();
        view.hold().unwrap();
        let split = Split {
            id: "a".into(),
            payload: Vec::new(),
            created_ms: 5,
            expires_ms: Some(9),
            weight: 1,
        };
        let found = Found {
            splits: vec![split],
            ..Found::default()
        };
        ledger.discovered(&stream(), found, 7).await.unwrap();
        assert!(view.streams().unwrap().is_empty(), "it sees one moment");
        view.release().unwrap();
        assert_eq!(view.streams().unwrap(), [stream()]);
        let rows = view.splits(&stream(), (0, 6)).unwrap();
        assert_eq!(rows["a"].standing, Standing::Pending);
        assert!(view.splits(&stream(), (6, 9)).unwrap().is_empty());
        assert!(view.split(&stream(), "b").unwrap().is_none());
        assert!(view.ask(|db| db.execute("DELETE FROM split", [])).is_err());
        drop(view);
        drop(ledger);
        // A clean stop leaves no log, and a look at it neither.
        let view = LedgerView::open(folder).unwrap();
        assert_eq!(view.streams().unwrap(), [stream()]);
        drop(view);
        let ledger = SqliteLedger::open(folder, HORIZON).unwrap();
        assert_eq!(ledger.recovered_from(), None);
    }

    #[tokio::test]
    async fn rows_of_identities_that_are_gone_are_missed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let ledger = SqliteLedger::open(folder, HORIZON).unwrap();
        remember(&ledger, 100, 0).await;
        // Remembered twice counts once: the second day moves the first one's to their table.
        remember(&ledger, 40, 0).await;
        remember(&ledger, 30, DAY_MS).await;
        assert_eq!(counts(folder), [(0, 100, 100), (1, 30, 30)]);
        let view = LedgerView::open(folder).unwrap();
        let fresh = view.fresh_keys().unwrap();
        let known = view.known("contoso", &identities(101), &fresh).unwrap();
        assert_eq!(known.iter().filter(|known| **known).count(), 100);
        let other = view.known("fabrikam", &identities(101), &fresh).unwrap();
        assert!(!other.contains(&true));
        let by_hand = Connection::open(folder.join(DATABASE)).unwrap();
        let gone =
            "DELETE FROM identity_day_0 WHERE key IN (SELECT key FROM identity_day_0 LIMIT 3)";
        by_hand.execute(gone, []).unwrap();
        by_hand.execute("DELETE FROM identity_fresh", []).unwrap();
        assert_eq!(counts(folder), [(0, 100, 97), (1, 30, 0)]);
        ledger.prune(4 * DAY_MS).await.unwrap();
        assert_eq!(counts(folder), []);
    }

    #[tokio::test]
    async fn a_ledger_of_the_first_version_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let ledger = SqliteLedger::open(folder, HORIZON).unwrap();
        remember(&ledger, 50, 0).await;
        remember(&ledger, 7, DAY_MS).await;
        drop(ledger);
        let first = "DROP TABLE identity_count;
            ALTER TABLE stream DROP COLUMN listed_ms;
            ALTER TABLE stream DROP COLUMN trouble_kind;
            ALTER TABLE stream DROP COLUMN trouble;
            ALTER TABLE stream DROP COLUMN trouble_since_ms;
            ALTER TABLE stream DROP COLUMN next_ms;
            ALTER TABLE stream DROP COLUMN advanced_ms;
            ALTER TABLE stream DROP COLUMN oldest_moved_ms;
            ALTER TABLE stream DROP COLUMN expiring_moved_ms;
            DROP INDEX split_pending;
            DROP INDEX split_expiring;
            ALTER TABLE split DROP COLUMN discovered_ms;
            ALTER TABLE split DROP COLUMN event_ms;
            PRAGMA user_version = 1;";
        let by_hand = Connection::open(folder.join(DATABASE)).unwrap();
        by_hand.execute_batch(first).unwrap();
        drop(by_hand);
        let error = LedgerView::open(folder).unwrap_err();
        assert!(error.help.contains("starting the collector"), "{error}");
        let ledger = SqliteLedger::open(folder, HORIZON).unwrap();
        assert_eq!(ledger.recovered_from(), None);
        assert_eq!(counts(folder), [(0, 50, 50), (1, 7, 7)]);
        let known = ledger.known("contoso", &identities(50)).await.unwrap();
        assert!(known.iter().all(|known| *known));
    }
}
