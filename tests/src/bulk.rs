//! An Elasticsearch, as far as a bulk request can tell: it checks every line of the protocol, keeps what it is
//! given, and fails as it is told to.
//!
//! What a client does wrong is a complaint; a test asks for them at the end. Faults that belong to a document (a
//! mapping that refuses it) follow from its id, so they come again with it; the others are drawn for each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Delivered;
use crate::chance::{Random, chosen};
use crate::http_server::{HttpServer, Request, Response, dawdle};

/// What the sink marks documents with that it stores in their safe form.
const SAFE: &str = "_sluicegate_mapping_failure";

/// What may go wrong, each with a probability.
#[derive(Clone, Debug, Default)]
pub struct BulkFaults {
    /// A document gets 429.
    pub busy_item: f64,
    /// The whole request gets 429 or 503, and nothing of it is done.
    pub busy: f64,
    /// Everything is done, and the connection breaks before the answer.
    pub breaks_after: f64,
    /// The connection breaks before anything is done.
    pub breaks_before: f64,
    /// An answer takes so long.
    pub delay: Duration,
    /// A request with more bytes gets 413.
    pub most_bytes: Option<usize>,
    /// One document in so many is refused by the mapping, unless in its safe form.
    pub picky: Option<u64>,
    /// One document in so many is refused in any form.
    pub poison: Option<u64>,
}

/// What the server has and saw.
#[derive(Debug, Default)]
pub struct BulkState {
    /// Documents by id, each with its index.
    pub documents: BTreeMap<String, (String, Value)>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// Bulk requests.
    pub requests: usize,
    /// Documents that were there already.
    pub conflicts: usize,
    /// Requests that were packed.
    pub packed: usize,
    /// Index templates by name.
    pub templates: BTreeMap<String, Value>,
    /// What goes wrong.
    pub faults: BulkFaults,
    /// The one `Authorization` that is accepted; `None` for any.
    pub login: Option<String>,
    /// Types that no template may have, as on OpenSearch.
    pub unknown_types: Vec<&'static str>,
    random: Random,
}

/// A strict bulk server on loopback.
pub struct Bulk {
    server: HttpServer,
    state: Arc<Mutex<BulkState>>,
}

impl Bulk {
    /// Starts one that fails as told; `seed` decides when.
    pub fn start(faults: BulkFaults, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(BulkState {
            faults,
            random: Random::new(seed),
            ..BulkState::default()
        }));
        let shared = state.clone();
        let server = HttpServer::start(move |request| answer(&shared, &request));
        Self { server, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Breaks connections and refuses new ones; documents stay.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Listens again.
    pub fn start_again(&self) {
        self.server.start_again();
    }

    /// Listens again, or stops.
    pub fn switch(&self, on: bool) {
        self.server.switch(on);
    }

    /// What it has and saw; look, change, let go.
    ///
    /// # Panics
    /// When answering a request has panicked.
    pub fn state(&self) -> MutexGuard<'_, BulkState> {
        lock(&self.state)
    }

    /// The events in its documents; those in a safe form as they were.
    ///
    /// # Panics
    /// When the original of a safe form is no JSON.
    pub fn delivered(&self) -> Delivered {
        let state = self.state();
        let events = state.documents.values().map(|(_, document)| {
            if is_safe(document) {
                let original = document["event"]["original"].as_str().unwrap_or_default();
                let event: Value =
                    serde_json::from_str(original).expect("the original is the event");
                assert_eq!(event["event"]["id"], document["event"]["id"]);
                event
            } else {
                document.clone()
            }
        });
        Delivered {
            events: events.collect(),
        }
    }

    /// How many documents stand there in their safe form.
    pub fn safe_forms(&self) -> usize {
        let state = self.state();
        let documents = state.documents.values();
        documents.filter(|(_, document)| is_safe(document)).count()
    }
}

fn lock(state: &Mutex<BulkState>) -> MutexGuard<'_, BulkState> {
    state.lock().expect("answering does not panic")
}

fn is_safe(document: &Value) -> bool {
    document["tags"]
        .as_array()
        .is_some_and(|tags| tags.iter().any(|tag| tag == SAFE))
}

fn refusal(status: u16, kind: &str, reason: &str) -> Response {
    let error = json!({ "root_cause": [], "type": kind, "reason": reason });
    Response::Answer(
        status,
        json!({ "error": error, "status": status }).to_string(),
    )
}

fn answer(state: &Mutex<BulkState>, request: &Request) -> Response {
    let login = lock(state).login.clone();
    if login.is_some() && request.header("authorization") != login.as_deref() {
        return refusal(401, "security_exception", "unable to authenticate");
    }
    if let Some(name) = request.path.strip_prefix("/_index_template/") {
        return template(&mut lock(state), request, name);
    }
    let Some(index) = request.path.strip_suffix("/_bulk") else {
        let what = format!("{} {}", request.method, request.path);
        lock(state).complaints.push(format!("nobody needs {what}"));
        return refusal(404, "not_found", &what);
    };
    let faults = {
        let mut state = lock(state);
        state.requests += 1;
        state.faults.clone()
    };
    dawdle(faults.delay);
    let mut state = lock(state);
    bulk(&mut state, &faults, request, index.trim_start_matches('/'))
}

fn template(state: &mut BulkState, request: &Request, name: &str) -> Response {
    match request.method.as_str() {
        "GET" => match state.templates.get(name) {
            Some(template) => {
                let found = json!([{ "name": name, "index_template": template }]);
                Response::Answer(200, json!({ "index_templates": found }).to_string())
            }
            None => refusal(404, "resource_not_found_exception", "no such template"),
        },
        "PUT" => {
            let template: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let text = template.to_string();
            let unknown = state
                .unknown_types
                .iter()
                .find(|kind| text.contains(&format!(r#""type":"{kind}""#)));
            if let Some(kind) = unknown {
                let reason = format!("No handler for type [{kind}] declared on field [x]");
                return refusal(400, "mapper_parsing_exception", &reason);
            }
            state.templates.insert(name.to_owned(), template);
            Response::Answer(200, r#"{"acknowledged":true}"#.into())
        }
        other => refusal(405, "method_not_allowed", other),
    }
}

fn bulk(state: &mut BulkState, faults: &BulkFaults, request: &Request, index: &str) -> Response {
    if request.header("content-encoding") == Some("gzip") {
        state.packed += 1;
    }
    if faults
        .most_bytes
        .is_some_and(|most| request.body.len() > most)
    {
        return Response::Answer(413, String::new());
    }
    if state.random.happens(faults.breaks_before) {
        return Response::Break;
    }
    if state.random.happens(faults.busy) {
        let status = if state.random.happens(0.5) { 429 } else { 503 };
        return refusal(
            status,
            "es_rejected_execution_exception",
            "too many requests",
        );
    }
    let actions = match parse(request, index) {
        Ok(actions) => actions,
        Err(complaint) => {
            state.complaints.push(complaint.clone());
            return refusal(400, "illegal_argument_exception", &complaint);
        }
    };
    let items: Vec<Value> = actions
        .into_iter()
        .map(|action| create(state, faults, action))
        .collect();
    let errors = items
        .iter()
        .any(|item| item["create"].get("error").is_some());
    if state.random.happens(faults.breaks_after) {
        return Response::Break;
    }
    Response::Answer(200, json!({ "errors": errors, "items": items }).to_string())
}

struct Action {
    index: String,
    id: String,
    document: Value,
}

/// Reads a bulk body as strictly as the protocol is written.
fn parse(request: &Request, index: &str) -> Result<Vec<Action>, String> {
    let refuse = |what: String| Err(format!("bulk: {what}"));
    if request.method != "POST" {
        return refuse(format!("method {}", request.method));
    }
    if request.header("content-type") != Some("application/x-ndjson") {
        return refuse(format!("content type {:?}", request.header("content-type")));
    }
    if !request.query.starts_with("filter_path=errors,") {
        return refuse(format!("query {}", request.query));
    }
    let Ok(text) = std::str::from_utf8(&request.body) else {
        return refuse("not UTF-8".into());
    };
    let Some(text) = text.strip_suffix('\n') else {
        return refuse("no newline at the end".into());
    };
    let lines: Vec<&str> = text.split('\n').collect();
    if !lines.len().is_multiple_of(2) {
        return refuse(format!("{} lines are no pairs", lines.len()));
    }
    let mut seen = BTreeSet::new();
    let mut actions = Vec::new();
    for pair in lines.chunks(2) {
        let action: Value = serde_json::from_str(pair[0]).map_err(|e| format!("action: {e}"))?;
        let document: Value =
            serde_json::from_str(pair[1]).map_err(|e| format!("document: {e}"))?;
        let Some(create) = only(&action, "create") else {
            return refuse(format!("action {}", pair[0]));
        };
        let known = |key: &String| key == "_id" || key == "_index";
        if !create
            .as_object()
            .is_some_and(|keys| keys.keys().all(known))
            || !document.is_object()
        {
            return refuse(format!("pair {} {}", pair[0], pair[1]));
        }
        let id = create["_id"].as_str().unwrap_or_default().to_owned();
        let base64 = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if id.len() != 22 || !id.chars().all(base64) {
            return refuse(format!("id `{id}`"));
        }
        let index = create["_index"].as_str().unwrap_or(index).to_owned();
        if index.is_empty() || index.chars().any(char::is_uppercase) {
            return refuse(format!("index `{index}`"));
        }
        if !seen.insert(id.clone()) {
            return refuse(format!("id `{id}` twice in one request"));
        }
        actions.push(Action {
            index,
            id,
            document,
        });
    }
    Ok(actions)
}

/// The value of an object's only member, if that is its name.
fn only<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    (object.len() == 1).then(|| object.get(name)).flatten()
}

fn create(state: &mut BulkState, faults: &BulkFaults, action: Action) -> Value {
    let Action {
        index,
        id,
        document,
    } = action;
    let failed = |status: u16, kind: &str, reason: &str| {
        let error = json!({ "type": kind, "reason": reason });
        json!({ "create": { "status": status, "error": error } })
    };
    if state.random.happens(faults.busy_item) {
        return failed(429, "es_rejected_execution_exception", "queue is full");
    }
    let refused =
        chosen(&id, faults.poison, 1) || !is_safe(&document) && chosen(&id, faults.picky, 2);
    if refused {
        return failed(
            400,
            "document_parsing_exception",
            "failed to parse field [x]",
        );
    }
    if let Some((known, _)) = state.documents.get(&id) {
        if *known != index {
            state
                .complaints
                .push(format!("`{id}` for `{index}` and `{known}`"));
        }
        state.conflicts += 1;
        return failed(
            409,
            "version_conflict_engine_exception",
            "document already exists",
        );
    }
    state.documents.insert(id, (index, document));
    json!({ "create": { "status": 201 } })
}
