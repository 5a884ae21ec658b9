//! What is counted over all tenants of a run, without keeping those that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::requests::RequestCounts;
use crate::plugin::PluginSource;

/// Counts over all tenants.
#[derive(Default)]
pub(in super::super) struct Tally(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    /// Tenants that run.
    running: BTreeSet<Arc<str>>,
    /// Requests of sources that are gone.
    gone: u64,
    /// The same of tenants that run with another source now, so that their counters do not fall.
    before: BTreeMap<Arc<str>, RequestCounts>,
    sources: Vec<Arc<PluginSource>>,
}

/// A tenant that runs, with its requests since the start.
pub(in super::super) struct Counted {
    pub id: Arc<str>,
    /// The newest, if it was changed while it ran.
    pub source: Arc<PluginSource>,
    pub requests: RequestCounts,
}

impl Tally {
    /// Counts a source's requests from now on.
    pub fn add(&self, source: &Arc<PluginSource>) {
        self.with(|sums| {
            sums.sources.push(source.clone());
            sums.forget();
        });
    }

    /// These tenants run now.
    pub fn run(&self, tenants: impl IntoIterator<Item = Arc<str>>) {
        self.with(|sums| {
            sums.running = tenants.into_iter().collect();
            sums.forget();
        });
    }

    /// How many tenants run, and requests of all that ever ran.
    pub fn sums(&self) -> (usize, u64) {
        self.with(|sums| {
            let of_all = sums.sources.iter().map(|source| source.egress().requests());
            (sums.running.len(), sums.gone + of_all.sum::<u64>())
        })
    }

    /// Each tenant that runs, by id.
    pub fn tenants(&self) -> Vec<Counted> {
        self.with(|sums| {
            sums.forget();
            let mut counted: BTreeMap<Arc<str>, Counted> = BTreeMap::new();
            for source in &sums.sources {
                let id = source.tenant();
                if !sums.running.contains(id) {
                    continue;
                }
                let before = counted.remove(id).map(|counted| counted.requests);
                let before = before.or_else(|| sums.before.get(id).copied());
                let mut requests = before.unwrap_or_default();
                requests += source.egress().outcomes();
                let tenant = Counted {
                    id: id.clone(),
                    source: source.clone(),
                    requests,
                };
                counted.insert(id.clone(), tenant);
            }
            counted.into_values().collect()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Sums) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sums {
    /// Lets go of sources that nobody else holds and that have been replaced, or whose tenant has left: they will send
    /// nothing more.
    fn forget(&mut self) {
        let mut newest: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for (index, source) in self.sources.iter().enumerate() {
            newest.insert(source.tenant().clone(), index);
        }
        let Self {
            running,
            gone,
            before,
            sources,
        } = self;
        let mut index = 0;
        sources.retain(|source| {
            let id = source.tenant();
            let runs = running.contains(id);
            let last = newest.get(id) == Some(&index);
            index += 1;
            let over = Arc::strong_count(source) == 1 && !(runs && last);
            if over {
                *gone += source.egress().requests();
                if runs {
                    *before.entry(id.clone()).or_default() += source.egress().outcomes();
                }
            }
            !over
        });
        before.retain(|id, _| running.contains(id));
    }
}
