//! A server of the forward protocol that checks every message, acknowledges chunks, and breaks off as it is told to.
//!
//! `MessagePack` is read by a library of its own, so that nothing here believes the code under test.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use rmpv::Value as Packed;
use serde_json::Value;

use crate::chance::Random;
use crate::{Delivered, Incoming, Receiver};

/// What may go wrong.
#[derive(Clone, Debug, Default)]
pub struct ForwardFaults {
    /// The connection breaks after a chunk is taken and before it is acknowledged, with this probability.
    pub breaks_after: f64,
    /// The connection breaks before a chunk is taken, with this probability.
    pub breaks_before: f64,
}

/// What it has and saw.
#[derive(Debug, Default)]
pub struct ForwardState {
    /// Events, as often as they came.
    pub events: Vec<Value>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// Chunks that were taken.
    pub chunks: usize,
    /// Events that were taken and whose acknowledgement was lost.
    pub unacknowledged: usize,
    /// Chunks that were packed.
    pub packed: usize,
    faults: ForwardFaults,
    random: Random,
}

/// A server on loopback.
pub struct Forward {
    /// How it is stopped and started.
    pub receiver: Receiver,
    state: Arc<Mutex<ForwardState>>,
}

impl Forward {
    /// Starts one that fails as told; `seed` decides when.
    pub fn start(faults: ForwardFaults, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(ForwardState {
            faults,
            random: Random::new(seed),
            ..ForwardState::default()
        }));
        let shared = state.clone();
        let receiver = Receiver::start(
            move |mut incoming| {
                while chunk(&mut incoming, &shared).is_some() {}
            },
        );
        Self { receiver, state }
    }

    /// What it has and saw; look, let go.
    ///
    /// # Panics
    /// When a connection's thread has panicked.
    pub fn state(&self) -> MutexGuard<'_, ForwardState> {
        lock(&self.state)
    }

    /// The events it has.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            events: self.state().events.clone(),
        }
    }
}

fn lock(state: &Mutex<ForwardState>) -> MutexGuard<'_, ForwardState> {
    state.lock().expect("nobody panics with the lock")
}

/// Serves one message; `None` at the end of the connection.
fn chunk(incoming: &mut Incoming, state: &Mutex<ForwardState>) -> Option<()> {
    let message = rmpv::decode::read_value(incoming).ok()?;
    if incoming.is_over() {
        return None;
    }
    let mut state = lock(state);
    let read = match read(&message) {
        Ok(read) => read,
        Err(complaint) => {
            state.complaints.push(complaint);
            return None;
        }
    };
    let ForwardState { faults, random, .. } = &mut *state;
    if random.happens(faults.breaks_before) {
        return None;
    }
    let breaks = random.happens(faults.breaks_after);
    state.chunks += 1;
    state.packed += usize::from(read.packed);
    let count = read.events.len();
    state.events.extend(read.events);
    if breaks {
        state.unacknowledged += count;
        return None;
    }
    drop(state);
    let answer = Packed::Map(vec![("ack".into(), read.name.into())]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &answer).ok()?;
    incoming.write_all(&bytes).ok()
}

struct Chunk {
    name: String,
    events: Vec<Value>,
    packed: bool,
}

/// Reads a message in `PackedForward` form.
fn read(message: &Packed) -> Result<Chunk, String> {
    let parts = message.as_array().map(Vec::as_slice);
    let Some([Packed::String(tag), Packed::Binary(entries), options]) = parts else {
        return Err(format!("no message in PackedForward form: {message}"));
    };
    if !tag
        .as_str()
        .is_some_and(|tag| tag.starts_with("sluicegate.tenant-00."))
    {
        return Err(format!("tag {tag}"));
    }
    let option = |name: &str| {
        let pairs = options.as_map()?;
        let found = pairs.iter().find(|(key, _)| key.as_str() == Some(name));
        found.map(|(_, value)| value)
    };
    let name = option("chunk").and_then(Packed::as_str).unwrap_or_default();
    // 128 bits in base64.
    if name.len() != 24 {
        return Err(format!("chunk `{name}`"));
    }
    let packed = option("compressed").and_then(Packed::as_str) == Some("gzip");
    let mut bytes = entries.clone();
    if packed {
        bytes.clear();
        let unpacked = flate2::read::GzDecoder::new(&entries[..]).read_to_end(&mut bytes);
        unpacked.map_err(|error| format!("gzip: {error}"))?;
    }
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let entry = rmpv::decode::read_value(&mut rest).map_err(|error| error.to_string())?;
        let parts = entry.as_array().map(Vec::as_slice);
        let Some([Packed::Ext(0, time), record @ Packed::Map(_)]) = parts else {
            return Err(format!("entry {entry}"));
        };
        if time.len() != 8 {
            return Err(format!("time {time:?}"));
        }
        events.push(json(record));
    }
    let size = option("size").and_then(Packed::as_u64);
    if size != Some(events.len() as u64) || events.is_empty() {
        return Err(format!("{} entries, and size is {size:?}", events.len()));
    }
    Ok(Chunk {
        name: name.to_owned(),
        events,
        packed,
    })
}

fn json(value: &Packed) -> Value {
    match value {
        Packed::Nil => Value::Null,
        Packed::Boolean(value) => Value::from(*value),
        Packed::Integer(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .unwrap_or_default(),
        Packed::F32(number) => Value::from(*number),
        Packed::F64(number) => Value::from(*number),
        Packed::String(text) => Value::from(text.as_str().unwrap_or("not UTF-8")),
        Packed::Array(items) => items.iter().map(json).collect(),
        Packed::Map(pairs) => {
            let pairs = pairs.iter();
            let named =
                pairs.map(|(key, value)| (key.as_str().unwrap_or("?").to_owned(), json(value)));
            Value::Object(named.collect())
        }
        Packed::Binary(_) | Packed::Ext(..) => Value::from("not JSON"),
    }
}
