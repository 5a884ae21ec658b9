//! Where events go: the trait every sink implements, and the list of sinks.
//!
//! A sink's acknowledgement means durable on the other side. A sink never drops: what it cannot deliver now it keeps
//! trying, what it can never deliver it names as refused, and the line keeps that as a dead letter.
//!
//! There are two ways to deliver: [`Sink`] writes in order, one write at a time, and may keep positions; a
//! [`RequestSink`] sends requests, several at once. An [`Outlet`] is either, with the condition of what goes there.

pub mod azure_logs_ingestion;
pub mod concurrency;
pub mod elasticsearch;
pub mod file;
pub mod files;
pub mod fluent;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod logstash;
pub mod loki;
pub(crate) mod members;
pub mod nats;
#[cfg(feature = "s3")]
pub mod objects;
pub mod otlp;
pub mod peers;
pub mod redis;
pub mod request;
pub mod service;
pub mod socket;
pub mod splunk_hec;
pub mod stdout;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use request::{Policy, RequestSink};

use crate::error::Error;
use crate::event::Batch;
use crate::stage::condition::Condition;

/// A sink of a pipeline, and which events go there.
pub struct Outlet {
    /// How it delivers.
    pub way: Way,
    /// Only events for which this holds; `None` for all.
    pub when: Option<Condition>,
}

impl Outlet {
    /// A sink that writes in order and gets every event.
    pub fn ordered(sink: impl Sink + 'static) -> Self {
        Self {
            way: Way::Ordered(Box::new(sink)),
            when: None,
        }
    }
}

/// How a sink delivers.
pub enum Way {
    /// In order, one write at a time.
    Ordered(Box<dyn Sink>),
    /// In requests, several at once.
    Requests(Arc<dyn RequestSink>, Policy),
}

impl Way {
    /// The sink's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Ordered(sink) => sink.name(),
            Self::Requests(sink, _) => sink.name(),
        }
    }
}

/// What a sink did with the batches of one `write`.
#[derive(Debug, Default)]
pub struct Written {
    /// Events that no retry can deliver: index of the batch in the call, index of the event in the batch, why.
    pub refused: Vec<(usize, usize, String)>,
    /// Where the sink's durable output ends after each batch, by name: one for each batch, in order, or none
    /// at all from a sink that keeps no positions. Committed with the events of that batch.
    ///
    /// After a crash `recover` gets the last committed ones back and cuts off what lies beyond.
    pub positions: Vec<Positions>,
}

/// Positions by name, such as a file's length by its path.
pub type Positions = BTreeMap<String, u64>;

/// A place where events are delivered.
///
/// The line calls `write` from one task, in order, with as many waiting batches as fit
/// [`Sink::batch_bytes`]; it commits in that order too.
#[async_trait]
pub trait Sink: Send {
    /// What operators call it: unique in the pipeline, such as `stdout` or `file`.
    fn name(&self) -> &str;

    /// Names of the positions this sink keeps; the ledger's values for them are given to `recover`.
    fn position_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Brings the outside to what was committed. Called once, before the first `write`. Returns the positions to
    /// commit before anything is written (such as the length of a file that was there before).
    async fn recover(&mut self, _committed: &Positions) -> Result<Positions, Error> {
        Ok(Positions::new())
    }

    /// Most bytes that one `write` should get when several batches wait.
    fn batch_bytes(&self) -> usize {
        4 << 20
    }

    /// Delivers the batches, in order, and returns when they are durable on the other side.
    ///
    /// An error means that nothing is known to be delivered: the line waits and calls again with the same batches, for
    /// ever, so a sink that keeps positions must first undo a partial write.
    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error>;
}

/// The events' bodies, each with its newline.
fn lines(batches: &[Batch]) -> Vec<u8> {
    let events: usize = batches.iter().map(|batch| batch.events.len()).sum();
    let bytes: usize = batches.iter().map(Batch::bytes).sum();
    let mut lines = Vec::with_capacity(bytes + events);
    for event in batches.iter().flat_map(|batch| &batch.events) {
        lines.extend_from_slice(&event.body);
        lines.push(b'\n');
    }
    lines
}
