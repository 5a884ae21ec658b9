//! Sinks that deliver in requests, several at once: what a request holds, and what may become of it.
//!
//! A request sink sends one request and says what came of each event. Everything else is the line's, and the same for
//! all of them: what goes into one request, how many are under way, what is sent again and when, in which halves the
//! one event is found that a server refuses.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::concurrency::Concurrency;
use crate::error::Error;
use crate::event::{Event, StreamKey};

/// One event on its way into a request.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it comes from.
    pub stream: StreamKey,
    /// The event; its identity never changes, whatever is sent in place of its body.
    pub event: Event,
    /// Why the body is not the event's own any more; see [`Fate::Rewrite`].
    pub rewritten: Option<String>,
}

/// A place where events are delivered by requests that do not wait for each other.
#[async_trait]
pub trait RequestSink: Send + Sync {
    /// What operators call it: unique in the pipeline, such as `elasticsearch`.
    fn name(&self) -> &str;

    /// Does what has to be done before the first request, such as installing a template. Called again until it
    /// succeeds.
    async fn prepare(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Sends the events (at least one) in one request and returns when what it takes is durable on the other side.
    async fn send(&self, events: &[Outgoing]) -> Reply;
}

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// The server has all events, except for those named here by their index.
    Taken {
        /// What is not delivered, in the order of the indexes.
        failed: Vec<(usize, Fate)>,
        /// From the request to its answer: what concurrency is judged by.
        latency: Duration,
    },
    /// Nothing is known to be delivered: again, with the same events.
    Again(Again),
    /// The server refuses the request as it is: again in halves. An event that is refused alone is a dead letter.
    Split(String),
}

/// Why a request is sent again.
#[derive(Debug)]
pub struct Again {
    /// What is wrong.
    pub error: Error,
    /// Whether fewer requests at once may help.
    pub overloaded: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

/// What becomes of an event that the server did not take with the others.
#[derive(Debug)]
pub enum Fate {
    /// Again later: the server has too much to do, or trouble of its own.
    Again {
        /// What the server says.
        reason: String,
        /// Whether fewer requests at once may help.
        overloaded: bool,
    },
    /// Again at once, with this body in place of the event's own.
    Rewrite {
        /// What to send.
        body: Bytes,
        /// Why the event's own body does not do.
        reason: String,
    },
    /// No retry can deliver it.
    Refused(String),
}

impl Again {
    /// Trouble that fewer requests do not help against.
    pub fn trouble(error: Error) -> Self {
        Self {
            error,
            overloaded: false,
            retry_after: None,
        }
    }

    /// A server that has too much to do.
    pub fn overloaded(error: Error, retry_after: Option<Duration>) -> Self {
        Self {
            error,
            overloaded: true,
            retry_after,
        }
    }
}

/// How the line serves a request sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Most bytes of bodies in one request of more than one event.
    pub batch_bytes: usize,
    /// Most events in one request.
    pub batch_events: usize,
    /// How long the first event of a request waits for others.
    pub batch_timeout: Duration,
    /// Requests at once; `None` finds out.
    pub concurrency: Option<usize>,
    /// The first and the longest wait before a request is sent again.
    pub retry: (Duration, Duration),
    /// Whether events count as delivered only when this sink has them.
    pub acknowledgements: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            batch_bytes: 5 << 20,
            batch_events: 5_000,
            batch_timeout: Duration::from_secs(1),
            concurrency: None,
            retry: (Duration::from_secs(1), Duration::from_secs(30)),
            acknowledgements: true,
        }
    }
}

impl Policy {
    /// The limit on requests at once that this policy asks for.
    pub fn slots(&self) -> Concurrency {
        self.concurrency
            .map_or_else(Concurrency::adaptive, Concurrency::fixed)
    }
}
