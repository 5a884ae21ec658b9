//! How far the streams are: one step into an index for each figure, however many splits there are.

use rusqlite::{Connection, Row};

use super::read::{count, signed, stream_key};
use crate::event::StreamKey;
use crate::ledger::Trouble;
use crate::ledger::progress::{Backlog, Front, Progress};
use crate::metrics::lag::{self, Parts};

/// How far every stream is.
pub(super) fn progress(db: &Connection) -> rusqlite::Result<Vec<(StreamKey, Progress)>> {
    // The indexes are named, so that no planner ever walks through what was delivered.
    let mut select = db.prepare_cached(
        "SELECT tenant, stream.stream, watermark_ms, advanced_ms, listed_ms, next_ms,
         trouble_kind, trouble, trouble_since_ms,
         oldest.created_ms, oldest.created_ms, oldest.discovered_ms, oldest_moved_ms,
         expiring.expires_ms, expiring.created_ms, expiring.discovered_ms, expiring_moved_ms,
         (SELECT min(expires_ms) FROM split INDEXED BY split_expiring
          WHERE split.stream = stream.id AND quarantined = 1 AND settled_ms IS NULL)
         FROM stream
         LEFT JOIN split AS oldest ON oldest.seq = (
             SELECT seq FROM split INDEXED BY split_pending
             WHERE split.stream = stream.id AND quarantined = 0 AND settled_ms IS NULL
             ORDER BY created_ms, seq LIMIT 1)
         LEFT JOIN split AS expiring ON expiring.seq = (
             SELECT seq FROM split INDEXED BY split_expiring
             WHERE split.stream = stream.id AND quarantined = 0 AND settled_ms IS NULL
             AND expires_ms IS NOT NULL ORDER BY expires_ms, seq LIMIT 1)
         ORDER BY tenant, stream.stream",
    )?;
    let rows = select.query_map([], |row| {
        let trouble = Trouble {
            kind: row.get(6)?,
            reason: row.get(7)?,
            since_ms: row.get(8)?,
        };
        let progress = Progress {
            watermark_ms: row.get(2)?,
            advanced_ms: row.get(3)?,
            listed_ms: row.get(4)?,
            next_ms: row.get(5)?,
            trouble: Some(trouble).filter(|trouble| !trouble.kind.is_empty()),
            oldest: front(row, 9)?,
            expiring: front(row, 13)?,
            quarantine_expires_ms: row.get(17)?,
        };
        Ok((stream_key(row, 0)?, progress))
    })?;
    rows.collect()
}

/// Walks through the index of what is not delivered, and through nothing else.
pub(super) const BACKLOG: &str = "
SELECT tenant, stream.stream, all_splits, quarantined FROM
(SELECT stream AS id, count(*) AS all_splits, sum(quarantined) AS quarantined
 FROM split INDEXED BY split_pending WHERE settled_ms IS NULL GROUP BY stream)
JOIN stream USING (id) ORDER BY tenant, stream.stream";

/// How much of every stream is not delivered.
pub(super) fn backlog(db: &Connection) -> rusqlite::Result<Vec<(StreamKey, Backlog)>> {
    let mut select = db.prepare_cached(BACKLOG)?;
    let rows = select.query_map([], |row| {
        let quarantined = count(row, 3)?;
        let backlog = Backlog {
            pending: count(row, 2)?.saturating_sub(quarantined),
            quarantined,
        };
        Ok((stream_key(row, 0)?, backlog))
    })?;
    rows.collect()
}

/// The front from four columns, of which `at` is the first.
fn front(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Front>> {
    let Some(at_ms) = row.get(at)? else {
        return Ok(None);
    };
    let found = (row.get(at + 1)?, row.get(at + 2)?);
    Ok(Some(Front::new(at_ms, found, row.get(at + 3)?)))
}

/// Notes that splits were delivered, of which the first became available and the first to expire expires at these
/// times: when nothing undelivered stands before them, the stream has moved.
pub(super) fn moved(
    db: &Connection,
    stream: i64,
    (created_ms, expires_ms): (i64, Option<i64>),
    now_ms: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE stream SET
         oldest_moved_ms = CASE WHEN EXISTS (
             SELECT 1 FROM split INDEXED BY split_pending WHERE split.stream = ?1
             AND quarantined = 0 AND settled_ms IS NULL AND created_ms < ?2)
         THEN oldest_moved_ms ELSE ?4 END,
         expiring_moved_ms = CASE WHEN ?3 IS NULL OR EXISTS (
             SELECT 1 FROM split INDEXED BY split_expiring WHERE split.stream = ?1
             AND quarantined = 0 AND settled_ms IS NULL AND expires_ms < ?3)
         THEN expiring_moved_ms ELSE ?4 END
         WHERE id = ?1",
    )?
    .execute((stream, created_ms, expires_ms, now_ms))?;
    Ok(())
}

/// The lag of a stream's delivered splits, newest content first, at most `limit`.
pub(super) fn lags(
    db: &Connection,
    stream: &StreamKey,
    limit: usize,
) -> rusqlite::Result<Vec<Parts>> {
    let mut select = db.prepare_cached(
        "SELECT event_ms, created_ms, discovered_ms, settled_ms FROM split
         WHERE stream = (SELECT id FROM stream WHERE tenant = ?1 AND stream.stream = ?2)
         AND phase = 'delivered' ORDER BY created_ms DESC, seq DESC LIMIT ?3",
    )?;
    let key = (&stream.tenant, &stream.stream, signed(limit));
    let rows = select.query_map(key, |row| {
        Ok(lag::parts(
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
        ))
    })?;
    rows.collect()
}
