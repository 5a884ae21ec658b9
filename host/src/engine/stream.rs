//! One stream of one tenant: the listing side, and the end of both sides.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;

use super::Shared;
use super::reads::Reads;
use crate::event::StreamKey;
use crate::ledger::{Found, Trouble, hand_over};
use crate::metrics::streams::StreamCounts;
use crate::mutant;
use crate::schedule::{self, Pause};
use crate::source::{Discovery, Failure, Next, Stream};

/// Shortest wait between two listings that found nothing more to list, whatever the plugin asks for.
const LISTING_EVERY: Duration = Duration::from_secs(1);

/// So often in a row a plugin may ask to be called again at once without having found anything new. A week's backlog
/// of an empty feed takes a few dozen calls.
const UNPRODUCTIVE: u32 = 1_000;

/// Lists and reads a stream until the run ends.
pub(super) async fn run(shared: Arc<Shared>, mut stream: Stream) {
    let key = StreamKey::new(&shared.id, &stream.name);
    let engine = &shared.engine;
    let _at_work = engine.health.begin(key.clone(), engine.clock.now_ms());
    stream.since_ms = handed_over(&shared, &key).await;
    let found = Arc::new(Notify::new());
    let (listed, listing) = watch::channel(false);
    let reads = Reads::new(
        shared.clone(),
        stream.clone(),
        key.clone(),
        found.clone(),
        listing,
    );
    let listing = list(&shared, &stream, &key, &found, listed);
    tokio::join!(listing, reads.run());
}

/// Where another collector handed the stream over, if one did.
async fn handed_over(shared: &Shared, key: &StreamKey) -> Option<i64> {
    let mut failures = 0;
    loop {
        match shared.engine.ledger.position(&hand_over(key)).await {
            Ok(position) => return position.map(u64::cast_signed),
            Err(error) => {
                // Starting elsewhere could leave a hole, so this waits.
                tracing::error!(%error, "the ledger cannot be read; trying again");
                failures += 1;
                if !shared.sleep(schedule::storm_wait(failures)).await {
                    return None;
                }
            }
        }
    }
}

/// Discovers, commits, waits; returns when the run is over or, with `once`, when all is listed.
async fn list(
    shared: &Arc<Shared>,
    stream: &Stream,
    key: &StreamKey,
    found: &Notify,
    listed: watch::Sender<bool>,
) {
    let mut failures = 0;
    let mut unproductive = 0;
    loop {
        if failures == 0
            && let Some(failure) = shared.gate.because()
        {
            // Met by another stream of the tenant: this one waits for the same, and says so, too.
            note(shared, key, &failure).await;
        }
        if !shared.unpaused().await {
            break;
        }
        let answer = discover(shared, stream, key).await;
        let answer = answer.and_then(|(next, new)| {
            unproductive = if new == 0 { unproductive + 1 } else { 0 };
            if next == Next::Again && unproductive >= UNPRODUCTIVE {
                unproductive = 0;
                return Err(Failure::Internal(format!(
                    "it asked {UNPRODUCTIVE} times in a row to list again at once and found nothing"
                )));
            }
            Ok(next)
        });
        match answer {
            Ok(next) => {
                if unproductive == 0 || next != Next::Again {
                    failures = 0;
                }
                found.notify_one();
                let wait = match next {
                    Next::Again => continue,
                    Next::At(_) if shared.engine.once => break,
                    Next::At(time) => {
                        let wait = time.saturating_sub(shared.engine.clock.now_ms());
                        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).max(LISTING_EVERY)
                    }
                };
                if !shared.sleep(wait).await {
                    break;
                }
            }
            Err(failure) => {
                shared.report(Some(key), &failure);
                shared.count(key, StreamCounts::failure(&failure));
                note(shared, key, &failure).await;
                if let Pause::Tenant(wait) = schedule::pause(&failure, failures) {
                    shared.gate.close_because(wait, &failure);
                }
                if !shared
                    .wait_or_give_up(Some(key), &failure, &mut failures)
                    .await
                {
                    break;
                }
            }
        }
    }
    // The reading side may stop waiting for more.
    listed.send_replace(true);
    found.notify_one();
}

/// Writes down why a stream cannot be listed, for `sluicegate state`.
async fn note(shared: &Shared, key: &StreamKey, failure: &Failure) {
    let kind = match failure {
        Failure::Cancelled => return,
        Failure::Unauthorised(_) => "unauthorised",
        Failure::Misconfigured(_) => "misconfigured",
        _ => "failing",
    };
    let trouble = Trouble {
        kind: kind.into(),
        reason: failure.to_string(),
        since_ms: shared.engine.clock.now_ms(),
    };
    if let Err(error) = shared.engine.ledger.troubled(key, trouble).await {
        tracing::warn!(%error, "the ledger does not know that the stream cannot be listed");
    }
}

/// One listing, committed with its state before anything of it is read: when to list again, and how many splits are
/// new.
async fn discover(
    shared: &Arc<Shared>,
    stream: &Stream,
    key: &StreamKey,
) -> Result<(Next, u64), Failure> {
    let ledger = &shared.engine.ledger;
    let trouble = |error: crate::error::Error| Failure::Retry {
        after: None,
        affects: crate::source::Scope::Stream,
        reason: error.to_string(),
    };
    let state = ledger.state(key).await.map_err(trouble)?;
    let Discovery {
        splits,
        next,
        watermark_ms,
        gaps,
        state,
    } = match shared
        .unless_stopped(shared.source.discover(stream, state))
        .await
    {
        Some(found) => found?,
        // Only the call is given up, never a commit: a listing by whoever comes next begins where this one ended.
        None => return Err(Failure::Cancelled),
    };
    let lost = gaps.clone();
    let unchanged = state.is_empty();
    let found = Found {
        splits,
        state,
        watermark_ms,
        next_ms: match next {
            Next::Again => None,
            Next::At(time) => Some(time),
        },
        gaps,
    };
    let mut found = found;
    if mutant::is_on("split_dropped") {
        found.splits.pop();
    }
    if mutant::is_on("state_before_splits") {
        let early = Found {
            splits: Vec::new(),
            ..found.clone()
        };
        let _ = ledger
            .discovered(key, early, shared.engine.clock.now_ms())
            .await;
    }
    let new = ledger
        .discovered(key, found, shared.engine.clock.now_ms())
        .await
        .map_err(trouble)?;
    shared.change(|outcome| outcome.discovered += new);
    let found = StreamCounts {
        discovered: new,
        ..StreamCounts::default()
    };
    shared.count(key, found);
    shared.well();
    lost.iter().for_each(|loss| shared.declare(loss));
    // With nothing new and the same state the next call would do the same again, for ever and at full speed.
    let stuck = next == Next::Again && new == 0 && unchanged;
    let next = if stuck {
        Next::At(shared.engine.clock.now_ms())
    } else {
        next
    };
    Ok((next, new))
}
