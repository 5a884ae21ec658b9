//! What is done to splits: statements of the writing connection.

use std::collections::{HashMap, HashSet};

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::identities::Mask;
use super::progress;
use super::writer::Store;
use crate::event::StreamKey;
use crate::ledger::{
    Commit, Counts, Delivered, Found, Loss, MARGIN_MS, Setback, Split, SplitKey, Taken, Trouble,
    day, day_is_over, earlier,
};

/// Waiting splits that become ready in one `take`; more of them wait for the next one.
const WAKE_LIMIT: i64 = 20_000;

/// Splits forgotten in one transaction, so that nobody waits long for the writer.
pub(super) const PRUNE_LIMIT: i64 = 5_000;

/// Splits being read when the process ended are to be read again.
pub(super) fn release_all(db: &Connection) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE split SET phase = 'ready' WHERE phase = 'reading'",
        [],
    )?;
    Ok(())
}

/// Commits a discovery; how many splits were new.
pub(super) fn discovered(
    store: &mut Store,
    key: &StreamKey,
    found: Found,
    now_ms: i64,
) -> rusqlite::Result<u64> {
    let stream = store.stream(key)?;
    let db = &store.db;
    let mut new = 0;
    let mut insert = db.prepare_cached(
        "INSERT INTO split (stream, id, payload, created_ms, expires_ms, weight, discovered_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (stream, id) DO NOTHING",
    )?;
    for split in &found.splits {
        new += insert.execute((
            stream,
            &split.id,
            &split.payload,
            split.created_ms,
            split.expires_ms,
            split.weight,
            now_ms,
        ))?;
    }
    let mut set = db.prepare_cached("INSERT OR REPLACE INTO state VALUES (?1, ?2, ?3)")?;
    let mut delete = db.prepare_cached("DELETE FROM state WHERE stream = ?1 AND key = ?2")?;
    for (name, value) in &found.state {
        match value {
            Some(value) => set.execute((stream, name, value))?,
            None => delete.execute((stream, name))?,
        };
    }
    if let Some(watermark_ms) = found.watermark_ms {
        // Forward only.
        db.prepare_cached(
            "UPDATE stream SET watermark_ms = ?2, advanced_ms = ?3
             WHERE id = ?1 AND (watermark_ms IS NULL OR watermark_ms < ?2)",
        )?
        .execute((stream, watermark_ms, now_ms))?;
    }
    if !found.is_only_state() {
        db.prepare_cached(
            "UPDATE stream SET listed_ms = ?2, next_ms = ?3, trouble_kind = '', trouble = ''
             WHERE id = ?1",
        )?
        .execute((stream, now_ms, found.next_ms))?;
    }
    for gap in found.gaps {
        declare(
            db,
            stream,
            &Loss {
                declared_ms: now_ms,
                ..gap
            },
        )?;
    }
    Ok(new as u64)
}

/// Notes that a stream cannot be listed.
pub(super) fn troubled(
    store: &mut Store,
    key: &StreamKey,
    trouble: &Trouble,
) -> rusqlite::Result<()> {
    let stream = store.stream(key)?;
    store
        .db
        .prepare_cached(
            "UPDATE stream SET trouble_kind = ?2, trouble = ?3, trouble_since_ms =
             CASE WHEN trouble_kind = ?2 THEN trouble_since_ms ELSE ?4 END WHERE id = ?1",
        )?
        .execute((stream, &trouble.kind, &trouble.reason, trouble.since_ms))?;
    Ok(())
}

/// Marks splits that are due as being read.
pub(super) fn take(
    store: &mut Store,
    key: &StreamKey,
    limit: usize,
    urgent_ms: i64,
    now_ms: i64,
) -> rusqlite::Result<Vec<Taken>> {
    let Some(stream) = store.find_stream(key)? else {
        return Ok(Vec::new());
    };
    let db = &store.db;
    db.prepare_cached(
        "UPDATE split SET phase = 'ready' WHERE seq IN (
             SELECT seq FROM split WHERE stream = ?1 AND phase = 'waiting' AND not_before_ms <= ?2
             ORDER BY not_before_ms LIMIT ?3)",
    )?
    .execute((stream, now_ms, WAKE_LIMIT))?;
    let mut chosen = ready(
        db,
        stream,
        "AND expires_ms <= ?3 ORDER BY expires_ms, seq",
        limit,
        now_ms.saturating_add(urgent_ms),
    )?;
    let missing = limit - chosen.len();
    if missing > 0 {
        // Of each end as many as are missing, and those that are urgent already.
        let ends = limit.saturating_mul(2);
        let oldest = ready(
            db,
            stream,
            "AND created_ms >= ?3 ORDER BY created_ms, seq",
            ends,
            i64::MIN,
        )?;
        let newest = ready(
            db,
            stream,
            "AND created_ms >= ?3 ORDER BY created_ms DESC, seq DESC",
            ends,
            i64::MIN,
        )?;
        let oldest_next = store.oldest_next.entry(stream).or_default();
        take_turns(&mut chosen, missing, [newest, oldest], oldest_next);
    }
    let mut mark = db.prepare_cached("UPDATE split SET phase = 'reading' WHERE seq = ?1")?;
    for (seq, _) in &chosen {
        mark.execute([seq])?;
    }
    Ok(chosen.into_iter().map(|(_, taken)| taken).collect())
}

fn take_turns(
    chosen: &mut Vec<(i64, Taken)>,
    missing: usize,
    [newest, oldest]: [Vec<(i64, Taken)>; 2],
    oldest_next: &mut bool,
) {
    let mut seen: HashSet<i64> = chosen.iter().map(|(seq, _)| *seq).collect();
    let (mut newest, mut oldest) = (newest.into_iter(), oldest.into_iter());
    for _ in 0..missing {
        let end = if *oldest_next {
            &mut oldest
        } else {
            &mut newest
        };
        let Some(next) = end.find(|(seq, _)| seen.insert(*seq)) else {
            break;
        };
        chosen.push(next);
        *oldest_next = !*oldest_next;
    }
}

fn ready(
    db: &Connection,
    stream: i64,
    order: &str,
    limit: usize,
    bound: i64,
) -> rusqlite::Result<Vec<(i64, Taken)>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT seq, {TAKEN} FROM split WHERE stream = ?1 AND phase = 'ready' {order} LIMIT ?2"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map((stream, limit, bound), |row| {
        Ok((row.get(0)?, taken(row, 1)?))
    })?;
    rows.collect()
}

/// The columns that `taken` reads.
pub(super) const TAKEN: &str = "id, payload, created_ms, expires_ms, weight, attempts, \
                                quarantined, discovered_ms";

/// A split from the columns of [`TAKEN`], of which `at` is the first.
pub(super) fn taken(row: &Row<'_>, at: usize) -> rusqlite::Result<Taken> {
    let split = Split {
        id: row.get(at)?,
        payload: row.get(at + 1)?,
        created_ms: row.get(at + 2)?,
        expires_ms: row.get(at + 3)?,
        weight: row.get(at + 4)?,
    };
    Ok(Taken {
        split,
        attempts: row.get(at + 5)?,
        quarantined: row.get(at + 6)?,
        discovered_ms: row.get(at + 7)?,
    })
}

/// Puts a split back, aside or away; one that is not being read stays as it is.
pub(super) fn setback(
    store: &mut Store,
    split: &SplitKey,
    setback: Setback,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let Some(stream) = store.find_stream(&split.stream)? else {
        return Ok(());
    };
    match setback {
        Setback::Released => {
            store
                .db
                .prepare_cached(
                    "UPDATE split SET phase = 'ready'
                     WHERE stream = ?1 AND id = ?2 AND phase = 'reading'",
                )?
                .execute((stream, &split.id))?;
            Ok(())
        }
        Setback::Retry {
            not_before_ms,
            reason,
        } => wait(
            &store.db,
            stream,
            &split.id,
            (not_before_ms, &reason, false),
        ),
        Setback::Quarantine {
            not_before_ms,
            reason,
        } => wait(&store.db, stream, &split.id, (not_before_ms, &reason, true)),
        Setback::Lost { reason } => lose(&store.db, stream, split, reason, now_ms),
    }
}

fn wait(
    db: &Connection,
    stream: i64,
    id: &str,
    (not_before_ms, reason, quarantined): (i64, &str, bool),
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE split SET phase = 'waiting', attempts = attempts + 1, not_before_ms = ?3,
         reason = ?4, quarantined = ?5 WHERE stream = ?1 AND id = ?2 AND phase = 'reading'",
    )?
    .execute((stream, id, not_before_ms, reason, quarantined))?;
    Ok(())
}

fn lose(
    db: &Connection,
    stream: i64,
    split: &SplitKey,
    reason: String,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let changed = db
        .prepare_cached(
            "UPDATE split SET phase = 'lost', quarantined = 0, settled_ms = ?3, reason = ?4,
             payload = x'' WHERE stream = ?1 AND id = ?2 AND phase = 'reading'",
        )?
        .execute((stream, &split.id, now_ms, &reason))?;
    if changed == 0 {
        return Ok(());
    }
    let created_ms = db
        .prepare_cached("SELECT created_ms FROM split WHERE stream = ?1 AND id = ?2")?
        .query_row((stream, &split.id), |row| row.get(0))?;
    let loss = Loss {
        stream: split.stream.clone(),
        split: Some(split.id.clone()),
        since_ms: created_ms,
        until_ms: created_ms,
        reason,
        declared_ms: now_ms,
    };
    declare(db, stream, &loss)
}

/// Writes a loss down, once.
pub(super) fn declare(db: &Connection, stream: i64, loss: &Loss) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO loss (stream, split, since_ms, until_ms, reason, declared_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?
    .execute((
        stream,
        loss.split.as_deref().unwrap_or(""),
        loss.since_ms,
        loss.until_ms,
        &loss.reason,
        loss.declared_ms,
    ))?;
    Ok(())
}

/// Commits a piece of the line.
pub(super) fn commit(store: &mut Store, commit: &Commit, now_ms: i64) -> rusqlite::Result<()> {
    let mut keys = Vec::new();
    for (stream, identities) in &commit.identities {
        let mask = Mask::of(&stream.tenant);
        keys.extend(identities.iter().map(|identity| mask.key(*identity)));
    }
    if !keys.is_empty() {
        store.remember(day(now_ms), keys)?;
    }
    deliver(store, &commit.delivered, now_ms)?;
    for (name, value) in &commit.positions {
        store
            .db
            .prepare_cached("INSERT OR REPLACE INTO position VALUES (?1, ?2)")?
            .execute((name, value.cast_signed()))?;
    }
    for (stream, counts) in &commit.counts {
        let stream = store.stream(stream)?;
        add(&store.db, stream, *counts)?;
    }
    Ok(())
}

/// Marks splits as delivered, and their streams as having moved when they have.
fn deliver(store: &mut Store, delivered: &[Delivered], now_ms: i64) -> rusqlite::Result<()> {
    let mut first: HashMap<i64, (i64, Option<i64>)> = HashMap::new();
    for Delivered { split, event_ms } in delivered {
        let Some(stream) = store.find_stream(&split.stream)? else {
            continue;
        };
        let mut update = store.db.prepare_cached(
            "UPDATE split SET phase = 'delivered', quarantined = 0, settled_ms = ?3,
             event_ms = ?4, payload = x'' WHERE stream = ?1 AND id = ?2
             AND phase <> 'delivered' RETURNING created_ms, expires_ms",
        )?;
        let mut rows = update.query((stream, &split.id, now_ms, event_ms))?;
        while let Some(row) = rows.next()? {
            let (created_ms, expires_ms): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            let first = first.entry(stream).or_insert((created_ms, expires_ms));
            first.0 = first.0.min(created_ms);
            first.1 = earlier(first.1, expires_ms);
        }
    }
    for (stream, first) in first {
        progress::moved(&store.db, stream, first, now_ms)?;
    }
    Ok(())
}

fn add(db: &Connection, stream: i64, counts: Counts) -> rusqlite::Result<()> {
    let Counts {
        read,
        delivered,
        duplicates,
        dropped,
        dead_lettered,
    } = counts;
    let values = [read, delivered, duplicates, dropped, dead_lettered]
        .map(|count| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
    let [read, delivered, duplicates, dropped, dead_lettered] = values;
    db.prepare_cached(
        "UPDATE stream SET read = read + ?2, delivered = delivered + ?3,
         duplicates = duplicates + ?4, dropped = dropped + ?5,
         dead_lettered = dead_lettered + ?6 WHERE id = ?1",
    )?
    .execute((stream, read, delivered, duplicates, dropped, dead_lettered))?;
    Ok(())
}

/// Forgets some delivered and lost splits; whether there may be more.
pub(super) fn prune_splits(
    store: &mut Store,
    horizon_ms: i64,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let mut streams = store.db.prepare_cached("SELECT id FROM stream")?;
    let streams: Vec<i64> = streams
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut delete = store.db.prepare_cached(
        "DELETE FROM split WHERE seq IN (
             SELECT seq FROM split WHERE stream = ?1 AND phase = ?2 AND expires_ms <= ?3
             UNION ALL
             SELECT seq FROM split WHERE stream = ?1 AND phase = ?2 AND expires_ms IS NULL
                 AND settled_ms <= ?4
             LIMIT ?5)",
    )?;
    let expired_ms = now_ms.saturating_sub(MARGIN_MS);
    let settled_ms = expired_ms.saturating_sub(horizon_ms);
    let mut left = PRUNE_LIMIT;
    for stream in streams {
        for phase in ["delivered", "lost"] {
            let gone = delete.execute((stream, phase, expired_ms, settled_ms, left))?;
            left -= i64::try_from(gone).unwrap_or(left);
            if left <= 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Forgets identities of days that are older than the horizon.
pub(super) fn prune_identities(
    store: &mut Store,
    horizon_ms: i64,
    now_ms: i64,
) -> rusqlite::Result<()> {
    store.forget_days(|day| day_is_over(day, horizon_ms, now_ms))
}
