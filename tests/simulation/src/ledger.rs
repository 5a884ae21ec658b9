//! The ledger as the process sees it: every write is a numbered effect that can fail, and the oracle checks each.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use sluicegate::error::Error;
use sluicegate::event::{Identity, StreamKey};
use sluicegate::ledger::progress::{Backlog, Progress};
use sluicegate::ledger::{
    Commit, Found, Ledger, Loss, Setback, SplitKey, StreamStatus, Taken, Trouble as Hindrance,
};

use crate::chance::Concern;
use crate::coverage::Point;
use crate::effects::Kind;
use crate::judge;
use crate::plan::{Memory, Trouble};
use crate::world::World;

/// A ledger between the process and its durable image.
pub struct Watched {
    world: Arc<World>,
    inner: Arc<dyn Ledger>,
}

impl Watched {
    /// Watches a ledger that was just opened.
    pub fn new(world: Arc<World>, inner: Arc<dyn Ledger>) -> Self {
        Self { world, inner }
    }

    /// The real ledger has threads of its own, which virtual time must not run away from.
    async fn done<T>(&self, call: impl Future<Output = T>) -> T {
        match self.world.plan.memory {
            Memory::Model => call.await,
            Memory::Sqlite => futures::executor::block_on(call),
        }
    }

    fn fails(&self) -> Result<(), Error> {
        if self.world.strikes(Trouble::LedgerErrors, Concern::Disk, 50) {
            self.world.coverage.mark(Point::LedgerFailed);
            return Err(Error::temporary("disk I/O error"));
        }
        Ok(())
    }

    /// One transaction: whole or not at all, known or not known.
    async fn write<T>(
        &self,
        kind: Kind,
        about: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let effect = self.world.effects.begin(kind, about).await;
        self.fails()?;
        let done = self.done(call).await;
        effect.end().await;
        done
    }

    /// Whether a write that happened is reported as failed.
    fn lies(&self) -> Result<(), Error> {
        if self.world.strikes(Trouble::LedgerLies, Concern::Disk, 100) {
            self.world.coverage.mark(Point::LedgerFailedAfter);
            return Err(Error::temporary("disk I/O error after the fact"));
        }
        Ok(())
    }
}

#[async_trait]
impl Ledger for Watched {
    async fn state(&self, stream: &StreamKey) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        self.fails()?;
        self.done(self.inner.state(stream)).await
    }

    async fn discovered(
        &self,
        stream: &StreamKey,
        found: Found,
        now_ms: i64,
    ) -> Result<u64, Error> {
        let about = format!("{stream} {}", found.splits.len());
        let watermark_ms = found.watermark_ms;
        let gaps: Vec<i64> = found.gaps.iter().map(|gap| gap.until_ms).collect();
        let state: Vec<_> = found.state.values().flatten().cloned().collect();
        let call = async {
            let new = self.inner.discovered(stream, found, now_ms).await;
            if new.is_ok() {
                let witness = &self.world.witness;
                witness.discovered(&self.world, stream, watermark_ms, &state);
                for until_ms in gaps {
                    witness.declared(&self.world, stream, until_ms);
                }
            }
            new
        };
        let new = self.write(Kind::Discovered, &about, call).await?;
        self.lies()?;
        Ok(new)
    }

    async fn troubled(&self, stream: &StreamKey, trouble: Hindrance) -> Result<(), Error> {
        self.fails()?;
        self.done(self.inner.troubled(stream, trouble)).await
    }

    async fn take(
        &self,
        stream: &StreamKey,
        limit: usize,
        urgent_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Taken>, Error> {
        let call = self.inner.take(stream, limit, urgent_ms, now_ms);
        let waiting = self.done(self.inner.status(stream)).await?;
        if waiting.discovered + waiting.quarantined == 0 {
            // Nothing to take, which leaves no trace.
            return self.done(call).await;
        }
        self.write(Kind::Take, &stream.to_string(), call).await
    }

    async fn setback(&self, split: &SplitKey, setback: Setback, now_ms: i64) -> Result<(), Error> {
        match &setback {
            Setback::Quarantine { .. } => self.world.coverage.mark(Point::SetAside),
            Setback::Lost { .. } | Setback::Retry { .. } | Setback::Released => {}
        }
        let about = format!("{} {setback:?}", split.id);
        let lost = matches!(setback, Setback::Lost { .. });
        let call = async {
            let done = self.inner.setback(split, setback, now_ms).await;
            if lost && done.is_ok() {
                let (world, stream) = (&self.world, &split.stream);
                let created_ms = judge::created_ms(world, stream, &split.id);
                world
                    .witness
                    .declared(world, stream, created_ms.unwrap_or(i64::MAX));
            }
            done
        };
        self.write(Kind::Setback, &about, call).await
    }

    async fn known(&self, tenant: &str, identities: &[Identity]) -> Result<Vec<bool>, Error> {
        self.fails()?;
        self.done(self.inner.known(tenant, identities)).await
    }

    async fn commit(&self, commit: Commit, now_ms: i64) -> Result<(), Error> {
        let about = format!("{} {:?}", commit.delivered.len(), commit.counts);
        let copy = commit.clone();
        let call = async {
            let done = self.inner.commit(commit, now_ms).await;
            if done.is_ok() {
                self.world.witness.committed(&self.world, &copy);
            }
            done
        };
        self.write(Kind::Commit, &about, call).await?;
        if let Err(lie) = self.lies() {
            self.world.witness.lied();
            return Err(lie);
        }
        Ok(())
    }

    async fn position(&self, name: &str) -> Result<Option<u64>, Error> {
        self.done(self.inner.position(name)).await
    }

    async fn status(&self, stream: &StreamKey) -> Result<StreamStatus, Error> {
        self.done(self.inner.status(stream)).await
    }

    async fn progress(&self) -> Result<Vec<(StreamKey, Progress)>, Error> {
        self.done(self.inner.progress()).await
    }

    async fn backlog(&self) -> Result<Vec<(StreamKey, Backlog)>, Error> {
        self.done(self.inner.backlog()).await
    }

    async fn streams(&self) -> Result<Vec<StreamKey>, Error> {
        self.done(self.inner.streams()).await
    }

    async fn losses(&self, limit: usize) -> Result<Vec<Loss>, Error> {
        self.done(self.inner.losses(limit)).await
    }

    async fn quarantine(&self, limit: usize) -> Result<Vec<(SplitKey, Taken, String)>, Error> {
        self.done(self.inner.quarantine(limit)).await
    }

    async fn touched(&self) -> Result<i64, Error> {
        // Nobody changes anything from outside, and asking every two seconds of a virtual day would take real ones.
        std::future::pending().await
    }

    async fn prune(&self, now_ms: i64) -> Result<(), Error> {
        self.write(Kind::Prune, "", self.inner.prune(now_ms)).await
    }
}
