//! Listings that do not end, and listings that find nothing for ever.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::clock::SystemClock;
use crate::dead_letter::DeadLetters;
use crate::ledger::Split;
use crate::ledger::memory::MemoryLedger;
use crate::line::Parts;
use crate::source::{Discovery, Next, Output, Scope, Stream};

/// A source with these streams, whose listings do as the test wants.
struct Listing<F>(&'static [&'static str], F);

const ONE: &[&str] = &["Audit.General"];

#[async_trait]
impl<F, A> Source for Listing<F>
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Result<Discovery, Failure>> + Send,
{
    async fn streams(&self) -> Result<Vec<Stream>, Failure> {
        let stream = |name: &&str| Stream {
            name: (*name).into(),
            quota_key: String::new(),
            since_ms: None,
        };
        Ok(self.0.iter().map(stream).collect())
    }

    async fn discover(
        &self,
        _stream: &Stream,
        _state: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure> {
        (self.1)().await
    }

    async fn read(
        &self,
        _stream: &Stream,
        _split: &Split,
        _attempt: u32,
        _output: Arc<dyn Output>,
    ) -> Result<(), Failure> {
        unreachable!("nothing was found")
    }
}

fn ledger() -> Arc<dyn Ledger> {
    Arc::new(MemoryLedger::new(Duration::from_secs(60)))
}

async fn run(
    ledger: Arc<dyn Ledger>,
    source: impl Source + 'static,
    once: bool,
    stop: CancellationToken,
) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let parts = Parts {
        ledger: ledger.clone(),
        stages: Vec::new(),
        sinks: Vec::new(),
        dead_letter: DeadLetters::new(folder.path(), "test", clock.clone()),
        clock: clock.clone(),
    };
    let (line, _) = Line::start(parts).await.unwrap();
    let engine = Engine {
        ledger,
        line,
        clock,
        health: Arc::default(),
        once,
        stop,
        drain_timeout: Duration::ZERO,
    };
    let tenant = Tenant {
        id: "contoso".into(),
        source: Arc::new(source),
        reads: 1,
    };
    let (_, changes) = mpsc::channel(1);
    engine.run(vec![tenant], changes).await
}

/// The service answers nothing, or the tenant's budget is spent: a stop is not held up by either.
#[tokio::test(start_paused = true)]
async fn a_listing_that_does_not_end_does_not_hold_up_a_stop() {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let source = Listing(ONE, move || {
        stopping.cancel();
        std::future::pending()
    });
    let begun = Instant::now();
    run(ledger(), source, false, stop).await;
    assert!(begun.elapsed() < STOP_PATIENCE * 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_lists_for_ever_and_finds_nothing_is_slowed_down_and_named() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let source = Listing(ONE, move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        let number = Some(call.to_string().into_bytes());
        std::future::ready(Ok(Discovery {
            splits: Vec::new(),
            next: Next::Again,
            watermark_ms: None,
            gaps: Vec::new(),
            state: BTreeMap::from([("number".to_owned(), number)]),
        }))
    });
    let outcome = run(ledger(), source, true, CancellationToken::new()).await;
    let sentence = outcome.incomplete.first().unwrap();
    assert!(sentence.contains("1000 times in a row"), "{sentence}");
    assert_eq!(calls.load(Ordering::Relaxed), 1_000 * ONCE_FAILURES);
}

/// A stream that is held back by what another one of its tenant met has never asked itself.
#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_its_tenant_says_why() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let source = Listing(&["Audit.Exchange", "Audit.General"], move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err(Failure::Retry {
            after: Some(Duration::from_secs(600)),
            affects: Scope::Tenant,
            reason: "told to wait".into(),
        }))
    });
    let (ledger, stop) = (ledger(), CancellationToken::new());
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        stopping.cancel();
    });
    run(ledger.clone(), source, false, stop).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    for stream in ["Audit.Exchange", "Audit.General"] {
        let status = ledger
            .status(&StreamKey::new("contoso", stream))
            .await
            .unwrap();
        let trouble = status.trouble.expect(stream);
        assert_eq!(
            (&*trouble.kind, &*trouble.reason),
            ("failing", "told to wait")
        );
    }
}
