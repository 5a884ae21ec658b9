//! Sinks come and go under way: nothing is missing, and nothing comes twice where that can be had.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::super::reading::Reading;
use super::super::{BUDGET_BYTES, Parts};
use super::*;
use crate::clock::SystemClock;
use crate::dead_letter::DeadLetters;
use crate::event::{Batch, Event, Identity, Part, StreamKey};
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{Ledger, Split, Taken};
use crate::sink::{Outlet, Sink, Written};
use crate::stage::condition::Condition;
use crate::stage::filter::{FilterStage, FilterStageOptions};

/// What a sink has, and how many batches it may still take.
#[derive(Clone)]
struct Store {
    ids: Arc<Mutex<Vec<String>>>,
    may: Arc<Semaphore>,
}

impl Store {
    fn new(may: usize) -> Self {
        Self {
            ids: Arc::default(),
            may: Arc::new(Semaphore::new(may)),
        }
    }

    fn open() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }

    fn sorted(&self) -> Vec<String> {
        let mut ids = self.ids.lock().unwrap().clone();
        ids.sort();
        ids
    }
}

/// Takes one batch at a time, while it may; refuses to be opened when it is called `broken`.
struct Stored(&'static str, Store);

#[async_trait]
impl Sink for Stored {
    fn name(&self) -> &str {
        self.0
    }

    fn batch_bytes(&self) -> usize {
        1
    }

    async fn recover(&mut self, _: &Positions) -> Result<Positions, Error> {
        match self.0 {
            "broken" => Err(Error::temporary("it cannot be opened")),
            _ => Ok(Positions::new()),
        }
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let Ok(may) = self.1.may.try_acquire() else {
            return Err(Error::temporary("it is down"));
        };
        may.forget();
        let events = batches.iter().flat_map(|batch| &batch.events);
        let ids = events.map(|event| event.id.to_string());
        self.1.ids.lock().unwrap().extend(ids);
        Ok(Written::default())
    }
}

struct Case {
    line: Arc<Line>,
    ledger: Arc<dyn Ledger>,
    reading: Arc<Reading>,
    _folder: tempfile::TempDir,
}

impl Case {
    async fn new(sinks: Vec<Stored>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: crate::clock::SharedClock = Arc::new(SystemClock);
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(Duration::from_secs(60)));
        let parts = Parts {
            ledger: ledger.clone(),
            stages: Vec::new(),
            sinks: sinks.into_iter().map(Outlet::ordered).collect(),
            dead_letter: DeadLetters::new(folder.path(), "test", clock.clone()),
            clock,
        };
        let (line, _) = Line::start(parts).await.unwrap();
        let taken = Taken {
            split: Split {
                id: "split".into(),
                payload: Vec::new(),
                created_ms: 0,
                expires_ms: None,
                weight: 1,
            },
            discovered_ms: None,
            attempts: 0,
            quarantined: false,
        };
        let stream = StreamKey::new("contoso", "Audit.General");
        Self {
            reading: Arc::new(Reading::new(&stream, &taken)),
            line,
            ledger,
            _folder: folder,
        }
    }

    async fn accept(&self, ids: std::ops::Range<u32>) {
        for id in ids {
            let id = format!("{id:03}");
            let event = Event {
                identity: Identity::of("contoso", &id, 0),
                body: format!("{{\"id\":\"{id}\"}}").into(),
                id: id.into(),
                fingerprint: 0,
                time_ms: 0,
            };
            let batch = Batch {
                stream: self.reading.split.stream.clone(),
                events: vec![event],
                part: Part::default(),
            };
            self.line.accept(batch, &self.reading).await.unwrap();
        }
    }

    async fn delivered(&self) -> u64 {
        let status = self.ledger.status(&self.reading.split.stream).await;
        status.unwrap().counts.delivered
    }
}

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|id| format!("{id:03}")).collect()
}

fn new(name: &'static str, store: &Store) -> Seat {
    Seat {
        name: name.into(),
        when: None,
        way: Some(Way::Ordered(Box::new(Stored(name, store.clone())))),
    }
}

fn stays(name: &str) -> Seat {
    Seat {
        name: name.into(),
        when: None,
        way: None,
    }
}

fn sinks(sinks: Vec<Seat>) -> Change {
    Change {
        stages: None,
        sinks,
    }
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_line_that_can_be_drained_hands_each_event_to_one_of_two_sinks() {
    let (old, new_store) = (Store::open(), Store::open());
    let case = Case::new(vec![Stored("one", old.clone())]).await;
    let feeding = case.accept(0..200);
    let changing = async {
        tokio::task::yield_now().await;
        let change = sinks(vec![new("one", &new_store)]);
        case.line.change(change, LONG).await.unwrap();
    };
    tokio::join!(feeding, changing);
    case.line.settled().await;
    let mut all = old.sorted();
    all.extend(new_store.sorted());
    assert_eq!(
        all,
        ids(0..200),
        "each once, the earlier ones in the old sink"
    );
    assert_eq!(case.delivered().await, 200);
    assert_eq!(case.line.budget.available_permits(), BUDGET_BYTES);
    let meters = case.line.meters().sinks.all();
    assert_eq!(
        meters[0].counts().sent().events,
        200,
        "the same name counts on"
    );
}

#[tokio::test]
async fn what_a_sink_that_is_down_has_not_taken_goes_to_the_new_one() {
    let (down, beside, instead) = (Store::new(3), Store::open(), Store::open());
    let case = Case::new(vec![
        Stored("down", down.clone()),
        Stored("beside", beside.clone()),
    ])
    .await;
    case.accept(0..50).await;
    let change = sinks(vec![stays("beside"), new("instead", &instead)]);
    case.line.change(change, SHORT).await.unwrap();
    case.accept(50..80).await;
    case.line.settled().await;
    assert_eq!(
        beside.sorted(),
        ids(0..80),
        "a sink that stays gets nothing twice"
    );
    assert_eq!(down.sorted(), ids(0..3));
    let got = instead.sorted();
    assert_eq!(
        got[got.len() - 77..],
        ids(3..80),
        "all that is not committed, once"
    );
    assert_eq!(case.delivered().await, 80);
    let names: Vec<_> = case
        .line
        .meters()
        .sinks
        .all()
        .iter()
        .map(|sink| sink.name.clone())
        .collect();
    assert_eq!(names, ["beside", "instead"]);
}

#[tokio::test]
async fn a_sink_that_cannot_be_opened_changes_nothing() {
    let store = Store::open();
    let case = Case::new(vec![Stored("one", store.clone())]).await;
    case.accept(0..5).await;
    let change = sinks(vec![new("broken", &Store::open())]);
    let error = case.line.change(change, LONG).await.unwrap_err();
    assert!(error.to_string().contains("it cannot be opened"), "{error}");
    case.accept(5..10).await;
    case.line.settled().await;
    assert_eq!(store.sorted(), ids(0..10));
}

#[tokio::test]
async fn a_condition_decides_again_about_what_waits() {
    let (down, some) = (Store::new(0), Store::open());
    let case = Case::new(vec![Stored("down", down)]).await;
    case.accept(0..10).await;
    let options = FilterStageOptions {
        field: "id".into(),
        equals: vec!["004".into(), "007".into()],
        keep: true,
    };
    let seat = Seat {
        when: Some(Condition::Fields(FilterStage::new(options).unwrap())),
        ..new("some", &some)
    };
    case.line.change(sinks(vec![seat]), SHORT).await.unwrap();
    case.line.settled().await;
    assert_eq!(some.sorted(), ["004", "007"]);
    let status = case
        .ledger
        .status(&case.reading.split.stream)
        .await
        .unwrap();
    let counts = status.counts;
    assert_eq!((counts.read, counts.delivered, counts.dropped), (10, 2, 8));
}
