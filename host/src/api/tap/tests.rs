//! What can be asked for, and what is told to somebody who is slower, or content with less.

use std::sync::Arc;

use super::*;
use crate::event::{Batch, Event, Identity, Part, StreamKey};
use crate::tap::{Taps, Window};

fn batch(bodies: &[&str]) -> Batch {
    let event = |body: &&str| Event {
        id: (*body).into(),
        fingerprint: 0,
        time_ms: 0,
        body: Bytes::copy_from_slice(body.as_bytes()),
        identity: Identity::of("contoso", body, 0),
    };
    Batch {
        stream: StreamKey::new("contoso", "Audit.General"),
        events: bodies.iter().map(event).collect(),
        part: Part::default(),
    }
}

fn window(taps: &Arc<Taps>) -> Window {
    let window = Window::default();
    window.open("night", taps.clone());
    window
}

/// Everything that is told until the end, when these batches pass.
async fn told(query: &str, batches: &[Batch]) -> Vec<Value> {
    let taps = Arc::new(Taps::default());
    let asked = Asked::parse(query).unwrap();
    let tap = taps.watch(asked.wanted.clone()).unwrap();
    let window = window(&taps);
    for batch in batches {
        window.show(&Point::Sinks, batch);
    }
    let (lines, mut pieces) = Lines::new();
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    tokio::spawn(tell(tap, asked, lines, CancellationToken::new(), guard));
    let mut told = Vec::new();
    while let Some(piece) = pieces.recv().await {
        let text = String::from_utf8(piece.to_vec()).unwrap();
        assert!(
            text.ends_with('\n') && text.lines().count() == 1,
            "{text:?}"
        );
        if text != "\n" {
            told.push(serde_json::from_str(&text).unwrap());
        }
    }
    assert!(ended.is_cancelled());
    told
}

#[tokio::test(start_paused = true)]
async fn events_come_with_their_place_and_the_end_says_why() {
    let told = told(
        "limit=2",
        &[batch(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#])],
    )
    .await;
    let place = json!({
        "pipeline": "night", "tenant": "contoso", "stream": "Audit.General", "at": "sinks", "event": { "a": 1 },
    });
    assert_eq!(told[0], place);
    assert_eq!(told[1]["event"]["a"], 2);
    assert_eq!(told[2]["end"]["reason"], "limit");
    assert_eq!(told.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn conditions_choose_and_the_time_ends_it() {
    let bodies = [
        r#"{"event":{"action":"a"},"n":5}"#,
        r#"{"event":{"action":"b"},"n":5}"#,
        r#"{"event":{"action":"a"},"n":6}"#,
    ];
    let told = told(
        "seconds=3&where=event.action%3Da&where=n%3D5",
        &[batch(&bodies)],
    )
    .await;
    assert_eq!(told[0]["event"]["n"], 5);
    assert_eq!(
        told[1]["end"],
        json!({ "reason": "time", "shown": 1, "over_rate": 0, "missed": 0 })
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_rate_is_counted() {
    let told = told("seconds=2&rate=3", &[batch(&["{}"; 10])]).await;
    assert_eq!(
        told.iter()
            .filter(|line| line.get("event").is_some())
            .count(),
        3
    );
    assert!(told.iter().any(|line| line["left_out"] == 7), "{told:?}");
    assert_eq!(told.last().unwrap()["end"]["over_rate"], 7);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_json_is_shown_as_text() {
    let told = told("limit=2", &[batch(&["{\"a\":", "{\n}"])]).await;
    assert_eq!(told[0]["event"], "{\"a\":");
    assert_eq!(told[1]["event"], "{\n}");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_left_alone() {
    let taps = Arc::new(Taps::default());
    let asked = Asked::parse("rate=100000").unwrap();
    let tap = taps.watch(asked.wanted.clone()).unwrap();
    let window = window(&taps);
    window.show(&Point::Sinks, &batch(&["{}"; 10 * LINES]));
    let (lines, _pieces) = Lines::new();
    let guard = CancellationToken::new().drop_guard();
    let stop = CancellationToken::new();
    tell(tap, asked, lines, stop, guard).await;
    let others = (0..WATCHERS).map(|_| taps.watch(Wanted::default()));
    assert!(
        others.collect::<Option<Vec<_>>>().is_some(),
        "its place is free"
    );
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    for (query, words) in [
        ("limit=0", "`limit`"),
        ("seconds=soon", "`seconds`"),
        ("colour=red", "`colour`"),
        ("where=a", "`a`"),
        ("where=a..b%3D1", "`a..b`"),
    ] {
        let (what, help) = Asked::parse(query).unwrap_err();
        assert!(what.contains(words) && !help.is_empty(), "{query}: {what}");
    }
    let asked = Asked::parse("").unwrap();
    assert_eq!(
        (asked.wanted.points, asked.limit),
        (vec![Point::Sinks], u64::MAX)
    );
}
