//! One HTTP service behind one or several addresses, as the sinks see it: who we are to it, which address is asked,
//! what its status codes mean.
//!
//! An address that cannot be reached, or says that it is down, is left alone for a while and then tried by use. What a
//! status means is the same for all sinks, so that a wrong path or credential never turns events into dead letters.

mod credential;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use url::Url;

use super::request::{Again, Reply};
use crate::auth::{Credentials, credentials};
use crate::clock::SharedClock;
use crate::config::sink::request::{Compression, Delivery, Login};
use crate::config::{Auth, HttpConfig};
use crate::error::Error;
use crate::http::{Client, HttpError, Trouble, read_to_end, retry_after};
use crate::secret::Redactor;
use credential::Credential;

/// How long an address that failed is left alone, first and at most.
const BENCH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Largest answer read: the fates of a hundred thousand events with a long reason each.
const ANSWER_BYTES: usize = 64 << 20;

/// So much of an answer is repeated in an error.
const EXCERPT_CHARS: usize = 300;

/// What a service is made with.
pub struct Setting<'a> {
    /// The sink's name.
    pub name: &'a str,
    /// The service's addresses: at least one.
    pub endpoints: &'a [Url],
    /// How requests are sent.
    pub delivery: &'a Delivery,
    /// Who we are.
    pub login: Option<&'a Login>,
    /// How the host reaches the network.
    pub http: &'a HttpConfig,
    /// Learns our secrets, to keep them out of the log.
    pub redactor: &'a Arc<Redactor>,
    /// The time.
    pub clock: &'a SharedClock,
}

/// A service that a sink sends requests to.
#[derive(Debug)]
pub struct Service {
    place: String,
    client: Client,
    endpoints: Vec<Endpoint>,
    /// Who is asked next.
    turn: AtomicUsize,
    credential: Option<Credential>,
    timeout: Duration,
    compression: Compression,
    clock: SharedClock,
}

#[derive(Debug)]
struct Endpoint {
    url: Url,
    bench: Mutex<Bench>,
}

/// How an address has done lately.
#[derive(Debug, Default)]
struct Bench {
    failures: u32,
    until: Option<Instant>,
}

/// A body, packed as the config wants it.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
    encoding: Option<&'static str>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// Its headers, with those that followed the body.
    pub headers: HeaderMap,
    /// From the request to the last byte of the answer.
    pub latency: Duration,
    /// Who answered.
    pub host: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

/// The tokens of an application that a sink signs in as. Where it does that is another host than the sink's, with the
/// trust of all others.
pub(super) fn sign_in(
    auth: &Auth,
    http: &HttpConfig,
    clock: &SharedClock,
    redactor: &Arc<Redactor>,
) -> Result<Arc<dyn Credentials>, Error> {
    credentials(auth, &Client::new(http)?, clock, redactor)?
        .ok_or_else(|| Error::internal("a sink signs in nowhere"))
}

impl Body {
    /// The body as the one message of a call by gRPC, which says itself how it is packed.
    #[must_use]
    pub fn framed(self) -> Self {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut framed = Vec::with_capacity(self.bytes.len() + 5);
        framed.push(u8::from(self.encoding.is_some()));
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&self.bytes);
        Self {
            bytes: framed.into(),
            encoding: None,
        }
    }
}

impl Endpoint {
    fn bench(&self) -> std::sync::MutexGuard<'_, Bench> {
        // What it holds is whole at every step.
        self.bench.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) {
        let mut bench = self.bench();
        let wait = BENCH.0 * 2_u32.pow(bench.failures.min(6));
        bench.failures = bench.failures.saturating_add(1);
        bench.until = Some(Instant::now() + wait.min(BENCH.1));
    }

    fn succeeded(&self) {
        *self.bench() = Bench::default();
    }

    fn until(&self) -> Option<Instant> {
        self.bench().until.filter(|until| *until > Instant::now())
    }
}

impl Service {
    /// A service; reads secrets and certificates.
    pub fn new(setting: &Setting<'_>) -> Result<Self, Error> {
        let delivery = setting.delivery;
        let client = Client::with_tls(setting.http, delivery.tls.as_ref())?;
        let endpoints = setting.endpoints.iter().map(|url| Endpoint {
            url: url.clone(),
            bench: Mutex::default(),
        });
        let credential = setting
            .login
            .map(|login| Credential::new(login.clone(), setting.redactor))
            .transpose()?;
        Ok(Self {
            place: format!("sink `{}`", setting.name),
            client: client.first_byte_timeout(delivery.timeout),
            endpoints: endpoints.collect(),
            turn: AtomicUsize::new(0),
            credential,
            timeout: delivery.timeout,
            compression: delivery.compression,
            clock: Arc::clone(setting.clock),
        })
    }

    /// The same service by HTTP/2 alone, as gRPC needs it.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        self.client = self.client.http2_only();
        self
    }

    /// The same service, called otherwise in errors than a sink of its name.
    #[must_use]
    pub fn called(mut self, place: &str) -> Self {
        place.clone_into(&mut self.place);
        self
    }

    /// Packs a body; large ones away from the tasks that wait for the network.
    pub async fn pack(&self, bytes: Vec<u8>) -> Body {
        let plain = |bytes: Vec<u8>| Body {
            bytes: bytes.into(),
            encoding: None,
        };
        if self.compression == Compression::None {
            return plain(bytes);
        }
        let packed = tokio::task::spawn_blocking(move || {
            // The fastest level: it is the network that is spared, not the disk of an archive.
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Level::fast());
            let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
            packed.map_err(|_| bytes)
        });
        match packed.await {
            Ok(Ok(packed)) => Body {
                bytes: packed.into(),
                encoding: Some("gzip"),
            },
            // Writing to memory does not fail; if it did, the body would go as it is.
            Ok(Err(bytes)) => plain(bytes),
            Err(_) => plain(Vec::new()),
        }
    }

    /// Sends one request to an address that is not known to be down, and reads the whole answer.
    ///
    /// `path` goes behind the address's own and may have a query.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        content_type: &'static str,
        body: &Body,
    ) -> Result<Answer, Again> {
        let mut tries = self.endpoints.len();
        loop {
            let endpoint = self.choose();
            let request = self.request(endpoint, method.clone(), path, headers, content_type, body);
            let error = match self.exchange(endpoint, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            endpoint.failed();
            tries -= 1;
            let unsent = matches!(
                error.trouble,
                Trouble::Dns | Trouble::Connect | Trouble::Proxy | Trouble::Tls
            );
            // Nothing has arrived, so the next address may have it at once.
            if !unsent || tries == 0 {
                let overloaded = error.trouble == Trouble::Timeout;
                let error = Error::unavailable(error.to_string())
                    .at(&self.place)
                    .help(error.help());
                return Err(Again {
                    error,
                    overloaded,
                    retry_after: None,
                });
            }
        }
    }

    /// The next address in turn that is not benched; if all are, the one whose bench ends first.
    fn choose(&self) -> &Endpoint {
        let count = self.endpoints.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = (0..count).map(|step| &self.endpoints[(turn + step) % count]);
        let best = all.min_by_key(|endpoint| endpoint.until());
        // There is at least one.
        best.unwrap_or(&self.endpoints[0])
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        content_type: &'static str,
        body: &Body,
    ) -> Result<http::Request<Full<Bytes>>, HttpError> {
        let base = endpoint.url.as_str();
        let base = if path.is_empty() {
            base
        } else {
            base.trim_end_matches('/')
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .body(Full::new(body.bytes.clone()))
            .map_err(|_| HttpError::unsendable(endpoint.url.host_str().unwrap_or_default()))?;
        let all = request.headers_mut();
        all.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
        if let Some(encoding) = body.encoding {
            all.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if let Some(credential) = &self.credential {
            all.insert(AUTHORIZATION, credential.header());
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Result<http::Request<Full<Bytes>>, HttpError>,
    ) -> Result<Answer, HttpError> {
        let host = endpoint.url.host_str().unwrap_or_default();
        let asked_at = Instant::now();
        let all = async {
            let (head, body) = self.client.send(request?).await?.into_parts();
            let (body, trailers) = read_to_end(host, body, ANSWER_BYTES).await?;
            Ok((head, body, trailers))
        };
        let late = || HttpError {
            trouble: Trouble::Timeout,
            host: host.to_owned(),
            what: format!("no whole answer within {} seconds", self.timeout.as_secs()),
        };
        let (mut head, body, trailers) = tokio::time::timeout(self.timeout, all)
            .await
            .map_err(|_| late())??;
        if matches!(head.status.as_u16(), 502..=504) {
            endpoint.failed();
        } else {
            endpoint.succeeded();
        }
        let retry_after = retry_after(&head.headers, self.clock.now_ms());
        head.headers.extend(trailers);
        Ok(Answer {
            status: head.status,
            body,
            headers: head.headers,
            latency: asked_at.elapsed(),
            host: host.to_owned(),
            retry_after,
        })
    }

    /// What an answer means whose status is no success.
    pub fn judge(&self, answer: &Answer) -> Reply {
        let status = answer.status;
        let excerpt = excerpt(&answer.body);
        let what = format!("host `{}` answers {status}{excerpt}", answer.host);
        let error = Error::unavailable(what).at(&self.place);
        match status.as_u16() {
            400 | 422 => Reply::Split(format!("the server answers {status}{excerpt}")),
            413 => Reply::Split(format!(
                "the server takes no request as large as this event ({status})"
            )),
            401 => {
                self.renew_credential();
                let help =
                    "check `auth`: the credential is not accepted; it is read again for each try";
                Reply::Again(Again::trouble(error.help(help)))
            }
            403 => {
                let help = "the credential is known, but may not do this: give it the right to write there";
                Reply::Again(Again::trouble(error.help(help)))
            }
            408 | 429 | 503 | 504 => Reply::Again(Again::overloaded(error, answer.retry_after)),
            500.. => Reply::Again(Again {
                retry_after: answer.retry_after,
                ..Again::trouble(error)
            }),
            _ => {
                let help =
                    "check the address: this is no answer of the service that is meant to be there";
                Reply::Again(Again::trouble(error.help(help)))
            }
        }
    }

    /// Reads the credential again, which the service has refused.
    pub fn renew_credential(&self) {
        if let Some(credential) = &self.credential {
            credential.renew();
        }
    }

    /// Where errors happened.
    pub fn place(&self) -> &str {
        &self.place
    }
}

/// The beginning of an answer, for people: one line, with nothing that forges another.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let plain = |letter: &char| !letter.is_control();
    let line: String = line.chars().filter(plain).take(EXCERPT_CHARS).collect();
    if line.is_empty() {
        line
    } else {
        format!(": {line}")
    }
}

#[cfg(test)]
pub(super) mod tests;
