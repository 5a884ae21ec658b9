//! How a connection comes about: name, address, proxy; TLS is laid over it by the caller.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderValue, Uri};
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::HttpConfig;
use crate::error::Error;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Pending<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// The host's name has no address.
#[derive(Debug)]
pub(super) struct DnsFailed(String);

/// The proxy refused.
#[derive(Debug)]
pub(super) struct ProxyFailed(String);

/// The connection took too long.
#[derive(Debug)]
pub(super) struct TimedOut(Duration);

impl fmt::Display for DnsFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the name cannot be resolved: {}", self.0)
    }
}

impl fmt::Display for ProxyFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the proxy does not connect: {}", self.0)
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "no connection within {} seconds",
            self.0.as_secs()
        )
    }
}

impl std::error::Error for DnsFailed {}
impl std::error::Error for ProxyFailed {}
impl std::error::Error for TimedOut {}

/// Which hosts are reached by which way.
pub(super) struct Route {
    proxy: Option<Uri>,
    login: Option<HeaderValue>,
    direct: Vec<String>,
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Route")
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl Route {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, Error> {
        let Some(proxy) = &config.proxy else {
            return Ok(Self {
                proxy: None,
                login: None,
                direct: Vec::new(),
            });
        };
        let uri = proxy.url.as_str().parse().map_err(|_| {
            Error::config("the proxy's address cannot be used").at("key `http.proxy.url`")
        })?;
        let login = match &proxy.login {
            None => None,
            Some((name, password)) => {
                let password = password
                    .as_ref()
                    .map(crate::secret::SecretRef::resolve)
                    .transpose()?;
                let pair = format!(
                    "{name}:{}",
                    password.as_ref().map_or("", |word| word.expose())
                );
                let word = base64::engine::general_purpose::STANDARD.encode(pair);
                let mut value = HeaderValue::try_from(format!("Basic {word}"))
                    .map_err(|_| Error::internal("base64 is not a header value"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            proxy: Some(uri),
            login,
            direct: config.no_proxy.clone(),
        })
    }

    /// The proxy by which this address is reached, if by any.
    pub(super) fn proxy_for(&self, uri: &Uri) -> Option<&Uri> {
        let host = uri.host()?.to_ascii_lowercase();
        let direct = self
            .direct
            .iter()
            .any(|entry| match entry.strip_prefix('.') {
                Some(domain) => host == domain || host.ends_with(entry.as_str()),
                None => host == *entry,
            });
        if direct { None } else { self.proxy.as_ref() }
    }

    /// What to tell a proxy that sees the request itself, which is so for plain http only.
    pub(super) fn login_for(&self, uri: &Uri) -> Option<&HeaderValue> {
        let plain = uri.scheme_str() == Some("http");
        self.login
            .as_ref()
            .filter(|_| plain && self.proxy_for(uri).is_some())
    }
}

/// The system's resolver, whose failures can be told from others.
#[derive(Clone, Debug)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = BoxError;
    type Future = Pending<GaiAddrs>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let asked = self.0.call(name);
        Box::pin(async move {
            asked
                .await
                .map_err(|error| DnsFailed(crate::secret::plain(&error)).into())
        })
    }
}

/// Makes TCP connections, by the proxy where the route says so.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    route: Arc<Route>,
}

impl Connector {
    pub(super) fn new(route: Arc<Route>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        Self { tcp, route }
    }
}

impl Service<Uri> for Connector {
    type Response = Tcp;
    type Error = BoxError;
    type Future = Pending<Tcp>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let route = Arc::clone(&self.route);
        Box::pin(async move {
            let Some(proxy) = route.proxy_for(&target) else {
                return Ok(Tcp {
                    io: tcp.call(target).await?,
                    proxied: false,
                });
            };
            let io = tcp.call(proxy.clone()).await?;
            if target.scheme_str() == Some("https") {
                let io = tunnel(io, &target, route.login.as_ref()).await?;
                return Ok(Tcp { io, proxied: false });
            }
            Ok(Tcp { io, proxied: true })
        })
    }
}

/// Longest answer of a proxy to `CONNECT`.
const ANSWER_BYTES: usize = 16 << 10;

/// Asks a proxy for a tunnel to an https host.
async fn tunnel(
    io: TokioIo<TcpStream>,
    target: &Uri,
    login: Option<&HeaderValue>,
) -> Result<TokioIo<TcpStream>, BoxError> {
    let failed = |why: &str| ProxyFailed(why.to_owned());
    let host = target
        .host()
        .ok_or_else(|| failed("the address has no host"))?;
    let port = target.port_u16().unwrap_or(443);
    let login = match login.and_then(|login| login.to_str().ok()) {
        Some(login) => format!("Proxy-Authorization: {login}\r\n"),
        None => String::new(),
    };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n");
    let mut stream = io.into_inner();
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES {
            return Err(failed("its answer is too long").into());
        }
        // Byte by byte, so that nothing of what comes through the tunnel is taken.
        let byte = stream
            .read_u8()
            .await
            .map_err(|_| failed("it closed the connection"))?;
        answer.push(byte);
    }
    match status(&answer) {
        Some(200..=299) => Ok(TokioIo::new(stream)),
        Some(407) => Err(failed("it wants another user name or password (407)").into()),
        Some(code) => Err(failed(&format!("it answers {code}")).into()),
        None => Err(failed("it does not answer as a proxy does").into()),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    line.split(' ').nth(1)?.parse().ok()
}

/// A TCP connection, straight or to a proxy that wants whole addresses.
pub(super) struct Tcp {
    io: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Tcp {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

/// A connector whose whole work, TLS included, has a time limit.
#[derive(Clone)]
pub(super) struct Timed<C> {
    inner: C,
    limit: Duration,
}

impl<C> Timed<C> {
    pub(super) fn new(inner: C, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pending<C::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(target), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(TimedOut(limit).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_no_proxy_are_reached_directly() {
        let direct = vec!["intranet.example.com".to_owned(), ".example.org".to_owned()];
        let proxy = Some("http://proxy.example.com:3128".parse().unwrap());
        let route = Route {
            proxy,
            login: None,
            direct,
        };
        for (uri, by_proxy) in [
            ("https://manage.office.com/", true),
            ("https://intranet.example.com/", false),
            ("https://other.intranet.example.com/", true),
            ("https://example.org/", false),
            ("https://A.Example.Org/", false),
            ("https://notexample.org/", true),
        ] {
            assert_eq!(
                route.proxy_for(&uri.parse().unwrap()).is_some(),
                by_proxy,
                "{uri}"
            );
        }
    }

    #[test]
    fn a_proxy_answer_is_read_by_its_status_line() {
        assert_eq!(
            status(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            Some(200)
        );
        assert_eq!(
            status(b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n"),
            Some(407)
        );
        assert_eq!(status(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
