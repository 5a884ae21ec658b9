//! Ready or not, and why: by pipelines that run, streams that move and sinks that take events.

use async_trait::async_trait;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::Desk;
use crate::clock::{SystemClock, millis};
use crate::dead_letter::DeadLetters;
use crate::event::{Batch, Event, Identity, Part};
use crate::health::Thresholds;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{Split, Taken};
use crate::line::Parts;
use crate::line::reading::Reading;
use crate::sink::{Outlet, Sink, Written};

/// Takes nothing before it is told to, then refuses the first event of each batch.
struct Slow(Arc<Notify>);

#[async_trait]
impl Sink for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        self.0.notified().await;
        let refused = (0..batches.len()).map(|batch| (batch, 0, "too blue".to_owned()));
        Ok(Written {
            refused: refused.collect(),
            ..Written::default()
        })
    }
}

/// A pipeline with one sink and without tenants, and what asks how it is.
struct Case {
    desk: Desk,
    views: Arc<Views>,
    health: Arc<Watch>,
    ledger: Arc<dyn Ledger>,
    line: Arc<Line>,
    /// Lets the sink take what it was given.
    take: Arc<Notify>,
    stop: CancellationToken,
    clock: SharedClock,
    _folder: tempfile::TempDir,
}

impl Case {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(Duration::from_secs(60)));
        let take = Arc::new(Notify::new());
        let parts = Parts {
            ledger: ledger.clone(),
            stages: Vec::new(),
            sinks: vec![Outlet::ordered(Slow(take.clone()))],
            dead_letter: DeadLetters::new(folder.path(), "test", clock.clone()),
            clock: clock.clone(),
        };
        let (line, _) = Line::start(parts).await.unwrap();
        let views = Arc::new(Views::new(clock.clone()));
        let stop = CancellationToken::new();
        Self {
            desk: Desk::new(views.clone(), None, stop.clone()),
            health: Arc::new(Watch::new(Thresholds::default())),
            _folder: folder,
            views,
            ledger,
            line,
            take,
            stop,
            clock,
        }
    }

    fn show(&self) -> Shown {
        let looked_at = (
            self.health.clone(),
            Arc::downgrade(&self.ledger),
            Arc::downgrade(&self.line),
        );
        let view = View::new(
            About {
                name: "contoso".into(),
                file: "contoso.yaml".into(),
                once: false,
                plugin: "o365".into(),
                plugin_digest: String::new(),
                sinks: vec!["slow"],
            },
            looked_at,
            Arc::default(),
        );
        self.views.show(Arc::new(view))
    }

    /// What `/readyz` says.
    async fn ready(&self) -> (StatusCode, Value) {
        let request = Request::get("/readyz").body(()).unwrap();
        let answer = self.desk.answer(&request).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[track_caller]
    fn check((status, body): (StatusCode, Value), reasons: &Value) {
        let ready = reasons.as_array().unwrap().is_empty();
        let expected = if ready { 200 } else { 503 };
        assert_eq!((status.as_u16(), &body["reasons"]), (expected, reasons));
        assert_eq!(body["ready"], ready);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_is_ready_while_every_pipeline_runs() {
    let case = Case::new().await;
    Case::check(case.ready().await, &json!([]));
    case.views.expect(["contoso".to_owned()]);
    let missing = json!([{ "pipeline": "contoso", "reason": "the pipeline does not run" }]);
    Case::check(case.ready().await, &missing);
    let shown = case.show();
    Case::check(case.ready().await, &json!([]));
    case.stop.cancel();
    let stopping = json!([{ "reason": "the process is stopping" }]);
    Case::check(case.ready().await, &stopping);
    drop(shown);
    let mut both = stopping.as_array().unwrap().clone();
    both.extend(missing.as_array().unwrap().clone());
    Case::check(case.ready().await, &json!(both));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_named_until_it_moves() {
    let case = Case::new().await;
    let _shown = case.show();
    let stream = StreamKey::new("contoso", "Audit.Exchange");
    let now_ms = case.clock.now_ms();
    let at_work = case.health.begin(stream.clone(), now_ms);
    Case::check(case.ready().await, &json!([]));
    let progress = |advanced_ms| Progress {
        watermark_ms: Some(advanced_ms),
        advanced_ms: Some(advanced_ms),
        listed_ms: Some(now_ms),
        ..Progress::default()
    };
    let hour_ms = millis(Duration::from_hours(1));
    let still = progress(now_ms - hour_ms);
    case.health.look(vec![(stream.clone(), still)], now_ms);
    let reason = json!([{
        "pipeline": "contoso",
        "tenant": "contoso",
        "stream": "Audit.Exchange",
        "reason": "listing has not advanced for 1h00m",
    }]);
    Case::check(case.ready().await, &reason);
    case.health
        .look(vec![(stream.clone(), progress(now_ms))], now_ms);
    Case::check(case.ready().await, &json!([]));
    // One whose tenant has left is nobody's trouble.
    case.health
        .look(vec![(stream, progress(now_ms - hour_ms))], now_ms);
    drop(at_work);
    Case::check(case.ready().await, &json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_is_named_and_its_counters_add_up() {
    let case = Case::new().await;
    let _shown = case.show();
    let stream = StreamKey::new("contoso", "Audit.Exchange");
    let split = Split {
        id: "1".into(),
        payload: Vec::new(),
        created_ms: 0,
        expires_ms: None,
        weight: 1,
    };
    let taken = Taken {
        split,
        discovered_ms: None,
        attempts: 0,
        quarantined: false,
    };
    let reading = Arc::new(Reading::new(&stream, &taken));
    let events = ["1", "2", "3"].map(|id| Event {
        id: id.into(),
        fingerprint: 0,
        time_ms: 0,
        body: r#"{"a":1}"#.into(),
        identity: Identity::of("contoso", id, 0),
    });
    let batch = Batch {
        stream: stream.clone(),
        events: events.to_vec(),
        part: Part::default(),
    };
    case.line.accept(batch, &reading).await.unwrap();
    case.line.finish(reading).await.unwrap();
    tokio::time::sleep(SINK_PATIENCE / 2).await;
    Case::check(case.ready().await, &json!([]));
    tokio::time::sleep(SINK_PATIENCE / 2).await;
    let reason = json!([{
        "pipeline": "contoso",
        "sink": "slow",
        "reason": "it has not taken any events for 60 s",
    }]);
    Case::check(case.ready().await, &reason);
    let before = case.line.meters().sinks.all()[0].counts();
    assert_eq!((before.pending().events, before.sent().events), (3, 0));
    let nothing = case.line.meters().streams.all();
    assert_eq!(
        nothing.events.read, 0,
        "what is not committed is not counted"
    );

    case.take.notify_one();
    case.line.settled().await;
    Case::check(case.ready().await, &json!([]));
    let after = case.line.meters().sinks.all()[0].counts();
    assert_eq!((after.pending().events, after.refused.events), (0, 1));
    assert_eq!((after.sent().events, after.sent().bytes), (2, 14));
    let all = case.line.meters().streams.all();
    assert_eq!(all.events, case.line.totals().counts());
    assert_eq!((all.events.delivered, all.events.dead_lettered), (2, 1));
    assert_eq!(
        (all.read_bytes, all.delivered),
        (21, case.line.totals().splits())
    );
    let of_ledger = case.ledger.status(&stream).await.unwrap();
    assert_eq!(all.events, of_ledger.counts);
}
