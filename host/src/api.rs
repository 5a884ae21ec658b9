//! The local API: how a running collector is, over HTTP.
//!
//! It only looks. Whoever asks can hold up neither the collector nor, for long, the others who ask: a few connections
//! at a time, one request on each, little room for its head, none for a body, and an end to all of it. What is
//! answered was copied before the first byte of the answer is sent; `/tap` alone goes on, and leaves out what it has no
//! room for.

mod answer;
mod status;
mod tap;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Place;
use crate::error::Error;
use crate::pipeline::view::Views;
use crate::secret::Secret;
pub(crate) use answer::Desk;

/// Connections at once; more wait until one of them ends.
const CONNECTIONS: usize = 16;

/// An answer without an end of its own: the token says when it is over.
#[derive(Clone)]
struct Watched(CancellationToken);

/// How long may be waited for a client.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the head of its request.
    head: Duration,
    /// For all of it, until the answer is read.
    whole: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    whole: Duration::from_secs(30),
};

/// Bytes of a request's head, and its fields.
const HEAD_BYTES: usize = 16 << 10;
const FIELDS: usize = 64;

/// How long to wait when no connection can be accepted, such as without a free file.
const AGAIN: Duration = Duration::from_millis(200);

/// How the API is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// What has to be sent.
    pub token: Option<Secret>,
    /// Where that is written.
    pub place: Place,
}

/// The API, as long as this lives.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Api {
    /// Listens. From `stop` on it says that the process is not ready.
    pub async fn start(
        settings: Settings,
        views: Arc<Views>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        Self::start_with(settings, views, stop, PATIENCE).await
    }

    async fn start_with(
        settings: Settings,
        views: Arc<Views>,
        stop: CancellationToken,
        patience: Patience,
    ) -> Result<Self, Error> {
        let Settings {
            address,
            token,
            place,
        } = settings;
        let cannot = |error: std::io::Error| {
            let why = crate::secret::plain(&error);
            Error::unavailable(format!("the API cannot listen on `{address}`: {why}"))
                .at(&place)
                .help("is another collector running? `api.address` takes another port, 0 any")
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tracing::info!(%address, "the API listens");
        let desk = Arc::new(Desk::new(views, token, stop));
        let serving = AbortOnDropHandle::new(tokio::spawn(accept(listener, desk, patience)));
        Ok(Self {
            address,
            _serving: serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, patience: Patience) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                connections.spawn(async move {
                    serve(stream, desk, patience).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the API cannot accept a connection");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// One connection with one request.
async fn serve(stream: TcpStream, desk: Arc<Desk>, patience: Patience) {
    let watched: OnceLock<Watched> = OnceLock::new();
    let answer = |request: Request<Incoming>| {
        let (desk, watched) = (desk.clone(), &watched);
        async move {
            let response = desk.answer(&request).await;
            if let Some(until) = response.extensions().get::<Watched>() {
                let _ = watched.set(until.clone());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::pin!(connection);
    let mut ended = tokio::time::timeout(patience.whole, &mut connection).await;
    if let (Err(_), Some(Watched(until))) = (&ended, watched.get()) {
        // It goes on for as long as there is something to say, and then for as long as any other answer.
        tokio::select! {
            done = &mut connection => ended = Ok(done),
            () = until.cancelled() => {
                ended = tokio::time::timeout(patience.whole, &mut connection).await;
            }
        }
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the API ended early"),
        Err(_) => tracing::debug!("a connection to the API took too long"),
    }
}

#[cfg(test)]
mod tests;
