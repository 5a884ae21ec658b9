//! What the figures were measured on, and the time that one core gave this thread.

use std::fs;
use std::time::{Duration, Instant};

/// Time of one thread: by the wall, and on a core.
///
/// On a busy machine the wall also counts other programs; the thread's own time on a core is what a
/// quiet machine would show. Linux only; elsewhere it is the wall.
pub struct Stopwatch {
    wall: Instant,
    core: Option<Duration>,
}

/// What a stopwatch showed.
#[derive(Clone, Copy, Debug)]
pub struct Elapsed {
    /// By the wall.
    pub wall: f64,
    /// On a core.
    pub core: f64,
}

impl Stopwatch {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        Self {
            wall: Instant::now(),
            core: on_core(),
        }
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn stop(&self) -> Elapsed {
        let wall = self.wall.elapsed().as_secs_f64();
        let core = match (self.core, on_core()) {
            (Some(start), Some(end)) => end.saturating_sub(start).as_secs_f64(),
            _ => wall,
        };
        Elapsed { wall, core }
    }
}

/// Nanoseconds that the scheduler has given this thread. Reading the file is a system call, which
/// brings the account up to date to a few milliseconds: below one percent of a round.
fn on_core() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

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
