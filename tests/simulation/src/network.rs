//! The network between the process and the service: late, slow, broken, and watched by the oracle.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use sluicegate::http::{Body, BodyError, Carrier, HttpError, Trouble as Broken};
use sluicegate_office::{Content, End, Framing, Reply, Request, Transport};
use tokio::time::sleep;

use crate::chance::Concern;
use crate::coverage::Point;
use crate::effects::Kind;
use crate::oracle::Asked;
use crate::plan::Trouble;
use crate::world::World;

/// Carries requests to the simulated service.
pub struct Network(pub Arc<World>);

/// A piece of a body: when it comes, and what.
type Piece = (Duration, Result<Bytes, &'static str>);

#[async_trait]
impl Carrier for Network {
    async fn carry(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response<Body>, HttpError> {
        let request = spelt(request).await;
        let world = &self.0;
        let line = format!("{} {}?{}", request.method, request.path, request.query);
        let effect = world.effects.begin(Kind::Request, &line).await;
        let now_ms = world.clock.true_ms();
        let asked = world.witness.asked(now_ms, world.life(), &request);
        world.witness.check_budget(world, &asked);
        self.connect(&request.origin).await?;
        let latency = self.latency();
        sleep(latency / 2).await;
        let reply = match self.missing(&request) {
            Some(reply) => reply,
            None => world.office().handle(world.clock.true_ms(), &request),
        };
        if reply.status == 200 && request.path.ends_with("/start") {
            let now_ms = world.clock.true_ms();
            world.witness.started(&asked, now_ms, &request.query);
        }
        effect.end().await;
        world.effects.trace(&format!("{} {line}", reply.status));
        self.note(&request, &reply);
        let late = Duration::from_millis(reply.transport.delay_ms);
        if late > Duration::from_secs(60) {
            world.coverage.mark(Point::NoAnswer);
        }
        sleep(latency / 2 + late).await;
        self.answer(&request, reply, asked)
    }
}

impl Network {
    /// What can happen before the service sees a request.
    async fn connect(&self, origin: &str) -> Result<(), HttpError> {
        let host = origin.split("://").nth(1).unwrap_or_default();
        for (trouble, point, broken, wait, what) in [
            (
                Trouble::Refusals,
                Point::Refused,
                Broken::Connect,
                1,
                "cannot connect: refused",
            ),
            (
                Trouble::NoNames,
                Point::NoName,
                Broken::Dns,
                40,
                "the name has no address",
            ),
            (
                Trouble::BadCertificates,
                Point::BadCertificate,
                Broken::Tls,
                30,
                "TLS: expired",
            ),
            (
                Trouble::Resets,
                Point::Reset,
                Broken::Protocol,
                90,
                "the exchange broke off",
            ),
        ] {
            if self.0.strikes(trouble, Concern::Network, 50) {
                self.0.coverage.mark(point);
                sleep(Duration::from_millis(wait)).await;
                return Err(HttpError::new(broken, host, what));
            }
        }
        Ok(())
    }

    /// What the service says of a blob that it lists and has not everywhere yet: never more than twice of one.
    fn missing(&self, request: &Request) -> Option<Reply> {
        let world = &self.0;
        let fetch = request
            .path
            .to_ascii_lowercase()
            .contains("/activity/feed/audit/");
        if !fetch || !world.strikes(Trouble::NotThereYet, Concern::Network, 300) {
            return None;
        }
        if !world.witness.may_be_missing(&request.path) {
            return None;
        }
        world.coverage.mark(Point::NotThereYet);
        let text =
            r#"{"error":{"code":"AF20050","message":"The specified content does not exist."}}"#;
        Some(Reply {
            status: 404,
            headers: vec![("Content-Type".into(), "application/json".into())],
            content: Content::Bytes(Bytes::from_static(text.as_bytes())),
            transport: Transport::default(),
        })
    }

    fn latency(&self) -> Duration {
        let usual = self
            .0
            .draw(Concern::Network, |chance| chance.between(5, 400));
        let mut latency = Duration::from_millis(usual);
        if self.0.strikes(Trouble::SlowAnswers, Concern::Network, 30) {
            self.0.coverage.mark(Point::SlowAnswer);
            let seconds = self
                .0
                .draw(Concern::Network, |chance| chance.between(20, 600));
            latency = Duration::from_secs(seconds);
        }
        latency
    }

    /// What is worth knowing of an answer.
    fn note(&self, request: &Request, reply: &Reply) {
        let coverage = &self.0.coverage;
        let wait = reply.find_header("retry-after");
        match reply.status {
            429 | 403 if wait.is_some() => {
                coverage.mark(Point::ThrottledWithWait);
                let sane = wait.and_then(|wait| wait.parse().ok());
                if !sane.is_some_and(|wait: i64| (0..=3_600).contains(&wait)) {
                    coverage.mark(Point::ThrottledAbsurdly);
                }
            }
            429 | 403 => coverage.mark(Point::Throttled),
            401 => coverage.mark(Point::Unauthorised),
            300..=399 => coverage.mark(Point::Redirected),
            408 | 500.. => coverage.mark(Point::ServerErrors),
            200 if request.path.ends_with("/start") => coverage.mark(Point::SubscriptionStarted),
            _ => {}
        }
        if request.query.to_ascii_lowercase().contains("nextpage=") {
            coverage.mark(Point::PageFollowed);
        }
    }

    fn answer(
        &self,
        request: &Request,
        reply: Reply,
        asked: Asked,
    ) -> Result<Response<Body>, HttpError> {
        let world = &self.0;
        let transport = reply.transport;
        let host = request.origin.split("://").nth(1).unwrap_or_default();
        if transport.end == End::ResetBeforeHeaders {
            world.coverage.mark(Point::Reset);
            return Err(HttpError::new(
                Broken::Protocol,
                host,
                "the exchange broke off: reset",
            ));
        }
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let wait = reply.find_header("retry-after").map(str::to_owned);
        let mut response = Response::builder().status(status);
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        let bytes = reply.content.into_bytes();
        let promised = bytes.len() as u64
            + match transport.framing {
                Framing::LengthPlus(more) => more,
                Framing::Length | Framing::Chunked => 0,
            };
        if transport.framing != Framing::Chunked {
            response = response.header("content-length", promised);
        }
        world.witness.answered(&asked, status.as_u16(), &bytes);
        if status == StatusCode::TOO_MANY_REQUESTS {
            world
                .witness
                .told_to_wait(&asked, world.clock.true_ms(), wait.as_deref());
        }
        let body = self.body(bytes, transport, (asked, status, wait));
        response
            .body(body)
            .map_err(|_| HttpError::new(Broken::Protocol, host, "an answer that cannot be read"))
    }

    /// The body as it arrives, piece by piece.
    fn body(
        &self,
        bytes: Bytes,
        transport: Transport,
        (asked, status, wait): (Asked, StatusCode, Option<String>),
    ) -> Body {
        let world = self.0.clone();
        let mut pieces: Vec<Piece> = self.pieces(bytes, transport);
        pieces.reverse();
        let state = (world, pieces, asked);
        let arriving = stream::unfold(state, move |(world, mut pieces, asked)| {
            let wait = wait.clone();
            async move {
                let (late, piece) = pieces.pop()?;
                if !late.is_zero() {
                    sleep(late).await;
                }
                if pieces.is_empty() {
                    let effect = world.effects.begin(Kind::Body, "").await;
                    effect.end().await;
                    // Only who has read it knows that this refusal means that we are too fast.
                    if status == StatusCode::FORBIDDEN && piece.is_ok() {
                        let now_ms = world.clock.true_ms();
                        world.witness.told_to_wait(&asked, now_ms, wait.as_deref());
                    }
                }
                let frame = piece
                    .map(Frame::data)
                    .map_err(|why| BodyError::Carried(why.to_owned()));
                Some((frame, (world, pieces, asked)))
            }
        });
        StreamBody::new(arriving).boxed_unsync()
    }

    fn pieces(&self, bytes: Bytes, transport: Transport) -> Vec<Piece> {
        let length = bytes.len();
        let cut = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(length);
        let now = Duration::ZERO;
        let broken = |late: Duration| {
            self.0.coverage.mark(Point::BodyBroken);
            (late, Err("the connection ended before the body did"))
        };
        match (transport.end, transport.framing) {
            (End::ResetAfter(most), _) => vec![(now, Ok(bytes.slice(..cut(most)))), broken(now)],
            (
                End::StallAfter {
                    bytes: most,
                    stall_ms,
                },
                _,
            ) => {
                self.0.coverage.mark(Point::BodyStalled);
                let stall = Duration::from_millis(stall_ms.into());
                vec![(now, Ok(bytes.slice(..cut(most)))), broken(stall)]
            }
            (_, Framing::LengthPlus(_)) => vec![(now, Ok(bytes)), broken(now)],
            _ if self.0.strikes(Trouble::Pieces, Concern::Network, 500) && length > 1 => {
                let at = self.0.draw(Concern::Network, |chance| {
                    chance.between(1, length as u64 - 1)
                });
                let late = self
                    .0
                    .draw(Concern::Network, |chance| chance.between(1, 30_000));
                let first = bytes.slice(..cut(at));
                let second = bytes.slice(cut(at)..);
                vec![(now, Ok(first)), (Duration::from_millis(late), Ok(second))]
            }
            _ => vec![(now, Ok(bytes))],
        }
    }
}

/// A request in the service's terms.
async fn spelt(request: http::Request<Full<Bytes>>) -> Request {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let uri = &parts.uri;
    let origin = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
        _ => String::new(),
    };
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    };
    Request {
        method: parts.method.as_str().to_owned(),
        origin,
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(header).collect(),
        body: body.unwrap_or_default(),
    }
}
