//! Which events were delivered: 16 bytes each, for the horizon, on disk; and a memory that spares most look-ups.
//!
//! A commit appends its identities to `identity_fresh` as they come and keeps them in a set in memory. When
//! the set has grown, or the day is over, they move, sorted, to the table of their day: random keys
//! written one commit at a time would touch every page of that table. A filter per day answers for
//! identities never seen, which is the normal case, without the database.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension as _};
use sha2::{Digest as _, Sha256};

use super::filter::Filter;
use crate::event::Identity;

/// So many identities are kept in memory before they move to their day's table: 2 MB of memory, and a
/// move of some 50 ms.
pub(super) const FRESH_LIMIT: usize = 65_536;

/// Rows between two looks at whether the ledger is being closed.
const ROWS_PER_LOOK: usize = 4096;

const KEY_BYTES: usize = 16;

/// A tenant's own share of the space of identities, so that no tenant can name another's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask(u128);

impl Mask {
    pub(super) fn of(tenant: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(tenant).into();
        let mut half = [0; KEY_BYTES];
        half.copy_from_slice(&digest[..KEY_BYTES]);
        Self(u128::from_be_bytes(half))
    }

    pub(super) fn key(self, identity: Identity) -> u128 {
        u128::from_be_bytes(identity.0) ^ self.0
    }
}

/// What a transaction did to identities; told to the memory after the commit.
#[derive(Debug)]
pub(super) enum Change {
    /// Appended to `identity_fresh`.
    Fresh(Vec<u128>),
    /// Everything fresh was moved to the tables of its days.
    Moved(BTreeMap<i64, Vec<u128>>),
    /// The table of a day was dropped.
    Dropped(i64),
}

/// An identity that may be known, and the days to look at.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Index in the question.
    index: usize,
    key: u128,
    days: Vec<i64>,
}

/// The part in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    inner: RwLock<Inner>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    fresh: HashSet<u128>,
    days: BTreeMap<i64, Day>,
}

#[derive(Debug)]
enum Day {
    /// Not built yet: every identity may be in it. Keeps what moves there meanwhile.
    Building(Vec<u128>),
    Ready(Filter),
}

impl Memory {
    /// What the database holds: fresh identities are loaded, the days' filters are not built yet.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut inner = Inner::default();
        for keys in fresh(db)?.into_values() {
            inner.fresh.extend(keys);
        }
        inner.days = days(db)?
            .into_iter()
            .map(|day| (day, Day::Building(Vec::new())))
            .collect();
        Ok(Self {
            inner: RwLock::new(inner),
            closing: AtomicBool::new(false),
        })
    }

    /// Builds the filters of the days found at the start; newest first, since they are asked most.
    pub(super) fn build(&self, db: &Connection) -> rusqlite::Result<()> {
        for day in days(db)?.into_iter().rev() {
            let Some(mut filter) = self.scan(db, day)? else {
                return Ok(());
            };
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(state @ Day::Building(_)) = inner.days.get_mut(&day) {
                if let Day::Building(moved) = state {
                    for &key in moved.iter() {
                        filter.add(key);
                    }
                }
                *state = Day::Ready(filter);
            }
        }
        Ok(())
    }

    /// Has `build` end early.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Answers what can be answered, and says what has to be looked up.
    pub(super) fn look(&self, mask: Mask, identities: &[Identity]) -> (Vec<bool>, Vec<Candidate>) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut candidates = Vec::new();
        let mut known = Vec::with_capacity(identities.len());
        for (index, &identity) in identities.iter().enumerate() {
            let key = mask.key(identity);
            let is_fresh = inner.fresh.contains(&key);
            known.push(is_fresh);
            if is_fresh {
                continue;
            }
            let days: Vec<i64> = inner
                .days
                .iter()
                .filter(|(_, day)| match day {
                    Day::Building(_) => true,
                    Day::Ready(filter) => filter.may_hold(key),
                })
                .map(|(day, _)| *day)
                .collect();
            if !days.is_empty() {
                candidates.push(Candidate { index, key, days });
            }
        }
        (known, candidates)
    }

    /// Takes over what a transaction did, after its commit.
    pub(super) fn apply(&self, db: &Connection, changes: Vec<Change>) -> rusqlite::Result<()> {
        let mut grown = Vec::new();
        {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                match change {
                    Change::Fresh(keys) => inner.fresh.extend(keys),
                    Change::Dropped(day) => drop(inner.days.remove(&day)),
                    Change::Moved(days) => {
                        inner.fresh.clear();
                        for (day, keys) in days {
                            grown.extend(inner.moved(day, keys));
                        }
                    }
                }
            }
        }
        for (day, capacity) in grown {
            self.rebuild(db, day, capacity)?;
        }
        Ok(())
    }

    /// How many identities are in memory only for look-ups.
    pub(super) fn fresh(&self) -> usize {
        self.inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .fresh
            .len()
    }

    /// A full filter still says "never seen" truthfully, so the new one is built without holding anyone up.
    fn rebuild(&self, db: &Connection, day: i64, capacity: usize) -> rusqlite::Result<()> {
        let mut filter = Filter::for_keys(capacity);
        for_each_key(db, day, |key| {
            filter.add(key);
            true
        })?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = inner.days.get_mut(&day) {
            *state = Day::Ready(filter);
        }
        Ok(())
    }

    /// `None` when the ledger is being closed.
    fn scan(&self, db: &Connection, day: i64) -> rusqlite::Result<Option<Filter>> {
        let Some(table) = table(db, day)? else {
            return Ok(Some(Filter::for_keys(0)));
        };
        let rows: i64 = db.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| {
            row.get(0)
        })?;
        // Room for the rest of a day that has begun.
        let mut filter = Filter::for_keys(usize::try_from(rows).unwrap_or(0) * 5 / 4);
        let mut rows = 0_usize;
        let whole = for_each_key(db, day, |key| {
            filter.add(key);
            rows += 1;
            !rows.is_multiple_of(ROWS_PER_LOOK) || !self.closing.load(Ordering::Relaxed)
        })?;
        Ok(whole.then_some(filter))
    }
}

impl Inner {
    /// Adds identities to a day's filter; says which filter has become too small, and its next size.
    fn moved(&mut self, day: i64, keys: Vec<u128>) -> Option<(i64, usize)> {
        let state = self
            .days
            .entry(day)
            .or_insert_with(|| Day::Ready(Filter::for_keys(keys.len())));
        match state {
            Day::Building(moved) => {
                moved.extend(keys);
                None
            }
            Day::Ready(filter) => {
                for key in keys {
                    filter.add(key);
                }
                filter.is_full().then(|| (day, filter.capacity() * 2))
            }
        }
    }
}

/// Appends identities to `identity_fresh`.
pub(super) fn append(db: &Connection, day: i64, keys: &[u128]) -> rusqlite::Result<()> {
    let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
    db.prepare_cached("INSERT INTO identity_fresh (day, keys) VALUES (?1, ?2)")?
        .execute((day, bytes))?;
    count(db, day, i64::try_from(keys.len()).unwrap_or(i64::MAX))
}

/// Counts what should be remembered of a day.
fn count(db: &Connection, day: i64, more: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO identity_count VALUES (?1, ?2)
         ON CONFLICT (day) DO UPDATE SET remembered = remembered + ?2",
    )?
    .execute((day, more))?;
    Ok(())
}

/// Takes what stands in a day's table as what should be there, beside what is counted.
pub(super) fn count_anew(db: &Connection, day: i64) -> rusqlite::Result<()> {
    let rows = stored(db, day)?;
    count(db, day, rows)
}

/// How many identities a day's table holds.
fn stored(db: &Connection, day: i64) -> rusqlite::Result<i64> {
    match table(db, day)? {
        Some(table) => db.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| {
            row.get(0)
        }),
        None => Ok(0),
    }
}

/// Days that have a count.
pub(super) fn counted_days(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut select = db.prepare("SELECT day FROM identity_count")?;
    let days = select.query_map([], |row| row.get(0))?;
    days.collect()
}

/// What should be remembered of each day, and what is.
pub(super) fn counts(db: &Connection) -> rusqlite::Result<Vec<(i64, i64, i64)>> {
    let mut select = db.prepare(
        "SELECT day, remembered,
         (SELECT coalesce(sum(length(keys)) / 16, 0) FROM identity_fresh AS fresh
          WHERE fresh.day = identity_count.day)
         FROM identity_count ORDER BY day",
    )?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut counts = Vec::new();
    for row in rows {
        let (day, remembered, fresh): (i64, i64, i64) = row?;
        counts.push((day, remembered, fresh + stored(db, day)?));
    }
    Ok(counts)
}

/// Moves everything fresh to the tables of its days.
pub(super) fn move_fresh(db: &Connection) -> rusqlite::Result<BTreeMap<i64, Vec<u128>>> {
    let mut moved = fresh(db)?;
    for (&day, keys) in &mut moved {
        keys.sort_unstable();
        let table = name(day);
        db.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID"
        ))?;
        let mut insert =
            db.prepare_cached(&format!("INSERT OR IGNORE INTO \"{table}\" VALUES (?1)"))?;
        let mut repeated = 0;
        for key in keys {
            repeated += i64::from(insert.execute([key.to_be_bytes()])? == 0);
        }
        // What was remembered twice is counted once.
        count(db, day, -repeated)?;
    }
    db.execute("DELETE FROM identity_fresh", [])?;
    Ok(moved)
}

/// The day of the newest fresh identities.
pub(super) fn fresh_day(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row(
        "SELECT day FROM identity_fresh ORDER BY seq DESC LIMIT 1",
        [],
        |row| row.get(0),
    )
    .optional()
}

/// Drops a day's table and its count.
pub(super) fn drop_day(db: &Connection, day: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM identity_count WHERE day = ?1", [day])?;
    db.execute_batch(&format!("DROP TABLE IF EXISTS \"{}\"", name(day)))
}

/// Days that have a table.
pub(super) fn days(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut tables = db.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'identity_day_*'",
    )?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?;
    let mut days = Vec::new();
    for name in names {
        days.extend(
            name?
                .strip_prefix("identity_day_")
                .and_then(|day| day.parse::<i64>().ok()),
        );
    }
    days.sort_unstable();
    Ok(days)
}

/// Which candidates stand in the tables of their days, by index in the question.
pub(super) fn find(db: &Connection, candidates: &[Candidate]) -> rusqlite::Result<Vec<usize>> {
    let mut found = Vec::new();
    for candidate in candidates {
        for &day in candidate.days.iter().rev() {
            let select = format!("SELECT 1 FROM \"{}\" WHERE key = ?1", name(day));
            let hit = match db.prepare_cached(&select) {
                Ok(mut select) => select.exists([candidate.key.to_be_bytes()])?,
                // Dropped since the memory was asked: older than the horizon.
                Err(_) if table(db, day)?.is_none() => false,
                Err(error) => return Err(error),
            };
            if hit {
                found.push(candidate.index);
                break;
            }
        }
    }
    Ok(found)
}

/// Marks those keys that stand in a day's table.
pub(super) fn mark(
    db: &Connection,
    day: i64,
    keys: &[u128],
    known: &mut [bool],
) -> rusqlite::Result<()> {
    let select = format!("SELECT 1 FROM \"{}\" WHERE key = ?1", name(day));
    let mut select = db.prepare_cached(&select)?;
    for (key, known) in keys.iter().zip(known).filter(|(_, known)| !**known) {
        *known = select.exists([key.to_be_bytes()])?;
    }
    Ok(())
}

/// Every fresh identity.
pub(super) fn fresh_keys(db: &Connection) -> rusqlite::Result<HashSet<u128>> {
    Ok(fresh(db)?.into_values().flatten().collect())
}

fn name(day: i64) -> String {
    format!("identity_day_{day}")
}

fn table(db: &Connection, day: i64) -> rusqlite::Result<Option<String>> {
    db.query_row(
        "SELECT name FROM sqlite_master WHERE name = ?1",
        [name(day)],
        |row| row.get(0),
    )
    .optional()
}

fn fresh(db: &Connection) -> rusqlite::Result<BTreeMap<i64, Vec<u128>>> {
    let mut select = db.prepare("SELECT day, keys FROM identity_fresh")?;
    let mut rows = select.query([])?;
    let mut fresh: BTreeMap<i64, Vec<u128>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let keys = row.get_ref(1)?.as_blob()?;
        fresh.entry(row.get(0)?).or_default().extend(
            keys.as_chunks()
                .0
                .iter()
                .map(|key| u128::from_be_bytes(*key)),
        );
    }
    Ok(fresh)
}

/// Whether every key was visited: `visit` says whether to go on.
fn for_each_key(
    db: &Connection,
    day: i64,
    mut visit: impl FnMut(u128) -> bool,
) -> rusqlite::Result<bool> {
    let Some(table) = table(db, day)? else {
        return Ok(true);
    };
    let mut select = db.prepare(&format!("SELECT key FROM \"{table}\""))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if !visit(u128::from_be_bytes(row.get(0)?)) {
            return Ok(false);
        }
    }
    Ok(true)
}
