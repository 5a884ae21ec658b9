//! Plays a reply's plan on a connection: late, slow, cut, or as it should be.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::InFlight;
use crate::records::RecordStream;
use crate::wire::{Content, End, Framing, Reply};

/// How long the bytes before a cut get to leave the socket, so that the client sees them before the
/// reset.
const FLUSH: Duration = Duration::from_millis(5);

/// Why a connection is dropped: the plan says so.
#[derive(Debug)]
pub(super) struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the office drops this connection on purpose")
    }
}

impl std::error::Error for Dropped {}

/// Turns a reply into a response that plays its plan.
pub(super) fn response(
    reply: Reply,
    reset: Arc<AtomicBool>,
    in_flight: InFlight,
) -> Result<hyper::Response<PlayedBody>, Dropped> {
    let plan = reply.transport;
    if plan.end == End::ResetBeforeHeaders {
        reset.store(true, Ordering::Relaxed);
        return Err(Dropped);
    }
    let mut response = hyper::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Dropped)?;
        response = response.header(name, HeaderValue::from_str(value).map_err(|_| Dropped)?);
    }
    if plan.close {
        response = response.header(CONNECTION, "close");
    }
    let unspoilt = plan.end == End::Complete && plan.trickle.is_none();
    let source = match reply.content {
        // Made while it is sent, so that a blob of any size takes the memory of one piece.
        Content::Records(stream) if unspoilt && plan.framing == Framing::Chunked => {
            Source::Records(*stream)
        }
        content => Source::Bytes(content.into_bytes()),
    };
    let length = match (&source, plan.framing) {
        (Source::Bytes(bytes), Framing::Length) => Some(bytes.len() as u64),
        (Source::Bytes(bytes), Framing::LengthPlus(more)) => Some(bytes.len() as u64 + more),
        _ => None,
    };
    if let Some(length) = length {
        response = response.header(CONTENT_LENGTH, length);
    }
    let left = match plan.end {
        End::ResetAfter(bytes) | End::StallAfter { bytes, .. } => Some(bytes),
        // A length that promises too much is kept until the bytes run out.
        _ if matches!(plan.framing, Framing::LengthPlus(_)) => Some(u64::MAX),
        _ => None,
    };
    let stall = match plan.end {
        End::StallAfter { stall_ms, .. } => Duration::from_millis(stall_ms.into()),
        _ => FLUSH,
    };
    let trickle = plan.trickle;
    let body = PlayedBody {
        source,
        length,
        left,
        stall,
        trickle,
        reset,
        pause: None,
        ending: false,
        _in_flight: in_flight,
    };
    response.body(body).map_err(|_| Dropped)
}

enum Source {
    Bytes(Bytes),
    Records(RecordStream),
}

impl Source {
    /// The bytes that come next, of bytes at hand at most `most`; `None` when there are no more.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => None,
            Self::Bytes(bytes) => Some(bytes.split_to(most.min(bytes.len()))),
            Self::Records(stream) => stream.next(),
        }
    }
}

/// A body that plays a plan.
pub(super) struct PlayedBody {
    source: Source,
    /// The length that the headers promise.
    length: Option<u64>,
    /// Bytes until the cut, when there is to be one.
    left: Option<u64>,
    /// How long nothing comes before the cut.
    stall: Duration,
    trickle: Option<(u32, u32)>,
    reset: Arc<AtomicBool>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The pause that runs is the one before the cut.
    ending: bool,
    _in_flight: InFlight,
}

impl PlayedBody {
    fn cut(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        self.ending = true;
        self.pause(self.stall, context)
    }

    fn pause(
        &mut self,
        time: Duration,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        let mut pause = Box::pin(tokio::time::sleep(time));
        // A sleep that is not polled wakes nobody.
        if pause.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.pause = Some(pause);
        Poll::Pending
    }
}

impl Body for PlayedBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
            if this.ending {
                this.reset.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Dropped)));
            }
        }
        if this.left == Some(0) {
            return this.cut(context);
        }
        let most = this
            .left
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let most = this
            .trickle
            .map_or(most, |(bytes, _)| most.min(bytes as usize));
        let Some(data) = this.source.take(most) else {
            return if this.left.is_some() {
                this.cut(context)
            } else {
                Poll::Ready(None)
            };
        };
        this.left = this.left.map(|left| left - data.len() as u64);
        if let Some((_, every_ms)) = this.trickle {
            let mut pause = Box::pin(tokio::time::sleep(Duration::from_millis(every_ms.into())));
            let _ = pause.as_mut().poll(context);
            this.pause = Some(pause);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection that can end in a reset instead of a proper close.
pub(super) struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, reset: Arc<AtomicBool>) -> Self {
        Self { stream, reset }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Closing without lingering sends RST; when it cannot be set, the close is a plain one.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
