//! The HTTP capability: granted origins only, credentials attached by the host, every wait and body bounded.
//!
//! The plugin sends a plain request. The host checks its origin against the grant, waits for the tenant's
//! budget, attaches the bearer token when scheme, host, port and path are the credential's own, renews it once on
//! 401, slows down when it is throttled, and hands the body over decompressed. Redirects are never
//! followed. A refusal is remembered with its reason, because what the plugin can say of it is less.

mod body;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::time::Instant;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpHooks,
};

use crate::auth::{AuthError, Class, Credentials, Token};
use crate::clock::SharedClock;
use crate::http::{Client, Origin, retry_after};
use crate::limiter::{GlobalLimiter, GlobalPermit, Limiter, Pace, Permit, Priority};
use crate::metrics::requests::{Outcome, RequestCounts, Requests};
use crate::mutant;
use crate::source::{Failure, Scope};

/// Largest body that a plugin may send. Audit sources send none; a token never passes here.
const REQUEST_BODY_BYTES: usize = 1 << 20;

/// How much of an error answer is read to see whether it says that we are too fast.
const ERROR_BODY_BYTES: usize = 64 << 10;

/// Between two pieces of a body while the plugin waits for it. One idle limit instead of one total deadline: a
/// large blob may take as long as it moves.
const IDLE: Duration = Duration::from_secs(60);

/// How long a request waits inside its call when the service has asked to be left alone. Longer pauses are the
/// engine's: a call that sleeps through them would hold its memory, meet its own time limit, and count as a failed try.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a request that waits looks whether the pause has become longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Requests in flight of all tenants together.
pub const GLOBAL_IN_FLIGHT: usize = 512;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION")));

/// A credential and the only requests that it is for.
#[derive(Clone)]
pub struct Bound {
    /// What a path has to hold, in any case: the first at its beginning, the others anywhere.
    pub paths: Vec<String>,
    /// Where tokens come from.
    pub credentials: Arc<dyn Credentials>,
}

/// What one tenant's plugin may reach, shared by its calls.
pub struct Egress {
    /// The pooled client.
    pub client: Client,
    /// Granted origins.
    pub origins: Vec<Origin>,
    /// The credential, if the tenant has one.
    pub bound: Option<Bound>,
    /// Budget of the tenant: requests a minute, requests in flight.
    pub budget: (u32, usize),
    limiters: Mutex<HashMap<String, Arc<Limiter>>>,
    global: Arc<GlobalLimiter>,
    clock: SharedClock,
    requests: Requests,
    sent: AtomicU64,
}

/// When the process sent its first request, from its start.
static FIRST_REQUEST: OnceLock<Duration> = OnceLock::new();
static STARTED: OnceLock<Instant> = OnceLock::new();

/// Notes the start of the process, to measure how soon the first request leaves.
pub fn note_start() {
    STARTED.get_or_init(Instant::now);
}

/// How long after the start the first request left.
pub fn first_request() -> Option<Duration> {
    FIRST_REQUEST.get().copied()
}

impl Egress {
    /// The way out for one tenant.
    pub fn new(
        client: Client,
        origins: Vec<Origin>,
        bound: Option<Bound>,
        budget: (u32, usize),
        global: Arc<GlobalLimiter>,
        clock: SharedClock,
    ) -> Self {
        let limiters = Mutex::default();
        let (requests, sent) = (Requests::default(), AtomicU64::new(0));
        Self {
            client,
            origins,
            bound,
            budget,
            limiters,
            global,
            clock,
            requests,
            sent,
        }
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// A request is over.
    pub(crate) fn count(&self, outcome: Outcome) {
        self.requests.add(outcome);
    }

    /// What became of those that are over.
    pub fn outcomes(&self) -> RequestCounts {
        self.requests.counts()
    }

    /// How fast each of the tenant's quotas may be used now.
    pub fn paces(&self) -> Vec<(String, Pace)> {
        let limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paces: Vec<_> = limiters
            .iter()
            .map(|(quota_key, limiter)| (quota_key.clone(), limiter.pace()))
            .collect();
        paces.sort_by(|(one, _), (other, _)| one.cmp(other));
        paces
    }

    /// When the token in use ends, if there is one.
    pub fn token_expires_ms(&self) -> Option<i64> {
        self.bound.as_ref()?.credentials.expires_ms()
    }

    fn limiter(&self, quota_key: &str) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let (per_minute, in_flight) = self.budget;
        let fresh = || Arc::new(Limiter::new(per_minute, in_flight));
        limiters
            .entry(quota_key.to_owned())
            .or_insert_with(fresh)
            .clone()
    }

    /// The credential for a request, if it is one that the credential is for.
    fn credential(&self, url: &url::Url, origin: &Origin) -> Option<Arc<dyn Credentials>> {
        let bound = self.bound.as_ref()?;
        let path = url.path().to_ascii_lowercase();
        let ours = bound.credentials.origin() == origin
            && bound.paths.iter().enumerate().all(|(index, part)| {
                let found = path.find(&part.to_ascii_lowercase());
                if index == 0 {
                    found == Some(0)
                } else {
                    found.is_some()
                }
            });
        let given = ours || mutant::is_on("token_to_foreign");
        given.then(|| bound.credentials.clone())
    }
}

impl Drop for Egress {
    /// Tenants come and go; the log's redaction must not grow with those that are gone.
    fn drop(&mut self) {
        if let Some(bound) = &self.bound {
            bound.credentials.retire();
        }
    }
}

/// Why the host refused or could not send a request of a call; the first reason stays, unless it concerns one split
/// only and another one more.
pub type Trouble = Arc<Mutex<Option<Failure>>>;

/// Notes a reason, unless there is one as strong.
fn note(trouble: &Trouble, failure: Failure) {
    let mut noted = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.as_ref().is_none_or(is_of_split) {
        *noted = Some(failure);
    }
}

/// Forgets what concerned a single request, now that another one was answered.
fn answered(trouble: &Trouble) {
    let mut noted = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    noted.take_if(|noted| is_of_split(noted));
}

fn is_of_split(failure: &Failure) -> bool {
    matches!(failure, Failure::Retry { affects, .. } if *affects == Scope::Split)
}

/// The HTTP side of one call.
pub struct HttpHooks {
    /// Who asks, for sentences: plugin and tenant.
    pub place: String,
    /// `None` for calls that have no HTTP.
    pub egress: Option<Arc<Egress>>,
    /// Which of the tenant's quotas the call draws on.
    pub quota_key: String,
    /// Listing goes before fetching.
    pub priority: Priority,
    /// Requests that the call may still send.
    pub requests_left: u32,
    /// Most bytes of a response's body.
    pub response_bytes: u64,
    /// Where reasons are noted.
    pub trouble: Trouble,
}

type SendFuture = Box<
    dyn Future<
            Output = Result<
                (
                    Response<WasiBody>,
                    Box<dyn Future<Output = Result<(), HttpError>> + Send>,
                ),
                HttpError,
            >,
        > + Send,
>;

impl WasiHttpHooks for HttpHooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name)
                || *name == header::AUTHORIZATION
                || *name == header::PROXY_AUTHORIZATION
                || *name == header::COOKIE
        })
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> SendFuture {
        let send = self.prepare(&request).map(|send| (send, request));
        Box::new(async move {
            let (send, request) = send?;
            let response = send.run(request).await?;
            Ok((response, Box::new(async { Ok(()) }) as Box<_>))
        })
    }
}

impl HttpHooks {
    fn prepare(&mut self, request: &Request<WasiBody>) -> Result<Outgoing, HttpError> {
        let denied = |reason: String, trouble: &Trouble| {
            note(trouble, Failure::Misconfigured(reason));
            HttpError::HttpRequestDenied
        };
        let Some(egress) = self.egress.clone() else {
            return Err(denied(
                format!("{} may not use HTTP here", self.place),
                &self.trouble,
            ));
        };
        // One host has many spellings (`2130706433`, `127.0.0.1.`); only the one that is compared is sent.
        let spelt = request
            .uri()
            .host()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let plain = |url: &url::Url| {
            url.username().is_empty()
                && url.password().is_none()
                && url.host_str() == Some(spelt.as_str())
        };
        let url = url::Url::parse(&request.uri().to_string())
            .ok()
            .filter(plain);
        let origin = url.as_ref().and_then(Origin::of);
        let (Some(url), Some(origin)) = (url, origin) else {
            let reason = format!(
                "{} asked for a URL that is not plain http or https",
                self.place
            );
            return Err(denied(reason, &self.trouble));
        };
        if !egress.origins.contains(&origin) && !mutant::is_on("token_to_foreign") {
            let reason = format!(
                "{} asks for `{origin}`, which is not granted (add it to `source.grants.http`, or \
                 correct the tenant's `resource_url`)",
                self.place
            );
            return Err(denied(reason, &self.trouble));
        }
        let Some(left) = self.requests_left.checked_sub(1) else {
            let reason = format!("{} sent more requests in one call than it may", self.place);
            note(&self.trouble, Failure::Fault(reason));
            return Err(HttpError::ConnectionLimitReached);
        };
        self.requests_left = left;
        Ok(Outgoing {
            credentials: egress.credential(&url, &origin),
            limiter: egress.limiter(&self.quota_key),
            egress,
            priority: self.priority,
            response_bytes: self.response_bytes,
            trouble: self.trouble.clone(),
        })
    }
}

/// One request on its way.
struct Outgoing {
    egress: Arc<Egress>,
    credentials: Option<Arc<dyn Credentials>>,
    limiter: Arc<Limiter>,
    priority: Priority,
    response_bytes: u64,
    trouble: Trouble,
}

impl Outgoing {
    async fn run(self, request: Request<WasiBody>) -> Result<Response<WasiBody>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let sent = Limited::new(body, REQUEST_BODY_BYTES).collect().await;
        let body = sent
            .map_err(|_| HttpError::HttpRequestBodySize(None))?
            .to_bytes();
        parts
            .headers
            .insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        parts.headers.entry(header::USER_AGENT).or_insert(AGENT);
        let mut renewed = false;
        loop {
            let token = self.attach(&mut parts.headers).await?;
            let permits = self.permits().await?;
            let granted_at = permits.0.granted_at();
            let request = Request::from_parts(parts.clone(), Full::new(body.clone()));
            FIRST_REQUEST.get_or_init(|| STARTED.get_or_init(Instant::now).elapsed());
            self.egress.sent.fetch_add(1, Ordering::Relaxed);
            let response = self.egress.client.send(request).await.map_err(|error| {
                self.egress.count(Outcome::NoAnswer);
                let reason = error.to_string();
                note(
                    &self.trouble,
                    Failure::Retry {
                        after: None,
                        affects: Scope::Split,
                        reason,
                    },
                );
                HttpError::ConnectionTerminated
            })?;
            answered(&self.trouble);
            if response.status() == StatusCode::UNAUTHORIZED
                && !renewed
                && let (Some(credentials), Some(token)) = (&self.credentials, &token)
            {
                renewed = true;
                self.egress.count(Outcome::Unauthorised);
                credentials.invalidate(token);
                continue;
            }
            let body = body::Guard::new(response.into_parts(), self.response_bytes, IDLE, permits);
            return self.watch(body, granted_at, token.as_ref()).await;
        }
    }

    /// Attaches the bearer token where the credential is for this request.
    async fn attach(&self, headers: &mut HeaderMap) -> Result<Option<Token>, HttpError> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        let token = credentials.bearer().await.map_err(|error| {
            note(&self.trouble, failure_of(&error));
            HttpError::HttpRequestDenied
        })?;
        let header = token.header().ok_or(HttpError::HttpRequestDenied)?;
        headers.insert(header::AUTHORIZATION, header);
        Ok(Some(token))
    }

    /// The tenant's own budget first: who waits for it holds none of what all tenants share.
    async fn permits(&self) -> Result<(Permit, GlobalPermit), HttpError> {
        let mut own = std::pin::pin!(self.limiter.acquire(self.priority));
        loop {
            let pause = self.limiter.pause();
            if pause > PATIENCE {
                let seconds = pause.as_secs();
                let reason = format!(
                    "the tenant's request quota is used up; to be left alone for {seconds} s"
                );
                let failure = Failure::Retry {
                    after: Some(pause),
                    affects: Scope::Tenant,
                    reason,
                };
                note(&self.trouble, failure);
                return Err(HttpError::ConnectionLimitReached);
            }
            // The place in line is kept from one look to the next.
            if let Ok(own) = tokio::time::timeout(LOOK_EVERY, own.as_mut()).await {
                return Ok((own, self.egress.global.acquire().await));
            }
        }
    }

    /// Slows down when the answer says that we are too fast.
    async fn watch(
        &self,
        body: body::Guard,
        granted_at: Instant,
        token: Option<&Token>,
    ) -> Result<Response<WasiBody>, HttpError> {
        let wait = retry_after(body.headers(), self.egress.clock.now_ms());
        let status = body.status();
        if status == StatusCode::FORBIDDEN {
            let peeked = body.peek(ERROR_BODY_BYTES).await;
            let words = peeked.as_ref().map_or(&[][..], |(_, words)| words);
            let too_fast = memchr::memmem::find(words, b"AF429").is_some();
            if !too_fast
                && memchr::memmem::find(words, b"AF10001").is_some()
                && let (Some(credentials), Some(token)) = (&self.credentials, token)
            {
                // Roles stand in the token: after consent only another one can say more.
                credentials.invalidate(token);
            }
            self.note(status, too_fast, wait, granted_at);
            return peeked.map(|(response, _)| response);
        }
        let too_fast = status == StatusCode::TOO_MANY_REQUESTS
            || (status == StatusCode::SERVICE_UNAVAILABLE && wait.is_some());
        self.note(status, too_fast, wait, granted_at);
        Ok(body.into_response())
    }

    /// Counts an answer, and obeys it where it complains.
    fn note(
        &self,
        status: StatusCode,
        too_fast: bool,
        wait: Option<Duration>,
        granted_at: Instant,
    ) {
        self.egress.count(Outcome::of(status, too_fast));
        if too_fast {
            self.limiter.throttled(wait, granted_at);
        }
    }
}

/// What a credential that cannot be had means for the call.
fn failure_of(error: &AuthError) -> Failure {
    let reason = error.to_string();
    match error.class {
        Class::Unauthorised => Failure::Unauthorised(reason),
        Class::Misconfigured => Failure::Misconfigured(reason),
        Class::Transient => Failure::Retry {
            after: error.retry_after,
            affects: Scope::Tenant,
            reason,
        },
    }
}

/// An answer that was read to its end.
fn complete(parts: http::response::Parts, bytes: Bytes) -> Response<WasiBody> {
    let body = Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::from_parts(parts, body)
}
