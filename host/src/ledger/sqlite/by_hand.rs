//! What an operator changes by hand, beside a running collector or without one.
//!
//! A second writer: `SQLite` lets one in at a time, each for milliseconds. Only splits that wait in quarantine are
//! touched, and those live in the database alone; one that is being read belongs to whoever reads it.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::home::{DATABASE, failure};
use super::view::{check, missing, place};
use super::{read, schema, write};
use crate::error::Error;
use crate::event::StreamKey;
use crate::ledger::{Loss, SplitKey};

/// A writing connection that holds no lock between two calls.
#[derive(Debug)]
pub struct ByHand {
    db: Connection,
    path: PathBuf,
}

/// Which splits in quarantine are meant; what is not named does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this stream.
    pub stream: Option<String>,
    /// This one.
    pub split: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// Changed.
    pub done: Vec<SplitKey>,
    /// Left alone: being read right now.
    pub reading: Vec<SplitKey>,
}

/// A split that is meant.
struct Meant {
    seq: i64,
    stream: i64,
    key: SplitKey,
    created_ms: i64,
    reading: bool,
}

impl ByHand {
    /// Opens the ledger in `directory`, which must be there.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(DATABASE);
        if !path.exists() {
            return Err(missing(directory));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags).and_then(|db| {
            // A log that a crash has left behind is the collector's to look at.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            db.execute_batch(schema::BY_HAND)?;
            check(&db).map(|checked| (db, checked))
        });
        let (db, checked) = opened.map_err(|error| place(failure(&error), &path))?;
        checked.map_err(|error| place(error, &path))?;
        Ok(Self { db, path })
    }

    /// Makes splits in quarantine due now.
    pub fn retry(&mut self, which: &Which, now_ms: i64) -> Result<Handled, Error> {
        self.handle(which, |db, meant| {
            db.prepare_cached("UPDATE split SET not_before_ms = ?2 WHERE seq = ?1")?
                .execute((meant.seq, now_ms))?;
            Ok(())
        })
    }

    /// Gives splits in quarantine up: declared as lost, for this reason.
    pub fn forget(&mut self, which: &Which, reason: &str, now_ms: i64) -> Result<Handled, Error> {
        self.handle(which, |db, meant| {
            db.prepare_cached(
                "UPDATE split SET phase = 'lost', quarantined = 0, settled_ms = ?2, reason = ?3,
                 payload = x'' WHERE seq = ?1",
            )?
            .execute((meant.seq, now_ms, reason))?;
            let loss = Loss {
                stream: meant.key.stream.clone(),
                split: Some(meant.key.id.clone()),
                since_ms: meant.created_ms,
                until_ms: meant.created_ms,
                reason: reason.to_owned(),
                declared_ms: now_ms,
            };
            write::declare(db, meant.stream, &loss)
        })
    }

    /// Changes all that are meant in one transaction.
    fn handle(
        &mut self,
        which: &Which,
        change: impl Fn(&Connection, &Meant) -> rusqlite::Result<()>,
    ) -> Result<Handled, Error> {
        let mut handle = || {
            let behavior = TransactionBehavior::Immediate;
            let transaction = self.db.transaction_with_behavior(behavior)?;
            let mut handled = Handled::default();
            for meant in meant(&transaction, which)? {
                if meant.reading {
                    handled.reading.push(meant.key);
                } else {
                    change(&transaction, &meant)?;
                    handled.done.push(meant.key);
                }
            }
            transaction.commit()?;
            Ok(handled)
        };
        handle().map_err(|error| place(failure(&error), &self.path))
    }
}

fn meant(db: &Connection, which: &Which) -> rusqlite::Result<Vec<Meant>> {
    let mut select = db.prepare(
        "SELECT tenant, stream.stream, split.id, seq, split.stream, created_ms, phase FROM split
         JOIN stream ON stream.id = split.stream WHERE quarantined = 1
         AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR stream.stream = ?2)
         AND (?3 IS NULL OR split.id = ?3) ORDER BY tenant, stream.stream, created_ms, split.id",
    )?;
    let rows = select.query_map((&which.tenant, &which.stream, &which.split), |row| {
        let stream: StreamKey = read::stream_key(row, 0)?;
        Ok(Meant {
            key: SplitKey {
                stream,
                id: row.get(2)?,
            },
            seq: row.get(3)?,
            stream: row.get(4)?,
            created_ms: row.get(5)?,
            reading: row.get_ref(6)?.as_str()? == "reading",
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::sqlite::SqliteLedger;
    use crate::ledger::{Found, Ledger as _, Setback, Split};

    fn key(id: &str) -> SplitKey {
        SplitKey {
            stream: StreamKey::new("contoso", "Audit.Exchange"),
            id: id.into(),
        }
    }

    /// A ledger with three splits in quarantine, of which the last is being read.
    async fn quarantine(folder: &Path) -> SqliteLedger {
        let ledger = SqliteLedger::open(folder, Duration::from_hours(48)).unwrap();
        let split = |id: &str| Split {
            id: id.into(),
            payload: vec![1],
            created_ms: 10,
            expires_ms: Some(1_000),
            weight: 1,
        };
        let found = Found {
            splits: vec![split("a"), split("b"), split("c")],
            ..Found::default()
        };
        let stream = key("a").stream;
        ledger.discovered(&stream, found, 0).await.unwrap();
        assert_eq!(ledger.take(&stream, 9, 0, 0).await.unwrap().len(), 3);
        for (id, not_before_ms) in [("a", 500), ("b", 500), ("c", 1)] {
            let setback = Setback::Quarantine {
                not_before_ms,
                reason: "broken".into(),
            };
            ledger.setback(&key(id), setback, 0).await.unwrap();
        }
        assert_eq!(ledger.take(&stream, 9, 0, 2).await.unwrap().len(), 1);
        ledger
    }

    fn which(split: &str) -> Which {
        Which {
            split: Some(split.into()),
            ..Which::default()
        }
    }

    #[tokio::test]
    async fn a_retry_makes_due_and_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = quarantine(folder.path()).await;
        let stream = key("a").stream;
        let before = ledger.touched().await.unwrap();
        ledger.prune(0).await.unwrap();
        assert_eq!(
            ledger.touched().await.unwrap(),
            before,
            "its own changes are none"
        );
        let mut hand = ByHand::open(folder.path()).unwrap();
        let handled = hand.retry(&which("a"), 20).unwrap();
        assert_eq!(
            (&*handled.done, &*handled.reading),
            (&[key("a")][..], &[][..])
        );
        assert_ne!(ledger.touched().await.unwrap(), before);
        let taken = ledger.take(&stream, 9, 0, 20).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!((&*taken[0].split.id, taken[0].quarantined), ("a", true));
        let other = Which {
            tenant: Some("fabrikam".into()),
            ..Which::default()
        };
        assert_eq!(hand.retry(&other, 20).unwrap(), Handled::default());
    }

    #[tokio::test]
    async fn what_is_forgotten_is_lost_unless_it_is_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = quarantine(folder.path()).await;
        let stream = key("a").stream;
        let mut hand = ByHand::open(folder.path()).unwrap();
        let handled = hand
            .forget(&Which::default(), "nobody needs it", 30)
            .unwrap();
        assert_eq!(handled.done, [key("a"), key("b")]);
        assert_eq!(handled.reading, [key("c")]);
        let losses = ledger.losses(9).await.unwrap();
        assert_eq!(losses.len(), 2);
        assert_eq!(
            (&*losses[0].reason, losses[0].declared_ms),
            ("nobody needs it", 30)
        );
        // The one that was being read is still the reader's to settle.
        let setback = Setback::Quarantine {
            not_before_ms: 600,
            reason: "broken".into(),
        };
        ledger.setback(&key("c"), setback, 31).await.unwrap();
        assert_eq!(ledger.status(&stream).await.unwrap().quarantined, 1);
        assert!(ledger.take(&stream, 9, 0, 500).await.unwrap().is_empty());
    }

    #[test]
    fn without_a_ledger_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let error = ByHand::open(folder.path()).unwrap_err();
        assert!(error.what.contains("has not run"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
