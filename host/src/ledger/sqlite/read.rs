//! What is asked: statements of the reading connections.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::write::{TAKEN, taken};
use super::writer::find_stream;
use crate::event::StreamKey;
use crate::ledger::{Counts, Loss, SplitKey, StreamStatus, Taken, Trouble, earlier};

/// A stream's state.
pub(super) fn state(
    db: &Connection,
    stream: &StreamKey,
) -> rusqlite::Result<BTreeMap<String, Vec<u8>>> {
    let mut select = db.prepare_cached(
        "SELECT key, value FROM state JOIN stream ON stream.id = state.stream
         WHERE stream.tenant = ?1 AND stream.stream = ?2",
    )?;
    let rows = select.query_map([&stream.tenant, &stream.stream], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
}

/// A committed position.
pub(super) fn position(db: &Connection, name: &str) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT value FROM position WHERE name = ?1")?
        .query_row([name], |row| row.get(0).map(i64::cast_unsigned))
        .optional()
}

/// How a stream stands.
pub(super) fn status(db: &Connection, key: &StreamKey) -> rusqlite::Result<StreamStatus> {
    // One transaction, so that the figures belong together; the caller's, where it has begun one.
    let own = db.is_autocommit().then(|| db.unchecked_transaction());
    let _own = own.transpose()?;
    let Some(stream) = find_stream(db, key)? else {
        return Ok(StreamStatus::default());
    };
    let mut status = db
        .prepare_cached(
            "SELECT watermark_ms, read, delivered, duplicates, dropped, dead_lettered,
             (SELECT count(*) FROM loss WHERE loss.stream = ?1),
             listed_ms, trouble_kind, trouble, trouble_since_ms FROM stream WHERE id = ?1",
        )?
        .query_row([stream], progress)?;
    let mut phases =
        db.prepare_cached("SELECT phase, count(*) FROM split WHERE stream = ?1 GROUP BY phase")?;
    let mut rows = phases.query([stream])?;
    while let Some(row) = rows.next()? {
        let count = count(row, 1)?;
        match row.get_ref(0)?.as_str()? {
            "ready" | "waiting" => status.discovered += count,
            "reading" => status.reading = count,
            "delivered" => status.delivered = count,
            _ => {}
        }
    }
    status.quarantined = db
        .prepare_cached(
            "SELECT count(*) FROM split
             WHERE stream = ?1 AND quarantined = 1 AND phase <> 'reading'",
        )?
        .query_row([stream], |row| count(row, 0))?;
    status.discovered = status.discovered.saturating_sub(status.quarantined);
    let least = |column: &str| least(db, stream, column);
    status.oldest_undelivered_ms = least("created_ms")?;
    status.next_expiry_ms = least("expires_ms")?;
    status.next_due_ms = db
        .prepare_cached(
            "SELECT min(not_before_ms) FROM split WHERE stream = ?1 AND phase = 'waiting'",
        )?
        .query_row([stream], |row| row.get(0))?;
    Ok(status)
}

/// The least value among splits not delivered: one step into the index for each phase.
fn least(db: &Connection, stream: i64, column: &str) -> rusqlite::Result<Option<i64>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {column} FROM split WHERE stream = ?1 AND phase = ?2 AND {column} IS NOT NULL
         ORDER BY {column} LIMIT 1"
    ))?;
    let mut least = None;
    for phase in ["ready", "waiting", "reading"] {
        let value = select
            .query_row((stream, phase), |row| row.get(0))
            .optional()?;
        least = earlier(least, value);
    }
    Ok(least)
}

fn progress(row: &Row<'_>) -> rusqlite::Result<StreamStatus> {
    let trouble = Trouble {
        kind: row.get(8)?,
        reason: row.get(9)?,
        since_ms: row.get(10)?,
    };
    Ok(StreamStatus {
        watermark_ms: row.get(0)?,
        counts: Counts {
            read: count(row, 1)?,
            delivered: count(row, 2)?,
            duplicates: count(row, 3)?,
            dropped: count(row, 4)?,
            dead_lettered: count(row, 5)?,
        },
        lost: count(row, 6)?,
        listed_ms: row.get(7)?,
        trouble: Some(trouble).filter(|trouble| !trouble.kind.is_empty()),
        ..StreamStatus::default()
    })
}

pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column)
        .map(|count| u64::try_from(count).unwrap_or(0))
}

/// Every stream, by tenant and name.
pub(super) fn streams(db: &Connection) -> rusqlite::Result<Vec<StreamKey>> {
    let mut select = db.prepare("SELECT tenant, stream FROM stream ORDER BY tenant, stream")?;
    let rows = select.query_map([], |row| stream_key(row, 0))?;
    rows.collect()
}

/// Declared losses, newest first.
pub(super) fn losses(db: &Connection, limit: usize) -> rusqlite::Result<Vec<Loss>> {
    let mut select = db.prepare(
        "SELECT tenant, stream.stream, split, since_ms, until_ms, reason, declared_ms
         FROM loss JOIN stream ON stream.id = loss.stream ORDER BY loss.seq DESC LIMIT ?1",
    )?;
    let rows = select.query_map([signed(limit)], loss)?;
    rows.collect()
}

/// Declared losses of a stream that touch a stretch of time, newest first.
pub(super) fn losses_of(
    db: &Connection,
    stream: &StreamKey,
    (since_ms, until_ms): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Loss>> {
    let mut select = db.prepare(
        "SELECT tenant, stream.stream, split, since_ms, until_ms, reason, declared_ms
         FROM loss JOIN stream ON stream.id = loss.stream
         WHERE tenant = ?1 AND stream.stream = ?2 AND until_ms >= ?3 AND since_ms < ?4
         ORDER BY loss.seq DESC LIMIT ?5",
    )?;
    let key = (
        &stream.tenant,
        &stream.stream,
        since_ms,
        until_ms,
        signed(limit),
    );
    let rows = select.query_map(key, loss)?;
    rows.collect()
}

fn loss(row: &Row<'_>) -> rusqlite::Result<Loss> {
    Ok(Loss {
        stream: stream_key(row, 0)?,
        split: Some(row.get::<_, String>(2)?).filter(|split| !split.is_empty()),
        since_ms: row.get(3)?,
        until_ms: row.get(4)?,
        reason: row.get(5)?,
        declared_ms: row.get(6)?,
    })
}

/// Splits in quarantine.
pub(super) fn quarantine(
    db: &Connection,
    limit: usize,
) -> rusqlite::Result<Vec<(SplitKey, Taken, String)>> {
    let mut select = db.prepare(&format!(
        "SELECT tenant, stream.stream, reason, split.{TAKEN} FROM split
         JOIN stream ON stream.id = split.stream WHERE quarantined = 1
         ORDER BY tenant, stream.stream, split.id LIMIT ?1"
    ))?;
    let rows = select.query_map([signed(limit)], |row| {
        let taken = taken(row, 3)?;
        let key = SplitKey {
            stream: stream_key(row, 0)?,
            id: taken.split.id.clone(),
        };
        Ok((key, taken, row.get(2)?))
    })?;
    rows.collect()
}

pub(super) fn stream_key(row: &Row<'_>, at: usize) -> rusqlite::Result<StreamKey> {
    Ok(StreamKey::new(
        row.get_ref(at)?.as_str()?,
        row.get_ref(at + 1)?.as_str()?,
    ))
}

pub(super) fn signed(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
