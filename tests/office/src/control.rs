//! The control plane, for people and scripts: what was seen, what is owed, what goes wrong next.
//!
//! It has an origin of its own, so a client under test never meets it.

use serde_json::{Value, json};

use crate::http::Clock;
use crate::office::Office;
use crate::script::Script;
use crate::wire::{Reply, Request};

const PAGES: &[&str] = &[
    "GET /_mock/stats",
    "GET /_mock/log",
    "GET /_mock/oracle",
    "POST /_mock/oracle",
    "POST /_mock/fault",
    "POST /_mock/script",
    "POST /_mock/clock",
];

/// Answers the pages named in [`PAGES`].
///
/// The oracle takes events as NDJSON: ECS events (`event.id`, `organization.id`), or
/// `{"tenant":…,"id":…}`. A fault is `name=rate`, one per line; faults of blobs and records were
/// settled when the office was built and do not change any more. A script is one JSON object with
/// the members that [`Script`] has methods for. The clock takes the milliseconds
/// by which it is moved.
pub(crate) fn handle(office: &mut Office, clock: &Clock, request: &Request) -> Reply {
    let now = clock.now_ms();
    match (&*request.method, &*request.path) {
        ("GET", "/_mock/stats") => Reply::json(200, office.stats().to_json().to_string()),
        ("GET", "/_mock/oracle") => {
            let owed = office.oracle(now).owed();
            Reply::json(200, json!({"owed": owed}).to_string())
        }
        ("POST", "/_mock/oracle") => {
            let events = request
                .body
                .split(|byte| *byte == b'\n')
                .filter_map(read_event);
            let verdict = office.oracle(now).check(events);
            Reply::json(200, verdict.to_json().to_string())
        }
        ("POST", "/_mock/fault") => {
            let text = String::from_utf8_lossy(&request.body);
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let read = lines.try_for_each(|line| office.faults_mut().read(line));
            match read {
                Ok(()) => Reply::json(200, "{}"),
                Err(e) => Reply::json(400, json!({"error": e}).to_string()),
            }
        }
        ("POST", "/_mock/script") => match Script::read(&request.body) {
            Ok(script) => {
                let number = office.follow(script);
                Reply::json(200, json!({"script": number}).to_string())
            }
            Err(e) => Reply::json(400, json!({"error": e}).to_string()),
        },
        ("GET", "/_mock/log") => Reply::json(
            200,
            Value::from(office.recent().collect::<Vec<_>>()).to_string(),
        ),
        ("POST", "/_mock/clock") => match String::from_utf8_lossy(&request.body).trim().parse() {
            Ok(ms) => {
                clock.advance(ms);
                Reply::json(200, json!({"now_ms": clock.now_ms()}).to_string())
            }
            Err(e) => Reply::json(
                400,
                json!({"error": format!("milliseconds: {e}")}).to_string(),
            ),
        },
        _ => Reply::json(
            404,
            json!({"error": "no such page", "pages": PAGES}).to_string(),
        ),
    }
}

/// Tenant and id of a delivered event; a line that is no event has neither and counts as invented.
fn read_event(line: &[u8]) -> Option<(String, String)> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let tenant = text(&event["tenant"]).or_else(|| text(&event["organization"]["id"]));
    let id = text(&event["id"]).or_else(|| text(&event["event"]["id"]));
    Some((tenant.unwrap_or_default(), id.unwrap_or_default()))
}
