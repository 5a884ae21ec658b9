//! What a start does first: sinks and dead letters are brought to what was committed.

use crate::clock::SharedClock;
use crate::dead_letter::DeadLetters;
use crate::error::Error;
use crate::ledger::{Commit, Ledger};
use crate::sink::{Outlet, Positions, Way};

/// Cuts off what was not committed, and commits where everything begins.
pub(super) async fn recover(
    ledger: &dyn Ledger,
    sinks: &mut [Outlet],
    dead_letter: &mut DeadLetters,
    clock: &SharedClock,
) -> Result<(), Error> {
    let mut positions = Positions::new();
    for sink in sinks {
        let Way::Ordered(sink) = &mut sink.way else {
            continue;
        };
        let committed = committed(ledger, sink.position_names()).await?;
        positions.extend(sink.recover(&committed).await?);
    }
    let committed = committed(ledger, dead_letter.position_names()).await?;
    positions.extend(dead_letter.recover(&committed).await?);
    let commit = Commit {
        positions,
        ..Commit::default()
    };
    ledger.commit(commit, clock.now_ms()).await
}

async fn committed(ledger: &dyn Ledger, names: Vec<String>) -> Result<Positions, Error> {
    let mut committed = Positions::new();
    for name in names {
        if let Some(position) = ledger.position(&name).await? {
            committed.insert(name, position);
        }
    }
    Ok(committed)
}
