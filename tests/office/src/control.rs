//! The control plane, for people and scripts: what was seen, what is owed, what goes wrong next.
//!
//! It has an origin of its own, so a client under test never meets it.

use serde_json::{Value, json};

use crate::office::Office;
use crate::wire::{Reply, Request};

/// Answers `GET /_mock/stats`, `GET /_mock/oracle`, `POST /_mock/oracle`, `POST /_mock/fault`.
///
/// The oracle takes events as NDJSON: ECS events (`event.id`, `organization.id`), or
/// `{"tenant":…,"id":…}`. A fault is `name=rate`, one per line.
pub(crate) fn handle(office: &mut Office, now: i64, request: &Request) -> Reply {
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
        _ => {
            let text = "GET /_mock/stats, GET or POST /_mock/oracle, POST /_mock/fault";
            Reply::json(
                404,
                json!({"error": "no such page", "pages": text}).to_string(),
            )
        }
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
