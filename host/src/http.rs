//! The one pooled HTTP client, and what an origin is.
//!
//! HTTP/1.1 and HTTP/2 over rustls with the system's roots, by a proxy where the config names one.
//! Nothing is redirected, no cookie is kept, no environment variable is read. Who may be asked, and
//! with which token, is decided before a request gets here. Errors say what broke on the way (name,
//! connection, proxy, TLS, time) and never repeat more of a request than its host.

mod connect;
pub(crate) mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderMap, PROXY_AUTHORIZATION, RETRY_AFTER};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::clock::millis;
use crate::config::HttpConfig;
use crate::config::sink::request::Tls;
use crate::error::Error;
use connect::{Connector, DnsFailed, ProxyFailed, Route, Timed, TimedOut};

/// A scheme, a host and a port: what grants name and tokens are bound to. Compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: String,
    /// The host in lower case: a name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// The origin of an http or https address; `None` for others.
    pub fn of(url: &Url) -> Option<Self> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(formatter, ":{port}"),
        }
    }
}

/// How long name, connection, proxy and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a response may take: the API answers listings in well under a minute or not
/// at all.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a connection is kept for the next request. Requests come in bursts: what is not used again soon is only
/// a file and some memory, thousands of times where there are a thousand tenants.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections kept for one host: as many as the usual `in_flight`.
const IDLE_CONNECTIONS: usize = 32;
/// Most bytes of a response's head.
const HEAD_BYTES: u32 = 64 << 10;
/// What one HTTP/2 response may send ahead of its reader: large enough for a fast line, small
/// enough for 32 of them.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all responses of one HTTP/2 connection may send ahead.
const CONNECTION_WINDOW: u32 = 8 << 20;

type Pool = legacy::Client<Timed<HttpsConnector<Connector>>, Full<Bytes>>;

/// A response's body on its way.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Debug)]
pub enum BodyError {
    /// As the wire has it.
    Wire(hyper::Error),
    /// As whatever carries instead of the wire has it.
    Carried(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(formatter),
            Self::Carried(why) => formatter.write_str(why),
        }
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Wire(error) => error.source(),
            Self::Carried(_) => None,
        }
    }
}

/// What carries requests instead of the wire: a simulation's network.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Carries a request to its absolute URI and returns when the head of the response is there.
    async fn carry(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Body>, HttpError>;
}

/// A client with a pool of connections. Clones share the pool.
#[derive(Clone)]
pub struct Client {
    way: Way,
    first_byte: Duration,
}

/// How requests leave.
#[derive(Clone)]
enum Way {
    Wire(Box<Wire>),
    Carried(Arc<dyn Carrier>),
}

#[derive(Clone)]
struct Wire {
    pool: Pool,
    tls: Arc<rustls::ClientConfig>,
    route: Arc<Route>,
    versions: Versions,
}

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Versions {
    /// Over TLS what the server prefers, else the first.
    All,
    /// The second, also without TLS.
    Second,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut client = formatter.debug_struct("Client");
        if let Way::Wire(wire) = &self.way {
            client.field("route", &wire.route);
        }
        client.finish_non_exhaustive()
    }
}

impl Client {
    /// A client as the config wants it. Reads the CA file and the proxy's password.
    pub fn new(config: &HttpConfig) -> Result<Self, Error> {
        Self::with_tls(config, None)
    }

    /// A client as the config wants it, with TLS as one sink wants it.
    pub fn with_tls(config: &HttpConfig, tls: Option<&Tls>) -> Result<Self, Error> {
        let tls = Arc::new(tls::client_config(config, tls)?);
        let route = Arc::new(Route::new(config)?);
        Ok(Self::by(Way::Wire(Box::new(Wire {
            pool: pool(&tls, &route, Versions::All),
            tls,
            route,
            versions: Versions::All,
        }))))
    }

    /// A client whose requests something else carries.
    pub fn carried(by: Arc<dyn Carrier>) -> Self {
        Self::by(Way::Carried(by))
    }

    fn by(way: Way) -> Self {
        Self {
            way,
            first_byte: FIRST_BYTE_TIMEOUT,
        }
    }

    /// The same client with a pool of its own, so that two tenants never share a connection.
    #[must_use]
    pub fn separate(&self) -> Self {
        self.with_versions(match &self.way {
            Way::Wire(wire) => wire.versions,
            Way::Carried(_) => Versions::All,
        })
    }

    /// The same client that speaks HTTP/2 only, also where there is no TLS to agree on it, as gRPC needs it.
    #[must_use]
    pub fn http2_only(&self) -> Self {
        self.with_versions(Versions::Second)
    }

    fn with_versions(&self, versions: Versions) -> Self {
        let way = match &self.way {
            Way::Wire(wire) => Way::Wire(Box::new(Wire {
                pool: pool(&wire.tls, &wire.route, versions),
                tls: Arc::clone(&wire.tls),
                route: Arc::clone(&wire.route),
                versions,
            })),
            carried @ Way::Carried(_) => carried.clone(),
        };
        Self {
            way,
            first_byte: self.first_byte,
        }
    }

    /// The same client with another limit on the time until a response's head has arrived.
    #[must_use]
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.first_byte = limit;
        self
    }

    /// The proxy by which an address is reached, if by any: for people.
    pub fn proxy_for(&self, url: &Url) -> Option<String> {
        let Way::Wire(wire) = &self.way else {
            return None;
        };
        let uri = url.as_str().parse().ok()?;
        let proxy = wire.route.proxy_for(&uri)?.authority()?;
        Some(proxy.to_string())
    }

    /// Sends a request to its absolute URI and returns when the head of the response is there.
    pub async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Body>, HttpError> {
        let host = request.uri().authority().map(|host| host.host().to_owned());
        let Some(host) = host else {
            return Err(HttpError::new(
                Trouble::Request,
                "",
                "the address is not absolute",
            ));
        };
        let answer = async {
            match &self.way {
                Way::Wire(wire) => wire.carry(&host, request).await,
                Way::Carried(carrier) => carrier.carry(request).await,
            }
        };
        tokio::time::timeout(self.first_byte, answer)
            .await
            .unwrap_or_else(|_| {
                let seconds = self.first_byte.as_secs();
                let what = format!("no answer within {seconds} seconds");
                Err(HttpError::new(Trouble::Timeout, &host, &what))
            })
    }
}

impl Wire {
    async fn carry(
        &self,
        host: &str,
        mut request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Body>, HttpError> {
        // Through a tunnel the proxy sees no request; without one it sees each, and wants to know
        // whose it is.
        if let Some(login) = self.route.login_for(request.uri()) {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, login.clone());
        }
        match self.pool.request(request).await {
            Ok(response) => Ok(response.map(|body| body.map_err(BodyError::Wire).boxed_unsync())),
            Err(error) => Err(HttpError::from_client(host, &error)),
        }
    }
}

/// What a client of this config does over TLS where it does not speak HTTP; `own` is what one sink wants different.
pub(crate) fn tls_config(
    config: &HttpConfig,
    own: Option<&Tls>,
) -> Result<rustls::ClientConfig, Error> {
    tls::client_config(config, own)
}

fn pool(tls: &Arc<rustls::ClientConfig>, route: &Arc<Route>, versions: Versions) -> Pool {
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(rustls::ClientConfig::clone(tls))
        .https_or_http();
    let connector = Connector::new(Arc::clone(route));
    let https = match versions {
        Versions::All => https.enable_all_versions().wrap_connector(connector),
        Versions::Second => https.enable_http2().wrap_connector(connector),
    };
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(versions == Versions::Second)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEAD_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .build(Timed::new(https, CONNECT_TIMEOUT))
}

/// What broke on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request cannot be sent as it is.
    Request,
    /// The host's name has no address.
    Dns,
    /// No connection.
    Connect,
    /// The proxy refused, or does not speak as a proxy does.
    Proxy,
    /// No encrypted connection: a certificate or protocol that is not accepted.
    Tls,
    /// Too slow.
    Timeout,
    /// The connection broke, or the other side does not speak HTTP.
    Protocol,
    /// The body is larger than allowed.
    TooLarge,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What broke.
    pub trouble: Trouble,
    /// The host that was asked.
    pub host: String,
    /// A sentence for people.
    pub what: String,
}

impl HttpError {
    /// Why there is no response from `host`.
    pub fn new(trouble: Trouble, host: &str, what: &str) -> Self {
        Self {
            trouble,
            host: host.to_owned(),
            what: what.to_owned(),
        }
    }

    /// A request that cannot even be put together.
    pub fn unsendable(host: &str) -> Self {
        Self::new(
            Trouble::Request,
            host,
            "the request cannot be sent as it is",
        )
    }

    /// What to do about it; empty when waiting is all there is.
    pub fn help(&self) -> &'static str {
        match self.trouble {
            Trouble::Dns => "check the host's spelling and this machine's name servers",
            Trouble::Connect | Trouble::Timeout => {
                "check that this machine may reach the host (firewall, proxy: key `http.proxy`)"
            }
            Trouble::Proxy => "check key `http.proxy`: its address, user name and password",
            Trouble::Tls => {
                "where a gateway opens TLS, name its certificate in `http.ca_file`; check the clock"
            }
            Trouble::Request | Trouble::Protocol | Trouble::TooLarge => "",
        }
    }

    fn from_client(host: &str, error: &legacy::Error) -> Self {
        let causes = causes(error);
        let last = causes.last().map(ToString::to_string).unwrap_or_default();
        let found = |trouble, what: String| Self::new(trouble, host, &what);
        for cause in &causes {
            if let Some(failed) = cause.downcast_ref::<DnsFailed>() {
                return found(Trouble::Dns, failed.to_string());
            }
            if let Some(failed) = cause.downcast_ref::<ProxyFailed>() {
                return found(Trouble::Proxy, failed.to_string());
            }
            if let Some(late) = cause.downcast_ref::<TimedOut>() {
                return found(Trouble::Timeout, late.to_string());
            }
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return found(Trouble::Tls, format!("TLS: {tls}"));
            }
        }
        if error.is_connect() {
            let io = causes
                .iter()
                .rev()
                .find_map(|cause| cause.downcast_ref::<std::io::Error>());
            let why = io.map_or(last, crate::secret::plain);
            return found(Trouble::Connect, format!("cannot connect: {why}"));
        }
        found(Trouble::Protocol, format!("the exchange broke off: {last}"))
    }
}

/// An error and its causes, from the outside in, with what I/O errors carry inside.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> Vec<&'e (dyn StdError + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        let carried = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match carried {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    causes
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "host `{}`: {}", self.host, self.what)
    }
}

impl StdError for HttpError {}

/// Reads a small body whole: at most `limit` bytes, at most as long as a response's head may take.
pub async fn read_all(host: &str, body: Body, limit: usize) -> Result<Bytes, HttpError> {
    let (body, _) = read_to_end(host, body, limit).await?;
    Ok(body)
}

/// The same with the headers that follow the body.
pub async fn read_to_end(
    host: &str,
    body: Body,
    limit: usize,
) -> Result<(Bytes, HeaderMap), HttpError> {
    match tokio::time::timeout(FIRST_BYTE_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok((body.to_bytes(), trailers))
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let what = format!("the answer has more than {limit} bytes");
            Err(HttpError::new(Trouble::TooLarge, host, &what))
        }
        Ok(Err(error)) => {
            let what = format!("the answer broke off: {error}");
            Err(HttpError::new(Trouble::Protocol, host, &what))
        }
        Err(_) => Err(HttpError::new(
            Trouble::Timeout,
            host,
            "the answer does not end",
        )),
    }
}

/// How long the server asks to wait: `Retry-After` in seconds or as a date, kept between a second
/// and an hour.
pub fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    const LEAST_MS: i64 = 1_000;
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait_ms = match text.parse::<i64>() {
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => date_ms(text)?.saturating_sub(now_ms),
    };
    let most = millis(Duration::from_hours(1));
    u64::try_from(wait_ms.clamp(LEAST_MS, most))
        .ok()
        .map(Duration::from_millis)
}

/// When the server says that it is: its `Date`, in milliseconds since the epoch.
pub fn server_time(headers: &HeaderMap) -> Option<i64> {
    date_ms(headers.get(http::header::DATE)?.to_str().ok()?)
}

fn date_ms(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|date| date.timestamp_millis())
}

#[cfg(test)]
mod tests;
