//! The ledger on `SQLite`: one file, one writer, readable with `sqlite3`.
//!
//! Every answer to a writing call comes after a durable commit; calls that wait at the same time share one. Calls that
//! read see the last commit. One process at a time holds the directory. A damaged database is set aside and
//! reported, never deleted: it costs duplicates, no event.

pub mod by_hand;
mod filter;
mod home;
mod identities;
mod progress;
mod read;
mod schema;
pub mod view;
mod write;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::progress::{Backlog, Progress};
use super::{Commit, Found, Ledger, Loss, Setback, SplitKey, StreamStatus, Taken, Trouble};
use crate::clock::millis;
use crate::error::Error;
use crate::event::{Identity, StreamKey};
use home::Home;
use identities::{Mask, Memory};
use writer::{Job, QUEUE, Store};

/// A ledger in a directory.
pub struct SqliteLedger {
    home: Arc<Home>,
    memory: Arc<Memory>,
    horizon_ms: i64,
    recovered_from: Option<String>,
    /// `None` only while the ledger is being dropped.
    writer: Option<mpsc::Sender<Job>>,
    /// Looks identities up; apart from the other, so that no report delays the line.
    lookups: Option<Reader>,
    reports: Option<Reader>,
    /// The writer's is the first.
    threads: Vec<JoinHandle<()>>,
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;
type Reader = mpsc::Sender<ReadJob>;

impl SqliteLedger {
    /// Opens the ledger in `directory`, which is made when it is missing, and holds it until this is dropped.
    /// Identities are remembered for `horizon`.
    pub fn open(directory: &Path, horizon: Duration) -> Result<Self, Error> {
        let home = Arc::new(Home::claim(directory)?);
        let (db, recovered_from) = home.open()?;
        let opened = write::release_all(&db)
            .and_then(|()| Memory::load(&db))
            .map(Arc::new);
        let memory = opened.map_err(|error| home.failed(&error))?;
        let mut ledger = Self {
            horizon_ms: millis(horizon),
            recovered_from,
            writer: None,
            lookups: None,
            reports: None,
            threads: Vec::new(),
            memory,
            home,
        };
        ledger.start(db)?;
        Ok(ledger)
    }

    /// What was wrong with the database that was found, when a fresh one had to be started: the caller says so
    /// loudly (`state_rewound`), since events may be delivered again.
    pub fn recovered_from(&self) -> Option<String> {
        self.recovered_from.clone()
    }

    fn start(&mut self, db: Connection) -> Result<(), Error> {
        let (sender, jobs) = mpsc::channel(QUEUE);
        let store = Store::new(db, Arc::clone(&self.home), Arc::clone(&self.memory))
            .map_err(|error| self.home.failed(&error))?;
        self.writer = Some(sender);
        self.spawn("ledger-writer", move || store.serve(jobs))?;
        self.lookups = Some(self.reader("ledger-lookups")?);
        self.reports = Some(self.reader("ledger-reports")?);
        let (db, memory) = (self.home.open_reader()?, Arc::clone(&self.memory));
        self.spawn("ledger-filters", move || {
            if let Err(error) = memory.build(&db) {
                // Without its filter a day is looked up in the database: slower, and as true.
                tracing::warn!(%error, "identities of earlier days could not be read into memory");
            }
        })
    }

    fn reader(&mut self, name: &str) -> Result<Reader, Error> {
        let (sender, mut jobs) = mpsc::channel::<ReadJob>(QUEUE);
        let db = self.home.open_reader()?;
        self.spawn(name, move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&db);
            }
        })?;
        Ok(sender)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        let thread = thread.map_err(|error| {
            Error::unavailable(format!("cannot start a thread for the ledger: {error}"))
                .help("raise the limit of threads or processes for this user")
        })?;
        self.threads.push(thread);
        Ok(())
    }

    async fn write<T: Send + 'static>(
        &self,
        durable: bool,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (job, answer) = Job::new(durable, work);
        let sent = match &self.writer {
            Some(writer) => writer.send(job).await.is_ok(),
            None => false,
        };
        if sent {
            answer.await.unwrap_or_else(|_| Err(self.stopped()))
        } else {
            Err(self.stopped())
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        reader: Option<&Reader>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let home = Arc::clone(&self.home);
        let job: ReadJob = Box::new(move |db| {
            drop(reply.send(work(db).map_err(|error| home.failed(&error))));
        });
        let sent = match reader {
            Some(reader) => reader.send(job).await.is_ok(),
            None => false,
        };
        if sent {
            answer.await.unwrap_or_else(|_| Err(self.stopped()))
        } else {
            Err(self.stopped())
        }
    }

    fn stopped(&self) -> Error {
        Error::internal("the ledger's thread has ended").at(self.home.place())
    }
}

impl Drop for SqliteLedger {
    /// Ends the threads before the lock is given back; the writer last, since the last connection that
    /// is closed, alone, folds the log into the database: that is a clean stop.
    fn drop(&mut self) {
        self.memory.close();
        drop((self.lookups.take(), self.reports.take()));
        let writer = if self.threads.is_empty() {
            None
        } else {
            Some(self.threads.remove(0))
        };
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            drop(thread.join());
        }
        drop(self.writer.take());
        drop(writer.map(JoinHandle::join));
    }
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteLedger")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn state(&self, stream: &StreamKey) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let stream = stream.clone();
        self.read(self.reports.as_ref(), move |db| read::state(db, &stream))
            .await
    }

    async fn discovered(
        &self,
        stream: &StreamKey,
        found: Found,
        now_ms: i64,
    ) -> Result<u64, Error> {
        let stream = stream.clone();
        self.write(true, move |store| {
            write::discovered(store, &stream, found, now_ms)
        })
        .await
    }

    async fn troubled(&self, stream: &StreamKey, trouble: Trouble) -> Result<(), Error> {
        let stream = stream.clone();
        // Not durable: it is said again as long as it holds.
        self.write(false, move |store| {
            write::troubled(store, &stream, &trouble)
        })
        .await
    }

    async fn take(
        &self,
        stream: &StreamKey,
        limit: usize,
        urgent_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Taken>, Error> {
        let stream = stream.clone();
        // Not durable: a restart takes everything back anyway.
        self.write(false, move |store| {
            write::take(store, &stream, limit, urgent_ms, now_ms)
        })
        .await
    }

    async fn setback(&self, split: &SplitKey, setback: Setback, now_ms: i64) -> Result<(), Error> {
        let split = split.clone();
        self.write(true, move |store| {
            write::setback(store, &split, setback, now_ms)
        })
        .await
    }

    async fn known(&self, tenant: &str, identities: &[Identity]) -> Result<Vec<bool>, Error> {
        let (mut known, candidates) = self.memory.look(Mask::of(tenant), identities);
        if !candidates.is_empty() {
            let look_up = move |db: &Connection| identities::find(db, &candidates);
            for index in self.read(self.lookups.as_ref(), look_up).await? {
                known[index] = true;
            }
        }
        Ok(known)
    }

    async fn commit(&self, commit: Commit, now_ms: i64) -> Result<(), Error> {
        self.write(true, move |store| write::commit(store, &commit, now_ms))
            .await
    }

    async fn position(&self, name: &str) -> Result<Option<u64>, Error> {
        let name = name.to_owned();
        self.read(self.reports.as_ref(), move |db| read::position(db, &name))
            .await
    }

    async fn status(&self, stream: &StreamKey) -> Result<StreamStatus, Error> {
        let stream = stream.clone();
        self.read(self.reports.as_ref(), move |db| read::status(db, &stream))
            .await
    }

    async fn progress(&self) -> Result<Vec<(StreamKey, Progress)>, Error> {
        self.read(self.reports.as_ref(), progress::progress).await
    }

    async fn backlog(&self) -> Result<Vec<(StreamKey, Backlog)>, Error> {
        self.read(self.reports.as_ref(), progress::backlog).await
    }

    async fn streams(&self) -> Result<Vec<StreamKey>, Error> {
        self.read(self.reports.as_ref(), read::streams).await
    }

    async fn losses(&self, limit: usize) -> Result<Vec<Loss>, Error> {
        self.read(self.reports.as_ref(), move |db| read::losses(db, limit))
            .await
    }

    async fn quarantine(&self, limit: usize) -> Result<Vec<(SplitKey, Taken, String)>, Error> {
        self.read(self.reports.as_ref(), move |db| read::quarantine(db, limit))
            .await
    }

    async fn touched(&self) -> Result<i64, Error> {
        // Only the writer's connection tells its own changes from those of others.
        self.write(false, |store| {
            store
                .db
                .pragma_query_value(None, "data_version", |row| row.get(0))
        })
        .await
    }

    async fn prune(&self, now_ms: i64) -> Result<(), Error> {
        let horizon_ms = self.horizon_ms;
        self.write(true, move |store| {
            write::prune_identities(store, horizon_ms, now_ms)
        })
        .await?;
        while self
            .write(true, move |store| {
                write::prune_splits(store, horizon_ms, now_ms)
            })
            .await?
        {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
