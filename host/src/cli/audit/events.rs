//! Reads delivered splits again and looks each event up in the ledger's memory.
//!
//! An event is remembered whichever split it was delivered with, so duplicates need no care. What is older than the
//! memory reaches cannot be proven, and is counted apart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::Subject;
use super::listing::Listed;
use super::verdict::Verdict;
use crate::clock::millis;
use crate::engine::rfc3339;
use crate::error::Error;
use crate::event::{Event, Identity, StreamKey};
use crate::ledger::sqlite::view::{FreshKeys, LedgerView};
use crate::ledger::{Split, remembered_since};
use crate::schedule;
use crate::source::{Closed, Failure, Output, Source as _};

/// Splits read at the same time: the collector beside us has the same budget of requests.
const SIDE_BY_SIDE: usize = 8;

/// Attempts at one split.
const ATTEMPTS: u32 = 5;

/// An event that a delivered split holds and that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    split: String,
    event: String,
    time_ms: i64,
}

impl Missing {
    /// Which event it is, whatever split it stands in.
    pub fn event(&self) -> (&str, i64) {
        (&self.event, self.time_ms)
    }
}

/// What was proven of one stream's events.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Delivered.
    proven: u64,
    /// Not remembered, and old enough to be forgotten.
    forgotten: u64,
    /// Not remembered, and young enough that they would be.
    pub missing: BTreeSet<Missing>,
    /// Splits that could not be read again, and why.
    pub unread: Vec<(String, String)>,
}

/// Looks events up.
pub(super) struct Prover {
    view: Mutex<LedgerView>,
    fresh: FreshKeys,
    /// Events that happened since then are remembered, once they are delivered.
    since_ms: i64,
}

/// Takes one split's events.
struct Look {
    prover: Arc<Prover>,
    key: StreamKey,
    split: String,
    proof: Mutex<Proof>,
    error: Mutex<Option<Error>>,
}

impl Prover {
    /// Looks events up in the ledger as it stands; identities are remembered for `horizon`.
    pub fn new(view: LedgerView, horizon: Duration, now_ms: i64) -> Result<Arc<Self>, Error> {
        let fresh = view.fresh_keys()?;
        // The collector must be able to tidy its log up while splits are read.
        view.release()?;
        Ok(Arc::new(Self {
            view: Mutex::new(view),
            fresh,
            since_ms: remembered_since(millis(horizon), now_ms),
        }))
    }

    /// Reads every delivered split of a stream again.
    pub async fn prove(
        self: &Arc<Self>,
        subject: &Subject,
        listed: &Listed,
        verdict: &Verdict,
    ) -> Result<Proof, Error> {
        let other = verdict
            .missing
            .iter()
            .chain(&verdict.unlisted)
            .map(|found| &found.id);
        let rows = verdict
            .pending
            .iter()
            .chain(&verdict.quarantined)
            .chain(&verdict.lost);
        let other: BTreeSet<&String> = other.chain(rows.map(|row| &row.key.id)).collect();
        let delivered = listed.values().filter(|split| !other.contains(&split.id));
        let reads = futures::stream::iter(delivered).map(|split| self.read(subject, split));
        let mut reads = reads.buffer_unordered(SIDE_BY_SIDE);
        let mut sum = Proof::default();
        while let Some(proof) = reads.next().await {
            sum.add(proof?);
        }
        sum.unread.sort();
        Ok(sum)
    }

    /// Reads one split, more than once when that fails; only a whole one counts.
    async fn read(self: &Arc<Self>, subject: &Subject, split: &Split) -> Result<Proof, Error> {
        let mut attempt = 0;
        loop {
            let look = Arc::new(Look {
                prover: self.clone(),
                key: subject.key.clone(),
                split: split.id.clone(),
                proof: Mutex::default(),
                error: Mutex::default(),
            });
            let output: Arc<dyn Output> = look.clone();
            let read = subject
                .source
                .read(&subject.stream, split, attempt, output)
                .await;
            if let Some(error) = lock(&look.error).take() {
                return Err(error);
            }
            let failure = match read {
                Ok(()) => return Ok(std::mem::take(&mut lock(&look.proof))),
                Err(failure) => failure,
            };
            attempt += 1;
            if attempt >= ATTEMPTS || matches!(failure, Failure::SplitLost(_)) {
                let unread = vec![(split.id.clone(), failure.to_string())];
                return Ok(Proof {
                    unread,
                    ..Proof::default()
                });
            }
            tokio::time::sleep(schedule::discover_wait(&failure, attempt)).await;
        }
    }
}

impl Look {
    /// Counts what is remembered; `missing` says what the others are.
    fn look(&self, identities: &[Identity], missing: impl Fn(usize) -> Option<Missing>) {
        let known = lock(&self.prover.view).known(&self.key.tenant, identities, &self.prover.fresh);
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                *lock(&self.error) = Some(error);
                return;
            }
        };
        let mut proof = lock(&self.proof);
        for (index, known) in known.into_iter().enumerate() {
            match (known, missing(index)) {
                (true, _) => proof.proven += 1,
                (false, Some(missing)) => drop(proof.missing.insert(missing)),
                (false, None) => proof.forgotten += 1,
            }
        }
    }
}

#[async_trait]
impl Output for Look {
    async fn emit(&self, events: Vec<Event>) -> Result<(), Closed> {
        let identities: Vec<Identity> = events.iter().map(|event| event.identity).collect();
        self.look(&identities, |index| {
            let event = &events[index];
            (event.time_ms >= self.prover.since_ms).then(|| Missing {
                split: self.split.clone(),
                event: event.id.to_string(),
                time_ms: event.time_ms,
            })
        });
        Ok(())
    }

    async fn reject(&self, body: Bytes, _: String) -> Result<(), Closed> {
        // Kept as a dead letter when it came first; nobody knows when it happened.
        self.look(&[Identity::of_bytes(&self.key.tenant, &body)], |_| None);
        Ok(())
    }

    fn draining(&self) -> bool {
        lock(&self.error).is_some()
    }
}

impl Proof {
    fn add(&mut self, other: Self) {
        self.proven += other.proven;
        self.forgotten += other.forgotten;
        self.missing.extend(other.missing);
        self.unread.extend(other.unread);
    }

    /// For people; at most so many are named.
    pub fn print(&self, key: &StreamKey, named: usize) {
        println!(
            "{key}: {} event(s) proven, {} older than the memory reaches",
            self.proven, self.forgotten
        );
        for missing in self.missing.iter().take(named) {
            println!(
                "{key}: difference: event {} of {}, in split {}, is not remembered as delivered",
                missing.event,
                rfc3339(missing.time_ms),
                missing.split
            );
        }
        if self.missing.len() > named {
            println!(
                "{key}: and {} more differences; `--json` names them",
                self.missing.len() - named
            );
        }
        for (split, reason) in self.unread.iter().take(named) {
            println!("{key}: split {split} could not be read again: {reason}");
        }
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let missing = self.missing.iter().map(|missing| {
            json!({
                "split": missing.split,
                "event": missing.event,
                "time": rfc3339(missing.time_ms),
            })
        });
        let unread = self.unread.iter();
        let unread = unread.map(|(split, reason)| json!({ "split": split, "reason": reason }));
        json!({
            "proven": self.proven,
            "older_than_memory": self.forgotten,
            "missing": missing.collect::<Vec<_>>(),
            "unread": unread.collect::<Vec<_>>(),
        })
    }
}

/// Locks what no holder can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
