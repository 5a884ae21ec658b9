//! The host's own HTTP client as the one of the object store: the same proxy, the same trust.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};

use crate::config::HttpConfig;
use crate::config::sink::request::Tls;
use crate::error::Error;
use crate::http::{Client, Trouble, read_all};

/// Largest answer read: a document about one object, or credentials.
const ANSWER_BYTES: usize = 1 << 20;

/// Gives the store its client.
#[derive(Clone)]
pub(super) struct Connector {
    client: Client,
    timeout: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector as the config wants it; reads certificates.
    pub fn new(http: &HttpConfig, tls: Option<&Tls>, timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            client: Client::with_tls(http, tls)?.first_byte_timeout(timeout),
            timeout,
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let (head, body) = request.into_parts();
        let body = Full::new(body.collect().await?.to_bytes());
        let exchange = async {
            let sent = self.client.send(http::Request::from_parts(head, body));
            let (head, body) = sent.await?.into_parts();
            let body = read_all(&host, body, ANSWER_BYTES).await?;
            Ok((head, body))
        };
        let exchanged: Result<_, crate::http::HttpError> =
            match tokio::time::timeout(self.timeout, exchange).await {
                Ok(exchanged) => exchanged,
                Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
            };
        let (head, body) = exchanged.map_err(|error| {
            let kind = match error.trouble {
                Trouble::Dns | Trouble::Connect | Trouble::Proxy | Trouble::Tls => {
                    HttpErrorKind::Connect
                }
                Trouble::Timeout => HttpErrorKind::Timeout,
                Trouble::Protocol => HttpErrorKind::Interrupted,
                Trouble::Request | Trouble::TooLarge => HttpErrorKind::Unknown,
            };
            HttpError::new(kind, error)
        })?;
        let body = Full::new(body).map_err(|never| match never {});
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
