//! The connection to a Redis server: one at a time, made when it is needed, thrown away when anything is wrong with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::HttpConfig;
use crate::config::sink::redis::Redis;
use crate::error::Error;
use crate::secret::{Redactor, SecretRef};

/// Longest time for a connection and its handshakes.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes connections.
pub(super) struct Links {
    place: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    db: u32,
    login: Option<(Option<String>, SecretRef)>,
    response_timeout: Duration,
    redactor: Arc<Redactor>,
    current: Mutex<Option<Arc<Link>>>,
}

/// One connection, shared by all requests.
pub(super) struct Link {
    connection: MultiplexedConnection,
    given_up: AtomicBool,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Links");
        shown.field("host", &self.host).field("port", &self.port);
        shown.finish_non_exhaustive()
    }
}

impl Link {
    /// A handle of the connection.
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// The next request gets another connection.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl Links {
    /// Reads certificates, and the password to see that it is there.
    pub fn new(
        name: &str,
        config: &Redis,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
        let url = &config.endpoint;
        let own = config.delivery.tls.as_ref();
        let tls = (url.scheme() == "rediss")
            .then(|| crate::http::tls::client_config(http, own))
            .transpose()?;
        let host = url.host_str().unwrap_or_default();
        let links = Self {
            place: format!("sink `{name}`"),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(6379),
            tls: tls.map(|tls| TlsConnector::from(Arc::new(tls))),
            db: config.db,
            login: config.login.clone(),
            response_timeout: config.delivery.timeout,
            redactor: redactor.clone(),
            current: Mutex::default(),
        };
        if let Some((_, secret)) = &links.login
            && let Some(warning) = secret.warning()
        {
            tracing::warn!("{warning}");
        }
        links.info()?;
        Ok(links)
    }

    /// Where errors happened.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The connection, or a new one.
    pub async fn get(&self) -> Result<Arc<Link>, Error> {
        let mut current = self.current.lock().await;
        if let Some(link) = &*current
            && !link.given_up.load(Ordering::Relaxed)
        {
            return Ok(link.clone());
        }
        *current = None;
        let late = || {
            let seconds = CONNECT.as_secs();
            Error::unavailable(format!("no connection to Redis within {seconds} seconds"))
                .at(&self.place)
                .help("check `endpoint`, and that the server runs")
        };
        let connected = timeout(CONNECT, self.connect()).await;
        let connection = connected.map_err(|_| late())??;
        let link = Arc::new(Link {
            connection,
            given_up: AtomicBool::new(false),
        });
        *current = Some(link.clone());
        Ok(link)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let broken = |error: std::io::Error, help: &str| {
            let why = crate::secret::plain(&error);
            Error::unavailable(format!("cannot connect to Redis: {why}"))
                .at(&self.place)
                .help(help)
        };
        let stream = TcpStream::connect((&*self.host, self.port)).await;
        let stream =
            stream.map_err(|error| broken(error, "check `endpoint`, and that the server runs"))?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.greet(stream).await;
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| {
            let what = format!("`{}` is no name that a certificate can have", self.host);
            Error::config(what).at(&self.place)
        })?;
        let stream = tls.connect(name, stream).await;
        let stream =
            stream.map_err(|error| broken(error, "check `tls` and the server's certificate"))?;
        self.greet(stream).await
    }

    async fn greet<S>(&self, stream: S) -> Result<MultiplexedConnection, Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        let info = self.info()?;
        let greeted = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = greeted.map_err(|error| self.refused(&error))?;
        // Ends when the last handle of the connection is gone.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn refused(&self, error: &RedisError) -> Error {
        let help = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                "check `auth`: the credential is not accepted; it is read again for each try"
            }
            (_, Some("LOADING")) => "the server reads its data; it is tried again",
            _ => "check `endpoint`, `db` and `auth`",
        };
        Error::unavailable(format!("Redis does not greet back: {error}"))
            .at(&self.place)
            .help(help)
    }

    fn info(&self) -> Result<RedisConnectionInfo, Error> {
        let info = RedisConnectionInfo::default()
            .set_db(i64::from(self.db))
            .set_skip_set_lib_name();
        let Some((user, secret)) = &self.login else {
            return Ok(info);
        };
        let password = secret.resolve()?;
        self.redactor.learn(&password);
        let info = info.set_password(password.expose());
        Ok(match user {
            Some(user) => info.set_username(user),
            None => info,
        })
    }
}
