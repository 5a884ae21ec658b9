//! What the figures were measured on, and the time that cores gave.

use std::fs;
use std::time::Duration;

/// Seconds that all threads of this process had a core, except those of this name.
///
/// Linux only; elsewhere nothing.
#[must_use]
pub fn all_but(name: &str) -> f64 {
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        if read(task.path().join("comm")).trim() == name {
            continue;
        }
        let text = read(task.path().join("schedstat"));
        let used = text.split_ascii_whitespace().next();
        nanoseconds += used.and_then(|used| used.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// One line about the machine and how busy it is.
#[must_use]
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "{model}, {cores} cores, {}, load {load}",
        std::env::consts::ARCH
    )
}
