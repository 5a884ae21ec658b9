//! Messages as datagrams, over UDP or to a Unix socket.
//!
//! A Unix socket tells when the receiving program has taken everything, and its file tells whether it is still the same
//! program. UDP tells at most that nobody listens.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::encode::Message;
use crate::error::Error;
use crate::secret::plain;
use crate::sink::peers::{Place, stalled, unconfirmed};
use crate::sink::request::{Again, Fate};

/// How often the system is asked whether everything is read.
const LOOK: Duration = Duration::from_millis(2);

/// Sends datagrams to one place.
pub(super) struct Datagrams {
    /// The sink, in errors.
    place: String,
    target: Place,
    /// One for all requests: they share what waits for the receiver.
    socket: Mutex<Option<Socket>>,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram, Receiver),
}

/// What tells one receiver's socket from the next one's at the same path.
#[derive(PartialEq, Eq)]
struct Receiver {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Receiver {
    fn at(path: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl Datagrams {
    pub fn new(name: &str, target: Place) -> Self {
        Self {
            place: format!("sink `{name}`"),
            target,
            socket: Mutex::new(None),
        }
    }

    /// Sends all messages; returns those that no datagram can hold.
    pub async fn send(
        &self,
        messages: &[(usize, Message)],
        patience: Duration,
    ) -> Result<Vec<(usize, Fate)>, Again> {
        let mut slot = self.socket.lock().await;
        let sent = self.try_send(&mut slot, messages, patience).await;
        sent.map_err(|error| {
            // Whatever broke, the next try begins with a new socket.
            *slot = None;
            Again::trouble(self.error(&error))
        })
    }

    async fn try_send(
        &self,
        slot: &mut Option<Socket>,
        messages: &[(usize, Message)],
        patience: Duration,
    ) -> io::Result<Vec<(usize, Fate)>> {
        let socket = match slot {
            Some(socket) => socket,
            None => slot.insert(self.open().await?),
        };
        let mut refused = Vec::new();
        for (index, message) in messages {
            let datagrams = match message {
                Message::Whole(datagram) => std::slice::from_ref(datagram),
                Message::Chunks(chunks) => chunks,
            };
            for datagram in datagrams {
                let sent = timeout(patience, socket.send(datagram)).await;
                match sent.map_err(|_| stalled(patience))? {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                        let bytes = datagram.len();
                        let reason =
                            format!("the system takes no datagram of {bytes} bytes to there");
                        refused.push((*index, Fate::Refused(reason)));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        match (&*socket, &self.target) {
            (Socket::Udp(socket), _) => socket.take_error()?.map_or(Ok(()), Err)?,
            (Socket::Unix(socket, receiver), Place::Unix(path)) => {
                read(socket, patience).await?;
                same(path, receiver)?;
            }
            (Socket::Unix(..), Place::Address(_)) => {}
        }
        Ok(refused)
    }

    async fn open(&self) -> io::Result<Socket> {
        let address = match &self.target {
            Place::Unix(path) => {
                let receiver = Receiver::at(path)?;
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                return Ok(Socket::Unix(socket, receiver));
            }
            Place::Address(address) => address,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((address.host.as_str(), address.port)).await? {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any).await?;
            match socket.connect(address).await {
                Ok(()) => return Ok(Socket::Udp(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn error(&self, error: &io::Error) -> Error {
        let help = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                "check that the receiver runs and listens there"
            }
            io::ErrorKind::PermissionDenied => "let this user write to the socket",
            io::ErrorKind::TimedOut => "the receiver reads nothing, or too slowly: look at it",
            _ => "",
        };
        let what = format!("{}: cannot send: {}", self.target, plain(error));
        Error::unavailable(what).at(&self.place).help(help)
    }
}

impl Socket {
    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(datagram).await?,
            Self::Unix(socket, _) => socket.send(datagram).await?,
        };
        Ok(())
    }
}

/// Waits until the receiver has read everything.
async fn read(socket: &UnixDatagram, patience: Duration) -> io::Result<()> {
    let (mut least, mut progress) = (u32::MAX, Instant::now());
    loop {
        let left = unconfirmed(socket.as_raw_fd())?;
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, progress) = (left, Instant::now());
        } else if progress.elapsed() > patience {
            return Err(stalled(patience));
        }
        sleep(LOOK).await;
    }
}

/// An error when the receiver is another one or none: what it had not read is gone with it.
fn same(path: &Path, receiver: &Receiver) -> io::Result<()> {
    UnixDatagram::unbound()?.connect(path)?;
    if Receiver::at(path)? == *receiver {
        return Ok(());
    }
    let what = "the receiver was started again; what it had not read is sent again";
    Err(io::Error::new(io::ErrorKind::ConnectionReset, what))
}
