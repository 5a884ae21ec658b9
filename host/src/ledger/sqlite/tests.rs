//! The ledger against its promises: one by one, against the model, and after crashes.

mod model;
mod progress;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::error::Kind;
use crate::ledger::{Counts, DAY_MS, Delivered, MARGIN_MS, Split};

const HORIZON: Duration = Duration::from_hours(48);
const HOUR_MS: i64 = 3_600_000;

fn open(directory: &TempDir) -> SqliteLedger {
    SqliteLedger::open(&directory.path().join("state"), HORIZON).unwrap()
}

fn stream() -> StreamKey {
    StreamKey::new("contoso", "Audit.Exchange")
}

fn split(id: &str, created_ms: i64, expires_ms: Option<i64>) -> Split {
    let payload = format!("https://192.0.2.1/{id}").into_bytes();
    Split {
        id: id.into(),
        payload,
        created_ms,
        expires_ms,
        weight: 1,
    }
}

fn found(splits: Vec<Split>) -> Found {
    Found {
        splits,
        ..Found::default()
    }
}

fn key(id: &str) -> SplitKey {
    SplitKey {
        stream: stream(),
        id: id.into(),
    }
}

fn done(split: SplitKey) -> Delivered {
    Delivered {
        split,
        event_ms: None,
    }
}

fn identities(numbers: std::ops::Range<u32>) -> Vec<Identity> {
    numbers
        .map(|number| Identity::of("contoso", &number.to_string(), 7))
        .collect()
}

fn delivered(numbers: std::ops::Range<u32>) -> Commit {
    Commit {
        identities: vec![(stream(), identities(numbers))],
        ..Commit::default()
    }
}

fn ids(taken: &[Taken]) -> Vec<&str> {
    taken.iter().map(|taken| taken.split.id.as_str()).collect()
}

#[tokio::test]
async fn a_discovery_is_committed_with_its_state_and_twice_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let gap = Loss {
        stream: stream(),
        split: None,
        since_ms: 1,
        until_ms: 2,
        reason: "too old".into(),
        declared_ms: 0,
    };
    let find = |watermark_ms, cursor: Option<&str>| Found {
        splits: vec![split("a", 10, None), split("b", 20, Some(90))],
        state: [(
            "cursor".into(),
            cursor.map(|cursor| cursor.as_bytes().to_vec()),
        )]
        .into(),
        watermark_ms: Some(watermark_ms),
        next_ms: None,
        gaps: vec![gap.clone()],
    };
    assert_eq!(
        ledger
            .discovered(&stream(), find(5, Some("1")), 50)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        ledger
            .discovered(&stream(), find(3, Some("2")), 60)
            .await
            .unwrap(),
        0
    );
    assert_eq!(ledger.state(&stream()).await.unwrap()["cursor"], b"2");
    let status = ledger.status(&stream()).await.unwrap();
    let expected = StreamStatus {
        discovered: 2,
        lost: 1,
        oldest_undelivered_ms: Some(10),
        next_expiry_ms: Some(90),
        watermark_ms: Some(5),
        listed_ms: Some(60),
        ..StreamStatus::default()
    };
    assert_eq!(status, expected);
    assert_eq!(
        ledger.losses(9).await.unwrap(),
        [Loss {
            declared_ms: 50,
            ..gap.clone()
        }]
    );
    ledger
        .discovered(&stream(), find(9, None), 70)
        .await
        .unwrap();
    assert!(ledger.state(&stream()).await.unwrap().is_empty());
    assert_eq!(ledger.streams().await.unwrap(), [stream()]);
}

#[tokio::test]
async fn a_call_that_only_keeps_state_lists_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let trouble = Trouble {
        kind: "failing".into(),
        reason: "no answer".into(),
        since_ms: 40,
    };
    ledger.troubled(&stream(), trouble).await.unwrap();
    let begun = Found {
        state: [("cursor".into(), Some(b"1".to_vec()))].into(),
        ..Found::default()
    };
    ledger.discovered(&stream(), begun, 50).await.unwrap();
    let status = ledger.status(&stream()).await.unwrap();
    assert_eq!((status.listed_ms, status.trouble.is_some()), (None, true));
    assert_eq!(ledger.state(&stream()).await.unwrap()["cursor"], b"1");
}

#[tokio::test]
async fn takes_the_urgent_first_then_newest_and_oldest_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut splits: Vec<_> = (0..6).map(|n| split(&n.to_string(), n, None)).collect();
    splits.push(split("late", 3, Some(1_900)));
    splits.push(split("later", 3, Some(1_950)));
    splits.push(split("calm", 9, Some(9_000)));
    ledger
        .discovered(&stream(), found(splits), 0)
        .await
        .unwrap();
    let first = ledger.take(&stream(), 5, 1_000, 1_000).await.unwrap();
    assert_eq!(ids(&first), ["late", "later", "calm", "0", "5"]);
    let one = ledger.take(&stream(), 1, 1_000, 1_000).await.unwrap();
    let two = ledger.take(&stream(), 1, 1_000, 1_000).await.unwrap();
    assert_eq!((ids(&one), ids(&two)), (vec!["1"], vec!["4"]));
    assert_eq!(
        ids(&ledger.take(&stream(), 9, 0, 0).await.unwrap()),
        ["2", "3"]
    );
    assert_eq!(ledger.status(&stream()).await.unwrap().reading, 9);
}

#[tokio::test]
async fn setbacks_put_back_aside_and_away() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let names = ["a", "b", "c", "d"];
    let splits = names.map(|id| split(id, 1, Some(500))).to_vec();
    ledger
        .discovered(&stream(), found(splits), 0)
        .await
        .unwrap();
    ledger.take(&stream(), 4, 0, 0).await.unwrap();
    let reason = || "five times 503".to_owned();
    let setbacks = [
        Setback::Retry {
            not_before_ms: 100,
            reason: reason(),
        },
        Setback::Released,
        Setback::Quarantine {
            not_before_ms: 200,
            reason: reason(),
        },
        Setback::Lost { reason: reason() },
    ];
    for (id, setback) in names.iter().zip(setbacks) {
        ledger.setback(&key(id), setback, 42).await.unwrap();
    }
    let status = ledger.status(&stream()).await.unwrap();
    assert_eq!(
        (status.discovered, status.quarantined, status.lost),
        (2, 1, 1)
    );
    assert_eq!(status.next_due_ms, Some(100));
    assert_eq!(
        ledger.losses(1).await.unwrap()[0].split.as_deref(),
        Some("d")
    );
    let (aside, taken, why) = ledger.quarantine(9).await.unwrap().remove(0);
    assert_eq!((aside, taken.attempts, why), (key("c"), 1, reason()));
    let take = async |now_ms| ledger.take(&stream(), 9, 0, now_ms).await.unwrap();
    assert_eq!(
        take(99)
            .await
            .iter()
            .map(|taken| taken.attempts)
            .collect::<Vec<_>>(),
        [0]
    );
    let again = take(100).await;
    assert_eq!((ids(&again), again[0].attempts), (vec!["a"], 1));
    assert!(take(200).await[0].quarantined);
    // Lost stays lost, and listing it again does not bring it back.
    let listed = ledger
        .discovered(&stream(), found(vec![split("d", 1, Some(500))]), 0)
        .await;
    assert_eq!(listed.unwrap(), 0);
    assert!(take(i64::MAX).await.is_empty());
}

#[tokio::test]
async fn a_commit_holds_everything_and_survives_a_copy_of_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let splits = vec![split("a", 1, None), split("b", 2, None)];
    ledger
        .discovered(&stream(), found(splits), 0)
        .await
        .unwrap();
    ledger.take(&stream(), 2, 0, 0).await.unwrap();
    let counts = Counts {
        read: 3,
        delivered: 2,
        duplicates: 1,
        ..Counts::default()
    };
    for round in 0..20 {
        let commit = Commit {
            identities: vec![(stream(), identities(round * 10..round * 10 + 10))],
            delivered: if round == 0 {
                vec![done(key("a"))]
            } else {
                Vec::new()
            },
            positions: [("file out end".into(), u64::MAX - u64::from(round))].into(),
            counts: vec![(stream(), counts)],
        };
        ledger.commit(commit, 0).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        let state = copy.path().join("state");
        fs::create_dir(&state).unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            fs::copy(directory.path().join("state").join(name), state.join(name)).unwrap();
        }
        let after = open(&copy);
        assert_eq!(after.recovered_from(), None);
        let asked = identities(0..round * 10 + 11);
        let known = after.known("contoso", &asked).await.unwrap();
        assert_eq!(
            known.iter().filter(|known| **known).count(),
            asked.len() - 1
        );
        let end = after.position("file out end").await.unwrap();
        assert_eq!(end, Some(u64::MAX - u64::from(round)));
        let status = after.status(&stream()).await.unwrap();
        assert_eq!(
            (status.delivered, status.discovered, status.reading),
            (1, 1, 0)
        );
        assert_eq!(status.counts.read, 3 * u64::from(round + 1));
    }
}

#[tokio::test]
async fn one_tenant_never_hides_the_event_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    ledger.commit(delivered(0..10), 0).await.unwrap();
    assert_eq!(
        ledger
            .known("contoso", &identities(5..15))
            .await
            .unwrap()
            .iter()
            .filter(|k| **k)
            .count(),
        5
    );
    assert_eq!(
        ledger.known("fabrikam", &identities(0..10)).await.unwrap(),
        [false; 10]
    );
}

#[tokio::test]
async fn identities_move_to_their_day_and_go_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    // More than stays in memory, then two quiet days.
    for start in (0..140_000).step_by(1000) {
        ledger
            .commit(delivered(start..start + 1000), HOUR_MS)
            .await
            .unwrap();
    }
    ledger
        .commit(delivered(140_000..140_010), DAY_MS)
        .await
        .unwrap();
    ledger
        .commit(delivered(140_010..140_020), 2 * DAY_MS)
        .await
        .unwrap();
    let count = async |ledger: &SqliteLedger| {
        let known = ledger
            .known("contoso", &identities(0..150_000))
            .await
            .unwrap();
        known.iter().filter(|known| **known).count()
    };
    assert_eq!(count(&ledger).await, 140_020);
    drop(ledger);
    let ledger = open(&directory);
    assert_eq!(ledger.recovered_from(), None);
    assert_eq!(count(&ledger).await, 140_020);
    ledger.prune(3 * DAY_MS - 1).await.unwrap();
    assert_eq!(count(&ledger).await, 140_020);
    ledger.prune(3 * DAY_MS).await.unwrap();
    assert_eq!(count(&ledger).await, 20);
    ledger.prune(5 * DAY_MS).await.unwrap();
    assert_eq!(count(&ledger).await, 0);
}

#[tokio::test]
async fn delivered_splits_are_forgotten_after_their_expiry_and_a_margin() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut splits: Vec<_> = (0..12_000)
        .map(|n| split(&n.to_string(), n, Some(1_000)))
        .collect();
    splits.push(split("forever", 1, None));
    splits.push(split("open", 1, Some(1_000)));
    ledger
        .discovered(&stream(), found(splits), 0)
        .await
        .unwrap();
    let mut delivered: Vec<_> = (0..12_000).map(|n| done(key(&n.to_string()))).collect();
    delivered.push(done(key("forever")));
    ledger
        .commit(
            Commit {
                delivered,
                ..Commit::default()
            },
            500,
        )
        .await
        .unwrap();
    let left = async |now_ms| {
        ledger.prune(now_ms).await.unwrap();
        let status = ledger.status(&stream()).await.unwrap();
        (status.delivered, status.discovered)
    };
    assert_eq!(left(MARGIN_MS + 999).await, (12_001, 1));
    assert_eq!(left(MARGIN_MS + 1_000).await, (1, 1));
    assert_eq!(left(MARGIN_MS + 500 + millis(HORIZON)).await, (0, 1));
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_ends() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let error = SqliteLedger::open(&directory.path().join("state"), HORIZON).unwrap_err();
    assert_eq!(error.kind, Kind::Temporary);
    assert!(error.what.contains("in use by another process"), "{error}");
    let mode = |name: &str| {
        let path = directory.path().join("state").join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        [mode(""), mode("ledger.db"), mode("ledger.db-wal")],
        [0o700, 0o600, 0o600]
    );
    drop(ledger);
    assert!(
        !directory.path().join("state/ledger.db-wal").exists(),
        "a clean stop leaves no log"
    );
    open(&directory);
}

#[tokio::test]
async fn a_newer_ledger_and_a_foreign_database_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let path = directory.path().join("state/ledger.db");
    let change = |pragma: &str| {
        Connection::open(&path)
            .unwrap()
            .execute_batch(pragma)
            .unwrap();
    };
    let refusal = || SqliteLedger::open(&directory.path().join("state"), HORIZON).unwrap_err();
    change("PRAGMA user_version = 4");
    assert!(refusal().what.contains("newer sluicegate"), "{}", refusal());
    change("PRAGMA user_version = 3; PRAGMA application_id = 1");
    assert!(refusal().what.contains("another program"), "{}", refusal());
    assert!(!directory.path().join("state/quarantine").exists());
}

#[tokio::test]
async fn a_damaged_database_is_kept_aside_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    drop(open(&directory));
    fs::write(
        state.join("ledger.db"),
        "not a database, but long enough to look like one\n".repeat(99),
    )
    .unwrap();
    let ledger = open(&directory);
    assert!(ledger.recovered_from().unwrap().contains("ledger-1.db"));
    ledger.commit(delivered(0..5000), 0).await.unwrap();
    let splits = (0..2000).map(|n| split(&n.to_string(), n, None)).collect();
    ledger
        .discovered(&stream(), found(splits), 0)
        .await
        .unwrap();
    drop(ledger);
    // Damage in the middle, and a log left behind: an unclean stop.
    let mut bytes = fs::read(state.join("ledger.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x5a);
    fs::write(state.join("ledger.db"), bytes).unwrap();
    fs::write(state.join("ledger.suspect"), "").unwrap();
    let ledger = open(&directory);
    assert!(ledger.recovered_from().unwrap().contains("ledger-2.db"));
    assert_eq!(
        ledger.known("contoso", &identities(0..1)).await.unwrap(),
        [false]
    );
    drop(ledger);
    fs::remove_file(state.join("ledger.db")).unwrap();
    assert!(
        open(&directory)
            .recovered_from()
            .unwrap()
            .contains("missing")
    );
    assert_eq!(open(&directory).recovered_from(), None);
}

#[tokio::test]
async fn a_request_that_fails_spoils_no_other_in_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&directory));
    let wrong = ledger.write(true, |store| {
        store.remember(0, vec![1, 2, 3])?;
        store.stream(&StreamKey::new("fabrikam", "a"))?;
        store.db.execute_batch("SELECT wrong FROM nowhere")
    });
    let right = ledger.commit(delivered(0..10), 0);
    let (wrong, right) = tokio::join!(wrong, right);
    assert!(wrong.unwrap_err().what.contains("no such table"));
    right.unwrap();
    assert_eq!(
        ledger.known("contoso", &identities(0..10)).await.unwrap(),
        [true; 10]
    );
    assert!(ledger.streams().await.unwrap().is_empty());
    assert_eq!(ledger.memory.fresh(), 10);
}

#[tokio::test]
async fn an_older_database_put_back_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let ledger = open(&directory);
    ledger.commit(delivered(0..10), 0).await.unwrap();
    drop(ledger);
    let old = fs::read(state.join("ledger.db")).unwrap();
    let ledger = open(&directory);
    assert_eq!(ledger.recovered_from(), None);
    ledger.commit(delivered(10..20), 0).await.unwrap();
    drop(ledger);
    fs::write(state.join("ledger.db"), old).unwrap();
    let ledger = open(&directory);
    assert!(
        ledger
            .recovered_from()
            .unwrap()
            .contains("transaction 1 of 2")
    );
    let known = ledger.known("contoso", &identities(0..20)).await.unwrap();
    assert_eq!(known.iter().filter(|known| **known).count(), 10);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(&directory));
    let limit = async |pages: &'static str| {
        let set = move |store: &mut Store| store.db.execute_batch(pages);
        // Not within a transaction that could be undone: the limit belongs to the connection.
        ledger.write(false, set).await.unwrap();
    };
    limit("PRAGMA max_page_count = 60").await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for round in 0..40_u32 {
        // Groups of several, so that one commit stands beside one that the disk has no room for.
        let commits = (0..4).map(|part| {
            let first = (round * 4 + part) * 1000;
            let ledger = Arc::clone(&ledger);
            async move {
                (
                    first,
                    ledger.commit(delivered(first..first + 1000), 0).await,
                )
            }
        });
        for (first, result) in futures::future::join_all(commits).await {
            match result {
                Ok(()) => acknowledged.push(first),
                Err(error) => {
                    assert!(error.help.contains("free some space"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(
        acknowledged.len() > 4 && refused > 4,
        "{} {refused}",
        acknowledged.len()
    );
    let check = async |ledger: &SqliteLedger| {
        for first in &acknowledged {
            let known = ledger
                .known("contoso", &identities(*first..first + 1000))
                .await
                .unwrap();
            assert!(!known.contains(&false), "{first}");
        }
    };
    check(&ledger).await;
    limit("PRAGMA max_page_count = 100000").await;
    ledger.commit(delivered(900_000..900_010), 0).await.unwrap();
    drop(ledger);
    let ledger = open(&directory);
    assert_eq!(ledger.recovered_from(), None);
    check(&ledger).await;
}
