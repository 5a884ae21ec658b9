//! What is kept, how much of it, and how it leaves.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::letter::{Letter, Name};
use super::store::Store;
use super::*;
use crate::clock::Clock;
use crate::event::{Identity, StreamKey};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        1_767_225_600_000
    }
}

fn refused(body: &'static str) -> Refused {
    Refused {
        stream: StreamKey::new("contoso", "Audit.General"),
        reason: "too blue".into(),
        by: "sink elasticsearch".into(),
        body: body.into(),
        identity: Identity::of_bytes("contoso", body.as_bytes()),
        split: "blob".into(),
        event: None,
    }
}

async fn letters(directory: &tempfile::TempDir) -> DeadLetters {
    let mut letters = DeadLetters::new(directory.path(), "contoso", Arc::new(Stopped));
    letters.recover(&Positions::new()).await.unwrap();
    letters
}

fn read(directory: &tempfile::TempDir) -> Vec<Letter> {
    let mut all = Vec::new();
    let store = Store::new(directory.path(), "contoso");
    let look = |letter| {
        all.push(letter);
        Ok(true)
    };
    assert_eq!(store.each(look).unwrap(), 0, "everything is a letter");
    all
}

fn bodies(directory: &tempfile::TempDir) -> Vec<String> {
    let read = read(directory).into_iter();
    let text = |letter: Letter| String::from_utf8(letter.refused.body.to_vec()).unwrap();
    read.map(text).collect()
}

fn names(directory: &tempfile::TempDir, wanted: &[&str]) -> Vec<Name> {
    let all = read(directory).into_iter();
    let meant = all.filter(|letter| wanted.iter().any(|body| letter.refused.body == *body));
    meant.map(|letter| letter.name).collect()
}

#[tokio::test]
async fn what_was_not_committed_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = letters(&directory).await;
    let committed = before.append(&[refused("1")]).await.unwrap();
    before.append(&[refused("2")]).await.unwrap();
    let mode = std::fs::metadata(before.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(before);
    let mut after = DeadLetters::new(directory.path(), "contoso", Arc::new(Stopped));
    assert_eq!(after.recover(&committed).await.unwrap(), committed);
    after.append(&[refused("3")]).await.unwrap();
    assert_eq!(bodies(&directory), ["1", "3"]);
}

#[tokio::test]
async fn nothing_is_kept_beyond_the_room_and_all_again_when_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let mut letters = letters(&directory).await.at_most(600);
    letters.append(&[refused("1")]).await.unwrap();
    letters.append(&[refused("2")]).await.unwrap();
    let error = letters.append(&[refused("3")]).await.unwrap_err();
    assert!(
        error.to_string().contains("no room for more dead letters"),
        "{error}"
    );
    assert_eq!(bodies(&directory), ["1", "2"]);
    let store = Store::new(directory.path(), "contoso");
    let mut replaying = store.replay().unwrap();
    replaying.remove(&names(&directory, &["1"])).unwrap();
    assert_eq!(bodies(&directory), ["2"], "gone for those who look");
    letters.append(&[refused("3")]).await.unwrap_err();
    replaying.finish().unwrap();
    letters.append(&[refused("3")]).await.unwrap();
    assert_eq!(bodies(&directory), ["2", "3"]);
}

/// What is larger than all room would wait for ever.
#[tokio::test]
async fn an_empty_file_takes_whatever_comes() {
    let directory = tempfile::tempdir().unwrap();
    let mut letters = letters(&directory).await.at_most(10);
    letters.append(&[refused("1"), refused("2")]).await.unwrap();
    letters.append(&[refused("3")]).await.unwrap_err();
    assert_eq!(
        letters.meter().bytes(),
        std::fs::metadata(letters.path()).unwrap().len()
    );
}

#[tokio::test]
async fn a_replay_that_is_killed_is_not_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut letters = letters(&directory).await;
    let all = ["1", "2", "3"].map(refused);
    let committed = letters.append(&all).await.unwrap();
    let store = Store::new(directory.path(), "contoso");
    let mut killed = store.replay().unwrap();
    assert!(
        store
            .replay()
            .unwrap_err()
            .to_string()
            .contains("another command replays")
    );
    killed.remove(&names(&directory, &["1", "3"])).unwrap();
    drop(killed);
    assert_eq!(bodies(&directory), ["2"]);
    // A strange line is nobody's to remove.
    let mut text = std::fs::read_to_string(letters.path()).unwrap();
    text.push_str("what is this\n");
    std::fs::write(letters.path(), &text).unwrap();
    store.replay().unwrap().finish().unwrap();
    assert_eq!(store.each(|_| Ok(true)).unwrap(), 1);
    let text = std::fs::read_to_string(letters.path()).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    // The collector's next start does not take the new file for a shortened one.
    drop(letters);
    let mut after = DeadLetters::new(directory.path(), "contoso", Arc::new(Stopped));
    let positions = after.recover(&committed).await.unwrap();
    assert!(
        positions.values().any(|end| *end == text.len() as u64),
        "{positions:?}"
    );
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 3, "the letters and two locks");
}
