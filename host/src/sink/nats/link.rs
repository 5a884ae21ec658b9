//! The connection to a NATS server: one at a time, made when it is needed, thrown away when anything is wrong with it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::{Mutex, watch};

use crate::config::HttpConfig;
use crate::config::sink::nats::{Nats, NatsLogin};
use crate::error::Error;
use crate::secret::{Redactor, Secret, SecretRef};

/// Longest time for a connection and its handshakes.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes connections.
#[derive(Debug)]
pub(super) struct Links {
    place: String,
    servers: Vec<ServerAddr>,
    login: Option<NatsLogin>,
    tls: rustls::ClientConfig,
    insists_on_tls: bool,
    redactor: Arc<Redactor>,
    current: Mutex<Option<Arc<Link>>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    /// Why it is of no use any more.
    broken: watch::Receiver<Option<String>>,
}

impl Link {
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the connection is of no use, and says why.
    pub async fn broken(&self) -> String {
        let mut broken = self.broken.clone();
        let why = broken.wait_for(Option::is_some).await;
        let why = why.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "the connection is closed".into())
    }
}

impl Links {
    /// Reads certificates, and secrets to see that they are there.
    pub fn new(
        name: &str,
        config: &Nats,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
        let place = format!("sink `{name}`");
        let tls = config.delivery.tls.as_ref();
        let servers = config.endpoints.iter().map(|url| {
            ServerAddr::from_url(url.clone())
                .map_err(|error| Error::config(error.to_string()).at(&place))
        });
        let links = Self {
            servers: servers.collect::<Result<_, _>>()?,
            login: config.login.clone(),
            tls: crate::http::tls::client_config(http, tls)?,
            insists_on_tls: tls.is_some(),
            redactor: redactor.clone(),
            current: Mutex::default(),
            place,
        };
        if let Some(warning) = links
            .login
            .as_ref()
            .and_then(|login| secret(login).warning())
        {
            tracing::warn!("{warning}");
        }
        links.options()?;
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
            && link.broken.borrow().is_none()
        {
            return Ok(link.clone());
        }
        *current = None;
        let link = Arc::new(self.connect().await?);
        *current = Some(link.clone());
        Ok(link)
    }

    async fn connect(&self) -> Result<Link, Error> {
        let (tell, broken) = watch::channel(None);
        let tell = Arc::new(tell);
        let options = self.options()?.event_callback(move |event| {
            let tell = tell.clone();
            async move {
                let why = match event {
                    Event::Disconnected | Event::Closed => "the connection is closed".to_owned(),
                    Event::LameDuckMode => "the server is about to stop".to_owned(),
                    Event::ServerError(error) => format!("the server says: {error}"),
                    _ => return,
                };
                // What the server said before it closed the connection is the better reason.
                tell.send_if_modified(|told| {
                    let first = told.is_none();
                    told.get_or_insert(why);
                    first
                });
            }
        });
        let client = options.connect(&self.servers[..]).await.map_err(|error| {
            let help = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    "check `auth`: the credential is not accepted; it is read again for each try"
                }
                ConnectErrorKind::Tls => "check `tls` and the server's certificate",
                ConnectErrorKind::Dns => "check the host's name in `endpoints`",
                _ => "check `endpoints`, and that the server runs",
            };
            Error::unavailable(format!("cannot connect to NATS: {error}"))
                .at(&self.place)
                .help(help)
        })?;
        Ok(Link { client, broken })
    }

    fn options(&self) -> Result<ConnectOptions, Error> {
        let options = ConnectOptions::new()
            .name("sluicegate")
            .connection_timeout(CONNECT)
            .require_tls(self.insists_on_tls)
            .tls_client_config(self.tls.clone())
            .ignore_discovered_servers()
            // Each server once, without a pause: what comes after a failure is decided by the line.
            .max_reconnects(self.servers.len())
            .reconnect_delay_callback(|_| Duration::ZERO);
        let Some(login) = &self.login else {
            return Ok(options);
        };
        let value = secret(login).resolve()?;
        // A credentials file is never logged as a whole, but a line of it may be.
        for line in value.expose().lines().filter(|line| !line.starts_with('-')) {
            self.redactor.learn(&Secret::new(line.trim()));
        }
        let text = value.expose().to_owned();
        Ok(match login {
            NatsLogin::UserPassword(user, _) => options.user_and_password(user.clone(), text),
            NatsLogin::Token(_) => options.token(text),
            NatsLogin::Nkey(_) => options.nkey(text.trim().to_owned()),
            NatsLogin::Credentials(reference) => options.credentials(&text).map_err(|_| {
                let what = format!("{} holds no NATS credentials", reference.origin);
                let help = "name a `.creds` file, with a user's JWT and the seed of its key";
                reference.place.error(what).help(help)
            })?,
        })
    }
}

fn secret(login: &NatsLogin) -> &SecretRef {
    match login {
        NatsLogin::UserPassword(_, secret)
        | NatsLogin::Token(secret)
        | NatsLogin::Nkey(secret)
        | NatsLogin::Credentials(secret) => secret,
    }
}
