//! Servers that are spoken to over a connection of their own: which one is taken, how it is reached, whether it is
//! still there.
//!
//! Connections that work are kept for the next request. A server that cannot be reached, or breaks off, is left alone
//! for a while and then tried by use. Names are resolved anew for every connection; the HTTP proxy is not used.

mod stream;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

pub use stream::Stream;
pub(super) use stream::{send, stalled, unconfirmed};

use crate::config::HttpConfig;
use crate::config::sink::address::Address;
use crate::config::sink::request::Tls;
use crate::error::Error;
use crate::secret::plain;

/// How long a server that failed is left alone, first and at most.
const BENCH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How long name, connection and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Place {
    /// At a host.
    Address(Address),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Servers that take the same events.
pub struct Peers {
    /// The sink, in errors.
    place: String,
    all: Vec<Peer>,
    tls: Option<TlsConnector>,
    /// Whether they take turns; otherwise the first that works is used.
    balance: bool,
    turn: AtomicUsize,
}

struct Peer {
    place: Place,
    state: Mutex<State>,
}

/// How a server has done lately, and connections to it that nobody uses.
#[derive(Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
    idle: Vec<Stream>,
}

/// A connection, for as long as one request uses it.
pub struct Connection {
    /// The bytes to and from the server.
    pub stream: Stream,
    /// Whether nothing was sent over it before.
    pub fresh: bool,
    peer: usize,
}

impl Peer {
    fn state(&self) -> MutexGuard<'_, State> {
        // What it holds is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// The servers of the sink called `name`; `tls` says whether connections are encrypted, and what the sink wants
    /// different from all others. Reads certificates.
    pub fn new(
        name: &str,
        places: Vec<Place>,
        balance: bool,
        encrypted: bool,
        tls: Option<&Tls>,
        http: &HttpConfig,
    ) -> Result<Self, Error> {
        let connector = || {
            let config = crate::http::tls_config(http, tls)?;
            Ok::<_, Error>(TlsConnector::from(Arc::new(config)))
        };
        let all = places.into_iter().map(|place| Peer {
            place,
            state: Mutex::default(),
        });
        Ok(Self {
            place: format!("sink `{name}`"),
            all: all.collect(),
            tls: encrypted.then(connector).transpose()?,
            balance,
            turn: AtomicUsize::new(0),
        })
    }

    /// The sink, in errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A connection to one of the servers: one that was kept, or a new one. Tries each server once.
    pub async fn connection(&self) -> Result<Connection, Error> {
        let mut last = None;
        for peer in self.order() {
            let kept = |stream: Stream| Connection {
                stream,
                fresh: false,
                peer,
            };
            while let Some(mut stream) = self.idle(peer) {
                if !stream.is_over() {
                    return Ok(kept(stream));
                }
            }
            let connected = timeout(CONNECT_TIMEOUT, self.connect(&self.all[peer].place)).await;
            let late = || {
                let what = format!("no connection within {} seconds", CONNECT_TIMEOUT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, what)
            };
            match connected.unwrap_or_else(|_| Err(late())) {
                Ok(stream) => {
                    return Ok(Connection {
                        fresh: true,
                        ..kept(stream)
                    });
                }
                Err(error) => last = Some(self.failed_at(peer, "cannot connect", &error)),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("there is no server").at(&self.place)))
    }

    /// Keeps a connection that works for the next request.
    pub fn keep(&self, connection: Connection) {
        let mut state = self.all[connection.peer].state();
        (state.failures, state.until) = (0, None);
        state.idle.push(connection.stream);
    }

    /// Ends the use of a connection that did what it should and cannot be used again.
    pub fn done(&self, connection: Connection) {
        let mut state = self.all[connection.peer].state();
        (state.failures, state.until) = (0, None);
    }

    /// Ends a connection that broke, and leaves its server alone for a while.
    pub fn broken(&self, connection: Connection, what: &str, error: &io::Error) -> Error {
        let peer = connection.peer;
        drop(connection);
        self.failed_at(peer, what, error)
    }

    /// Who is asked, in order: those that failed lately come last.
    fn order(&self) -> Vec<usize> {
        let count = self.all.len();
        let first = if self.balance {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let mut order: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
        let now = Instant::now();
        order.sort_by_key(|peer| self.all[*peer].state().until.filter(|until| *until > now));
        order
    }

    fn idle(&self, peer: usize) -> Option<Stream> {
        self.all[peer].state().idle.pop()
    }

    fn failed_at(&self, peer: usize, what: &str, error: &io::Error) -> Error {
        let peer = &self.all[peer];
        let mut state = peer.state();
        let wait = BENCH.0 * 2_u32.pow(state.failures.min(6));
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + wait.min(BENCH.1));
        // Others to the same server are as good as dead.
        state.idle.clear();
        drop(state);
        let what = format!("{}: {what}: {}", peer.place, plain(error));
        Error::unavailable(what).at(&self.place).help(help(error))
    }

    async fn connect(&self, place: &Place) -> io::Result<Stream> {
        let address = match place {
            Place::Unix(path) => return UnixStream::connect(path).await.map(Stream::Unix),
            Place::Address(address) => address,
        };
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Tcp(tcp));
        };
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = tls.connect(name, tcp).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn help(error: &io::Error) -> &'static str {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let tls = inner.is_some();
    match error.kind() {
        _ if tls => {
            "check `tls`: whose certificates are trusted, and whether the server wants one of ours"
        }
        io::ErrorKind::NotFound => "check `path`: the server makes the socket when it starts",
        io::ErrorKind::PermissionDenied => "let this user write to the socket",
        io::ErrorKind::ConnectionRefused => "check that the server runs and listens there",
        io::ErrorKind::TimedOut => "check that this machine may reach the server (firewall)",
        _ => "",
    }
}
