//! Asks a running collector's API: where it is, who may ask, and what went wrong in words.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

use crate::config::{Config, Place};
use crate::error::{Error, Kind};
use crate::secret::{Redactor, Secret, SecretOrigin, SecretRef};

/// Where the token is looked for when nothing else names one.
const TOKEN: &str = "SLUICEGATE_API_TOKEN";

/// How long the beginning of an answer may take; `/status` and `/metrics` ask the ledgers first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Largest answer that is read whole: thousands of tenants.
const MOST_BYTES: usize = 64 << 20;

/// Which collector is asked.
#[derive(Args)]
pub(super) struct Target {
    /// Where its API listens.
    #[arg(
        long,
        default_value = "http://127.0.0.1:8686",
        conflicts_with = "config"
    )]
    url: Url,
    /// The pipeline's file instead: its section `api` says where, and which token.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with the API's token; else the environment variable `SLUICEGATE_API_TOKEN` is taken.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    token_file: Option<PathBuf>,
}

/// A collector that can be asked.
pub(super) struct Collector {
    host: String,
    port: u16,
    token: Option<Secret>,
}

impl Target {
    /// Finds out where and as whom to ask.
    pub fn collector(&self, redactor: &Redactor) -> Result<Collector, Vec<Error>> {
        let collector = match &self.config {
            Some(file) => of_config(&Config::load(file)?),
            None => self.of_url(),
        };
        let collector = collector.map_err(|error| vec![error])?;
        if let Some(token) = &collector.token {
            redactor.learn(token);
        }
        Ok(collector)
    }

    fn of_url(&self) -> Result<Collector, Error> {
        let (scheme, host) = (self.url.scheme(), self.url.host_str());
        let (Some(host), "http") = (host, scheme) else {
            let what = format!("`{}` is not the address of an API", self.url);
            let help = "write it like `http://127.0.0.1:8686`";
            return Err(Error::new(Kind::Usage, what).help(help));
        };
        let token = match (&self.token_file, std::env::var_os(TOKEN)) {
            (Some(path), _) => Some(SecretOrigin::File(path.clone())),
            (None, Some(_)) => Some(SecretOrigin::Env(TOKEN.into())),
            (None, None) => None,
        };
        let reference = |origin| SecretRef {
            origin,
            place: Place {
                file: "the command line".into(),
                ..Place::default()
            },
        };
        Ok(Collector {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: self.url.port_or_known_default().unwrap_or(80),
            token: token
                .map(|origin| reference(origin).resolve())
                .transpose()?,
        })
    }
}

fn of_config(config: &Config) -> Result<Collector, Error> {
    let Some(api) = &config.api else {
        let what = format!(
            "`{}` switches no API on, so its collector cannot be asked",
            config.file
        );
        return Err(
            Error::config(what).help("add the section `api: {}` and start the collector again")
        );
    };
    if api.address.port() == 0 {
        let what = "the API takes any free port";
        return Err(api
            .place
            .error(what)
            .help("the collector's log says which: name it with `--url`"));
    }
    let host = if api.address.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        api.address.ip().to_string()
    };
    Ok(Collector {
        host,
        port: api.address.port(),
        token: api.token.as_ref().map(SecretRef::resolve).transpose()?,
    })
}

impl Collector {
    /// Where it is, for people.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The text that is answered to a path.
    pub async fn text(&self, path: &str) -> Result<String, Error> {
        let response = self.get(path).await?;
        let body = http_body_util::Limited::new(response.into_body(), MOST_BYTES);
        let read = tokio::time::timeout(PATIENCE, body.collect()).await;
        let bytes = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(self.broken(&error.to_string())),
            Err(_) => return Err(self.broken("it takes too long")),
        };
        String::from_utf8(bytes.into()).map_err(|_| self.broken("it is not UTF-8 text"))
    }

    /// The answer to a path, once it begins. Whatever is refused is an error.
    pub async fn get(&self, path: &str) -> Result<Response<Incoming>, Error> {
        match tokio::time::timeout(PATIENCE, self.begin(path)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken("it takes too long")),
        }
    }

    async fn begin(&self, path: &str) -> Result<Response<Incoming>, Error> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| {
            let why = crate::secret::plain(&error);
            let what = format!("no collector answers at `{}`: {why}", self.address());
            Error::unavailable(what).help(
                "does it run? Its API is off unless its file has the section `api: {}`; \
                 `--url` or `--config` says where it is",
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error.to_string()))?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header(header::HOST, self.address());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| {
            Error::new(
                Kind::Usage,
                "the token cannot be sent: it has odd characters",
            )
        })?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error.to_string()))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), 64 << 10);
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let said = body["error"]
            .as_str()
            .map_or_else(|| status.to_string(), str::to_owned);
        let what = format!("the collector at `{}` refuses: {said}", self.address());
        let help = match status {
            StatusCode::UNAUTHORIZED => {
                format!("`--token-file PATH`, `{TOKEN}` or `--config FILE` brings the token")
            }
            _ => body["help"].as_str().unwrap_or_default().to_owned(),
        };
        match status {
            StatusCode::BAD_REQUEST => Error::new(Kind::Usage, what).help(help),
            _ => Error::unavailable(what).help(help),
        }
    }

    fn broken(&self, why: &str) -> Error {
        let what = format!("the answer of `{}` cannot be used: {why}", self.address());
        Error::unavailable(what).help("is it Sluicegate's API that listens there?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "source: { plugin: o365, tenants: [{ id: a }] }\nsinks: [stdout: ]\n";

    fn config(api: &str) -> Config {
        let path = std::path::Path::new("a.yaml");
        Config::parse(path, &format!("{PIPELINE}{api}"), None).unwrap()
    }

    #[test]
    fn the_file_says_where_the_api_is() {
        let found = of_config(&config("api: {}\n")).unwrap();
        assert_eq!(
            (found.address().as_str(), found.token.is_none()),
            ("127.0.0.1:8686", true)
        );
        let found = of_config(&config("api: { address: '[::1]:99' }\n")).unwrap();
        assert_eq!(found.address(), "[::1]:99");
    }

    #[test]
    fn without_an_api_there_is_nobody_to_ask() {
        for off in ["", "api: { enabled: false }\n"] {
            let error = of_config(&config(off)).err().unwrap();
            assert!(error.to_string().contains("`api: {}`"), "{error}");
        }
        let error = of_config(&config("api: { address: '127.0.0.1:0' }\n"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("`--url`"), "{error}");
    }
}
