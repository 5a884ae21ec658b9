//! A place that takes events by HTTP: a plain endpoint for lines and arrays, Loki's push, OTLP, and Splunk's event
//! collector with its acknowledgements. It checks what it gets, keeps it, and fails as it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::Delivered;
use crate::chance::{Random, chosen};
use crate::http_server::{HttpServer, Request, Response};

/// How often Splunk is asked before it says that something is indexed.
const POLLS: u32 = 2;

/// What may go wrong.
#[derive(Clone, Debug, Default)]
pub struct CollectorFaults {
    /// Nothing is done, and the answer is 503 or 429, with this probability.
    pub busy: f64,
    /// Everything is done, and the connection breaks before the answer, with this probability.
    pub breaks_after: f64,
    /// A request with one event in so many is refused with 400.
    pub poison: Option<u64>,
    /// The token has no indexer acknowledgement.
    pub without_acks: bool,
    /// What is taken is not indexed, and nobody says so, with this probability.
    pub forgets: f64,
}

/// What the collector has and saw.
#[derive(Debug, Default)]
pub struct CollectorState {
    /// Events, as often as they came.
    pub events: Vec<Value>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// Requests with events.
    pub requests: usize,
    /// What goes wrong.
    pub faults: CollectorFaults,
    /// The one `Authorization` that is accepted; `None` for any.
    pub login: Option<String>,
    /// Taken and not indexed: events and how often they were asked for, by number.
    waiting: BTreeMap<u64, (Vec<Value>, u32)>,
    taken: u64,
    channels: BTreeSet<String>,
    random: Random,
}

/// A collector on loopback.
pub struct Collector {
    server: HttpServer,
    state: Arc<Mutex<CollectorState>>,
}

impl Collector {
    /// Starts one that fails as told; `seed` decides when.
    pub fn start(faults: CollectorFaults, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(CollectorState {
            faults,
            random: Random::new(seed),
            ..CollectorState::default()
        }));
        let shared = state.clone();
        let server = HttpServer::start(move |request| answer(&mut lock(&shared), &request));
        Self { server, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Listens again, or breaks connections and refuses new ones; Splunk forgets what is not indexed yet.
    pub fn switch(&self, on: bool) {
        self.server.switch(on);
        if !on {
            self.state().waiting.clear();
        }
    }

    /// What it has and saw; look, change, let go.
    ///
    /// # Panics
    /// When answering a request has panicked.
    pub fn state(&self) -> MutexGuard<'_, CollectorState> {
        lock(&self.state)
    }

    /// The events it has for good.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            events: self.state().events.clone(),
        }
    }
}

fn lock(state: &Mutex<CollectorState>) -> MutexGuard<'_, CollectorState> {
    state.lock().expect("answering does not panic")
}

fn answer(state: &mut CollectorState, request: &Request) -> Response {
    if state.login.is_some() && request.header("authorization") != state.login.as_deref() {
        return Response::Answer(401, r#"{"text":"Invalid authorization","code":3}"#.into());
    }
    if request.path == "/services/collector/ack" {
        return acknowledge(state, request);
    }
    state.requests += 1;
    if state.random.happens(state.faults.busy) {
        let status = if state.random.happens(0.5) { 429 } else { 503 };
        return Response::Answer(status, r#"{"text":"Server is busy","code":9}"#.into());
    }
    let read = match request.path.as_str() {
        "/services/collector/event" => hec_events(state, request),
        "/events" => plain_events(request),
        "/loki/api/v1/push" => loki_events(request),
        "/v1/logs" => otlp_events(request),
        other => Err(format!("nobody needs {other}")),
    };
    let events = match read {
        Ok(events) => events,
        Err(complaint) => {
            state.complaints.push(complaint.clone());
            return Response::Answer(404, complaint);
        }
    };
    let poison = state.faults.poison;
    let bad = |event: &Value| chosen(id(event), poison, 1);
    if request.path == "/v1/logs" {
        let (rejected, taken): (Vec<_>, Vec<_>) = events.into_iter().partition(bad);
        state.events.extend(taken);
        let answer = match rejected.len() {
            0 => String::new(),
            some => crate::otlp::rejected(some),
        };
        return Response::Answer(200, answer);
    }
    if let Some(index) = events.iter().position(bad) {
        let refusal = json!({
            "text": "Invalid data format", "code": 6, "invalid-event-number": index,
        });
        return Response::Answer(400, refusal.to_string());
    }
    let mut taken = json!({ "text": "Success", "code": 0 });
    if request.path != "/services/collector/event" || state.faults.without_acks {
        state.events.extend(events);
    } else if state.random.happens(state.faults.forgets) {
        state.taken += 1;
        taken["ackId"] = state.taken.into();
    } else {
        state.taken += 1;
        taken["ackId"] = state.taken.into();
        state.waiting.insert(state.taken, (events, 0));
    }
    if state.random.happens(state.faults.breaks_after) {
        return Response::Break;
    }
    Response::Answer(200, taken.to_string())
}

fn id(event: &Value) -> &str {
    event["event"]["id"].as_str().unwrap_or_default()
}

/// Lines or an array, by the content type.
fn plain_events(request: &Request) -> Result<Vec<Value>, String> {
    if request.method != "POST" && request.method != "PUT" {
        return Err(format!("method {}", request.method));
    }
    match request.header("content-type") {
        Some("application/json") => {
            let array = serde_json::from_slice(&request.body);
            array.map_err(|error| format!("no array: {error}"))
        }
        Some("application/x-ndjson") if request.body.ends_with(b"\n") => {
            Ok(Delivered::parse(&request.body).events)
        }
        other => Err(format!("content type {other:?}, or no newline at the end")),
    }
}

/// The records of an export by OTLP.
fn otlp_events(request: &Request) -> Result<Vec<Value>, String> {
    match request.header("content-type") {
        Some("application/x-protobuf") => crate::otlp::events(&request.body),
        other => Err(format!("content type {other:?}")),
    }
}

/// The lines of a push to Loki, each a JSON object at its own time.
fn loki_events(request: &Request) -> Result<Vec<Value>, String> {
    let push: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let mut events = Vec::new();
    for stream in push["streams"].as_array().into_iter().flatten() {
        if stream["stream"]["job"] != "sluicegate" || !stream["stream"]["tenant"].is_string() {
            return Err(format!("labels {}", stream["stream"]));
        }
        for value in stream["values"].as_array().into_iter().flatten() {
            let (time, line) = (value[0].as_str(), value[1].as_str());
            let event: Value = serde_json::from_str(line.unwrap_or_default())
                .map_err(|error| format!("line {line:?}: {error}"))?;
            // Nanoseconds in this century have nineteen digits.
            if time.is_none_or(|time| time.len() != 19) {
                return Err(format!("time {time:?}"));
            }
            events.push(event);
        }
    }
    Ok(events)
}

/// Events in Splunk's wrapping.
fn hec_events(state: &mut CollectorState, request: &Request) -> Result<Vec<Value>, String> {
    let channel = request
        .header("x-splunk-request-channel")
        .unwrap_or_default();
    if !state.faults.without_acks && channel.len() != 36 {
        return Err(format!("channel `{channel}`"));
    }
    state.channels.insert(channel.to_owned());
    let mut events = Vec::new();
    for mut wrapped in Delivered::parse(&request.body).events {
        let time = wrapped["time"].as_f64().unwrap_or_default();
        if time < 1e9 || wrapped["sourcetype"] != "_json" || !wrapped["event"].is_object() {
            return Err(format!("wrapping {wrapped}"));
        }
        events.push(wrapped["event"].take());
    }
    Ok(events)
}

fn acknowledge(state: &mut CollectorState, request: &Request) -> Response {
    if state.faults.without_acks {
        return Response::Answer(400, r#"{"text":"ACK is disabled","code":14}"#.into());
    }
    let channel = request.header("x-splunk-request-channel");
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    // Zero is asked for before anything is sent: whether it can be asked.
    let first = asked == json!({ "acks": [0] });
    if !first && !channel.is_some_and(|channel| state.channels.contains(channel)) {
        state
            .complaints
            .push(format!("asked in channel {channel:?}"));
    }
    let mut acks = serde_json::Map::new();
    for number in asked["acks"].as_array().into_iter().flatten() {
        let number = number.as_u64().unwrap_or_default();
        let polls = state.waiting.get_mut(&number).map(|(_, polls)| {
            *polls += 1;
            *polls
        });
        let indexed = polls == Some(POLLS);
        if let Some((events, _)) = indexed.then(|| state.waiting.remove(&number)).flatten() {
            state.events.extend(events);
        }
        acks.insert(number.to_string(), indexed.into());
    }
    Response::Answer(200, json!({ "acks": acks }).to_string())
}
