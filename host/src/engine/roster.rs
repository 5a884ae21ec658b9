//! The tenants of a running engine: each is one task, started and drained without a word to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Change, Engine, Gate, Outcome, Shared, Tenant};

/// Who runs.
pub(super) struct Roster {
    engine: Arc<Engine>,
    outcome: Arc<Mutex<Outcome>>,
    touched: watch::Receiver<i64>,
    tasks: JoinSet<Arc<str>>,
    running: HashMap<Arc<str>, Running>,
}

/// A tenant that runs or drains.
struct Running {
    task: Id,
    /// Cancelled to drain it.
    stop: CancellationToken,
    /// Who takes its place when it is drained.
    next: Option<Tenant>,
}

impl Roster {
    pub fn new(
        engine: Arc<Engine>,
        outcome: Arc<Mutex<Outcome>>,
        touched: watch::Receiver<i64>,
    ) -> Self {
        Self {
            engine,
            outcome,
            touched,
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Lets tenants run, come and go until all have ended and no more changes can come.
    pub async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let stop = self.engine.stop.clone();
        let mut changing = true;
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                change = changes.recv(), if changing => match change {
                    Some(Change::Put(tenant)) => self.put(tenant),
                    Some(Change::Remove(id)) => self.remove(&id),
                    None => changing = false,
                },
                () = stop.cancelled(), if changing => changing = false,
                else => return,
            }
        }
    }

    /// Starts a tenant, after the one that has its id.
    pub fn put(&mut self, tenant: Tenant) {
        if let Some(before) = self.running.get_mut(&tenant.id) {
            before.stop.cancel();
            before.next = Some(tenant);
        } else {
            self.start(tenant);
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(running) = self.running.get_mut(id) {
            running.stop.cancel();
            running.next = None;
        }
    }

    fn start(&mut self, tenant: Tenant) {
        let Tenant { id, source, reads } = tenant;
        let stop = self.engine.stop.child_token();
        let shared = Arc::new(Shared {
            id: id.clone(),
            source,
            slots: Arc::new(Semaphore::new(reads.max(1))),
            stop: stop.clone(),
            closed: self.engine.stop.child_token(),
            gate: Gate::default(),
            said: Mutex::default(),
            touched: self.touched.clone(),
            engine: self.engine.clone(),
            outcome: self.outcome.clone(),
        });
        let task = self.tasks.spawn(live(shared)).id();
        let running = Running {
            task,
            stop,
            next: None,
        };
        self.running.insert(id, running);
    }

    /// A tenant's task has ended: drained, done, or by a defect.
    fn ended(&mut self, ended: Result<(Id, Arc<str>), JoinError>) {
        let id = match ended {
            Ok((_, id)) => id,
            Err(error) => {
                let of_task = |(_, running): &(&Arc<str>, &Running)| running.task == error.id();
                let Some((id, _)) = self.running.iter().find(of_task) else {
                    return;
                };
                tracing::error!(tenant = %id, %error, "a defect has ended the tenant's work");
                id.clone()
            }
        };
        let next = self.running.remove(&id).and_then(|running| running.next);
        if let Some(next) = next.filter(|_| !self.engine.stop.is_cancelled()) {
            self.start(next);
        }
    }
}

/// One tenant until it is done or drained. From its stop on it has the drain's time to hand over what it reads.
async fn live(shared: Arc<Shared>) -> Arc<str> {
    let id = shared.id.clone();
    let (stop, closed) = (shared.stop.clone(), shared.closed.clone());
    let patience = shared.engine.drain_timeout;
    let close = async {
        stop.cancelled().await;
        tokio::time::sleep(patience).await;
        closed.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = shared.run() => {}
        () = close => {}
    }
    id
}

#[cfg(test)]
mod tests;
