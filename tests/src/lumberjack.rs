//! A Lumberjack server (version 2) that checks every frame, acknowledges in parts, and breaks off as it is told to.
//!
//! Written from the protocol, with nothing of the code under test.

use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::chance::Random;
use crate::http_server::dawdle;
use crate::{Delivered, Incoming, Receiver};

/// What may go wrong.
#[derive(Clone, Debug, Default)]
pub struct LumberjackFaults {
    /// Each part of a window is acknowledged alone, with this probability.
    pub parts: f64,
    /// The connection breaks after a part is taken and acknowledged, with this probability.
    pub breaks_after: f64,
    /// The connection breaks after a part is taken and before it is acknowledged, with this probability.
    pub breaks_before: f64,
    /// It falls silent for longer than anybody waits, with this probability.
    pub stalls: Option<(f64, Duration)>,
}

/// What it has and saw.
#[derive(Debug, Default)]
pub struct LumberjackState {
    /// Events, as often as they came, without what they say of their sender.
    pub events: Vec<Value>,
    /// The id that each was sent under.
    pub ids: Vec<String>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// Windows that began.
    pub windows: usize,
    /// Windows that were broken off.
    pub broken: usize,
    faults: LumberjackFaults,
    random: Random,
}

/// A server on loopback.
pub struct Lumberjack {
    /// How it is stopped and started.
    pub receiver: Receiver,
    state: Arc<Mutex<LumberjackState>>,
}

impl Lumberjack {
    /// Starts one that fails as told; `seed` decides when.
    pub fn start(faults: LumberjackFaults, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(LumberjackState {
            faults,
            random: Random::new(seed),
            ..LumberjackState::default()
        }));
        let shared = state.clone();
        let receiver = Receiver::start(
            move |mut incoming| {
                while window(&mut incoming, &shared).is_some() {}
            },
        );
        Self { receiver, state }
    }

    /// What it has and saw; look, let go.
    ///
    /// # Panics
    /// When a connection's thread has panicked.
    pub fn state(&self) -> MutexGuard<'_, LumberjackState> {
        lock(&self.state)
    }

    /// The events it has.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            events: self.state().events.clone(),
        }
    }
}

fn lock(state: &Mutex<LumberjackState>) -> MutexGuard<'_, LumberjackState> {
    state.lock().expect("nobody panics with the lock")
}

fn bytes<const N: usize>(reader: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn number(reader: &mut impl Read) -> Option<u32> {
    bytes(reader).map(u32::from_be_bytes)
}

fn data(reader: &mut impl Read) -> Option<Vec<u8>> {
    let mut data = vec![0; number(reader)? as usize];
    reader.read_exact(&mut data).ok()?;
    Some(data)
}

/// Serves one window; `None` at the end of the connection.
fn window(incoming: &mut Incoming, state: &Mutex<LumberjackState>) -> Option<()> {
    let head = bytes::<2>(incoming)?;
    if head != *b"2W" {
        lock(state)
            .complaints
            .push(format!("a window begins with {head:?}"));
        return None;
    }
    let size = number(incoming)?;
    lock(state).windows += 1;
    let mut events = Vec::new();
    while events.len() < size as usize {
        match &bytes::<2>(incoming)? {
            b"2J" => events.push((number(incoming)?, data(incoming)?)),
            b"2C" => unpack(&data(incoming)?, &mut events, state)?,
            other => {
                lock(state)
                    .complaints
                    .push(format!("a frame begins with {other:?}"));
                return None;
            }
        }
    }
    take(incoming, size, events, state)
}

/// The frames within a compressed one.
fn unpack(
    packed: &[u8],
    events: &mut Vec<(u32, Vec<u8>)>,
    state: &Mutex<LumberjackState>,
) -> Option<()> {
    let mut unpacked = Vec::new();
    let read = flate2::read::ZlibDecoder::new(packed).read_to_end(&mut unpacked);
    let mut frames = &unpacked[..];
    let mut good = read.is_ok() && !frames.is_empty();
    while good && !frames.is_empty() {
        good = bytes(&mut frames) == Some(*b"2J");
        let event = number(&mut frames).zip(data(&mut frames));
        good &= event.is_some();
        events.extend(event);
    }
    if !good {
        lock(state)
            .complaints
            .push("a compressed frame is broken".into());
    }
    good.then_some(())
}

/// Takes the events of a window in parts, as a queue does that is nearly full.
fn take(
    incoming: &mut Incoming,
    size: u32,
    events: Vec<(u32, Vec<u8>)>,
    state: &Mutex<LumberjackState>,
) -> Option<()> {
    let mut wrong = events.len() != size as usize;
    for (expected, (number, _)) in (1..).zip(&events) {
        wrong |= *number != expected;
    }
    if wrong {
        lock(state)
            .complaints
            .push(format!("a window of {size} has other events"));
        return None;
    }
    let half = events.len() / 2;
    for (index, (number, body)) in events.into_iter().enumerate() {
        if incoming.is_over() {
            lock(state).broken += 1;
            return None;
        }
        let last = number == size;
        let (acknowledges, breaks_before, breaks_after, stalls) = {
            let mut state = lock(state);
            keep(&mut state, &body);
            let LumberjackState { faults, random, .. } = &mut *state;
            let part = index == half && random.happens(faults.parts);
            let mut at_half = |probability| index == half && random.happens(probability);
            let before = at_half(faults.breaks_before);
            let after = at_half(faults.breaks_after);
            let stalls = faults
                .stalls
                .filter(|(probability, _)| at_half(*probability));
            state.broken += usize::from(before || after || stalls.is_some());
            (part || last, before, after, stalls)
        };
        if breaks_before {
            return None;
        }
        if acknowledges || breaks_after {
            let frame = [&b"2A"[..], &number.to_be_bytes()].concat();
            incoming.write_all(&frame).ok()?;
        }
        if breaks_after {
            return None;
        }
        if let Some((_, silence)) = stalls {
            dawdle(silence);
            return None;
        }
    }
    Some(())
}

/// Keeps an event that says who sent it.
fn keep(state: &mut LumberjackState, body: &[u8]) {
    let Ok(mut event) = serde_json::from_slice::<Value>(body) else {
        state
            .complaints
            .push(format!("not JSON: {}", String::from_utf8_lossy(body)));
        return;
    };
    let metadata = event
        .as_object_mut()
        .and_then(|event| event.remove("@metadata"));
    let metadata = metadata.unwrap_or_default();
    let id = metadata["_id"].as_str().unwrap_or_default();
    if metadata["beat"] != "sluicegate" || id.len() != 22 {
        state.complaints.push(format!("metadata {metadata}"));
    }
    state.ids.push(id.to_owned());
    state.events.push(event);
}
