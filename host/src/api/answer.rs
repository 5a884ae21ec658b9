//! What is answered to whom.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Watched, status, tap};
use crate::metrics::export::export;
use crate::metrics::text::{self, Text};
use crate::pipeline::view::{Part, Unready, Views};
use crate::secret::Secret;

/// Answers of everything that are being made at once: each asks the ledgers and keeps a thread busy.
const WHOLE_ANSWERS: usize = 2;

/// Pieces of an answer that wait for whoever reads it.
const PIECES: usize = 4;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where answers come from.
pub(crate) struct Desk {
    views: Arc<Views>,
    /// The SHA-256 of the token, if one has to be sent.
    token: Option<[u8; 32]>,
    stop: CancellationToken,
    whole: Semaphore,
}

impl Desk {
    pub fn new(views: Arc<Views>, token: Option<Secret>, stop: CancellationToken) -> Self {
        Self {
            views,
            token: token.map(|token| Sha256::digest(token.expose()).into()),
            stop,
            whole: Semaphore::new(WHOLE_ANSWERS),
        }
    }

    /// The answer to a request; its body, if it has one, is never read.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        if !["/healthz", "/readyz", "/metrics", "/status", "/tap"].contains(&path) {
            let help = "there are /healthz, /readyz, /metrics, /status and /tap";
            return refusal(StatusCode::NOT_FOUND, "there is nothing here", help);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let (what, help) = ("the API only answers", "ask with GET");
            let mut refused = refusal(StatusCode::METHOD_NOT_ALLOWED, what, help);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(header::ALLOW, allowed);
            return refused;
        }
        if path == "/healthz" {
            return answer(StatusCode::OK, &json!({ "status": "alive" }));
        }
        let may_ask = self.may_ask(request.headers());
        if path == "/readyz" {
            return self.readiness(may_ask);
        }
        if !may_ask {
            let help = "send `Authorization: Bearer TOKEN` with the token of `api.token`";
            let mut refused = refusal(StatusCode::UNAUTHORIZED, "a token is needed", help);
            let challenge = HeaderValue::from_static("Bearer");
            refused
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            return refused;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/tap" => self.tap(request.uri().query().unwrap_or_default(), request.headers()),
            _ => self.status().await,
        }
    }

    /// Whether the right token was sent. Compared are digests, in full: how long it takes says nothing of the token.
    fn may_ask(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let sent = headers.get(header::AUTHORIZATION);
        let sent = sent.map(HeaderValue::as_bytes).unwrap_or_default();
        let (scheme, sent) = sent.split_at_checked(7).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(sent).into();
        let differs = token.iter().zip(digest).fold(0, |differs, (one, other)| {
            std::hint::black_box(differs | (one ^ other))
        });
        scheme.eq_ignore_ascii_case(b"bearer ") && differs == 0
    }

    /// Whether all is well; why not, names and all, is for those who may ask. A probe only needs the status.
    fn readiness(&self, may_ask: bool) -> Response<Body> {
        let mut reasons: Vec<Value> = self.views.unready().iter().map(reason).collect();
        if self.stop.is_cancelled() {
            reasons.insert(0, json!({ "reason": "the process is stopping" }));
        }
        let status = if reasons.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let ready = reasons.is_empty();
        let body = if may_ask {
            json!({ "ready": ready, "reasons": reasons })
        } else {
            json!({ "ready": ready })
        };
        answer(status, &body)
    }

    async fn metrics(&self) -> Response<Body> {
        let _turn = self.whole.acquire().await;
        let snapshot = self.views.snapshot().await;
        let (sender, pieces) = mpsc::channel(PIECES);
        // It waits for a slow reader with nothing but its copy; the end of the connection ends it.
        tokio::task::spawn_blocking(move || {
            let mut hand_over = |piece| sender.blocking_send(piece).is_ok();
            let mut text = Text::new(&mut hand_over);
            export(&snapshot, &mut text);
            text.end();
        });
        respond(StatusCode::OK, text::CONTENT_TYPE, pieces_of(pieces))
    }

    /// Events as they pass.
    fn tap(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        // A page of the web could otherwise have a browser on this machine ask for it under a name of its own.
        if self.token.is_none() && !is_local(headers) {
            let what = "events are not shown to browsers and under foreign names without a token";
            return refusal(
                StatusCode::FORBIDDEN,
                what,
                "set `api.token`, or ask `127.0.0.1`",
            );
        }
        let opened = tap::Asked::parse(query).and_then(|asked| {
            asked.check(&self.views)?;
            let tap = asked.watch(&self.views)?;
            Ok((asked, tap))
        });
        let (asked, watching) = match opened {
            Ok(opened) => opened,
            Err((what, help)) => return refusal(StatusCode::BAD_REQUEST, &what, &help),
        };
        let (lines, pieces) = tap::Lines::new();
        let over = CancellationToken::new();
        let ended = over.clone().drop_guard();
        tokio::spawn(tap::tell(watching, asked, lines, self.stop.clone(), ended));
        let mut response = respond(StatusCode::OK, "application/x-ndjson", pieces_of(pieces));
        response.extensions_mut().insert(Watched(over));
        response
    }

    async fn status(&self) -> Response<Body> {
        let _turn = self.whole.acquire().await;
        let snapshot = self.views.snapshot().await;
        let made = tokio::task::spawn_blocking(move || status::status(&snapshot).to_string()).await;
        match made {
            Ok(body) => respond(StatusCode::OK, JSON, Full::from(body).boxed_unsync()),
            Err(error) => {
                tracing::error!(%error, "a defect: the status cannot be told");
                let help = "the log says more";
                refusal(StatusCode::INTERNAL_SERVER_ERROR, "a defect of ours", help)
            }
        }
    }
}

/// A body whose pieces are still to come.
fn pieces_of(pieces: mpsc::Receiver<Bytes>) -> Body {
    let pieces = futures::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Whether a program asked this machine by its own name, and no page in a browser.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let local = name == "localhost" || address.is_ok();
    local && !headers.contains_key(header::ORIGIN) && !headers.contains_key("sec-fetch-site")
}

fn reason(unready: &Unready) -> Value {
    let Unready {
        pipeline,
        part,
        reason,
    } = unready;
    match part {
        Part::Whole => json!({ "pipeline": pipeline, "reason": reason }),
        Part::Tenant(tenant) => {
            json!({ "pipeline": pipeline, "tenant": &**tenant, "reason": reason })
        }
        Part::Stream(key) => json!({
            "pipeline": pipeline,
            "tenant": &*key.tenant,
            "stream": &*key.stream,
            "reason": reason,
        }),
        Part::DeadLetters => {
            json!({ "pipeline": pipeline, "part": "dead_letters", "reason": reason })
        }
        Part::Sink(sink) => json!({ "pipeline": pipeline, "sink": sink, "reason": reason }),
    }
}

const JSON: &str = "application/json";

fn refusal(status: StatusCode, what: &str, help: &str) -> Response<Body> {
    answer(status, &json!({ "error": what, "help": help }))
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::from(format!("{body}\n")).boxed_unsync();
    respond(status, JSON, body)
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
