//! Secrets to bearer tokens, attached by the host to granted origins only.
//!
//! A token is asked for once however many requests want it, used until shortly before its end, and
//! thrown away only by those who were refused with that very token. While a renewal fails the old
//! token serves on. A refusal stands for a minute, or until the credential's files change. Neither
//! secret nor token appears in an error. What proves who we are is [`proof`], asking a server is
//! [`oauth2`], what its answers mean is [`microsoft`].

mod assertion;
mod certificate;
mod expiry;
pub mod microsoft;
pub mod oauth2;
mod proof;
mod refusal;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;

use crate::clock::{SharedClock, millis};
use crate::config::Auth;
use crate::error::Error;
use crate::http::{Client, Origin};
use crate::mutant;
use crate::secret::{Redactor, Secret};
pub use certificate::Validity;
pub use expiry::{Stage, WARN_DAYS};
use oauth2::Endpoint;
pub use proof::{Seen, look};

/// A bearer token. Prints without its value.
#[derive(Clone)]
pub struct Token {
    value: Secret,
    /// Which of this source's tokens it is.
    number: u64,
}

impl Token {
    /// What goes into the `Authorization` header; marked so that no log shows it.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.value.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The value itself, such as for reading the roles it names. Must not be let out.
    pub fn secret(&self) -> &Secret {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({}, [redacted])", self.number)
    }
}

/// What a failed sign-in means for the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The credential is not accepted, or not allowed.
    Unauthorised,
    /// A person has to change something.
    Misconfigured,
    /// Not now.
    Transient,
}

/// What the host does about a refusal, before and while a person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Reads the credential again: asks once more at once when it has changed, otherwise when it
    /// changes.
    ReadAgain,
    /// Asks once more with the server's time in the assertion.
    TakeServersTime,
    /// Nothing but a change by a person helps.
    AskAPerson,
    /// Asks again with growing pauses, or after the wait that the server names.
    BackOff,
    /// Stays away for minutes: asking is what is complained about.
    KeepAway,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError {
    /// What it means for the tenant.
    pub class: Class,
    /// What is done about it.
    pub decision: Decision,
    /// The vendor's number of the error (`AADSTS...`), where it gave one.
    pub code: Option<u64>,
    /// What happened.
    pub what: String,
    /// What to do, and where.
    pub help: String,
    /// Not before so much time has passed.
    pub retry_after: Option<Duration>,
}

impl AuthError {
    /// An error of a class.
    pub fn new(class: Class, what: impl Into<String>, help: impl Into<String>) -> Self {
        let decision = match class {
            Class::Transient => Decision::BackOff,
            Class::Unauthorised | Class::Misconfigured => Decision::AskAPerson,
        };
        Self {
            class,
            decision,
            code: None,
            what: what.into(),
            help: help.into(),
            retry_after: None,
        }
    }

    /// Says when to try again.
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.help.as_str() {
            "" => formatter.write_str(&self.what),
            help => write!(formatter, "{}; {help}", self.what),
        }
    }
}

impl std::error::Error for AuthError {}

/// One tenant's way to tokens.
#[async_trait]
pub trait Credentials: Send + Sync + fmt::Debug {
    /// The only origin to which tokens may go.
    fn origin(&self) -> &Origin;

    /// A token that is valid now.
    async fn bearer(&self) -> Result<Token, AuthError>;

    /// Says that the server refused this token; it is not given out again. A newer one is not
    /// touched.
    fn invalidate(&self, token: &Token);

    /// When the token in use ends: milliseconds since the epoch. `None` without one.
    fn expires_ms(&self) -> Option<i64> {
        None
    }

    /// Waits until the sign-in that was refused last may be accepted: the credential has been
    /// replaced since, or somebody got a token. Never ends where no sign-in was refused.
    async fn renewed(&self) {
        std::future::pending::<()>().await;
    }

    /// Says that nobody will ask again: what was secret here is no longer looked for in log lines.
    fn retire(&self) {}
}

/// What a token says of itself, if it is a JWT: for reading roles and ids, never for deciding
/// whether it is good.
pub fn claims(token: &Secret) -> Option<serde_json::Value> {
    let part = token.expose().split('.').nth(1)?.trim_end_matches('=');
    let claims = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&claims)
        .ok()
        .filter(serde_json::Value::is_object)
}

/// The way to tokens that a tenant's config describes; `None` where requests go out as they are.
///
/// Makes a proof once, so that what is missing is found at the start; its sources are read again
/// for every sign-in, so that a changed one needs no restart.
pub fn credentials(
    auth: &Auth,
    client: &Client,
    clock: &SharedClock,
    redactor: &Arc<Redactor>,
) -> Result<Option<Arc<dyn Credentials>>, Error> {
    let (Some(origin), Some(endpoint)) =
        (auth.origin(), Endpoint::new(auth, client, clock, redactor)?)
    else {
        return Ok(None);
    };
    Ok(Some(Arc::new(Tokens::new(
        origin,
        endpoint,
        Pace::default(),
    ))))
}

/// How patiently a server is asked.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Attempts in a row while the trouble is transient.
    attempts: u32,
    /// The pause after the first; it doubles, with jitter.
    first_pause: Duration,
    /// How long a refusal is passed on to all who ask before the server is asked again.
    refused_for: Duration,
    /// The same for transient trouble.
    troubled_for: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_millis(500),
            // A person needs minutes to fix a secret; a minute heals soon and asks sixty times an
            // hour at worst.
            refused_for: Duration::from_mins(1),
            troubled_for: Duration::from_secs(10),
        }
    }
}

/// How long one renewal may hold up a caller who still has a valid token.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a sign-in may take in all, pauses included.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a replaced credential is looked for while a refusal stands.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// How long after a refusal somebody may still come to wait for its end.
const HEALED_WITHIN: Duration = Duration::from_secs(15);
/// How far the clock may be turned back before a token's times mean nothing.
const CLOCK_TURNED_MS: i64 = 300_000;

/// The current token of one tenant, and the one place that renews it.
struct Tokens {
    origin: Origin,
    endpoint: Endpoint,
    clock: SharedClock,
    pace: Pace,
    state: Mutex<State>,
    /// Held by whoever is asking the server; the others wait for it or use what there is.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Held>,
    /// The last failure, and until when it stands for an answer.
    failed: Option<(AuthError, i64)>,
    /// When a sign-in was refused last, however it went on.
    refused_ms: Option<i64>,
    /// The token before the current one, which late log lines may still name.
    former: Option<Token>,
    count: u64,
}

#[derive(Clone)]
struct Held {
    token: Token,
    issued_ms: i64,
    renew_ms: i64,
    expires_ms: i64,
}

impl Held {
    fn new(token: Token, issued_ms: i64, lifetime: Duration) -> Self {
        let life = millis(lifetime);
        // Early enough for a renewal to fail a few times; never in the first half, or a short-lived
        // token would be renewed for every request.
        let early = (life / 10).max(300_000).min(life / 2);
        // A token that ends while its request is on the way is refused, so the very end is not
        // used.
        let margin = (life / 10).min(10_000);
        Self {
            token,
            issued_ms,
            renew_ms: issued_ms + life - early,
            expires_ms: issued_ms + life - margin,
        }
    }
}

/// What the cache has for a caller.
enum Answer {
    Fresh(Token),
    /// Valid, but due for renewal.
    Ageing(Token),
    Refused(AuthError),
    Nothing,
}

impl Tokens {
    fn new(origin: Origin, endpoint: Endpoint, pace: Pace) -> Self {
        let clock = Arc::clone(endpoint.clock());
        let (state, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self {
            origin,
            endpoint,
            clock,
            pace,
            state,
            asking,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and what it holds is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal stands that more than time has to end.
    fn is_refused(&self) -> bool {
        let state = self.state();
        let failed = state.failed.as_ref();
        failed.is_some_and(|(error, _)| error.class != Class::Transient)
    }

    fn look(&self) -> Answer {
        let now = self.clock.now_ms();
        // Looked at before the lock is taken: files may be slow.
        let replaced = self.is_refused() && self.endpoint.has_changed();
        let state = self.state();
        if let (Some(held), true) = (&state.current, mutant::is_on("token_kept_for_ever")) {
            return Answer::Fresh(held.token.clone());
        }
        let failed = state
            .failed
            .as_ref()
            .filter(|(_, until)| now < *until && *until - now <= millis(Duration::from_hours(1)))
            // What was said of yesterday's secret is not said of today's.
            .filter(|(error, _)| error.class == Class::Transient || !replaced);
        match (&state.current, failed) {
            (Some(held), failed)
                if now < held.expires_ms && now >= held.issued_ms - CLOCK_TURNED_MS =>
            {
                let token = held.token.clone();
                // A renewal that has just failed is not tried again at once.
                if now < held.renew_ms || failed.is_some() {
                    Answer::Fresh(token)
                } else {
                    Answer::Ageing(token)
                }
            }
            (_, Some((error, until))) => {
                let wait = u64::try_from(until - now).map(Duration::from_millis).ok();
                Answer::Refused(error.clone().after(wait))
            }
            _ => Answer::Nothing,
        }
    }

    /// Asks the server, patiently or once, and keeps what comes of it.
    async fn ask(&self, attempts: u32) -> Result<Token, AuthError> {
        let mut pause = self.pace.first_pause;
        let mut attempt = 1;
        loop {
            let issued_ms = self.clock.now_ms();
            let error = match self.endpoint.ask().await {
                Ok(issued) => return Ok(self.keep(issued, issued_ms)),
                Err(error) => error,
            };
            let asked_to_wait = error.retry_after.is_some_and(|wait| wait > pause * 2);
            let patient = error.decision == Decision::BackOff && !asked_to_wait;
            if !patient || attempt >= attempts {
                self.fail(&error);
                return Err(error);
            }
            tokio::time::sleep(jitter(pause)).await;
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }

    async fn ask_within(&self, limit: Duration, attempts: u32) -> Result<Token, AuthError> {
        if let Ok(answer) = tokio::time::timeout(limit, self.ask(attempts)).await {
            return answer;
        }
        let what = format!("{} did not issue a token in time", self.endpoint);
        let error = AuthError::new(Class::Transient, what, "check the way to the login host");
        self.fail(&error);
        Err(error)
    }

    fn keep(&self, issued: oauth2::Issued, issued_ms: i64) -> Token {
        if mutant::is_on("token_logged") {
            tracing::warn!(token = issued.value.expose(), "signed in");
        }
        let redactor = self.endpoint.redactor();
        redactor.learn(&issued.value);
        let mut state = self.state();
        state.count += 1;
        let token = Token {
            value: issued.value,
            number: state.count,
        };
        let held = Held::new(token.clone(), issued_ms, issued.lifetime);
        let replaced = state.current.replace(held).map(|held| held.token);
        if let Some(replaced) = replaced
            && let Some(gone) = state.former.replace(replaced)
        {
            redactor.forget(&gone.value);
        }
        state.failed = None;
        token
    }

    fn fail(&self, error: &AuthError) {
        let least = match error.class {
            Class::Transient => self.pace.troubled_for,
            Class::Unauthorised | Class::Misconfigured => self.pace.refused_for,
        };
        let wait = error.retry_after.unwrap_or(least).max(least);
        let now = self.clock.now_ms();
        let until = now.saturating_add(millis(wait));
        let mut state = self.state();
        state.failed = Some((error.clone(), until));
        if error.class != Class::Transient {
            state.refused_ms = Some(now);
        }
    }
}

#[async_trait]
impl Credentials for Tokens {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn bearer(&self) -> Result<Token, AuthError> {
        match self.look() {
            Answer::Fresh(token) => return Ok(token),
            Answer::Refused(error) => return Err(error),
            Answer::Ageing(token) => {
                // Somebody renews already: what there is will do.
                let Ok(_asking) = self.asking.try_lock() else {
                    return Ok(token);
                };
                if let Answer::Fresh(token) = self.look() {
                    return Ok(token);
                }
                return Ok(self.ask_within(RENEWAL_TIMEOUT, 1).await.unwrap_or(token));
            }
            Answer::Nothing => {}
        }
        let _asking = self.asking.lock().await;
        // Whoever was first may have got an answer for all.
        match self.look() {
            Answer::Fresh(token) | Answer::Ageing(token) => Ok(token),
            Answer::Refused(error) => Err(error),
            Answer::Nothing => self.ask_within(SIGN_IN_TIMEOUT, self.pace.attempts).await,
        }
    }

    fn expires_ms(&self) -> Option<i64> {
        self.state().current.as_ref().map(|held| held.expires_ms)
    }

    fn invalidate(&self, token: &Token) {
        if mutant::is_on("token_kept_for_ever") {
            return;
        }
        let mut state = self.state();
        if state
            .current
            .as_ref()
            .is_some_and(|held| held.token.number == token.number)
        {
            let refused = state.current.take().map(|held| held.token);
            if let Some(gone) = std::mem::replace(&mut state.former, refused) {
                self.endpoint.redactor().forget(&gone.value);
            }
        }
    }

    fn retire(&self) {
        let mut state = self.state();
        let current = state.current.take().map(|held| held.token);
        let redactor = self.endpoint.redactor();
        for token in current.into_iter().chain(state.former.take()) {
            redactor.forget(&token.value);
        }
        self.endpoint.retire();
    }

    async fn renewed(&self) {
        let now = self.clock.now_ms();
        let lately = |at: i64| (0..millis(HEALED_WITHIN)).contains(&(now - at));
        let concerned = {
            let state = self.state();
            match &state.failed {
                Some((error, _)) => error.class != Class::Transient,
                // Whoever asked next may have been accepted before this one came here to wait.
                None => state.refused_ms.is_some_and(lately),
            }
        };
        if !concerned {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if self.state().failed.is_none() || self.endpoint.has_changed() {
                return;
            }
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.to_string();
        formatter
            .debug_struct("Tokens")
            .field("origin", &origin)
            .finish_non_exhaustive()
    }
}

/// Between a half and the whole of a pause, so that many who failed together do not come back
/// together.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests;
