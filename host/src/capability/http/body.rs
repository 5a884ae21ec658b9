//! A response's body on its way to a plugin: decompressed, bounded in size, and never waited for without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use http::header::{self, HeaderMap};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio::time::{Instant, Sleep};
use tokio_util::io::{ReaderStream, StreamReader};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::complete;
use crate::http::{Body as Arriving, BodyError};
use crate::limiter::{GlobalPermit, Permit};

/// How much a decompressed piece holds.
const PIECE_BYTES: usize = 64 << 10;

/// A response whose body keeps its share of the budget until it is read or dropped.
pub(super) struct Guard {
    parts: Parts,
    body: UnsyncBoxBody<Bytes, HttpError>,
}

impl Guard {
    pub fn new(
        (mut parts, body): (Parts, Arriving),
        most_bytes: u64,
        idle: Duration,
        permits: (Permit, GlobalPermit),
    ) -> Self {
        let encoded = parts.headers.get(header::CONTENT_ENCODING);
        let gzip = encoded.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let body = body.map_err(broken).boxed_unsync();
        let body = if gzip {
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            gunzip(body)
        } else {
            body
        };
        let sleep = Box::pin(tokio::time::sleep(idle));
        let body = Watched {
            body,
            left: most_bytes,
            most_bytes,
            idle,
            sleep,
            waiting: false,
            permits,
        };
        Self {
            parts,
            body: body.boxed_unsync(),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub fn into_response(self) -> Response<WasiBody> {
        Response::from_parts(self.parts, self.body)
    }

    /// Reads up to `most` bytes and gives them beside the response; what is longer is cut, since only error
    /// answers are looked at.
    pub async fn peek(self, most: usize) -> Result<(Response<WasiBody>, Bytes), HttpError> {
        let Self {
            mut parts,
            mut body,
        } = self;
        let mut bytes = BytesMut::new();
        while bytes.len() < most {
            let Some(frame) = body.frame().await else {
                break;
            };
            if let Ok(data) = frame?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        bytes.truncate(most);
        let bytes = bytes.freeze();
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok((complete(parts, bytes.clone()), bytes))
    }
}

/// Why a body broke off, in the plugin's terms.
fn broken(error: BodyError) -> HttpError {
    match error {
        BodyError::Wire(error) => HttpError::from(error),
        BodyError::Carried(_) => HttpError::HttpResponseIncomplete,
    }
}

/// A stream that ends early is an error here too: a short body must never pass for a whole one.
fn gunzip(body: WasiBody) -> WasiBody {
    let pieces = BodyStream::new(body)
        .try_filter_map(|frame| async move { Ok(frame.into_data().ok()) })
        .map_err(io::Error::other);
    let mut decoder = GzipDecoder::new(StreamReader::new(Box::pin(pieces)));
    decoder.multiple_members(true);
    let pieces = ReaderStream::with_capacity(decoder, PIECE_BYTES)
        .map_ok(Frame::data)
        .map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => error,
            Err(error) => HttpError::HttpResponseContentCoding(Some(error.to_string())),
        });
    StreamBody::new(pieces).boxed_unsync()
}

struct Watched {
    body: WasiBody,
    left: u64,
    most_bytes: u64,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
    waiting: bool,
    #[expect(
        dead_code,
        reason = "held so that the request counts as in flight until its end"
    )]
    permits: (Permit, GlobalPermit),
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.checked_sub(length) else {
                    let most = self.most_bytes;
                    return Poll::Ready(Some(Err(HttpError::HttpResponseBodySize(Some(most)))));
                };
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                if !self.waiting {
                    // The wait begins when the plugin asks, not when it last got something.
                    self.waiting = true;
                    let until = Instant::now() + self.idle;
                    self.sleep.as_mut().reset(until);
                }
                match self.sleep.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::capability::http::IDLE;
    use crate::limiter::{GlobalLimiter, Limiter, Priority};

    /// A body that gives a byte after each of these waits, and then nothing more.
    async fn watched(waits: Vec<Duration>) -> Guard {
        let pieces = futures::stream::unfold(waits.into_iter(), |mut waits| async move {
            match waits.next() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), waits))
        });
        let body: Arriving = StreamBody::new(pieces).boxed_unsync();
        let parts = Response::new(()).into_parts().0;
        let own = Arc::new(Limiter::new(100, 1))
            .acquire(Priority::Normal)
            .await;
        let global = Arc::new(GlobalLimiter::new(1)).acquire().await;
        Guard::new((parts, body), 1 << 20, IDLE, (own, global))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_ends_after_a_minute() {
        let begun = Instant::now();
        // Slow is not still: each byte begins a minute of its own.
        let mut body = watched(vec![Duration::from_secs(59); 10]).await.body;
        for _ in 0..10 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert_eq!(begun.elapsed().as_secs(), 590);
        let ended = body.frame().await.unwrap().unwrap_err();
        assert!(
            matches!(ended, HttpError::ConnectionReadTimeout),
            "{ended:?}"
        );
        assert_eq!(begun.elapsed().as_secs(), 650);
    }
}
