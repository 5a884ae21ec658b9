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
use crate::source::{Discovery, Next, Output, Stream};

/// A source with one stream whose listings do as the test wants.
struct Listing<F>(F);

#[async_trait]
impl<F, A> Source for Listing<F>
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Result<Discovery, Failure>> + Send,
{
    async fn streams(&self) -> Result<Vec<Stream>, Failure> {
        Ok(vec![Stream {
            name: "Audit.General".into(),
            quota_key: String::new(),
            since_ms: None,
        }])
    }

    async fn discover(
        &self,
        _stream: &Stream,
        _state: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure> {
        (self.0)().await
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

async fn run(source: impl Source + 'static, once: bool, stop: CancellationToken) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(Duration::from_secs(60)));
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
    let source = Listing(move || {
        stopping.cancel();
        std::future::pending()
    });
    let begun = Instant::now();
    run(source, false, stop).await;
    assert!(begun.elapsed() < STOP_PATIENCE * 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_lists_for_ever_and_finds_nothing_is_slowed_down_and_named() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let source = Listing(move || {
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
    let outcome = run(source, true, CancellationToken::new()).await;
    let sentence = outcome.incomplete.first().unwrap();
    assert!(sentence.contains("1000 times in a row"), "{sentence}");
    assert_eq!(calls.load(Ordering::Relaxed), 1_000 * ONCE_FAILURES);
}
