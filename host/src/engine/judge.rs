//! Judges the progress of every stream now and then, and says once when one stops or moves again.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use crate::health::{Change, Health};

/// Short beside every threshold; one query then serves all streams.
const JUDGE_EVERY: Duration = Duration::from_secs(30);

/// Ends with its handle. A single pass is not judged: it does not go on listing, and its exit code says how it went.
pub(super) fn start(engine: Arc<Engine>) -> Option<AbortOnDropHandle<()>> {
    (!engine.once).then(|| AbortOnDropHandle::new(tokio::spawn(run(engine))))
}

async fn run(engine: Arc<Engine>) {
    loop {
        // First of all there is time to move.
        tokio::time::sleep(JUDGE_EVERY).await;
        match engine.ledger.progress().await {
            Ok(progress) => {
                let changes = engine.health.look(progress, engine.clock.now_ms());
                changes.iter().for_each(say);
            }
            Err(error) => {
                tracing::warn!(%error, "health cannot be judged: the ledger cannot be read; trying again");
            }
        }
    }
}

fn say(Change { stream, health }: &Change) {
    let (tenant, stream) = (&stream.tenant, &stream.stream);
    match health {
        Health::Ok => {
            tracing::info!(%tenant, %stream, health = health.name(), "the stream moves again");
        }
        Health::Unhealthy { reasons } => {
            let reason = reasons.join("; ");
            tracing::warn!(%tenant, %stream, health = health.name(), reason, "the stream makes no progress");
        }
    }
}

#[cfg(test)]
mod tests;
