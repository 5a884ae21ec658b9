//! A bulk server that reads everything and keeps nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What its threads are called, so that their time can be left out.
pub const THREADS: &str = "discard";

const ANSWER: &str = "{\"took\":1,\"errors\":false}";

/// Starts one on a free port of the loopback.
///
/// # Panics
///
/// When the machine has no port or thread to give.
#[must_use]
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            spawn(move || serve(&stream));
        }
    });
    address
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    let named = thread::Builder::new().name(THREADS.to_owned());
    named.spawn(run).expect("the machine has threads");
}

fn serve(stream: &TcpStream) {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut line = String::new();
    loop {
        let mut length = 0_usize;
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = (&mut reader).take(length as u64);
        if std::io::copy(&mut body, &mut std::io::sink()).is_err() {
            return;
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
            ANSWER.len()
        );
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
