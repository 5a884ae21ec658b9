//! One sink's task: takes batches in order, writes them, acknowledges them.
//!
//! What the sink cannot take now is tried again for as long as it takes; nothing overtakes it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::RETRY;
use crate::event::Batch;
use crate::sink::{Positions, Sink, Written};

/// Most batches in one write, whatever their size.
const WRITE_BATCHES: usize = 512;

/// A batch for one sink.
pub(super) struct Job {
    pub batch: Batch,
    pub ack: oneshot::Sender<Ack>,
}

/// The batch is durable on the other side.
#[derive(Debug, Default)]
pub(super) struct Ack {
    /// Who says so.
    pub sink: String,
    /// Events that no retry can deliver: index in the batch, why.
    pub refused: Vec<(usize, String)>,
    /// Where the sink's output ends after this batch.
    pub positions: Positions,
}

/// Starts the task of a sink and returns its queue.
pub(super) fn start(sink: Box<dyn Sink>, capacity: usize) -> mpsc::Sender<Job> {
    let (sender, queue) = mpsc::channel(capacity);
    tokio::spawn(run(sink, queue));
    sender
}

async fn run(mut sink: Box<dyn Sink>, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.recv().await {
        let limit = sink.batch_bytes();
        let mut bytes = first.batch.bytes();
        let mut batches = vec![first.batch];
        let mut acks = vec![first.ack];
        while bytes < limit && batches.len() < WRITE_BATCHES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.batch.bytes();
            batches.push(job.batch);
            acks.push(job.ack);
        }
        let written = write(sink.as_mut(), &batches).await;
        acknowledge(sink.name(), written, acks);
    }
}

/// Writes until it succeeds.
async fn write(sink: &mut dyn Sink, batches: &[Batch]) -> Written {
    let mut wait = RETRY.0;
    loop {
        match sink.write(batches).await {
            Ok(written) => return written,
            Err(error) => {
                tracing::error!(sink = sink.name(), %error, wait = ?wait,
                    "the sink does not take events; trying again");
                tokio::time::sleep(jitter(wait)).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

fn acknowledge(name: &str, written: Written, acks: Vec<oneshot::Sender<Ack>>) {
    let Written { refused, positions } = written;
    let mut positions = positions.into_iter();
    for (index, ack) in acks.into_iter().enumerate() {
        let refused = refused
            .iter()
            .filter(|(batch, ..)| *batch == index)
            .map(|(_, event, reason)| (*event, reason.clone()))
            .collect();
        let positions = positions.next().unwrap_or_default();
        // Nobody waits for it any more when the run is over.
        let _ = ack.send(Ack {
            sink: name.to_owned(),
            refused,
            positions,
        });
    }
}

/// Between half and the whole of a wait, so that sinks that failed together do not return together.
fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}
