//! Asks an OAuth2 server for a token with client credentials (RFC 6749, section 4.4; RFC 7523 for
//! assertions).
//!
//! Secrets, certificates and token files are read again for every request, so rotation needs no
//! restart. An answer is read forgivingly where servers differ (numbers as text, odd lifetimes) and
//! strictly where it matters: without a usable `access_token` there is no token. Bodies are never
//! repeated in errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{AuthError, Class, assertion, microsoft};
use crate::clock::SharedClock;
use crate::config::Auth;
use crate::config::auth::Credential;
use crate::error::Error;
use crate::http::{Client, HttpError, read_all, retry_after, server_time};
use crate::secret::{Redactor, Secret, SecretRef};

/// A token as a server issued it.
pub(super) struct Issued {
    pub(super) value: Secret,
    pub(super) lifetime: Duration,
}

/// Where one client asks for tokens, and how it proves itself.
pub(super) struct Endpoint {
    url: Url,
    client_id: String,
    scope: Option<String>,
    credential: Credential,
    client: Client,
    clock: SharedClock,
    redactor: Arc<Redactor>,
}

/// Answers are a few kilobytes; error pages of gateways may be more.
const ANSWER_BYTES: usize = 1 << 20;
/// For a server that does not say how long a token lasts.
const UNKNOWN_LIFETIME: Duration = Duration::from_mins(5);
/// The longest life believed: Entra's own limit.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Endpoint {
    /// What the config describes; `None` where there is no sign-in.
    pub(super) fn new(
        auth: &Auth,
        client: &Client,
        clock: &SharedClock,
        redactor: &Arc<Redactor>,
    ) -> Result<Option<Self>, Error> {
        let (url, client_id, scope, credential) = match auth {
            Auth::None => return Ok(None),
            Auth::Microsoft(auth) => {
                let scope = microsoft::scope(&auth.resource_url);
                let url = microsoft::token_url(&auth.login_url, &auth.directory_id);
                (url, &auth.client_id, Some(scope), &auth.credential)
            }
            Auth::OAuth2(auth) => (
                auth.token_url.clone(),
                &auth.client_id,
                auth.scope.clone(),
                &auth.credential,
            ),
        };
        let endpoint = Self {
            url,
            client_id: client_id.clone(),
            scope,
            credential: credential.clone(),
            client: client.clone(),
            clock: Arc::clone(clock),
            redactor: Arc::clone(redactor),
        };
        endpoint.proof()?;
        if let Some(warning) = endpoint.secret().warning() {
            tracing::warn!("{warning}");
        }
        Ok(Some(endpoint))
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// What must stay secret of the credential.
    fn secret(&self) -> &SecretRef {
        match &self.credential {
            Credential::ClientSecret(secret) | Credential::FederatedTokenFile(secret) => secret,
            Credential::Certificate(certificate) => &certificate.key,
        }
    }

    /// The form fields that prove who the client is.
    fn proof(&self) -> Result<Vec<(&'static str, Secret)>, Error> {
        let assertion = |value| {
            vec![
                ("client_assertion_type", Secret::new(ASSERTION_TYPE)),
                ("client_assertion", value),
            ]
        };
        match &self.credential {
            Credential::ClientSecret(secret) => {
                let secret = secret.resolve()?;
                self.redactor.learn(&secret);
                Ok(vec![("client_secret", secret)])
            }
            Credential::Certificate(certificate) => {
                let now_ms = self.clock.now_ms();
                let audience = self.url.as_str();
                assertion::sign(certificate, audience, &self.client_id, now_ms).map(assertion)
            }
            Credential::FederatedTokenFile(file) => file.resolve().map(assertion),
        }
    }

    /// One request, one answer.
    pub(super) async fn ask(&self) -> Result<Issued, AuthError> {
        let proof = self.proof().map_err(|error| {
            let what = error
                .places
                .iter()
                .fold(error.what, |what, place| format!("{what} ({place})"));
            AuthError::new(Class::Misconfigured, what, error.help)
        })?;
        let answer = self.exchange(&proof).await;
        let (status, headers, body) = answer.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return self.issued(&body);
        }
        let wait = retry_after(&headers, self.clock.now_ms());
        let skew_ms = server_time(&headers).map(|server| self.clock.now_ms() - server);
        Err(self
            .refused(status, &body, skew_ms, &proof)
            .after_at_least(wait))
    }

    fn form(&self, proof: &[(&'static str, Secret)]) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.append_pair("client_id", &self.client_id);
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        for (name, value) in proof {
            form.append_pair(name, value.expose());
        }
        form.finish()
    }

    async fn exchange(
        &self,
        proof: &[(&'static str, Secret)],
    ) -> Result<(StatusCode, http::HeaderMap, Bytes), HttpError> {
        let request = http::Request::post(self.url.as_str())
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded",
            )
            .header(http::header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(self.form(proof))))
            .map_err(|_| HttpError::unsendable(self.host()))?;
        let response = self.client.send(request).await?;
        let (head, body) = response.into_parts();
        Ok((
            head.status,
            head.headers,
            read_all(self.host(), body, ANSWER_BYTES).await?,
        ))
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn unreachable(&self, error: &HttpError) -> AuthError {
        let what = format!("{self} cannot be reached: {}", error.what);
        AuthError::new(Class::Transient, what, error.help())
    }

    fn issued(&self, body: &[u8]) -> Result<Issued, AuthError> {
        let unusable = |why: &str| {
            let what = format!("{self} answered without a usable token: {why}");
            let help = "check `login_url` or `token_url`; a gateway may be in the way";
            AuthError::new(Class::Transient, what, help).after(Some(Duration::from_secs(30)))
        };
        let answer: Issue =
            serde_json::from_slice(body).map_err(|_| unusable("the answer is not JSON"))?;
        let Some(Value::String(value)) = answer.access_token else {
            return Err(unusable("there is no `access_token`"));
        };
        // Anything else could not stand in a header, or would end it.
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("`access_token` is empty or has blanks in it"));
        }
        if let Some(Value::String(kind)) = &answer.token_type
            && !kind.eq_ignore_ascii_case("bearer")
        {
            return Err(unusable("it is not a bearer token"));
        }
        Ok(Issued {
            value: Secret::new(value),
            lifetime: lifetime(answer.expires_in.as_ref()),
        })
    }

    fn refused(
        &self,
        status: StatusCode,
        body: &[u8],
        skew_ms: Option<i64>,
        proof: &[(&'static str, Secret)],
    ) -> AuthError {
        let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
        let code = refusal.codes.first().and_then(Value::as_u64);
        let row = code.and_then(microsoft::row);
        let name = word(refusal.error.as_ref());
        let class = class(status, row.map(|row| row.class), &name);
        let reason = match (code, name.as_str()) {
            (Some(code), _) => format!("AADSTS{code}"),
            (None, "") => format!("status {}", status.as_u16()),
            (None, name) => format!("`{name}`"),
        };
        let (meaning, help) = match row {
            Some(row) => (row.what.to_owned(), row.help),
            None => (
                self.description(&refusal, proof),
                fallback_help(status, &name),
            ),
        };
        let skew = match (code, skew_ms) {
            (Some(700_024), Some(ms)) => format!("this clock is {} s off the server's", ms / 1000),
            _ => String::new(),
        };
        let traces = [
            ("trace id", &refusal.trace_id),
            ("correlation id", &refusal.correlation_id),
            ("at", &refusal.timestamp),
        ]
        .map(|(label, value)| match word(value.as_ref()).as_str() {
            "" => String::new(),
            value => format!("{label} {value}"),
        });
        let parts: Vec<String> = [meaning, skew]
            .into_iter()
            .chain(traces)
            .filter(|part| !part.is_empty())
            .collect();
        let colon = if parts.is_empty() { "" } else { ": " };
        let what = format!(
            "{self} refused to sign in ({reason}){colon}{}",
            parts.join(", ")
        );
        let wait = code.and_then(microsoft::least_wait);
        AuthError::new(class, what, help).after(wait)
    }

    /// The first sentence of what the server says of an error that no table knows, without control
    /// characters and secrets.
    fn description(&self, refusal: &Refusal, proof: &[(&'static str, Secret)]) -> String {
        const LONGEST: usize = 200;
        let Some(Value::String(text)) = &refusal.error_description else {
            return String::new();
        };
        let own = Redactor::new();
        for (_, value) in proof {
            own.learn(value);
        }
        let text = own.scrub(text);
        let text = self.redactor.scrub(&text);
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

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.port() {
            Some(port) => write!(formatter, "login host `{}:{port}`", self.host()),
            None => write!(formatter, "login host `{}`", self.host()),
        }
    }
}

impl AuthError {
    /// The longer of two waits.
    fn after_at_least(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = self.retry_after.max(wait);
        self
    }
}

/// A successful answer, as loosely as servers write it.
#[derive(Deserialize)]
struct Issue {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
}

/// A refusal, as loosely as servers write it.
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

/// A token's life: a number or text, at least believable.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds >= LONGEST_LIFETIME.as_secs_f64() => LONGEST_LIFETIME,
        Some(seconds) if seconds > 0.0 => Duration::from_secs_f64(seconds),
        _ => UNKNOWN_LIFETIME,
    }
}

/// What a refusal means: overload first, then the vendor's code, then the standard's word, then the
/// status.
fn class(status: StatusCode, by_code: Option<Class>, error: &str) -> Class {
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        return Class::Transient;
    }
    if let Some(class) = by_code {
        return class;
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
    use serde_json::json;

    #[test]
    fn lifetimes_are_read_as_numbers_or_text_and_kept_believable() {
        for (value, seconds) in [
            (Some(json!(3599)), 3599),
            (Some(json!("3599")), 3599),
            (Some(json!(3599.0)), 3599),
            (Some(json!(2)), 2),
            (Some(json!(0)), 300),
            (Some(json!(-1)), 300),
            (Some(json!("soon")), 300),
            (Some(json!(null)), 300),
            (None, 300),
            (Some(json!(1_000_000_000_000_u64)), 86_400),
            (Some(json!("1e300")), 86_400),
        ] {
            assert_eq!(lifetime(value.as_ref()).as_secs(), seconds, "{value:?}");
        }
    }

    #[test]
    fn refusals_without_a_known_code_are_classed_by_word_and_status() {
        for (status, error, wanted) in [
            (400, "invalid_client", Class::Unauthorised),
            (401, "", Class::Unauthorised),
            (400, "unauthorized_client", Class::Unauthorised),
            (400, "access_denied", Class::Unauthorised),
            (400, "invalid_scope", Class::Misconfigured),
            (400, "temporarily_unavailable", Class::Transient),
            (429, "invalid_client", Class::Transient),
            (503, "", Class::Transient),
            (404, "", Class::Misconfigured),
            (302, "", Class::Misconfigured),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(class(status, None, error), wanted, "{status} {error}");
        }
    }
}
