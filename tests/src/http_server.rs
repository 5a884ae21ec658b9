//! A small HTTP/1.1 server for the services that sinks talk to: one thread for each connection, stopped and started on
//! its port at will.
//!
//! It is strict: a request that a careful server would not take is a complaint, which its test finds at the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::receiver::{Incoming, Receiver};

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

/// A listening server.
pub struct HttpServer(Receiver);

impl HttpServer {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Panics
    /// When the machine has no port to give.
    pub fn start(answer: impl Fn(Request) -> Response + Send + Sync + 'static) -> Self {
        Self(Receiver::start(move |incoming| serve(incoming, &answer)))
    }

    /// Its address, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// Stops it: connections break, new ones are refused.
    ///
    /// # Panics
    /// When its thread has panicked.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again after a stop, on the same port.
    ///
    /// # Panics
    /// When somebody else has taken the port.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// Starts it again, or stops it.
    ///
    /// # Panics
    /// As the two do.
    pub fn switch(&self, on: bool) {
        self.0.switch(on);
    }
}

/// Answers the requests of a connection until it ends.
fn serve(incoming: Incoming, answer: &impl Fn(Request) -> Response) {
    let mut connection = BufReader::new(incoming);
    while let Some(request) = read(&mut connection) {
        // A request that came whole before a stop was not read by whoever was killed.
        if connection.get_ref().is_over() {
            return;
        }
        let Response::Answer(status, body) = answer(request) else {
            return;
        };
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\netag: \"1\"\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // Fails after a stop.
        let writer = connection.get_mut();
        let sent = writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(body.as_bytes()));
        if sent.is_err() {
            return;
        }
    }
}

/// The next request; `None` at the end of the connection or of its sense.
fn read(reader: &mut BufReader<Incoming>) -> Option<Request> {
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
