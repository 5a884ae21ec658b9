//! Asks an OAuth2 server for a token with client credentials (RFC 6749, section 4.4; RFC 7523 for
//! assertions).
//!
//! An answer is read forgivingly where servers differ (numbers as text, odd lifetimes) and strictly
//! where it matters: without a usable `access_token` there is no token. A refusal is put right at
//! once where that needs no person: with the secret that has changed meanwhile, or with the
//! server's time in place of ours; each once. Bodies are never repeated in errors.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::proof::{Proof, Prover, Version};
use super::refusal::Refused;
use super::{AuthError, Class, Decision, microsoft};
use crate::clock::SharedClock;
use crate::config::Auth;
use crate::config::auth::TokenEndpoint;
use crate::error::Error;
use crate::http::{Client, HttpError, read_all, retry_after, server_time};
use crate::secret::{Redactor, Secret};

/// The version of a credential that cannot be read.
const NOTHING: Version = [0; 32];

/// A token as a server issued it.
pub(super) struct Issued {
    pub(super) value: Secret,
    pub(super) lifetime: Duration,
}

/// Where one client asks for tokens, and how it proves itself.
pub(super) struct Endpoint {
    url: Url,
    client_id: String,
    /// What to ask for: a field and its value.
    wanted: Option<(&'static str, String)>,
    prover: Prover,
    client: Client,
    clock: SharedClock,
    /// The server's clock minus ours, as far as assertions need it.
    offset_ms: AtomicI64,
    /// What the proof was made from that was refused last.
    refused_with: Mutex<Option<Version>>,
}

/// Answers are a few kilobytes; error pages of gateways may be more.
const ANSWER_BYTES: usize = 1 << 20;
/// For a server that does not say how long a token lasts.
const UNKNOWN_LIFETIME: Duration = Duration::from_mins(5);
/// The longest life believed: Entra's own limit.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

impl Endpoint {
    /// What the config describes; `None` where there is no sign-in.
    pub(super) fn new(
        auth: &Auth,
        client: &Client,
        clock: &SharedClock,
        redactor: &Arc<Redactor>,
    ) -> Result<Option<Self>, Error> {
        let (url, client_id, wanted, credential) = match auth {
            Auth::None => return Ok(None),
            Auth::Microsoft(auth) => {
                let resource = auth.resource_url.as_str().trim_end_matches('/');
                let wanted = match auth.token_endpoint {
                    TokenEndpoint::V2 => ("scope", microsoft::scope(&auth.resource_url)),
                    TokenEndpoint::V1 => ("resource", resource.to_owned()),
                };
                let url =
                    microsoft::token_url(&auth.login_url, &auth.directory_id, auth.token_endpoint);
                (url, &auth.client_id, Some(wanted), &auth.credential)
            }
            Auth::OAuth2(auth) => (
                auth.token_url.clone(),
                &auth.client_id,
                auth.scope.clone().map(|scope| ("scope", scope)),
                &auth.credential,
            ),
        };
        let endpoint = Self {
            url,
            client_id: client_id.clone(),
            wanted,
            prover: Prover::new(credential, redactor),
            client: client.clone(),
            clock: Arc::clone(clock),
            offset_ms: AtomicI64::new(0),
            refused_with: Mutex::default(),
        };
        endpoint.proof()?;
        for warning in endpoint.prover.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(Some(endpoint))
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn redactor(&self) -> &Redactor {
        self.prover.redactor()
    }

    /// Nothing more will be asked.
    pub(super) fn retire(&self) {
        self.prover.retire();
    }

    /// Whether the credential is another one than was refused last.
    pub(super) fn has_changed(&self) -> bool {
        let refused_with = *self
            .refused_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        refused_with.is_some_and(|version| self.prover.changed_since(&version))
    }

    fn proof(&self) -> Result<Proof, Error> {
        let now_ms = self.clock.now_ms() + self.offset_ms.load(Ordering::Relaxed);
        self.prover
            .prove(self.url.as_str(), &self.client_id, now_ms)
    }

    /// Asks; once more when the first refusal can be put right.
    pub(super) async fn ask(&self) -> Result<Issued, AuthError> {
        let (mut renewed, mut corrected) = (false, false);
        loop {
            let proof = self.proof().map_err(|error| {
                // Whatever can be read the next time is something else.
                self.refused(NOTHING);
                let what = error
                    .places
                    .iter()
                    .fold(error.what, |what, place| format!("{what} ({place})"));
                AuthError::new(Class::Misconfigured, what, error.help)
            })?;
            let error = match self.attempt(&proof).await {
                Ok(issued) => return Ok(issued),
                Err((error, skew_ms)) => {
                    if !corrected && self.takes_servers_time(&error, skew_ms) {
                        corrected = true;
                        continue;
                    }
                    error
                }
            };
            // The secret may have been replaced between reading it and being refused.
            let refused = error.class != Class::Transient;
            if refused {
                // Only now: whoever asks while this one waits has nothing to go by yet.
                self.refused(proof.version);
            }
            if renewed || !refused || !self.prover.changed_since(&proof.version) {
                return Err(error);
            }
            tracing::info!("{self} refused a credential that has changed since; asking again");
            renewed = true;
        }
    }

    fn refused(&self, version: Version) {
        let mut refused_with = self
            .refused_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *refused_with = Some(version);
    }

    /// Whether assertions will carry another time from now on.
    fn takes_servers_time(&self, error: &AuthError, skew_ms: Option<i64>) -> bool {
        let (Decision::TakeServersTime, Some(skew_ms), true) =
            (error.decision, skew_ms, self.prover.is_dated())
        else {
            return false;
        };
        self.offset_ms.store(-skew_ms, Ordering::Relaxed);
        let seconds = skew_ms / 1000;
        tracing::warn!(
            alarm = "clock_skew",
            "this machine's clock is {seconds} s off that of {self}; assertions carry the server's \
             time until it is set right"
        );
        true
    }

    /// One request, one answer; with a refusal comes our clock minus the server's.
    async fn attempt(&self, proof: &Proof) -> Result<Issued, (AuthError, Option<i64>)> {
        let answer = self.exchange(proof).await;
        let (status, headers, body) = answer.map_err(|error| (self.unreachable(&error), None))?;
        if status.is_success() {
            return self.issued(&body).map_err(|error| (error, None));
        }
        let now_ms = self.clock.now_ms();
        let skew_ms = server_time(&headers).map(|server| now_ms - server);
        let refused = Refused {
            by: self.to_string(),
            status,
            body: &body,
            skew_ms,
            wait: retry_after(&headers, now_ms),
        };
        Err((refused.understand(proof, self.redactor()), skew_ms))
    }

    fn form(&self, proof: &Proof) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.append_pair("client_id", &self.client_id);
        if let Some((name, value)) = &self.wanted {
            form.append_pair(name, value);
        }
        for (name, value) in &proof.fields {
            form.append_pair(name, value.expose());
        }
        form.finish()
    }

    async fn exchange(
        &self,
        proof: &Proof,
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
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.port() {
            Some(port) => write!(formatter, "login host `{}:{port}`", self.host()),
            None => write!(formatter, "login host `{}`", self.host()),
        }
    }
}

/// A successful answer, as loosely as servers write it.
#[derive(Deserialize)]
struct Issue {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
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
}
