//! When the pipelines of a process read their files again: at SIGHUP, or when a file changes.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::pipeline::Runtime;

/// How often files are looked at. A change is taken when two looks agree about it, so within twice that: a file that
/// is being written, or that an editor takes away for a moment, is left alone until it is whole.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Listens for SIGHUP, and looks at these files, until the answer is dropped.
pub(super) fn start(
    runtime: &Runtime,
    files: &[PathBuf],
) -> Result<Vec<AbortOnDropHandle<()>>, Error> {
    let cannot = |error| Error::unavailable(format!("cannot listen for signals: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(cannot)?;
    let asked = runtime.clone();
    let listening = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("reading the pipeline files again");
            asked.reload();
        }
    });
    let mut tasks = vec![AbortOnDropHandle::new(listening)];
    if !files.is_empty() {
        let watching = watch(runtime.clone(), files.to_owned());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(watching)));
    }
    Ok(tasks)
}

async fn watch(runtime: Runtime, files: Vec<PathBuf>) {
    let mut known = read(&files).await;
    let mut before = known.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = read(&files).await;
        let whole = now.iter().all(Option::is_some);
        if whole && now == before && now != known {
            tracing::info!("a pipeline file has changed; reading the pipeline files again");
            runtime.reload();
            known.clone_from(&now);
        }
        before = now;
    }
}

/// What each file holds; `None` for one that cannot be read just now.
async fn read(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        contents.push(tokio::fs::read(file).await.ok());
    }
    contents
}
