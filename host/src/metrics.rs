//! What is counted, and how it is shown.
//!
//! Counters only grow from the start of the process; those of a pipeline live in its line, those of a tenant's requests
//! in its way out, and what plugins count and how the sandbox ends them is process-wide. [`snapshot`] is all of it at
//! one moment, [`export`] has every name that leaves the process, [`text`] is the format.

pub mod component;
pub mod export;
pub mod histogram;
pub mod lag;
pub mod process;
pub mod requests;
pub mod snapshot;
pub mod streams;
pub mod text;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Names of counters that one plugin may have.
const NAMES: usize = 64;

static PLUGIN: Mutex<BTreeMap<(String, String), u64>> = Mutex::new(BTreeMap::new());

/// Calls of plugins that the sandbox ended: by plugin and by what ended them.
static FAULTS: Mutex<BTreeMap<(String, &'static str), u64>> = Mutex::new(BTreeMap::new());

/// Adds to a counter of a plugin. A plugin that invents names without end gets no more of them.
pub fn count_plugin(plugin: &str, name: &str, add: u64) {
    let mut counters = PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (plugin.to_owned(), name.to_owned());
    if let Some(counter) = counters.get_mut(&key) {
        *counter = counter.saturating_add(add);
    } else if counters.keys().filter(|(owner, _)| owner == plugin).count() < NAMES {
        counters.insert(key, add);
    }
}

/// The plugins' counters: plugin, name, value.
pub fn plugin_counters() -> Vec<(String, String, u64)> {
    let counters = PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    counters
        .iter()
        .map(|((plugin, name), value)| (plugin.clone(), name.clone(), *value))
        .collect()
}

/// Counts a call that the sandbox ended, by what ended it.
pub fn count_fault(plugin: &str, limit: &'static str) {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    *faults.entry((plugin.to_owned(), limit)).or_default() += 1;
}

/// The calls that the sandbox ended: plugin, what ended them, how many.
pub fn faults() -> Vec<(String, &'static str, u64)> {
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    faults
        .iter()
        .map(|((plugin, limit), count)| (plugin.clone(), *limit, *count))
        .collect()
}
