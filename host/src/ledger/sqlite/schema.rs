//! The tables, and the settings of a connection.
//!
//! Times are milliseconds since 1970 (`datetime(created_ms / 1000, 'unixepoch')` shows them), names are
//! text, so that `sqlite3 ledger.db` answers an operator's question.

use rusqlite::Connection;

use super::identities;

/// The version of the tables below, kept in `user_version`.
pub(super) const VERSION: i64 = 3;

/// `SLGC` in `application_id`: tells a ledger from other databases.
pub(super) const APPLICATION: i64 = 0x534c_4743;

/// A split's `phase` is `ready` or `waiting` (discovered; may be tried now, or not before
/// `not_before_ms`), `reading`, `delivered` or `lost`. Indexes lead with stream and phase, so that a
/// million waiting splits cost nothing to the one that is ready. `settled_ms` is when it was delivered or
/// lost; what has none is undelivered, and has two small indexes of its own, from which health is judged.
/// `event_ms` is when the earliest of its new events happened.
///
/// A stream's `advanced_ms` is when its watermark last moved, `oldest_moved_ms` and `expiring_moved_ms` when
/// the first of its undelivered splits, by age and by expiry, was last delivered.
///
/// `sequence` counts durable transactions; `ledger.sequence` beside the database holds the last count.
///
/// `identity_fresh` holds identities as they were committed; when it has grown they are moved, sorted, to
/// the table of their day (`identity_day_20777`: days since 1970), which is dropped whole in the end.
/// `identity_count` says how many there should be of each day, so that `audit` notices missing rows.
const TABLES: &str = "
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    stream TEXT NOT NULL,
    watermark_ms INTEGER,
    read INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    dead_lettered INTEGER NOT NULL DEFAULT 0,
    listed_ms INTEGER,
    trouble_kind TEXT NOT NULL DEFAULT '',
    trouble TEXT NOT NULL DEFAULT '',
    trouble_since_ms INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER,
    advanced_ms INTEGER,
    oldest_moved_ms INTEGER,
    expiring_moved_ms INTEGER,
    UNIQUE (tenant, stream)
) STRICT;

CREATE TABLE state (
    stream INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (stream, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE split (
    seq INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    id TEXT NOT NULL,
    phase TEXT NOT NULL DEFAULT 'ready',
    quarantined INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    settled_ms INTEGER,
    weight INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    payload BLOB NOT NULL,
    discovered_ms INTEGER,
    event_ms INTEGER,
    UNIQUE (stream, id)
) STRICT;
CREATE INDEX split_created ON split (stream, phase, created_ms);
CREATE INDEX split_expires ON split (stream, phase, expires_ms);
CREATE INDEX split_waiting ON split (stream, not_before_ms) WHERE phase = 'waiting';
CREATE INDEX split_quarantined ON split (stream) WHERE quarantined = 1;
CREATE INDEX split_pending ON split (stream, quarantined, created_ms) WHERE settled_ms IS NULL;
CREATE INDEX split_expiring ON split (stream, quarantined, expires_ms) WHERE settled_ms IS NULL;

CREATE TABLE loss (
    seq INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    split TEXT NOT NULL DEFAULT '',
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    declared_ms INTEGER NOT NULL,
    UNIQUE (stream, split, since_ms, until_ms, reason)
) STRICT;

CREATE TABLE position (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sequence (
    value INTEGER NOT NULL
) STRICT;
INSERT INTO sequence VALUES (0);

CREATE TABLE identity_fresh (
    seq INTEGER PRIMARY KEY,
    day INTEGER NOT NULL,
    keys BLOB NOT NULL
) STRICT;

CREATE TABLE identity_count (
    day INTEGER PRIMARY KEY,
    remembered INTEGER NOT NULL
) STRICT;
";

/// From the tables of version 1; the counts of days that have passed are taken as they stand.
const SECOND: &str = "
ALTER TABLE stream ADD COLUMN listed_ms INTEGER;
ALTER TABLE stream ADD COLUMN trouble_kind TEXT NOT NULL DEFAULT '';
ALTER TABLE stream ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
ALTER TABLE stream ADD COLUMN trouble_since_ms INTEGER NOT NULL DEFAULT 0;
CREATE TABLE identity_count (
    day INTEGER PRIMARY KEY,
    remembered INTEGER NOT NULL
) STRICT;
INSERT INTO identity_count
    SELECT day, sum(length(keys)) / 16 FROM identity_fresh GROUP BY day;
";

/// From the tables of version 2. When splits were discovered, when their events happened and when streams last moved
/// is not known of earlier times, and nothing is made up for it.
const THIRD: &str = "
ALTER TABLE stream ADD COLUMN next_ms INTEGER;
ALTER TABLE stream ADD COLUMN advanced_ms INTEGER;
ALTER TABLE stream ADD COLUMN oldest_moved_ms INTEGER;
ALTER TABLE stream ADD COLUMN expiring_moved_ms INTEGER;
ALTER TABLE split ADD COLUMN discovered_ms INTEGER;
ALTER TABLE split ADD COLUMN event_ms INTEGER;
CREATE INDEX split_pending ON split (stream, quarantined, created_ms) WHERE settled_ms IS NULL;
CREATE INDEX split_expiring ON split (stream, quarantined, expires_ms) WHERE settled_ms IS NULL;
";

/// Makes the tables in an empty database.
pub(super) fn create(db: &Connection) -> rusqlite::Result<()> {
    let ids = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} {ids} COMMIT;"))
}

/// Brings the tables of an earlier version to this one, in one transaction.
pub(super) fn migrate(db: &Connection, version: i64) -> rusqlite::Result<()> {
    if version >= VERSION {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    if version < 2 {
        db.execute_batch(SECOND)?;
        for day in identities::days(db)? {
            identities::count_anew(db, day)?;
        }
    }
    db.execute_batch(THIRD)?;
    db.execute_batch(&format!("PRAGMA user_version = {VERSION}"))?;
    transaction.commit()
}

/// Settings of the writing connection.
///
/// The log is checkpointed every 4,000 pages (16 MB), four times the default: fewer syncs of the
/// database while it catches up, and still under a second of replay after a crash. Whoever else
/// writes is an operator's command: it holds the database for milliseconds.
pub(super) const WRITER: &str = "
PRAGMA busy_timeout = 10000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA temp_store = MEMORY;
";

/// Settings of a reading connection.
pub(super) const READER: &str = "
PRAGMA query_only = ON;
PRAGMA cache_size = -2048;
PRAGMA busy_timeout = 10000;
";

/// Settings of an operator's writing connection; the journal is the collector's to choose.
pub(super) const BY_HAND: &str = "
PRAGMA busy_timeout = 10000;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
";
