//! Tenants that come and go while others run: nobody is disturbed, nothing is lost, nothing stays behind.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::clock::SystemClock;
use crate::dead_letter::DeadLetters;
use crate::engine::*;
use crate::error::Error;
use crate::event::{Batch, Event, Identity};
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{Split, StreamStatus};
use crate::line::Parts;
use crate::sink::{Outlet, Sink, Written};
use crate::source::{Discovery, Next, Output, Stream};

/// Splits that a source finds, once.
const SPLITS: usize = 6;

const HOUR: Duration = Duration::from_hours(1);

/// A tenant's origin: its splits are read when there is leave.
struct Origin {
    id: String,
    leave: Semaphore,
    listings: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Instances of the tenant that are at work, and the most there ever were.
    at_work: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Origin {
    fn new(id: &str, leave: usize) -> Arc<Self> {
        Self::with(id, leave, &Arc::default())
    }

    fn with(id: &str, leave: usize, at_work: &Arc<(AtomicUsize, AtomicUsize)>) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            leave: Semaphore::new(leave),
            listings: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            at_work: at_work.clone(),
        })
    }

    /// Listings begun, reads begun, reads ended.
    fn calls(&self) -> (usize, usize, usize) {
        let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
        (
            count(&self.listings),
            count(&self.begun),
            count(&self.ended),
        )
    }
}

/// Counts an instance at work until it is dropped.
struct AtWork<'a>(&'a Origin);

impl<'a> AtWork<'a> {
    fn begin(origin: &'a Origin) -> Self {
        let now = origin.at_work.0.fetch_add(1, Ordering::SeqCst) + 1;
        origin.at_work.1.fetch_max(now, Ordering::SeqCst);
        Self(origin)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Source for Origin {
    async fn streams(&self) -> Result<Vec<Stream>, Failure> {
        Ok(vec![Stream {
            name: "feed".into(),
            quota_key: String::new(),
            since_ms: None,
        }])
    }

    async fn discover(
        &self,
        _: &Stream,
        state: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        let split = |number: usize| Split {
            id: format!("{number}"),
            payload: Vec::new(),
            created_ms: i64::try_from(number).unwrap(),
            expires_ms: None,
            weight: 1,
        };
        let listed = state.contains_key("listed");
        Ok(Discovery {
            splits: (0..SPLITS).filter(|_| !listed).map(split).collect(),
            next: Next::At(i64::MAX),
            watermark_ms: None,
            gaps: Vec::new(),
            state: BTreeMap::from([("listed".to_owned(), Some(Vec::new()))]),
        })
    }

    async fn read(
        &self,
        _: &Stream,
        split: &Split,
        _: u32,
        output: Arc<dyn Output>,
    ) -> Result<(), Failure> {
        let _at_work = AtWork::begin(self);
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.leave.acquire().await.unwrap().forget();
        let event = Event {
            id: split.id.clone().into(),
            fingerprint: 0,
            time_ms: 0,
            body: format!("{}/{}", self.id, split.id).into(),
            identity: Identity::of(&self.id, &split.id, 0),
        };
        output
            .emit(vec![event])
            .await
            .map_err(|_| Failure::Cancelled)?;
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Keeps what it gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Bytes>>>);

#[async_trait]
impl Sink for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let events = batches.iter().flat_map(|batch| &batch.events);
        let mut kept = self.0.lock().unwrap();
        kept.extend(events.map(|event| event.body.clone()));
        Ok(Written::default())
    }
}

/// An engine under way.
struct Case {
    ledger: Arc<dyn Ledger>,
    kept: Kept,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
    running: JoinHandle<Outcome>,
    _folder: TempDir,
}

impl Case {
    async fn start(tenants: &[&Arc<Origin>], drain_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(HOUR));
        let kept = Kept::default();
        let parts = Parts {
            ledger: ledger.clone(),
            stages: Vec::new(),
            sinks: vec![Outlet::ordered(kept.clone())],
            dead_letter: DeadLetters::new(folder.path(), "test", clock.clone()),
            clock: clock.clone(),
        };
        let (line, _) = Line::start(parts).await.unwrap();
        let stop = CancellationToken::new();
        let engine = Engine {
            ledger: ledger.clone(),
            line,
            clock,
            once: false,
            stop: stop.clone(),
            health: Arc::default(),
            drain_timeout,
        };
        let (changes, receiver) = mpsc::channel(1);
        let first = tenants.iter().map(|origin| tenant(origin)).collect();
        Self {
            ledger,
            kept,
            changes,
            stop,
            running: tokio::spawn(engine.run(first, receiver)),
            _folder: folder,
        }
    }

    async fn put(&self, origin: &Arc<Origin>) {
        assert!(self.changes.send(Change::Put(tenant(origin))).await.is_ok());
    }

    async fn remove(&self, id: &str) {
        assert!(self.changes.send(Change::Remove(id.into())).await.is_ok());
    }

    async fn status(&self, id: &str) -> StreamStatus {
        let key = StreamKey::new(id, "feed");
        self.ledger.status(&key).await.unwrap()
    }

    /// What was delivered for a tenant, in order of its splits.
    fn delivered(&self, id: &str) -> Vec<String> {
        let kept = self.kept.0.lock().unwrap();
        let texts = kept
            .iter()
            .map(|body| String::from_utf8_lossy(body).into_owned());
        let mut own: Vec<_> = texts
            .filter(|text| text.starts_with(&format!("{id}/")))
            .collect();
        own.sort();
        own
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

fn tenant(origin: &Arc<Origin>) -> Tenant {
    Tenant {
        id: origin.id.as_str().into(),
        source: origin.clone(),
        reads: 2,
    }
}

fn all_of(id: &str) -> Vec<String> {
    (0..SPLITS).map(|number| format!("{id}/{number}")).collect()
}

/// Waits until it is so. Time stands still but for timers, so this ends at once or never.
async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let seen = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(10), seen).await;
    assert!(waited.is_ok(), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_added_and_the_others_go_on() {
    let first = Origin::new("first", 0);
    let case = Case::start(&[&first], HOUR).await;
    until("two reads are under way", async || first.calls().1 == 2).await;
    let second = Origin::new("second", SPLITS);
    case.put(&second).await;
    until("the second is delivered", async || {
        case.delivered("second") == all_of("second")
    })
    .await;
    case.remove("second").await;
    case.remove("nobody").await;
    until("the second has ended", async || {
        Arc::strong_count(&second) == 1
    })
    .await;
    assert_eq!(
        first.calls(),
        (1, 2, 0),
        "neither listed anew nor read anew"
    );
    first.leave.add_permits(SPLITS);
    until("the first is delivered", async || {
        case.delivered("first") == all_of("first")
    })
    .await;
    assert_eq!(first.calls(), (1, SPLITS, SPLITS));
    case.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_tenant_ends_what_is_under_way_and_begins_nothing() {
    let origin = Origin::new("gone", 0);
    let case = Case::start(&[&origin], HOUR).await;
    until("two reads are under way", async || origin.calls().1 == 2).await;
    case.remove("gone").await;
    until("the rest is put back", async || {
        case.status("gone").await.discovered == 4
    })
    .await;
    origin.leave.add_permits(SPLITS);
    until("it has ended", async || Arc::strong_count(&origin) == 1).await;
    until("two are delivered", async || {
        case.status("gone").await.delivered == 2
    })
    .await;
    assert_eq!(origin.calls(), (1, 2, 2));
    let status = case.status("gone").await;
    assert_eq!((status.reading, status.discovered), (0, 4));
    case.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_put_back_and_goes_on_when_the_tenant_is_back() {
    let origin = Origin::new("slow", 1);
    let case = Case::start(&[&origin], Duration::from_secs(30)).await;
    until("one is delivered", async || {
        case.status("slow").await.delivered == 1
    })
    .await;
    until("two reads are under way", async || origin.calls().1 == 3).await;
    case.remove("slow").await;
    until("it has ended", async || Arc::strong_count(&origin) == 1).await;
    let status = case.status("slow").await;
    assert_eq!(
        (status.reading, status.discovered, status.delivered),
        (0, 5, 1)
    );
    let again = Origin::new("slow", SPLITS);
    case.put(&again).await;
    until("all is delivered", async || {
        case.status("slow").await.delivered == SPLITS as u64
    })
    .await;
    assert_eq!(case.delivered("slow"), all_of("slow"), "each once");
    assert_eq!(again.calls(), (1, 5, 5));
    case.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_tenant_begins_when_the_one_before_has_ended() {
    let at_work = Arc::default();
    let before = Origin::with("same", 0, &at_work);
    let case = Case::start(&[&before], HOUR).await;
    until("two reads are under way", async || before.calls().1 == 2).await;
    let (never, after) = (
        Origin::with("same", SPLITS, &at_work),
        Origin::with("same", SPLITS, &at_work),
    );
    case.put(&never).await;
    case.put(&after).await;
    until("the rest is put back", async || {
        case.status("same").await.discovered == 4
    })
    .await;
    assert_eq!(after.calls(), (0, 0, 0));
    before.leave.add_permits(SPLITS);
    until("all is delivered", async || {
        case.delivered("same") == all_of("same")
    })
    .await;
    assert_eq!((before.calls(), after.calls()), ((1, 2, 2), (1, 4, 4)));
    assert_eq!(never.calls(), (0, 0, 0), "only the last change counts");
    assert_eq!(
        at_work.1.load(Ordering::SeqCst),
        2,
        "never more than its slots"
    );
    case.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_taken_back_while_the_tenant_drains_is_a_removal() {
    let before = Origin::new("same", 0);
    let case = Case::start(&[&before], HOUR).await;
    until("two reads are under way", async || before.calls().1 == 2).await;
    let after = Origin::new("same", SPLITS);
    case.put(&after).await;
    case.remove("same").await;
    until("nobody waits to begin", async || {
        Arc::strong_count(&after) == 1
    })
    .await;
    before.leave.add_permits(SPLITS);
    until("it has ended", async || Arc::strong_count(&before) == 1).await;
    assert_eq!(after.calls(), (0, 0, 0));
    case.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_without_tenants_waits_for_some_and_ends_when_none_can_come() {
    let case = Case::start(&[], HOUR).await;
    let origin = Origin::new("late", SPLITS);
    case.put(&origin).await;
    until("all is delivered", async || {
        case.delivered("late") == all_of("late")
    })
    .await;
    case.remove("late").await;
    let Case {
        changes, running, ..
    } = case;
    assert!(!running.is_finished());
    drop(changes);
    running.await.unwrap();
}

/// What one thousand tenants leave behind is what the ledger knows of them.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_tenant_stays_in_memory() {
    let steady = Origin::new("steady", SPLITS);
    let case = Case::start(&[&steady], Duration::from_secs(1)).await;
    let mut gone: Vec<Weak<Origin>> = Vec::new();
    for number in 0..1_000 {
        // Some end by themselves, some have to be cut off.
        let origin = Origin::new("passing", number % 3);
        gone.push(Arc::downgrade(&origin));
        case.put(&origin).await;
        if number % 2 == 0 {
            case.remove("passing").await;
        }
    }
    case.remove("passing").await;
    until("all have ended", async || {
        gone.iter().all(|origin| origin.strong_count() == 0)
    })
    .await;
    assert_eq!(steady.calls(), (1, SPLITS, SPLITS));
    assert_eq!(case.status("passing").await.reading, 0);
    case.end().await;
}
