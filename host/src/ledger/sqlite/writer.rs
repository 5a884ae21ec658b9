//! The one writer: what waits is committed together, and answered after the commit.
//!
//! A disk syncs some hundred times a second; a pipeline asks more often. So all that waits becomes one
//! transaction, each request in a savepoint of its own, so that one that fails spoils no other.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::home::Home;
use super::identities::{self, Change, FRESH_LIMIT, Memory};
use crate::error::Error;
use crate::event::StreamKey;

/// Requests that may wait: each caller waits for its answer, so this bounds concurrent callers only.
pub(super) const QUEUE: usize = 256;

/// Most requests in one transaction, so that the first does not wait for ever.
const GROUP: usize = 256;

/// Does the work, or learns why it cannot be done; the answer is given after the commit.
type Run = Box<dyn FnOnce(Result<&mut Store, &Error>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A request: given the store, or why there is none.
pub(super) struct Job {
    /// Whether its effect must survive a power cut.
    durable: bool,
    run: Run,
}

impl Job {
    /// A request that does `work`, and where its answer will come from.
    pub(super) fn new<T: Send + 'static>(
        durable: bool,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Error>>) {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move |store: Result<&mut Store, &Error>| -> Answer {
            let result = match store {
                Ok(store) => store.savepoint(work),
                Err(error) => Err(error.clone()),
            };
            // A caller that went away needs no answer.
            Box::new(move |committed: Result<(), Error>| {
                drop(reply.send(committed.and(result)));
            })
        });
        (Self { durable, run }, answer)
    }
}

/// The writing connection, and what is remembered with it.
pub(super) struct Store {
    pub(super) db: Connection,
    home: Arc<Home>,
    memory: Arc<Memory>,
    /// Ids of streams; forgotten whenever something is rolled back.
    streams: HashMap<StreamKey, i64>,
    /// Streams of which the oldest split is served next, and not the newest.
    pub(super) oldest_next: HashMap<i64, bool>,
    /// What this transaction did to identities.
    changes: Vec<Change>,
    /// The day of what is in `identity_fresh`.
    fresh_day: Option<i64>,
    full_sync: bool,
    /// Why the database gave this transaction up; nothing more may run in it.
    given_up: Option<Error>,
}

impl Store {
    pub(super) fn new(
        db: Connection,
        home: Arc<Home>,
        memory: Arc<Memory>,
    ) -> rusqlite::Result<Self> {
        db.set_prepared_statement_cache_capacity(64);
        let fresh_day = identities::fresh_day(&db)?;
        Ok(Self {
            db,
            home,
            memory,
            streams: HashMap::new(),
            oldest_next: HashMap::new(),
            changes: Vec::new(),
            fresh_day,
            full_sync: true,
            given_up: None,
        })
    }

    /// Serves requests until the last sender is gone.
    pub(super) fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                match jobs.try_recv() {
                    Ok(job) => group.push(job),
                    Err(_) => break,
                }
            }
            self.commit(group);
        }
    }

    /// The id of a stream that is known.
    pub(super) fn find_stream(&mut self, key: &StreamKey) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.streams.get(key) {
            return Ok(Some(*id));
        }
        let id = find_stream(&self.db, key)?;
        if let Some(id) = id {
            self.streams.insert(key.clone(), id);
        }
        Ok(id)
    }

    /// The id of a stream, made when it is new.
    pub(super) fn stream(&mut self, key: &StreamKey) -> rusqlite::Result<i64> {
        if let Some(id) = self.find_stream(key)? {
            return Ok(id);
        }
        self.db
            .prepare_cached("INSERT INTO stream (tenant, stream) VALUES (?1, ?2)")?
            .execute([&key.tenant, &key.stream])?;
        let id = self.db.last_insert_rowid();
        self.streams.insert(key.clone(), id);
        Ok(id)
    }

    /// Remembers identities of a day.
    pub(super) fn remember(&mut self, day: i64, keys: Vec<u128>) -> rusqlite::Result<()> {
        if self.fresh_day.is_some_and(|fresh_day| fresh_day != day) {
            self.move_fresh()?;
        }
        identities::append(&self.db, day, &keys)?;
        self.fresh_day = Some(day);
        self.changes.push(Change::Fresh(keys));
        Ok(())
    }

    /// Forgets the identities of days that are over.
    pub(super) fn forget_days(&mut self, over: impl Fn(i64) -> bool) -> rusqlite::Result<()> {
        if self.fresh_day.is_some_and(&over) {
            self.move_fresh()?;
        }
        let mut days = identities::days(&self.db)?;
        days.extend(identities::counted_days(&self.db)?);
        days.sort_unstable();
        days.dedup();
        for day in days.into_iter().filter(|day| over(*day)) {
            identities::drop_day(&self.db, day)?;
            self.changes.push(Change::Dropped(day));
        }
        Ok(())
    }

    fn move_fresh(&mut self) -> rusqlite::Result<()> {
        let moved = identities::move_fresh(&self.db)?;
        self.changes.push(Change::Moved(moved));
        self.fresh_day = None;
        Ok(())
    }

    fn commit(&mut self, group: Vec<Job>) {
        let durable = group.iter().any(|job| job.durable);
        if let Err(error) = self.begin(durable) {
            for job in group {
                (job.run)(Err(&error))(Err(error.clone()));
            }
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            answers.push(match self.given_up.clone() {
                Some(error) => (job.run)(Err(&error)),
                None => (job.run)(Ok(&mut *self)),
            });
        }
        let committed = self.end(durable);
        for answer in answers {
            answer(committed.clone());
        }
    }

    fn begin(&mut self, durable: bool) -> Result<(), Error> {
        let mut begin = || {
            if self.full_sync != durable {
                let level = if durable { "FULL" } else { "NORMAL" };
                self.db
                    .execute_batch(&format!("PRAGMA synchronous = {level}"))?;
                self.full_sync = durable;
            }
            self.db.execute_batch("BEGIN IMMEDIATE")
        };
        begin().map_err(|error| self.home.failed(&error))
    }

    fn end(&mut self, durable: bool) -> Result<(), Error> {
        self.move_fresh_when_grown();
        let changes = std::mem::take(&mut self.changes);
        if let Some(error) = self.given_up.take() {
            return Err(error);
        }
        let sequence = if durable { self.count() } else { Ok(None) };
        let committed =
            sequence.and_then(|sequence| self.db.execute_batch("COMMIT").map(|()| sequence));
        match committed {
            Ok(sequence) => self.home.note(sequence),
            Err(error) => {
                drop(self.db.execute_batch("ROLLBACK"));
                self.rolled_back();
                return Err(self.home.failed(&error));
            }
        }
        // The commit stands. Only a filter that was to grow can fail here, and the old one stays true.
        if let Err(error) = self.memory.apply(&self.db, changes) {
            let error = self.home.failed(&error);
            tracing::warn!(%error, "the memory of identities could not grow");
        }
        Ok(())
    }

    /// Counts durable transactions, so that an older copy put back is noticed.
    fn count(&self) -> rusqlite::Result<Option<i64>> {
        self.db
            .prepare_cached("UPDATE sequence SET value = value + 1 RETURNING value")?
            .query_row([], |row| row.get(0))
            .map(Some)
    }

    fn move_fresh_when_grown(&mut self) {
        let fresh = |change: &Change| {
            if let Change::Fresh(keys) = change {
                keys.len()
            } else {
                0
            }
        };
        let fresh: usize = self.changes.iter().map(fresh).sum();
        if fresh == 0 || fresh + self.memory.fresh() < FRESH_LIMIT || self.given_up.is_some() {
            return;
        }
        if let Err(error) = self.savepoint(Self::move_fresh) {
            tracing::warn!(%error, "identities could not be moved to their day; trying again later");
        }
    }

    fn savepoint<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let before = self.changes.len();
        let result = self
            .db
            .execute_batch("SAVEPOINT request")
            .and_then(|()| work(self))
            .and_then(|value| self.db.execute_batch("RELEASE request").map(|()| value));
        result.map_err(|error| {
            drop(
                self.db
                    .execute_batch("ROLLBACK TO request; RELEASE request"),
            );
            self.changes.truncate(before);
            self.rolled_back();
            let error = self.home.failed(&error);
            if self.db.is_autocommit() {
                // A full or broken disk makes the database undo the whole transaction.
                self.given_up = Some(error.clone());
            }
            error
        })
    }

    /// What was remembered of things that did not happen is looked up again.
    fn rolled_back(&mut self) {
        self.streams.clear();
        if let Ok(day) = identities::fresh_day(&self.db) {
            self.fresh_day = day;
        }
    }
}

/// The id of a stream that is known.
pub(super) fn find_stream(db: &Connection, key: &StreamKey) -> rusqlite::Result<Option<i64>> {
    let mut select =
        db.prepare_cached("SELECT id FROM stream WHERE tenant = ?1 AND stream = ?2")?;
    let mut rows = select.query([&key.tenant, &key.stream])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}
