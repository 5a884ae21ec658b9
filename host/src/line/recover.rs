//! What a line does before it takes anything: its sinks and dead letters end where the ledger says that they end.

use crate::clock::SharedClock;
use crate::dead_letter::DeadLetters;
use crate::error::Error;
use crate::ledger::{Commit, Ledger};
use crate::sink::{Outlet, Positions, Way};

/// Brings sinks and dead letters to what was committed.
pub(super) async fn recover(
    ledger: &dyn Ledger,
    sinks: &mut [Outlet],
    dead_letter: &mut DeadLetters,
    clock: &SharedClock,
) -> Result<(), Error> {
    let ways = sinks.iter_mut().map(|sink| &mut sink.way);
    let mut positions = of_sinks(ledger, ways).await?;
    let committed = committed(ledger, dead_letter.position_names()).await?;
    positions.extend(dead_letter.recover(&committed).await?);
    commit(ledger, positions, clock).await
}

/// Brings sinks to what was committed; returns the positions to commit before anything is written.
pub(super) async fn of_sinks(
    ledger: &dyn Ledger,
    ways: impl Iterator<Item = &mut Way>,
) -> Result<Positions, Error> {
    let mut positions = Positions::new();
    for way in ways {
        let Way::Ordered(sink) = way else {
            continue;
        };
        let committed = committed(ledger, sink.position_names()).await?;
        positions.extend(sink.recover(&committed).await?);
    }
    Ok(positions)
}

/// Commits positions alone.
pub(super) async fn commit(
    ledger: &dyn Ledger,
    positions: Positions,
    clock: &SharedClock,
) -> Result<(), Error> {
    let commit = Commit {
        positions,
        ..Commit::default()
    };
    ledger.commit(commit, clock.now_ms()).await
}

/// The last committed positions under these names.
pub(crate) async fn committed(ledger: &dyn Ledger, names: Vec<String>) -> Result<Positions, Error> {
    let mut committed = Positions::new();
    for name in names {
        if let Some(position) = ledger.position(&name).await? {
            committed.insert(name, position);
        }
    }
    Ok(committed)
}
