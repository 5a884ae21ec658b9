//! A connected byte stream, plain or encrypted, that can be asked what its other side has of what was sent.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

/// First and longest wait before the system is asked again how much is not confirmed.
const LOOK: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// How long a server's silence after the handshake may mean that it refuses us.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection to a server.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TCP with TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Does the same with whichever stream it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $body:expr) => {
        match $stream {
            Stream::Tcp($inner) => $body,
            Stream::Tls($inner) => $body,
            Stream::Unix($inner) => $body,
        }
    };
}

impl Stream {
    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Whether the other side has ended the connection, or it is broken: nothing can be sent over it any more.
    pub fn is_over(&mut self) -> bool {
        self.over().is_err()
    }

    /// An error when the connection is over. What the server says meanwhile is read and ignored.
    fn over(&mut self) -> io::Result<()> {
        let mut space = [0; 1024];
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut *self).poll_read(&mut context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Err(closed()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        // The runtime may not have heard of it yet.
        peek(self.fd())
    }

    /// Writes everything; an error when `patience` passes without any progress.
    pub async fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        send(self, bytes, patience).await
    }

    /// Waits until the other side's system has confirmed every byte; over a Unix socket, until the program there has
    /// read them. An error when the connection ends before, or `patience` passes without any progress.
    pub async fn received(&mut self, patience: Duration) -> io::Result<()> {
        let mut wait = LOOK.0;
        let mut least = u32::MAX;
        let mut progress = Instant::now();
        loop {
            // First the queue, then the connection: one that broke has an empty queue, too.
            let queued = unconfirmed(self.fd())?;
            self.over()?;
            if queued == 0 {
                return Ok(());
            }
            if queued < least {
                (least, progress) = (queued, Instant::now());
            } else if progress.elapsed() > patience {
                return Err(stalled(patience));
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOOK.1);
        }
    }

    /// Waits until the other side has accepted the handshake of a new connection: with TLS 1.3 a certificate of ours is
    /// judged when we have begun to send. A server that takes it sends tickets; one that sends none and is silent for
    /// a second has taken it, too.
    pub async fn accepted(&mut self) -> io::Result<()> {
        let since = Instant::now();
        loop {
            self.over()?;
            let Self::Tls(tls) = &*self else {
                return Ok(());
            };
            let (_, session) = tls.get_ref();
            let judged = session.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3)
                || session.tls13_tickets_received() > 0;
            if judged || since.elapsed() > SILENCE {
                return Ok(());
            }
            sleep(LOOK.1).await;
        }
    }

    /// Closes our side and waits until the other side closes its own, which a program does when it has read
    /// everything. A program that ends without having read everything breaks the connection instead.
    pub async fn read_to_its_end(&mut self, patience: Duration) -> io::Result<()> {
        // One that had ended before anything came would look the same, but its system confirms nothing.
        self.received(patience).await?;
        let late = || stalled(patience);
        timeout(patience, self.shutdown())
            .await
            .map_err(|_| late())??;
        let mut space = [0; 1024];
        loop {
            match timeout(patience, self.read(&mut space)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                // The end of the connection without the end of TLS: all the same here.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(late()),
            }
        }
    }
}

/// Writes everything; an error when `patience` passes without any progress.
pub(in crate::sink) async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = timeout(patience, writer.write(rest)).await;
        let written = written.map_err(|_| stalled(patience))??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
    }
    timeout(patience, writer.flush())
        .await
        .map_err(|_| stalled(patience))?
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the server closed the connection",
    )
}

/// The other side does nothing for too long.
pub(in crate::sink) fn stalled(patience: Duration) -> io::Error {
    let what = format!("no progress within {} seconds", patience.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// An error when the other side has ended the connection, or it is broken.
#[expect(
    unsafe_code,
    reason = "the standard library has no way to look without waiting"
)]
fn peek(fd: RawFd) -> io::Result<()> {
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is one byte long and outlives the call; the socket is open, its stream is borrowed.
    let length = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) };
    if length > 0 {
        return Ok(());
    }
    if length == 0 {
        return Err(closed());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// How much of what was sent is not confirmed: over TCP bytes that the other system has not acknowledged, over Unix
/// sockets memory that the other program has not read.
#[expect(unsafe_code, reason = "the standard library does not ask for it")]
pub(in crate::sink) fn unconfirmed(fd: RawFd) -> io::Result<u32> {
    let mut queued: libc::c_int = 0;
    // SAFETY: the request writes one `int`; the socket is open, its owner is borrowed by the caller.
    let asked = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) };
    if asked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(queued.unsigned_abs())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}
