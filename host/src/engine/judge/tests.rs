//! A whole engine under simulated time: a sink that is down, a listing that is refused, a tenant in which nothing
//! happens, a backlog of a week; and lag to the millisecond.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{Clock, SharedClock, millis};
use crate::dead_letter::DeadLetters;
use crate::engine::{Outcome, Tenant};
use crate::error::Error;
use crate::event::{Batch, Event, Identity, StreamKey};
use crate::health::{Thresholds, Watch};
use crate::ledger::Split;
use crate::ledger::memory::MemoryLedger;
use crate::line::{Line, Parts};
use crate::metrics::lag::StreamLag;
use crate::sink::{Outlet, Sink, Written};
use crate::source::{Discovery, Failure, Next, Output, Source, Stream};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const BEGIN_MS: i64 = 1_800_000_000_000;

/// Events happen so long before their split is available, that so long before it is listed; reading and writing it
/// take so long.
const EVENT_AGES: [Duration; 2] = [Duration::from_secs(600), Duration::from_secs(40)];
const SPLIT_AGE: Duration = Duration::from_secs(20);
const READING: Duration = Duration::from_secs(3);
const WRITING: Duration = Duration::from_secs(2);

/// Follows tokio's time, which a test pauses.
#[derive(Debug)]
struct Simulated(Instant);

impl Clock for Simulated {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + millis(self.0.elapsed())
    }
}

/// What a listing finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One split, each time.
    Steady,
    /// Nothing.
    Quiet,
    /// So many splits at first, from the last hours of a week to now, then nothing.
    Backlog(u32),
}

/// One stream that is listed every minute, unless it is refused.
struct Feed {
    clock: SharedClock,
    kind: Kind,
    listed: AtomicBool,
    refused: AtomicBool,
}

impl Feed {
    fn find(&self, now_ms: i64) -> Vec<Split> {
        let first = !self.listed.swap(true, Ordering::Relaxed);
        let week_ms = millis(HOUR) * 168;
        let split = |created_ms: i64| Split {
            id: created_ms.to_string(),
            payload: Vec::new(),
            created_ms,
            expires_ms: Some(created_ms + week_ms),
            weight: 1,
        };
        match self.kind {
            Kind::Steady => vec![split(now_ms - millis(SPLIT_AGE))],
            Kind::Backlog(count) if first => {
                let apart_ms = (week_ms - millis(HOUR)) / i64::from(count);
                let created = (0..count).map(|number| now_ms - i64::from(number) * apart_ms);
                created.map(split).collect()
            }
            Kind::Quiet | Kind::Backlog(_) => Vec::new(),
        }
    }
}

#[async_trait]
impl Source for Feed {
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
        _: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(Failure::Unauthorised("no consent".into()));
        }
        let now_ms = self.clock.now_ms();
        Ok(Discovery {
            splits: self.find(now_ms),
            next: Next::At(now_ms + millis(MINUTE)),
            watermark_ms: Some(now_ms),
            gaps: Vec::new(),
            state: BTreeMap::new(),
        })
    }

    async fn read(
        &self,
        _: &Stream,
        split: &Split,
        _: u32,
        output: Arc<dyn Output>,
    ) -> Result<(), Failure> {
        tokio::time::sleep(READING).await;
        let event = |age: Duration| {
            let id = format!("{} {age:?}", split.id);
            Event {
                fingerprint: 0,
                time_ms: split.created_ms - millis(age),
                body: "{}".into(),
                identity: Identity::of("contoso", &id, 0),
                id: id.into(),
            }
        };
        // The first one twice: what is known is not counted again.
        let events = [EVENT_AGES[0], EVENT_AGES[0], EVENT_AGES[1]].map(event);
        output
            .emit(events.into())
            .await
            .map_err(|_| Failure::Cancelled)
    }
}

/// A sink that can be down.
struct Valve(Arc<AtomicBool>);

#[async_trait]
impl Sink for Valve {
    fn name(&self) -> &'static str {
        "valve"
    }

    async fn write(&mut self, _: &[Batch]) -> Result<Written, Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::temporary("it is down"));
        }
        tokio::time::sleep(WRITING).await;
        Ok(Written::default())
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(with));
        lines.map(str::to_owned).collect()
    }
}

/// An engine at work.
struct Run {
    feed: Arc<Feed>,
    down: Arc<AtomicBool>,
    health: Arc<Watch>,
    line: Arc<Line>,
    stop: CancellationToken,
    running: Mutex<Option<JoinHandle<Outcome>>>,
    _folder: tempfile::TempDir,
}

impl Run {
    async fn start(kind: Kind) -> Self {
        let clock: SharedClock = Arc::new(Simulated(Instant::now()));
        let ledger = Arc::new(MemoryLedger::new(HOUR * 192));
        let (folder, down) = (
            tempfile::tempdir().unwrap(),
            Arc::new(AtomicBool::new(false)),
        );
        let parts = Parts {
            ledger: ledger.clone(),
            stages: Vec::new(),
            sinks: vec![Outlet::ordered(Valve(down.clone()))],
            dead_letter: DeadLetters::new(folder.path(), "judged", clock.clone()),
            clock: clock.clone(),
        };
        let (line, _) = Line::start(parts).await.unwrap();
        let health = Arc::new(Watch::new(Thresholds::default()));
        let stop = CancellationToken::new();
        let engine = Engine {
            ledger,
            line: line.clone(),
            clock: clock.clone(),
            health: health.clone(),
            once: false,
            stop: stop.clone(),
            drain_timeout: Duration::ZERO,
        };
        let feed = Arc::new(Feed {
            clock,
            kind,
            listed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        });
        let tenant = Tenant {
            id: "contoso".into(),
            source: feed.clone(),
            reads: 4,
        };
        let (_, changes) = mpsc::channel(1);
        let running = tokio::spawn(engine.run(vec![tenant], changes));
        Self {
            feed,
            down,
            health,
            line,
            stop,
            running: Mutex::new(Some(running)),
            _folder: folder,
        }
    }

    /// The reasons for which the stream is unhealthy; none when it is healthy.
    fn reasons(&self) -> Vec<String> {
        let streams = self.health.streams();
        let [(stream, health)] = &streams[..] else {
            panic!("one stream at work: {streams:?}");
        };
        assert_eq!(*stream, StreamKey::new("contoso", "feed"));
        health.reasons().to_vec()
    }

    /// How long it takes until the stream is as it should be.
    async fn until(&self, healthy: bool) -> Duration {
        let begun = Instant::now();
        while self.reasons().is_empty() != healthy {
            assert!(begun.elapsed() < HOUR * 24, "it never was");
            tokio::time::sleep(SECOND * 10).await;
        }
        begun.elapsed()
    }

    /// Lets a time pass in which the stream is healthy throughout.
    async fn healthy_for(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(SECOND * 10).await;
            assert_eq!(self.reasons(), [""; 0]);
        }
    }

    async fn end(&self) {
        self.stop.cancel();
        let running = self.running.lock().unwrap().take().unwrap();
        running.await.unwrap();
        assert_eq!(self.health.streams(), [], "nothing is at work any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_long_makes_its_streams_unhealthy_until_it_is_back() {
    let run = Run::start(Kind::Steady).await;
    run.healthy_for(HOUR * 2).await;
    run.down.store(true, Ordering::Relaxed);
    let after = run.until(false).await;
    // An hour after the first content that it has not taken.
    assert!(after > 59 * MINUTE && after < 62 * MINUTE, "{after:?}");
    let reasons = run.reasons();
    assert!(
        reasons.len() == 1 && reasons[0].starts_with("the oldest undelivered content is 1h0"),
        "{reasons:?}"
    );
    run.down.store(false, Ordering::Relaxed);
    let after = run.until(true).await;
    assert!(after < 3 * MINUTE, "{after:?}");
    run.healthy_for(HOUR).await;
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_listing_is_refused_becomes_unhealthy_and_recovers_with_consent() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _logged = tracing::subscriber::set_default(subscriber.finish());
    let run = Run::start(Kind::Steady).await;
    run.healthy_for(HOUR).await;
    run.feed.refused.store(true, Ordering::Relaxed);
    let after = run.until(false).await;
    assert!(after > MINUTE * 28 && after < MINUTE * 32, "{after:?}");
    let reasons = run.reasons();
    assert_eq!(
        reasons,
        ["listing has not advanced for 30m: unauthorised: no consent"]
    );
    run.feed.refused.store(false, Ordering::Relaxed);
    // The engine asks again every quarter of an hour.
    let after = run.until(true).await;
    assert!(after < MINUTE * 17, "{after:?}");
    run.healthy_for(HOUR).await;
    run.end().await;
    // Each change is one line, with what a program looks for.
    let lines = log.lines("health=");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for part in [
        "WARN",
        "tenant=contoso",
        "stream=feed",
        "\"unhealthy\"",
        "no consent",
    ] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(
        lines[1].contains("INFO") && lines[1].contains("\"ok\""),
        "{}",
        lines[1]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_never_listed_is_told_from_one_that_has_just_begun() {
    let run = Run::start(Kind::Steady).await;
    run.feed.refused.store(true, Ordering::Relaxed);
    tokio::time::sleep(SECOND).await;
    let after = run.until(false).await;
    assert!(after > MINUTE * 29 && after < MINUTE * 32, "{after:?}");
    assert!(
        run.reasons()[0].starts_with("it could not be listed for 30m"),
        "{:?}",
        run.reasons()
    );
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_in_which_nothing_happens_is_healthy() {
    let run = Run::start(Kind::Quiet).await;
    tokio::time::sleep(SECOND).await;
    run.healthy_for(HOUR * 48).await;
    assert_eq!(run.line.lags().streams(), []);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_a_week_that_is_worked_off_is_healthy() {
    // Four at a time, each in three seconds: more than two hours, and the oldest have one hour left.
    let run = Run::start(Kind::Backlog(10_000)).await;
    tokio::time::sleep(SECOND).await;
    run.healthy_for(HOUR * 2).await;
    let splits = run.line.totals().splits();
    assert!(splits > 8_000 && splits < 10_000, "{splits}");
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn lag_is_measured_in_its_three_parts() {
    let run = Run::start(Kind::Steady).await;
    // Listed at the beginning and after a minute; both are read and written by now.
    tokio::time::sleep(MINUTE + READING + WRITING + SECOND).await;
    let [(stream, lag)]: &[(StreamKey, StreamLag)] = &run.line.lags().streams()[..] else {
        panic!("one stream");
    };
    assert_eq!(*stream, StreamKey::new("contoso", "feed"));
    let measured = lag.map(|part| {
        let histogram = part.histogram;
        (histogram.count(), histogram.sum_ms(), part.last_ms)
    });
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let of = |count: u64, sum: Duration, last: Duration| (count, ms(sum), Some(millis(last)));
    let expected = [
        of(4, 2 * (EVENT_AGES[0] + EVENT_AGES[1]), EVENT_AGES[1]),
        of(2, 2 * SPLIT_AGE, SPLIT_AGE),
        of(2, 2 * (READING + WRITING), READING + WRITING),
    ];
    assert_eq!(measured, expected);
    run.end().await;
}
