//! A lane with a sink that does what its test tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::{Ack, Lane};
use super::*;
use crate::event::{Batch, Event, Identity, Part, StreamKey};
use crate::line::Totals;
use crate::line::route::Routed;
use crate::sink::Way;

type Judge = Box<dyn Fn(usize, &[Outgoing]) -> Reply + Send + Sync>;

/// Keeps what it gets; `judge` says what comes of the nth request.
struct Scripted {
    judge: Judge,
    requests: Mutex<Vec<Vec<String>>>,
    at_once: AtomicUsize,
    peak: AtomicUsize,
    prepared: AtomicUsize,
}

#[async_trait]
impl RequestSink for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn prepare(&self) -> Result<(), Error> {
        match self.prepared.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::unavailable("not there yet")),
            _ => Ok(()),
        }
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let bodies = events.iter().map(|event| body(&event.event));
        let number = {
            let mut requests = lock(&self.requests);
            requests.push(bodies.collect());
            requests.len()
        };
        (self.judge)(number, events)
    }
}

fn body(event: &Event) -> String {
    String::from_utf8(event.body.to_vec()).unwrap()
}

fn taken(failed: Vec<(usize, Fate)>) -> Reply {
    Reply::Taken {
        failed,
        latency: Duration::from_millis(50),
    }
}

fn again() -> Reply {
    Reply::Again(Again::trouble(Error::temporary("down")))
}

struct Test {
    sink: Arc<Scripted>,
    lane: Lane,
    task: super::super::Task,
    totals: Totals,
}

impl Test {
    fn new(
        policy: Policy,
        judge: impl Fn(usize, &[Outgoing]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let sink = Arc::new(Scripted {
            judge: Box::new(judge),
            requests: Mutex::default(),
            at_once: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            prepared: AtomicUsize::new(0),
        });
        let (lane, task) = Lane::start(Way::Requests(sink.clone(), policy));
        Self {
            sink,
            lane,
            task,
            totals: Totals::default(),
        }
    }

    fn give(&self, bodies: &[&str]) -> Option<oneshot::Receiver<Ack>> {
        self.give_routed(bodies, None)
    }

    fn give_routed(
        &self,
        bodies: &[&str],
        indexes: Option<Vec<usize>>,
    ) -> Option<oneshot::Receiver<Ack>> {
        let event = |body: &&str| Event {
            id: (*body).into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::copy_from_slice(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        };
        let batch = Batch {
            stream: StreamKey::new("contoso", "Audit.General"),
            events: bodies.iter().map(event).collect(),
            part: Part::default(),
        };
        self.lane.give(Routed { batch, indexes }, &self.totals)
    }

    fn requests(&self) -> Vec<Vec<String>> {
        lock(&self.sink.requests).clone()
    }
}

fn policy(events: usize) -> Policy {
    Policy {
        batch_events: events,
        concurrency: Some(4),
        ..Policy::default()
    }
}

#[tokio::test(start_paused = true)]
async fn batches_share_requests_and_are_acknowledged_one_by_one() {
    let test = Test::new(policy(4), |_, _| taken(Vec::new()));
    let acks = [
        test.give(&["a", "b", "c"]),
        test.give(&["d"]),
        test.give(&["e", "f"]),
    ];
    for ack in acks {
        let ack = ack.unwrap().await.unwrap();
        assert_eq!((ack.sink.as_str(), ack.refused.len()), ("scripted", 0));
    }
    assert_eq!(test.requests(), [vec!["a", "b", "c", "d"], vec!["e", "f"]]);
    assert_eq!(test.sink.prepared.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn several_requests_are_under_way_at_once_but_no_more_than_allowed() {
    let test = Test::new(policy(1), |_, _| taken(Vec::new()));
    let bodies: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let ack = test.give(&bodies).unwrap();
    ack.await.unwrap();
    assert_eq!(test.sink.peak.load(Ordering::SeqCst), 4);
    assert_eq!(test.requests().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_arrived_is_not_sent_again_and_what_did_not_is() {
    let fates = |number: usize, events: &[Outgoing]| match number {
        1 => again(),
        2 => taken(vec![
            (
                1,
                Fate::Again {
                    reason: "busy".into(),
                    overloaded: true,
                },
            ),
            (2, Fate::Refused("no".into())),
            (
                3,
                Fate::Rewrite {
                    body: "safe".into(),
                    reason: "odd".into(),
                },
            ),
        ]),
        _ => {
            assert!(
                events
                    .iter()
                    .any(|event| event.rewritten.as_deref() == Some("odd"))
            );
            taken(Vec::new())
        }
    };
    let test = Test::new(policy(4), fates);
    let ack = test.give_routed(&["a", "b", "c", "d"], Some(vec![5, 6, 7, 8]));
    let ack = ack.unwrap().await.unwrap();
    assert_eq!(
        ack.refused,
        [(7, "no".to_owned())],
        "by its place in the line's batch"
    );
    let whole = vec!["a", "b", "c", "d"];
    assert_eq!(test.requests(), [whole.clone(), whole, vec!["b", "safe"]]);
}

#[tokio::test(start_paused = true)]
async fn the_one_event_that_is_refused_is_found_by_halving() {
    let judge = |_: usize, events: &[Outgoing]| {
        if events.iter().any(|event| body(&event.event) == "x") {
            Reply::Split("not with an x".into())
        } else {
            taken(Vec::new())
        }
    };
    let test = Test::new(policy(100), judge);
    let bodies = ["a", "b", "c", "d", "e", "x", "g", "h"];
    let ack = test.give(&bodies).unwrap().await.unwrap();
    assert_eq!(ack.refused, [(5, "not with an x".to_owned())]);
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    let good = |request: &&Vec<String>| !request.contains(&"x".to_owned());
    for body in test.requests().iter().filter(good).flatten() {
        *sent.entry(body.clone()).or_default() += 1;
    }
    assert!(
        sent.values().all(|times| *times == 1) && sent.len() == 7,
        "{sent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_at_its_bytes_and_a_large_event_goes_alone() {
    let policy = Policy {
        batch_bytes: 10,
        ..policy(100)
    };
    let test = Test::new(policy, |_, _| taken(Vec::new()));
    let large = "x".repeat(50);
    let ack = test.give(&["aaaaa", "bbbbb", "c", &large, "d"]).unwrap();
    ack.await.unwrap();
    let requests: BTreeSet<_> = test.requests().into_iter().collect();
    let wanted = [
        vec!["aaaaa", "bbbbb"],
        vec!["c"],
        vec![large.as_str()],
        vec!["d"],
    ];
    let wanted = wanted.map(|bodies| bodies.into_iter().map(str::to_owned).collect());
    assert_eq!(requests, BTreeSet::from(wanted));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_trouble_like_any_other() {
    let test = Test::new(policy(4), |number, _| {
        assert!(number > 1, "the first request panics");
        taken(Vec::new())
    });
    let ack = test.give(&["a"]).unwrap().await.unwrap();
    assert!(ack.refused.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_nothing_waits_and_what_does_not_fit_is_counted() {
    let policy = Policy {
        acknowledgements: false,
        ..policy(4)
    };
    let test = Test::new(policy, |_, _| again());
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        assert!(test.give(&[&large]).is_none());
    }
    assert_eq!(test.totals.dropped_by_sinks(), 4, "sixteen mebibytes wait");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_queue_comes_after_its_last_event() {
    let test = Test::new(policy(4), |_, _| taken(Vec::new()));
    let ack = test.give(&["a", "b", "c", "d", "e"]).unwrap();
    let Test { lane, task, .. } = test;
    drop(lane);
    task.await.unwrap();
    assert!(ack.await.is_ok());
}
