//! Two looks at a collector with three streams, and what keys make of them.

use std::time::Duration;

use serde_json::json;

use super::*;

/// What a collector says that has delivered so many events of `Audit.Exchange`.
pub fn sample_of(events: u64) -> Sample {
    let stream = |name: &str,
                  state: &str,
                  reasons: &[&str],
                  lag: i64,
                  backlog: u64,
                  aside: u64,
                  events: u64| {
        json!({
            "stream": name,
            "health": { "state": state, "reasons": reasons },
            "lag_seconds": lag,
            "backlog": { "splits": backlog, "oldest_created": null },
            "quarantine": { "splits": aside },
            "since_start": { "events_delivered": events, "losses": 0, "dead_lettered": 0 },
        })
    };
    let status = json!({
        "version": "9.9.9",
        "started": "2026-05-02T10:00:00Z",
        "memory_bytes": 64 << 20,
        "pipelines": [{
            "name": "night",
            "buffer": { "bytes": 3 << 20, "limit_bytes": 48 << 20 },
            "ledger_trouble": null,
            "tenants": [
                { "id": "contoso", "streams": [
                    stream("Audit.Exchange", "ok", &[], 30, 12, 2, events),
                    stream("Audit.General", "ok", &[], 90, 0, 0, 7),
                ]},
                { "id": "fabrikam", "streams": [
                    stream("DLP.All", "unhealthy", &["permission is missing"], 7_200, 0, 0, 0),
                ]},
            ],
            "sinks": [{
                "name": "elasticsearch", "type": "elasticsearch", "events_delivered": events,
                "events_refused": 1, "events_pending": 40, "waited_for_seconds": null,
            }],
        }],
    });
    let metrics = "sluicegate_stream_errors_total{pipeline=\"night\",tenant=\"fabrikam\",stream=\"DLP.All\",\
                   error_type=\"unauthorised\"} 4\n";
    Sample::read(&status.to_string(), metrics).unwrap()
}

/// After a look, and another two seconds later.
pub fn busy() -> State {
    let mut state = State::new("127.0.0.1:8686".into());
    let first = sample_of(0);
    let mut second = sample_of(100);
    second.at = first.at + Duration::from_secs(2);
    state.update(first);
    state.update(second);
    state
}

fn streams(state: &State) -> Vec<&str> {
    state.rows().iter().map(|row| row.stream.as_str()).collect()
}

#[test]
fn rates_are_what_came_between_two_looks() {
    let state = busy();
    assert!((state.rows()[0].rate - 50.0).abs() < 1e-9 && (state.rate() - 50.0).abs() < 1e-9);
    let mut anew = busy();
    anew.update(sample_of(3));
    assert!(
        anew.rate().abs() < 1e-9,
        "a collector that was started anew has no rate yet"
    );
}

#[test]
fn each_key_does_what_the_help_says() {
    let mut state = busy();
    assert_eq!(
        streams(&state),
        ["Audit.Exchange", "Audit.General", "DLP.All"]
    );
    for first in [
        "DLP.All",
        "Audit.Exchange",
        "Audit.Exchange",
        "DLP.All",
        "Audit.Exchange",
    ] {
        assert!(!state.press(Key::Letter('s')));
        assert_eq!(streams(&state)[0], first, "{:?}", state.sort);
    }
    assert!(!state.press(Key::Letter('r')));
    assert_eq!(
        streams(&state),
        ["DLP.All", "Audit.General", "Audit.Exchange"]
    );
    assert!(!state.press(Key::Down(20)));
    assert_eq!(state.offset, 2);
    assert!(!state.press(Key::Up(1)));
    assert_eq!(state.offset, 1);
    assert!(state.press(Key::Letter('q')) && state.press(Key::Quit));
}

#[test]
fn a_filter_finds_tenants_streams_and_health() {
    let mut state = busy();
    let type_in = |state: &mut State, text: &str| {
        assert!(!state.press(Key::Escape));
        assert!(!state.press(Key::Letter('/')));
        for letter in text.chars() {
            assert!(
                !state.press(Key::Letter(letter)),
                "`{letter}` is a letter of the filter"
            );
        }
        assert!(!state.press(Key::Enter));
    };
    for (text, found) in [("FABRI", 1), ("audit", 2), ("unhealthy", 1), ("sqr", 0)] {
        type_in(&mut state, text);
        assert_eq!(state.rows().len(), found, "{text}");
    }
    assert!(!state.press(Key::Escape));
    assert_eq!(state.rows().len(), 3);
}

#[test]
fn without_a_terminal_it_is_a_table() {
    let table = busy().table();
    let row = table
        .lines()
        .find(|line| line.contains("Audit.Exchange"))
        .unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells,
        [
            "night",
            "contoso",
            "Audit.Exchange",
            "ok",
            "30s",
            "100",
            "50.0",
            "12",
            "+2",
            "0",
            "0"
        ]
    );
    let sink = table
        .lines()
        .find(|line| line.contains("elasticsearch"))
        .unwrap();
    assert!(sink.split_whitespace().eq([
        "night",
        "elasticsearch",
        "elasticsearch",
        "100",
        "50.0",
        "40",
        "1",
        "-"
    ]));
}
