//! Events to Fluentd and Fluent Bit, over the forward protocol.
//!
//! A request is one chunk for each tag, in `PackedForward` form and packed with gzip where the config wants it. The
//! server acknowledges each chunk by its name; what of a broken request was acknowledged is not sent again.

mod answers;
mod handshake;
mod msgpack;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tokio::time::Instant;

use super::peers::{Connection, Peers, Place, Stream};
use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::HttpConfig;
use crate::config::sink::fluent::Fluent;
use crate::config::sink::request::Compression;
use crate::error::Error;
use crate::secret::Redactor;
use answers::Answers;
use handshake::Login;

/// Delivers to Fluentd or Fluent Bit.
pub struct FluentSink {
    name: String,
    peers: Peers,
    tag: String,
    login: Option<Login>,
    compression: Compression,
    patience: Duration,
}

/// The events of one tag on their way.
struct Chunk {
    /// By which the server acknowledges it.
    name: String,
    /// Where its events stand in the request.
    indexes: Vec<usize>,
    message: Vec<u8>,
}

/// Chunks, and the events that none can hold.
type Packed = (Vec<Chunk>, Vec<(usize, Fate)>);

impl FluentSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Fluent,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
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
        let login = config.login.as_ref();
        Ok(Self {
            name: name.to_owned(),
            peers,
            tag: config.tag.clone(),
            login: login.map(|login| Login::new(login, redactor)).transpose()?,
            compression: config.delivery.compression,
            patience: config.delivery.timeout,
        })
    }

    /// Sends all chunks; those that are acknowledged are taken out, also when it ends with an error.
    async fn exchange(
        &self,
        stream: &mut Stream,
        fresh: bool,
        chunks: &mut Vec<Chunk>,
    ) -> io::Result<()> {
        let mut answers = Answers::new(self.patience);
        if let (Some(login), true) = (&self.login, fresh) {
            login.sign_in(stream, &mut answers).await?;
        }
        let messages: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk.message[..]).collect();
        let messages = messages.concat();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sends = super::peers::send(&mut writer, &messages, self.patience);
        let reads = async {
            while !chunks.is_empty() {
                let answer = answers.next(&mut reader).await?;
                let name = answer.get("ack").and_then(msgpack::Value::bytes);
                let of = |chunk: &Chunk| Some(chunk.name.as_bytes()) == name;
                let Some(index) = chunks.iter().position(of) else {
                    let what = "it answers something else than an acknowledgement of what was sent; where it wants to \
                                know who we are, set `shared_key`";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                };
                chunks.remove(index);
            }
            Ok(())
        };
        tokio::try_join!(sends, reads).map(|_| ())
    }

    /// What comes of a request that broke: all of it comes again, or what is not acknowledged.
    fn broke(
        &self,
        connection: Connection,
        error: &io::Error,
        left: &[Chunk],
        all: usize,
    ) -> Reply {
        let error = self
            .peers
            .broken(connection, "the chunk is not acknowledged", error);
        if left.len() == all {
            return Reply::Again(Again::trouble(error));
        }
        let indexes = left.iter().flat_map(|chunk| &chunk.indexes);
        let again = |index: &usize| {
            let fate = Fate::Again {
                reason: error.what.clone(),
                overloaded: false,
            };
            (*index, fate)
        };
        Reply::Taken {
            failed: indexes.map(again).collect(),
            latency: Duration::ZERO,
        }
    }
}

#[async_trait]
impl RequestSink for FluentSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let (tag, compression, events) = (self.tag.clone(), self.compression, events.to_vec());
        // Packing takes longer than a task that waits for the network may.
        let packed = tokio::task::spawn_blocking(move || chunks(&tag, compression, &events));
        let (mut chunks, refused) = match packed.await {
            Ok(packed) => packed,
            Err(error) => {
                let error = Error::internal(format!("packing ended early: {error}"));
                return Reply::Again(Again::trouble(error.at(self.peers.place())));
            }
        };
        let asked_at = Instant::now();
        let taken = |mut failed: Vec<(usize, Fate)>, refused: Vec<(usize, Fate)>| {
            failed.extend(refused);
            failed.sort_by_key(|(index, _)| *index);
            Reply::Taken {
                failed,
                latency: asked_at.elapsed(),
            }
        };
        if chunks.is_empty() {
            return taken(Vec::new(), refused);
        }
        let mut connection = match self.peers.connection().await {
            Ok(connection) => connection,
            Err(error) => return Reply::Again(Again::trouble(error)),
        };
        let all = chunks.len();
        let (fresh, stream) = (connection.fresh, &mut connection.stream);
        match self.exchange(stream, fresh, &mut chunks).await {
            Ok(()) => {
                self.peers.keep(connection);
                taken(Vec::new(), refused)
            }
            Err(error) => match self.broke(connection, &error, &chunks, all) {
                Reply::Taken { failed, .. } => taken(failed, refused),
                other => other,
            },
        }
    }
}

/// One chunk for each tag, and what no chunk can hold.
fn chunks(tag: &str, compression: Compression, events: &[Outgoing]) -> Packed {
    let mut tags: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut refused = Vec::new();
    for (index, Outgoing { stream, event, .. }) in events.iter().enumerate() {
        let mut entry = Vec::with_capacity(event.body.len() + 16);
        msgpack::list(&mut entry, 2);
        msgpack::time(&mut entry, event.time_ms);
        if let Err(error) = msgpack::object(&mut entry, &event.body) {
            let reason = format!("the event is not a JSON object: {error}");
            refused.push((index, Fate::Refused(reason)));
            continue;
        }
        let (indexes, entries) = tags.entry(stream.named_in(tag)).or_default();
        indexes.push(index);
        entries.append(&mut entry);
    }
    let chunks = tags.into_iter().map(|(tag, (indexes, entries))| {
        let name: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        let name = STANDARD.encode(name);
        let message = message(&tag, &name, indexes.len(), entries, compression);
        Chunk {
            name,
            indexes,
            message,
        }
    });
    (chunks.collect(), refused)
}

/// A chunk as the server reads it: the tag, all entries in one value, and what they are.
fn message(
    tag: &str,
    name: &str,
    events: usize,
    entries: Vec<u8>,
    compression: Compression,
) -> Vec<u8> {
    let packed = match compression {
        Compression::None => None,
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(entries.len() / 4), Level::fast());
            let packed = encoder.write_all(&entries).and_then(|()| encoder.finish());
            // Writing to memory does not fail; if it did, the entries would go as they are.
            packed.ok()
        }
    };
    let mut message = Vec::with_capacity(packed.as_ref().unwrap_or(&entries).len() + 128);
    msgpack::list(&mut message, 3);
    msgpack::text(&mut message, tag);
    msgpack::binary(&mut message, packed.as_ref().unwrap_or(&entries));
    msgpack::map(&mut message, if packed.is_some() { 3 } else { 2 });
    msgpack::text(&mut message, "size");
    msgpack::unsigned(&mut message, events as u64);
    msgpack::text(&mut message, "chunk");
    msgpack::text(&mut message, name);
    if packed.is_some() {
        msgpack::text(&mut message, "compressed");
        msgpack::text(&mut message, "gzip");
    }
    message
}

#[cfg(test)]
mod tests;
