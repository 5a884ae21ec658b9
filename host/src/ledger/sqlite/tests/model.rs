//! The same actions on this ledger and on the one in memory, which is its model: same answers, same contents.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::ledger::memory::MemoryLedger;

/// What a caller may do; small numbers, so that things meet.
#[derive(Clone, Debug)]
enum Do {
    Discover(u8, Vec<(u8, u8, Option<u8>)>, Option<u8>),
    Take(u8, usize, u8),
    SetBack(u8, u8, Setback),
    Commit(u8, Vec<u8>, Vec<u8>),
    Pass(u16),
    Prune,
    Restart,
}

fn setback() -> impl Strategy<Value = Setback> {
    let reason = || "reason".to_owned();
    prop_oneof![
        any::<u8>().prop_map(move |at| Setback::Retry {
            not_before_ms: i64::from(at) * HOUR_MS,
            reason: reason()
        }),
        any::<u8>().prop_map(move |at| Setback::Quarantine {
            not_before_ms: i64::from(at) * HOUR_MS,
            reason: reason()
        }),
        Just(Setback::Released),
        Just(Setback::Lost { reason: reason() }),
    ]
}

fn action() -> impl Strategy<Value = Do> {
    let splits = proptest::collection::vec((0..24_u8, any::<u8>(), any::<Option<u8>>()), 0..8);
    let numbers = || proptest::collection::vec(0..40_u8, 0..12);
    prop_oneof![
        4 => (0..3_u8, splits, any::<Option<u8>>()).prop_map(|(s, l, w)| Do::Discover(s, l, w)),
        4 => (0..3_u8, 0..6_usize, any::<u8>()).prop_map(|(s, limit, u)| Do::Take(s, limit, u)),
        4 => (0..3_u8, 0..24_u8, setback()).prop_map(|(s, id, back)| Do::SetBack(s, id, back)),
        4 => (0..3_u8, numbers(), numbers()).prop_map(|(s, i, d)| Do::Commit(s, i, d)),
        3 => (0..60_u16).prop_map(Do::Pass),
        1 => Just(Do::Prune),
        1 => Just(Do::Restart),
    ]
}

/// Three streams of two tenants.
fn stream_of(number: u8) -> StreamKey {
    StreamKey::new(
        if number == 0 { "fabrikam" } else { "contoso" },
        &format!("s{}", number / 2),
    )
}

fn hours(hours: u8) -> i64 {
    i64::from(hours) * HOUR_MS
}

async fn act(ledger: &dyn Ledger, action: &Do, now_ms: i64) -> String {
    match action.clone() {
        Do::Discover(number, splits, watermark) => {
            let splits = splits.into_iter().map(|(id, created, expires)| {
                split(&id.to_string(), hours(created), expires.map(hours))
            });
            let found = Found {
                splits: splits.collect(),
                state: [(
                    format!("{}", number % 2),
                    watermark.map(|value| vec![value]),
                )]
                .into(),
                watermark_ms: watermark.map(hours),
                next_ms: watermark.map(|hours| now_ms + i64::from(hours)),
                gaps: Vec::new(),
            };
            format!(
                "{:?}",
                ledger.discovered(&stream_of(number), found, now_ms).await
            )
        }
        Do::Take(number, limit, urgent) => {
            let taken = ledger
                .take(&stream_of(number), limit, hours(urgent), now_ms)
                .await;
            format!("{taken:?}")
        }
        Do::SetBack(number, id, setback) => {
            let key = SplitKey {
                stream: stream_of(number),
                id: id.to_string(),
            };
            format!("{:?}", ledger.setback(&key, setback, now_ms).await)
        }
        Do::Commit(number, numbers, splits) => {
            let stream = stream_of(number);
            let split = |id: u8| SplitKey {
                stream: stream.clone(),
                id: id.to_string(),
            };
            let counts = Counts {
                delivered: numbers.len() as u64,
                ..Counts::default()
            };
            let commit = Commit {
                identities: vec![(
                    stream.clone(),
                    numbers
                        .iter()
                        .map(|n| identities(u32::from(*n)..u32::from(n + 1))[0])
                        .collect(),
                )],
                delivered: splits.into_iter().map(split).map(done).collect(),
                positions: [(number.to_string(), numbers.len() as u64)].into(),
                counts: vec![(stream.clone(), counts)],
            };
            format!("{:?}", ledger.commit(commit, now_ms).await)
        }
        Do::Prune => format!("{:?}", ledger.prune(now_ms).await),
        Do::Pass(_) | Do::Restart => String::new(),
    }
}

async fn view(ledger: &dyn Ledger) -> String {
    let mut view = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        ledger.streams().await,
        ledger.progress().await,
        ledger.backlog().await,
        ledger.losses(99).await,
        ledger.quarantine(99).await
    );
    for number in 0..3 {
        let stream = stream_of(number);
        let known = ledger.known(&stream.tenant, &identities(0..40)).await;
        let status = ledger.status(&stream).await;
        let (state, position) = (
            ledger.state(&stream).await,
            ledger.position(&number.to_string()).await,
        );
        write!(view, "\n{known:?} {status:?} {state:?} {position:?}").unwrap();
    }
    view
}

async fn compare(actions: Vec<Do>) {
    let directory = tempfile::tempdir().unwrap();
    let model = MemoryLedger::new(HORIZON);
    let mut ledger = Some(open(&directory));
    let mut now_ms = 0;
    for action in actions {
        match action {
            Do::Pass(hours) => now_ms += i64::from(hours) * HOUR_MS,
            Do::Restart => {
                drop(ledger.take());
                ledger = Some(open(&directory));
                model.crash();
            }
            _ => {}
        }
        let real = ledger.as_ref().unwrap();
        let expected = act(&model, &action, now_ms).await;
        assert_eq!(act(real, &action, now_ms).await, expected, "{action:?}");
        assert_eq!(view(real).await, view(&model).await, "{action:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(actions in proptest::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(actions));
    }
}
