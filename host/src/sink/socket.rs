//! Events over TCP, UDP and Unix sockets, in the forms that log servers read.
//!
//! None of these protocols acknowledges anything, so this sink asks the system: over TCP whether every byte is
//! confirmed, or whether the receiver has closed its side after ours; over Unix sockets whether everything is read. A
//! connection that breaks before that is sent everything again. UDP says nothing: what is sent counts as delivered.

mod datagram;
mod encode;
mod gelf;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::peers::{Peers, Place};
use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::HttpConfig;
use crate::config::sink::socket::{Confirm, Mode, Socket, Target};
use crate::error::Error;
use datagram::Datagrams;
use encode::{Encoder, Message};

/// Delivers over a socket.
pub struct SocketSink {
    name: String,
    way: Way,
    encoder: Encoder,
    confirm: Confirm,
    patience: Duration,
}

enum Way {
    Stream(Peers),
    Datagram(Datagrams),
}

impl SocketSink {
    /// A sink called `name`, as the config wants it; reads certificates.
    pub fn new(name: &str, config: &Socket, http: &HttpConfig) -> Result<Self, Error> {
        let place = match &config.target {
            Target::Address(address) => Place::Address(address.clone()),
            Target::Path(path) => Place::Unix(path.clone()),
        };
        let way = match config.mode {
            Mode::Tcp | Mode::UnixStream => {
                let tls = config.delivery.tls.as_ref();
                let places = vec![place];
                Way::Stream(Peers::new(
                    name,
                    places,
                    false,
                    config.encrypted,
                    tls,
                    http,
                )?)
            }
            Mode::Udp | Mode::UnixDatagram => Way::Datagram(Datagrams::new(name, place)),
        };
        Ok(Self {
            name: name.to_owned(),
            way,
            encoder: Encoder::new(config),
            confirm: config.confirm,
            patience: config.delivery.timeout,
        })
    }

    /// Sends messages one after the other, and waits until they are confirmed.
    async fn stream(&self, peers: &Peers, bytes: &[u8]) -> Result<(), Again> {
        let mut connection = peers.connection().await.map_err(Again::trouble)?;
        let fresh = connection.fresh;
        let stream = &mut connection.stream;
        let sent = async {
            stream.send(bytes, self.patience).await?;
            match self.confirm {
                Confirm::Received => {
                    stream.received(self.patience).await?;
                    if fresh {
                        stream.accepted().await
                    } else {
                        Ok(())
                    }
                }
                Confirm::Read => stream.read_to_its_end(self.patience).await,
            }
        };
        if let Err(error) = sent.await {
            let what = "events are not confirmed and will be sent again";
            let error = peers.broken(connection, what, &error);
            return Err(Again::trouble(error));
        }
        match self.confirm {
            Confirm::Received => peers.keep(connection),
            Confirm::Read => peers.done(connection),
        }
        Ok(())
    }
}

#[async_trait]
impl RequestSink for SocketSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let asked_at = Instant::now();
        let mut failed = Vec::new();
        let mut messages = Vec::new();
        for (index, event) in events.iter().enumerate() {
            match self.encoder.encode(event) {
                Ok(message) => messages.push((index, message)),
                Err(reason) => failed.push((index, Fate::Refused(reason))),
            }
        }
        let sent = match &self.way {
            _ if messages.is_empty() => Ok(Vec::new()),
            Way::Stream(peers) => {
                let pieces = messages.iter().filter_map(|(_, message)| match message {
                    Message::Whole(piece) => Some(&piece[..]),
                    Message::Chunks(_) => None,
                });
                let bytes = pieces.collect::<Vec<_>>().concat();
                self.stream(peers, &bytes).await.map(|()| Vec::new())
            }
            Way::Datagram(datagrams) => datagrams.send(&messages, self.patience).await,
        };
        match sent {
            Ok(unsent) => {
                failed.extend(unsent);
                failed.sort_by_key(|(index, _)| *index);
                Reply::Taken {
                    failed,
                    latency: asked_at.elapsed(),
                }
            }
            Err(again) => Reply::Again(again),
        }
    }
}

#[cfg(test)]
mod tests;
