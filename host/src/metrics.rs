//! Every counter's name, once.
//!
//! Counters are process-wide and only grow; who exports them decides how they are shown. Lag is measured for each
//! stream of a pipeline.

pub mod histogram;
pub mod lag;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Names of counters that one plugin may have.
const NAMES: usize = 64;

static PLUGIN: Mutex<BTreeMap<(String, String), u64>> = Mutex::new(BTreeMap::new());

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
