//! How far streams are, when they move, how late their splits were; and all of that in a ledger of an earlier version.

use super::*;
use crate::ledger::progress::{Backlog, Front, Progress};
use crate::ledger::sqlite::view::LedgerView;

/// The tables of version 2, as that version made them.
const SECOND_VERSION: &str = "
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
    UNIQUE (stream, id)
) STRICT;
CREATE INDEX split_created ON split (stream, phase, created_ms);
CREATE INDEX split_expires ON split (stream, phase, expires_ms);
CREATE INDEX split_waiting ON split (stream, not_before_ms) WHERE phase = 'waiting';
CREATE INDEX split_quarantined ON split (stream) WHERE quarantined = 1;

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

async fn progress(ledger: &SqliteLedger) -> Progress {
    let mut streams = ledger.progress().await.unwrap();
    assert_eq!(streams.len(), 1);
    streams.remove(0).1
}

fn front(at_ms: i64, since_ms: i64) -> Option<Front> {
    Some(Front { at_ms, since_ms })
}

async fn deliver(ledger: &SqliteLedger, ids: &[&str], now_ms: i64) {
    let commit = Commit {
        delivered: ids.iter().map(|id| done(key(id))).collect(),
        ..Commit::default()
    };
    ledger.commit(commit, now_ms).await.unwrap();
}

#[tokio::test]
async fn the_backlog_is_what_is_not_delivered_and_costs_nothing_for_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = ["one", "two", "three", "four"].map(|id| split(id, 10, Some(900)));
    ledger
        .discovered(&stream(), found(splits.to_vec()), 100)
        .await
        .unwrap();
    deliver(&ledger, &["one"], 200).await;
    let taken = ledger.take(&stream(), 2, 0, 300).await.unwrap();
    let aside = Setback::Quarantine {
        not_before_ms: 400,
        reason: "broken".into(),
    };
    let broken = key(&taken[0].split.id);
    ledger.setback(&broken, aside, 300).await.unwrap();
    // One waits, one is being read, one is set aside.
    let backlog = Backlog {
        pending: 2,
        quarantined: 1,
    };
    assert_eq!(ledger.backlog().await.unwrap(), [(stream(), backlog)]);
    let db = ledger.home.open_reader().unwrap();
    let mut plan = db
        .prepare(&format!(
            "EXPLAIN QUERY PLAN {}",
            crate::ledger::sqlite::progress::BACKLOG
        ))
        .unwrap();
    let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
    let steps: Vec<String> = steps.map(Result::unwrap).collect();
    let of_splits: Vec<_> = steps.iter().filter(|step| step.contains("split")).collect();
    assert_eq!(of_splits.len(), 1, "{steps:?}");
    assert!(of_splits[0].contains("INDEX split_pending"), "{steps:?}");
    deliver(&ledger, &["two", "three", "four"], 500).await;
    assert_eq!(ledger.backlog().await.unwrap(), []);
}

#[tokio::test]
async fn a_stream_moves_when_its_oldest_is_delivered_and_not_by_anything_newer() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = vec![
        split("old", 10, Some(900)),
        split("middle", 20, Some(920)),
        split("new", 30, Some(930)),
    ];
    ledger
        .discovered(&stream(), found(splits), 100)
        .await
        .unwrap();
    assert_eq!(progress(&ledger).await.oldest, front(10, 100));
    deliver(&ledger, &["new"], 200).await;
    assert_eq!(progress(&ledger).await.oldest, front(10, 100));
    deliver(&ledger, &["old"], 300).await;
    let now = progress(&ledger).await;
    assert_eq!(
        (now.oldest, now.expiring),
        (front(20, 300), front(920, 300))
    );
    // What is found late and older has only just been found.
    let late = vec![split("late", 5, Some(800))];
    ledger
        .discovered(&stream(), found(late), 400)
        .await
        .unwrap();
    assert_eq!(progress(&ledger).await.oldest, front(5, 400));
    // And what was moved by stands when the process is another.
    drop(ledger);
    let ledger = open(&directory);
    deliver(&ledger, &["late", "middle"], 500).await;
    assert_eq!(
        progress(&ledger).await,
        Progress {
            listed_ms: Some(400),
            ..Progress::default()
        }
    );
}

#[tokio::test]
async fn age_and_expiry_are_two_orders_that_move_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = vec![
        split("old", 10, Some(5_000)),
        split("older", 11, None),
        split("short", 50, Some(700)),
        split("shorter", 40, Some(600)),
    ];
    ledger
        .discovered(&stream(), found(splits), 100)
        .await
        .unwrap();
    deliver(&ledger, &["shorter"], 200).await;
    let now = progress(&ledger).await;
    assert_eq!(
        (now.oldest, now.expiring),
        (front(10, 100), front(700, 200))
    );
    deliver(&ledger, &["old"], 300).await;
    let now = progress(&ledger).await;
    assert_eq!(
        (now.oldest, now.expiring),
        (front(11, 300), front(700, 200))
    );
}

#[tokio::test]
async fn what_is_in_quarantine_stands_apart_also_while_it_is_tried() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = vec![split("bad", 10, Some(700)), split("good", 20, Some(800))];
    ledger
        .discovered(&stream(), found(splits), 100)
        .await
        .unwrap();
    ledger.take(&stream(), 2, 0, 100).await.unwrap();
    let setback = Setback::Quarantine {
        not_before_ms: 300,
        reason: "broken".into(),
    };
    ledger.setback(&key("bad"), setback, 200).await.unwrap();
    let apart = async |ledger: &SqliteLedger| {
        let now = progress(ledger).await;
        assert_eq!(
            (now.oldest, now.expiring),
            (front(20, 100), front(800, 100))
        );
        assert_eq!(now.quarantine_expires_ms, Some(700));
    };
    apart(&ledger).await;
    assert_eq!(
        ids(&ledger.take(&stream(), 2, 0, 300).await.unwrap()),
        ["bad"]
    );
    apart(&ledger).await;
    ledger
        .setback(
            &key("bad"),
            Setback::Lost {
                reason: "gone".into(),
            },
            400,
        )
        .await
        .unwrap();
    assert_eq!(progress(&ledger).await.quarantine_expires_ms, None);
}

#[tokio::test]
async fn the_watermark_says_when_it_moved_and_listings_when_the_next_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let list = async |watermark_ms, next_ms, now_ms| {
        let found = Found {
            watermark_ms,
            next_ms,
            ..Found::default()
        };
        ledger.discovered(&stream(), found, now_ms).await.unwrap();
        let now = progress(&ledger).await;
        (
            now.watermark_ms,
            now.advanced_ms,
            now.listed_ms,
            now.next_ms,
        )
    };
    assert_eq!(
        list(None, Some(70), 10).await,
        (None, None, Some(10), Some(70))
    );
    assert_eq!(
        list(Some(5), None, 20).await,
        (Some(5), Some(20), Some(20), None)
    );
    for behind in [None, Some(4), Some(5)] {
        assert_eq!(
            list(behind, None, 30).await,
            (Some(5), Some(20), Some(30), None)
        );
    }
    assert_eq!(
        list(Some(6), None, 40).await,
        (Some(6), Some(40), Some(40), None)
    );
}

#[tokio::test]
async fn the_lag_of_a_delivered_split_stands_in_its_row() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = vec![
        split("a", 60_000, None),
        split("b", 70_000, None),
        split("c", 80_000, None),
    ];
    ledger
        .discovered(&stream(), found(splits), 90_000)
        .await
        .unwrap();
    let taken = ledger.take(&stream(), 1, 0, 90_000).await.unwrap();
    assert_eq!(taken[0].discovered_ms, Some(90_000));
    let known = Delivered {
        split: key("a"),
        event_ms: Some(12_000),
    };
    let delivered = vec![known, done(key("b"))];
    let commit = Commit {
        delivered,
        ..Commit::default()
    };
    ledger.commit(commit, 95_500).await.unwrap();
    let view = LedgerView::open(&directory.path().join("state")).unwrap();
    let expected = [
        [None, Some(20_000), Some(5_500)],
        [Some(48_000), Some(30_000), Some(5_500)],
    ];
    assert_eq!(view.lags(&stream(), 9).unwrap(), expected);
    assert_eq!(view.lags(&stream(), 1).unwrap(), expected[..1]);
}

#[tokio::test]
async fn a_ledger_of_the_second_version_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    let db = Connection::open(state.join("ledger.db")).unwrap();
    let rows = "
        INSERT INTO stream (id, tenant, stream, watermark_ms, listed_ms, read, delivered)
            VALUES (1, 'contoso', 'Audit.Exchange', 50, 60, 9, 9);
        INSERT INTO split (stream, id, phase, quarantined, created_ms, expires_ms, settled_ms,
            weight, payload) VALUES
            (1, 'done', 'delivered', 0, 10, 900, 20, 1, x''),
            (1, 'open', 'ready', 0, 30, 930, NULL, 1, x'61'),
            (1, 'cut', 'reading', 0, 40, 940, NULL, 1, x'62'),
            (1, 'bad', 'waiting', 1, 5, 905, NULL, 1, x'63');
        PRAGMA application_id = 0x534c4743;
        PRAGMA user_version = 2;";
    db.execute_batch(&format!("{SECOND_VERSION} {rows}"))
        .unwrap();
    drop(db);
    let ledger = open(&directory);
    assert_eq!(ledger.recovered_from(), None);
    let expected = Progress {
        watermark_ms: Some(50),
        listed_ms: Some(60),
        oldest: front(30, 30),
        expiring: front(930, 30),
        quarantine_expires_ms: Some(905),
        ..Progress::default()
    };
    assert_eq!(progress(&ledger).await, expected);
    let status = ledger.status(&stream()).await.unwrap();
    assert_eq!(
        (status.delivered, status.discovered, status.quarantined),
        (1, 2, 1)
    );
    let taken = ledger.take(&stream(), 9, 0, 0).await.unwrap();
    assert_eq!(
        taken
            .iter()
            .filter(|taken| taken.discovered_ms.is_none())
            .count(),
        3
    );
    deliver(&ledger, &["open"], 100).await;
    assert_eq!(progress(&ledger).await.oldest, front(40, 100));
    let view = LedgerView::open(&state).unwrap();
    let lags = view.lags(&stream(), 9).unwrap();
    assert_eq!(lags, [[None, None, None]; 2], "nothing is made up");
    // The tables are those of a new ledger, whatever the order of their columns.
    let new = tempfile::tempdir().unwrap();
    drop(open(&new));
    assert_eq!(columns(&state), columns(&new.path().join("state")));
}

/// Every column of every table, and every index.
fn columns(state: &Path) -> Vec<String> {
    let db = Connection::open(state.join("ledger.db")).unwrap();
    let select =
        "SELECT m.type || ' ' || m.name || ' ' || coalesce(c.name || ' ' || c.type || ' ' ||
        c.\"notnull\" || ' ' || coalesce(c.dflt_value, 'none'), m.sql, '')
        FROM sqlite_master AS m LEFT JOIN pragma_table_info(m.name) AS c ON m.type = 'table'
        WHERE m.name NOT LIKE 'identity_day_%' ORDER BY 1";
    let mut select = db.prepare(select).unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}
