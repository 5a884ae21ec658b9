//! Events to Logstash, over version 2 of the Lumberjack protocol.
//!
//! A request is one window: its size, then its events numbered from one, packed with zlib. The server acknowledges
//! numbers as it takes events; what a broken window was acknowledged for is delivered, and only the rest is sent again.
//! Bodies are copied, never parsed.

mod frame;

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::peers::{Connection, Peers, Place, Stream, stalled};
use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::HttpConfig;
use crate::config::sink::logstash::Logstash;
use crate::error::Error;
use frame::{Metadata, window};

/// Delivers to Logstash.
pub struct LogstashSink {
    name: String,
    peers: Peers,
    metadata: Metadata,
    compression_level: u32,
    patience: Duration,
}

impl LogstashSink {
    /// A sink called `name`, as the config wants it; reads certificates.
    pub fn new(name: &str, config: &Logstash, http: &HttpConfig) -> Result<Self, Error> {
        let places = config.endpoints.iter().cloned().map(Place::Address);
        let tls = config.delivery.tls.as_ref();
        let peers = Peers::new(
            name,
            places.collect(),
            config.load_balance,
            config.encrypted,
            tls,
            http,
        )?;
        Ok(Self {
            name: name.to_owned(),
            peers,
            metadata: Metadata::new(&config.beat),
            compression_level: config.compression_level,
            patience: config.delivery.timeout,
        })
    }

    /// Sends a window; `taken` counts the events that are acknowledged, also when it ends with an error.
    async fn exchange(
        &self,
        stream: &mut Stream,
        window: &[u8],
        events: u32,
        taken: &mut u32,
    ) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        // Both at once: a server may acknowledge before it has read everything, and wait until that is read.
        let sends = super::peers::send(&mut writer, window, self.patience);
        let reads = async {
            while *taken < events {
                let acknowledged = timeout(self.patience, frame::acknowledged(&mut reader)).await;
                let number = acknowledged.map_err(|_| stalled(self.patience))??;
                if number > events {
                    let what = format!("it acknowledges event {number} of {events}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                // Zero, or the same again, says that it is still at work.
                *taken = number.max(*taken);
            }
            Ok(())
        };
        tokio::try_join!(sends, reads).map(|_| ())
    }

    /// What comes of a window that broke: nothing of it is taken, or the rest of it comes again.
    fn broke(
        &self,
        connection: Connection,
        error: &io::Error,
        (taken, events): (u32, u32),
        latency: Duration,
    ) -> Reply {
        let error = self.peers.broken(connection, "the window broke", error);
        if taken == 0 {
            return Reply::Again(Again::trouble(error));
        }
        let reason = format!("{} after {taken} of {events} events", error.what);
        let rest = taken as usize..events as usize;
        let again = |index| {
            let fate = Fate::Again {
                reason: reason.clone(),
                overloaded: false,
            };
            (index, fate)
        };
        Reply::Taken {
            failed: rest.map(again).collect(),
            latency,
        }
    }
}

#[async_trait]
impl RequestSink for LogstashSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let (metadata, level) = (self.metadata.clone(), self.compression_level);
        let bodies: Vec<_> = events.iter().map(|event| event.event.clone()).collect();
        // Packing takes longer than a task that waits for the network may.
        let packed = tokio::task::spawn_blocking(move || window(&metadata, &bodies, level)).await;
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let packed = match packed {
            Ok(Ok(packed)) => packed,
            Ok(Err(reason)) => return Reply::Split(reason),
            Err(error) => {
                let error = Error::internal(format!("packing ended early: {error}"));
                return Reply::Again(Again::trouble(error.at(self.peers.place())));
            }
        };
        let mut connection = match self.peers.connection().await {
            Ok(connection) => connection,
            Err(error) => return Reply::Again(Again::trouble(error)),
        };
        let asked_at = Instant::now();
        let mut taken = 0;
        let stream = &mut connection.stream;
        match self.exchange(stream, &packed, count, &mut taken).await {
            Ok(()) => {
                self.peers.keep(connection);
                Reply::Taken {
                    failed: Vec::new(),
                    latency: asked_at.elapsed(),
                }
            }
            Err(error) => self.broke(connection, &error, (taken, count), asked_at.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests;
