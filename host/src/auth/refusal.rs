//! What a login host's refusal means: the vendor's code where it is known, the standard's word and
//! the status where it is not.
//!
//! An answer is read forgivingly, and little of it is repeated: the code, the ids that the vendor's
//! support asks for, and for an unknown code its first sentence without secrets. Text decides
//! nothing.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::proof::Proof;
use super::{AuthError, Class, Decision, microsoft};
use crate::secret::Redactor;

/// A refusal as it arrived.
pub(super) struct Refused<'a> {
    /// Who refused, for people.
    pub(super) by: String,
    pub(super) status: StatusCode,
    pub(super) body: &'a [u8],
    /// Our clock minus the server's.
    pub(super) skew_ms: Option<i64>,
    /// What `Retry-After` asks for.
    pub(super) wait: Option<Duration>,
}

impl Refused<'_> {
    /// What it means for the tenant, and what to say.
    pub(super) fn understand(&self, proof: &Proof, redactor: &Redactor) -> AuthError {
        let refusal: Refusal = serde_json::from_slice(self.body).unwrap_or_default();
        let code = refusal.codes.first().and_then(Value::as_u64);
        let row = code.and_then(microsoft::row);
        let name = word(refusal.error.as_ref());
        let decision = decision(self.status, row.map(|row| row.decision), &name);
        let reason = match (code, name.as_str()) {
            (Some(code), _) => format!("AADSTS{code}"),
            (None, "") => format!("status {}", self.status.as_u16()),
            (None, name) => format!("`{name}`"),
        };
        let (meaning, help) = match row {
            Some(row) => (row.what.to_owned(), row.help),
            None => (
                refusal.description(proof, redactor),
                fallback_help(self.status, &name),
            ),
        };
        let parts: Vec<String> = [meaning, self.measured(code, proof)]
            .into_iter()
            .chain(refusal.traces())
            .filter(|part| !part.is_empty())
            .collect();
        let colon = if parts.is_empty() { "" } else { ": " };
        let parts = parts.join(", ");
        let what = format!("{} refused to sign in ({reason}){colon}{parts}", self.by);
        let class = row.map_or_else(|| class(self.status, &name), |row| row.class);
        let class = if decision == Decision::BackOff {
            Class::Transient
        } else {
            class
        };
        let wait = code.and_then(microsoft::least_wait).max(self.wait);
        AuthError {
            code,
            decision,
            ..AuthError::new(class, what, help).after(wait)
        }
    }

    /// What we know and the server does not say: clocks and thumbprints.
    fn measured(&self, code: Option<u64>, proof: &Proof) -> String {
        match (code, self.skew_ms, &proof.thumbprints) {
            (Some(700_024), Some(ms), _) => {
                format!("this clock is {} s off the server's", ms / 1000)
            }
            (Some(700_027 | 700_030), _, Some((sha1, sha256))) => {
                format!("the certificate's thumbprint is {sha1} (SHA-256 {sha256})")
            }
            _ => String::new(),
        }
    }
}

/// A refusal's body, as loosely as servers write it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Option<Value>,
    error_description: Option<Value>,
    #[serde(rename = "error_codes", deserialize_with = "list_or_nothing")]
    codes: Vec<Value>,
    trace_id: Option<Value>,
    correlation_id: Option<Value>,
    timestamp: Option<Value>,
}

impl Refusal {
    /// What the vendor's support asks for.
    fn traces(&self) -> [String; 3] {
        [
            ("trace id", &self.trace_id),
            ("correlation id", &self.correlation_id),
            ("at", &self.timestamp),
        ]
        .map(|(label, value)| match word(value.as_ref()).as_str() {
            "" => String::new(),
            value => format!("{label} {value}"),
        })
    }

    /// The first sentence of what the server says of an error that no table knows, without control
    /// characters and secrets.
    fn description(&self, proof: &Proof, redactor: &Redactor) -> String {
        const LONGEST: usize = 200;
        let Some(Value::String(text)) = &self.error_description else {
            return String::new();
        };
        let own = Redactor::new();
        for (_, value) in &proof.fields {
            own.learn(value);
        }
        let text = own.scrub(text);
        let text = redactor.scrub(&text);
        let first = text.split(" Trace ID").next().unwrap_or_default();
        let plain = first
            .chars()
            .filter(|letter| !letter.is_control())
            .take(LONGEST);
        plain
            .collect::<String>()
            .trim()
            .trim_end_matches('.')
            .to_owned()
    }
}

fn list_or_nothing<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<Value>, D::Error> {
    Ok(match Value::deserialize(source)? {
        Value::Array(list) => list,
        _ => Vec::new(),
    })
}

/// An identifier from a server, if it looks like one.
fn word(value: Option<&Value>) -> String {
    const LONGEST: usize = 64;
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_:. ".contains(letter);
    match value {
        Some(Value::String(text)) if text.len() <= LONGEST && text.chars().all(fine) => {
            text.clone()
        }
        _ => String::new(),
    }
}

/// What is done about a refusal: overload first, then the vendor's code, then the standard's word,
/// then the status.
fn decision(status: StatusCode, by_code: Option<Decision>, error: &str) -> Decision {
    // 50196 comes with many statuses, and asking again soon is what it complains about.
    if by_code == Some(Decision::KeepAway) {
        return Decision::KeepAway;
    }
    if overloaded(status) {
        return Decision::BackOff;
    }
    by_code.unwrap_or_else(|| match class(status, error) {
        Class::Transient => Decision::BackOff,
        Class::Unauthorised if error != "unauthorized_client" => Decision::ReadAgain,
        Class::Unauthorised | Class::Misconfigured => Decision::AskAPerson,
    })
}

fn overloaded(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// What a refusal without a known code means for the tenant.
fn class(status: StatusCode, error: &str) -> Class {
    if overloaded(status) {
        return Class::Transient;
    }
    match error {
        "invalid_client" | "unauthorized_client" | "access_denied" | "invalid_grant" => {
            Class::Unauthorised
        }
        "invalid_request"
        | "invalid_scope"
        | "invalid_resource"
        | "unsupported_grant_type"
        | "invalid_target" => Class::Misconfigured,
        "temporarily_unavailable" | "server_error" | "slow_down" => Class::Transient,
        _ => match status.as_u16() {
            401 | 403 => Class::Unauthorised,
            _ => Class::Misconfigured,
        },
    }
}

/// What to do about a refusal that no table knows.
fn fallback_help(status: StatusCode, error: &str) -> &'static str {
    match (error, status.as_u16()) {
        ("invalid_client", _) => "check `client_id` and the client secret or certificate",
        ("unauthorized_client" | "access_denied", _) => {
            "allow the application to use client credentials in this directory"
        }
        ("invalid_scope" | "invalid_resource" | "invalid_target", _) => {
            "check `cloud`, `resource_url` or `scope`"
        }
        (_, 300..=399) => "the login host redirects, which is not followed; check the address",
        (_, 404 | 405) => "check `login_url` or `token_url`: nothing issues tokens there",
        (_, 407) => "check key `http.proxy`: its user name and password",
        (_, 429 | 500..=599) => "",
        _ => "check the keys under `auth`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_without_a_known_code_are_classed_by_word_and_status() {
        for (status, error, wanted, done) in [
            (
                400,
                "invalid_client",
                Class::Unauthorised,
                Decision::ReadAgain,
            ),
            (401, "", Class::Unauthorised, Decision::ReadAgain),
            (
                400,
                "unauthorized_client",
                Class::Unauthorised,
                Decision::AskAPerson,
            ),
            (
                400,
                "access_denied",
                Class::Unauthorised,
                Decision::ReadAgain,
            ),
            (
                400,
                "invalid_scope",
                Class::Misconfigured,
                Decision::AskAPerson,
            ),
            (
                400,
                "temporarily_unavailable",
                Class::Transient,
                Decision::BackOff,
            ),
            (429, "invalid_client", Class::Transient, Decision::BackOff),
            (503, "", Class::Transient, Decision::BackOff),
            (404, "", Class::Misconfigured, Decision::AskAPerson),
            (302, "", Class::Misconfigured, Decision::AskAPerson),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(class(status, error), wanted, "{status} {error}");
            assert_eq!(decision(status, None, error), done, "{status} {error}");
        }
    }

    #[test]
    fn overload_goes_before_a_code_but_not_before_a_loop() {
        let busy = StatusCode::TOO_MANY_REQUESTS;
        let of = |by_code| decision(busy, Some(by_code), "invalid_client");
        assert_eq!(of(Decision::ReadAgain), Decision::BackOff);
        assert_eq!(of(Decision::KeepAway), Decision::KeepAway);
    }
}
