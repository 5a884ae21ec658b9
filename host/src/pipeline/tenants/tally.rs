//! What is counted over all tenants of a run, without keeping those that are gone.

use std::sync::{Arc, Mutex, PoisonError};

use crate::plugin::PluginSource;

/// Counts over all tenants.
#[derive(Default)]
pub(in super::super) struct Tally(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    /// Tenants that run.
    running: usize,
    /// Requests of sources that are gone.
    gone: u64,
    sources: Vec<Arc<PluginSource>>,
}

impl Tally {
    /// Counts a source's requests from now on.
    pub fn add(&self, source: &Arc<PluginSource>) {
        self.with(|sums| {
            sums.forget();
            sums.sources.push(source.clone());
        });
    }

    /// So many tenants run now.
    pub fn run(&self, tenants: usize) {
        self.with(|sums| sums.running = tenants);
    }

    /// Tenants that run, and requests of all that ever ran.
    pub fn sums(&self) -> (usize, u64) {
        self.with(|sums| {
            let of_all = sums.sources.iter().map(|source| source.egress().requests());
            (sums.running, sums.gone + of_all.sum::<u64>())
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Sums) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sums {
    /// Lets go of sources that nobody else holds: they will send nothing more.
    fn forget(&mut self) {
        self.sources.retain(|source| {
            let gone = Arc::strong_count(source) == 1;
            if gone {
                self.gone += source.egress().requests();
            }
            !gone
        });
    }
}
