//! Azure Monitor's logs ingestion and the login host before it: strict about tokens, addresses, sizes and columns, and
//! failing as they are told to.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use crate::Delivered;
use crate::chance::Random;
use crate::http_server::{HttpServer, Request, Response};

/// The directory and the application of the tests.
pub const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";
/// The application of the tests.
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
/// The application's secret.
pub const SECRET: &str = "azure-azure-azure";
/// The rule of the tests.
pub const RULE: &str = "dcr-0123456789abcdef0123456789abcdef";

/// Microsoft's limit on a call.
const MOST_BYTES: usize = 1 << 20;

/// What may go wrong.
#[derive(Clone, Debug, Default)]
pub struct IngestionFaults {
    /// Nothing is done, and the answer is 429, 500 or 503, with this probability.
    pub busy: f64,
    /// Everything is done, and the connection breaks before the answer, with this probability.
    pub breaks_after: f64,
    /// A token is good for so many requests; 0 for any number.
    pub token_lasts: usize,
    /// The application may not write to the rule.
    pub forbidden: bool,
    /// The rule does not know the stream.
    pub unknown_stream: bool,
}

/// What the service has and saw.
#[derive(Debug, Default)]
pub struct IngestionState {
    /// Events, as often as they came.
    pub events: Vec<Value>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// Requests with events, whatever became of them.
    pub requests: usize,
    /// Tokens issued.
    pub tokens: usize,
    /// What goes wrong.
    pub faults: IngestionFaults,
    /// Requests with the current token.
    uses: usize,
    random: Random,
}

/// Both hosts on loopback.
pub struct LogsIngestion {
    login: HttpServer,
    service: HttpServer,
    state: Arc<Mutex<IngestionState>>,
}

impl LogsIngestion {
    /// Starts them, failing as told; `seed` decides when.
    pub fn start(faults: IngestionFaults, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(IngestionState {
            faults,
            random: Random::new(seed),
            ..IngestionState::default()
        }));
        let (for_login, for_service) = (state.clone(), state.clone());
        Self {
            login: HttpServer::start(move |request| issue(&mut lock(&for_login), &request)),
            service: HttpServer::start(move |request| take(&mut lock(&for_service), &request)),
            state,
        }
    }

    /// What a sink needs to be told; the secret is in the file `azure.secret`.
    pub fn keys(&self) -> String {
        format!(
            "endpoint: '{}', dcr_immutable_id: {RULE}, stream_name: Custom-Office365, \
             token_scope: 'https://monitor.test/.default', auth: {{ cloud: custom, login_url: '{}', \
             directory_id: {DIRECTORY}, client_id: {CLIENT}, client_secret: {{ file: azure.secret }} }}",
            self.service.url(),
            self.login.url()
        )
    }

    /// Listens again, or breaks connections to the service and refuses new ones.
    pub fn switch(&self, on: bool) {
        self.service.switch(on);
    }

    /// What it has and saw; look, change, let go.
    ///
    /// # Panics
    /// When answering a request has panicked.
    pub fn state(&self) -> MutexGuard<'_, IngestionState> {
        lock(&self.state)
    }

    /// The events it has for good.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            events: self.state().events.clone(),
        }
    }
}

fn lock(state: &Mutex<IngestionState>) -> MutexGuard<'_, IngestionState> {
    state.lock().expect("answering does not panic")
}

/// The login host.
fn issue(state: &mut IngestionState, request: &Request) -> Response {
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let has = |pair: String| form.split('&').any(|found| found == pair);
    let asked = request.path == format!("/{DIRECTORY}/oauth2/v2.0/token")
        && has("grant_type=client_credentials".into())
        && has(format!("client_id={CLIENT}"))
        && has("scope=https%3A%2F%2Fmonitor.test%2F.default".into());
    if !asked || request.header("authorization").is_some() {
        state.complaints.push(format!("{} {form}", request.path));
        return Response::Answer(400, r#"{"error":"invalid_request"}"#.into());
    }
    if !has(format!("client_secret={SECRET}")) {
        let refusal = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
        return Response::Answer(401, refusal.into());
    }
    state.tokens += 1;
    state.uses = 0;
    let token = format!(
        r#"{{"access_token":"token-{:04}","token_type":"Bearer","expires_in":3599}}"#,
        state.tokens
    );
    Response::Answer(200, token)
}

/// The service.
fn take(state: &mut IngestionState, request: &Request) -> Response {
    state.requests += 1;
    let says = |status, code: &str| {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"{code} it is"}}}}"#);
        Response::Answer(status, body)
    };
    let token = format!("Bearer token-{:04}", state.tokens);
    let worn = state.faults.token_lasts > 0 && state.uses >= state.faults.token_lasts;
    if request.header("authorization") != Some(&*token) || worn {
        return says(401, "InvalidToken");
    }
    state.uses += 1;
    if state.faults.forbidden {
        return says(403, "OperationFailed");
    }
    if state.faults.unknown_stream {
        return says(400, "InvalidStream");
    }
    if request.body.len() > MOST_BYTES {
        return says(413, "ContentLengthLimitExceeded");
    }
    if state.random.happens(state.faults.busy) {
        let statuses = [429, 500, 503];
        return says(statuses[state.requests % 3], "Busy");
    }
    let events = match events(request) {
        Ok(events) => events,
        Err(complaint) => {
            state.complaints.push(complaint);
            return says(400, "InvalidRequest");
        }
    };
    state.events.extend(events);
    if state.random.happens(state.faults.breaks_after) {
        return Response::Break;
    }
    Response::Answer(204, String::new())
}

fn events(request: &Request) -> Result<Vec<Value>, String> {
    let path = format!("/dataCollectionRules/{RULE}/streams/Custom-Office365");
    if request.method != "POST" || request.path != path {
        return Err(format!("{} {}", request.method, request.path));
    }
    if request.query != "api-version=2023-01-01" {
        return Err(format!("query {}", request.query));
    }
    if request.header("content-type") != Some("application/json") {
        return Err("no JSON".into());
    }
    let array: Vec<Value> =
        serde_json::from_slice(&request.body).map_err(|error| format!("no array: {error}"))?;
    let mut events = Vec::new();
    for mut event in array {
        let time = event
            .as_object_mut()
            .and_then(|event| event.remove("TimeGenerated"));
        let time = time.ok_or("no object with a time")?;
        // To the second, since a column has its own precision.
        let same = |own: &str| {
            time.as_str()
                .is_some_and(|time| time.get(..19) == own.get(..19))
        };
        if !event["@timestamp"].as_str().is_some_and(same) {
            return Err(format!(
                "time {time} of an event at {}",
                event["@timestamp"]
            ));
        }
        events.push(event);
    }
    Ok(events)
}
