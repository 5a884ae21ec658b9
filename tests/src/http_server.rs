//! A small HTTP/1.1 server for the services that sinks talk to: one thread for each connection, stopped and started on
//! its port at will.
//!
//! It is strict: a request that a careful server would not take is a complaint, which its test finds at the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a listener looks whether it is stopped.
const LOOK: Duration = Duration::from_millis(3);

/// A request as it came, its body unpacked.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Response {
    /// A status and a JSON body.
    Answer(u16, String),
    /// The connection breaks without an answer.
    Break,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

type Answerer = dyn Fn(Request) -> Response + Send + Sync;

/// A listening server.
pub struct HttpServer {
    address: SocketAddr,
    answer: Arc<Answerer>,
    /// Counts stops: a connection of an earlier life is dead.
    life: Arc<AtomicUsize>,
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl HttpServer {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Panics
    /// When the machine has no port to give.
    pub fn start(answer: impl Fn(Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a test may listen on loopback");
        let server = Self {
            address: listener.local_addr().expect("a listener has an address"),
            answer: Arc::new(answer),
            life: Arc::new(AtomicUsize::new(0)),
            running: Mutex::new(None),
        };
        server.listen(listener);
        server
    }

    /// Its address, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it: connections break, new ones are refused.
    ///
    /// # Panics
    /// When its thread has panicked.
    pub fn stop(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
        let running = self.running.lock().expect("nothing panics with this lock");
        let mut running = running;
        if let Some((stop, thread)) = running.take() {
            drop(stop);
            thread.join().expect("listening does not panic");
        }
    }

    /// Starts it again after a stop, on the same port.
    ///
    /// # Panics
    /// When somebody else has taken the port.
    pub fn start_again(&self) {
        self.listen(TcpListener::bind(self.address).expect("the port is still ours"));
    }

    fn listen(&self, listener: TcpListener) {
        listener
            .set_nonblocking(true)
            .expect("a listener can be made to return");
        let (stop, stopped) = channel();
        let (answer, life) = (self.answer.clone(), self.life.clone());
        let thread = std::thread::spawn(move || accept(&listener, &stopped, &answer, &life));
        let mut running = self.running.lock().expect("nothing panics with this lock");
        *running = Some((stop, thread));
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(
    listener: &TcpListener,
    stopped: &Receiver<()>,
    answer: &Arc<Answerer>,
    life: &Arc<AtomicUsize>,
) {
    let ours = life.load(Ordering::SeqCst);
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let (answer, life) = (answer.clone(), life.clone());
            std::thread::spawn(move || serve(&stream, &*answer, &life, ours));
        } else if stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Answers the requests of a connection until it ends.
fn serve(stream: &TcpStream, answer: &Answerer, life: &AtomicUsize, ours: usize) {
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        if life.load(Ordering::SeqCst) != ours {
            return;
        }
        let Response::Answer(status, body) = answer(request) else {
            return;
        };
        if life.load(Ordering::SeqCst) != ours {
            return;
        }
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        let sent = writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(body.as_bytes()));
        if sent.is_err() {
            return;
        }
    }
}

/// The next request; `None` at the end of the connection or of its sense.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    let length: usize = request
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .ok()?;
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    if request.header("content-encoding") == Some("gzip") {
        let mut unpacked = Vec::new();
        let mut packed = flate2::read::GzDecoder::new(&*request.body);
        packed.read_to_end(&mut unpacked).ok()?;
        request.body = unpacked;
    }
    Some(request)
}

/// Lets time pass, as a slow server does.
pub fn dawdle(time: Duration) {
    let (_silent, nothing) = channel::<()>();
    let _ = nothing.recv_timeout(time);
}
