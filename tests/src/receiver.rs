//! A receiver of byte streams on loopback, stopped and started on its port at will.
//!
//! When it stops it is as if its program were killed: what it has not read is lost, connections break, new ones are
//! refused. What it has read it keeps.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver as Stopped, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Delivered;
use crate::http_server::dawdle;

/// How often a listener or a connection looks whether it is stopped.
const LOOK: Duration = Duration::from_millis(3);

/// What listens again on a port that it had; a connection of another test may hold the port for a moment.
///
/// # Panics
/// When somebody else has taken the port and keeps it.
pub fn taken_back<T>(listen: impl Fn() -> std::io::Result<T>) -> T {
    let attempt = |_| {
        let refused = |_: &std::io::Error| dawdle(Duration::from_millis(20));
        listen().inspect_err(refused).ok()
    };
    (0..1_000)
        .find_map(attempt)
        .expect("the port is still ours")
}

/// The receiver's end of a connection. Reading fails once the receiver is stopped.
pub struct Incoming {
    stream: TcpStream,
    life: Arc<AtomicUsize>,
    ours: usize,
}

impl Incoming {
    /// Whether the receiver was stopped since the connection was made.
    pub fn is_over(&self) -> bool {
        self.life.load(Ordering::SeqCst) != self.ours
    }
}

impl Read for Incoming {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.is_over() {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            match self.stream.read(space) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                other => return other,
            }
        }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_over() {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

type Handler = dyn Fn(Incoming) + Send + Sync;

/// A listening receiver.
pub struct Receiver {
    address: SocketAddr,
    handler: Arc<Handler>,
    /// Counts stops: a connection of an earlier life is dead.
    life: Arc<AtomicUsize>,
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Receiver {
    /// Starts one on a free port of the loopback; `handler` serves one connection to its end.
    ///
    /// # Panics
    /// When the machine has no port to give.
    pub fn start(handler: impl Fn(Incoming) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a test may listen on loopback");
        let receiver = Self {
            address: listener.local_addr().expect("a listener has an address"),
            handler: Arc::new(handler),
            life: Arc::new(AtomicUsize::new(0)),
            running: Mutex::new(None),
        };
        receiver.listen(listener);
        receiver
    }

    /// Its host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Stops it.
    ///
    /// # Panics
    /// When its thread has panicked.
    pub fn stop(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        let mut running = self.running.lock().expect("nothing panics with this lock");
        if let Some((stop, thread)) = running.take() {
            drop(stop);
            thread.join().expect("listening does not panic");
        }
    }

    /// Starts it again after a stop, on the same port.
    ///
    /// # Panics
    /// When somebody else has taken the port and keeps it.
    pub fn start_again(&self) {
        self.listen(taken_back(|| TcpListener::bind(self.address)));
    }

    /// Starts it again, or stops it.
    ///
    /// # Panics
    /// As the two do.
    pub fn switch(&self, on: bool) {
        if on {
            self.start_again();
        } else {
            self.stop();
        }
    }

    fn listen(&self, listener: TcpListener) {
        listener
            .set_nonblocking(true)
            .expect("a listener can be made to return");
        let (stop, stopped) = channel();
        let (handler, life) = (self.handler.clone(), self.life.clone());
        let thread = std::thread::spawn(move || accept(&listener, &stopped, &handler, &life));
        let mut running = self.running.lock().expect("nothing panics with this lock");
        *running = Some((stop, thread));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(
    listener: &TcpListener,
    stopped: &Stopped<()>,
    handler: &Arc<Handler>,
    life: &Arc<AtomicUsize>,
) {
    let ours = life.load(Ordering::SeqCst);
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let (handler, life) = (handler.clone(), life.clone());
            let set = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(LOOK)));
            let _ = stream.set_nodelay(true);
            if set.is_ok() {
                let incoming = Incoming { stream, life, ours };
                std::thread::spawn(move || handler(incoming));
            }
        } else if stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// A receiver of lines of JSON.
pub struct Lines {
    /// How it is stopped and started.
    pub receiver: Receiver,
    lines: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    /// Starts one.
    pub fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let receiver = Receiver::start(move |mut incoming| {
            let (mut line, mut piece) = (Vec::new(), vec![0; 16 << 10]);
            while let Ok(length @ 1..) = incoming.read(&mut piece) {
                line.extend_from_slice(&piece[..length]);
                // What has no end yet may be the beginning of a line that is sent again.
                if let Some(end) = line.iter().rposition(|byte| *byte == b'\n') {
                    let mut lines = kept.lock().expect("nobody panics with the lock");
                    lines.extend(line.drain(..=end));
                }
            }
        });
        Self { receiver, lines }
    }

    /// The whole lines it has.
    ///
    /// # Panics
    /// When one of them is not JSON.
    pub fn delivered(&self) -> Delivered {
        Delivered::parse(&self.lines.lock().expect("nobody panics with the lock"))
    }

    /// How many whole lines it has.
    ///
    /// # Panics
    /// When a connection's thread has panicked.
    pub fn count(&self) -> usize {
        let lines = self.lines.lock().expect("nobody panics with the lock");
        lines.split(|byte| *byte == b'\n').count() - 1
    }
}
