//! A real NATS server with JetStream, and just enough of its protocol to make a stream and read it back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Delivered;
use crate::real_server::RealServer;

/// The stream of the tests.
const STREAM: &str = "EVENTS";

/// A NATS server that keeps a stream in a folder.
pub struct Nats {
    server: RealServer,
}

impl Nats {
    /// Starts one with further arguments.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start(folder: &Path, more: &[&str]) -> Result<Self, String> {
        let store = folder.join("jetstream");
        let server = RealServer::start("nats-server", folder, |port| {
            let (port, store) = (port.to_string(), store.display().to_string());
            let ours = ["-a", "127.0.0.1", "-p", &port, "-js", "-sd", &store];
            ours.iter().chain(more).map(|text| (*text).into()).collect()
        })?;
        Ok(Self { server })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Kills it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn switch(&mut self, on: bool) {
        self.server.switch(on);
    }

    /// Makes the stream for the subjects below `logs`; `more` are further keys of its config.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_stream(&self, more: &Value) {
        self.set_stream("CREATE", more);
    }

    /// Changes the config of the stream to one made the same way.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn change_stream(&self, more: &Value) {
        self.set_stream("UPDATE", more);
    }

    fn set_stream(&self, verb: &str, more: &Value) {
        let mut config = json!({
            "name": STREAM, "subjects": ["logs.>"], "storage": "file", "retention": "limits",
            "duplicate_window": 600_000_000_000_u64,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let answer = self.ask(&format!("$JS.API.STREAM.{verb}.{STREAM}"), &config);
        let answer = answer.expect("the server runs");
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// How many messages the stream has; none while the server is down.
    pub fn messages(&self) -> u64 {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{STREAM}"), &Value::Null);
        info.and_then(|info| info["state"]["messages"].as_u64())
            .unwrap_or_default()
    }

    /// Every message of the stream as an event, and its subject.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn delivered(&self) -> (Delivered, Vec<String>) {
        let mut talk = Talk::start(self.port()).expect("the server runs");
        let (mut lines, mut subjects) = (Vec::new(), Vec::new());
        for seq in 1..=self.messages() {
            let subject = format!("$JS.API.STREAM.MSG.GET.{STREAM}");
            let answer = talk.ask(&subject, &json!({ "seq": seq }));
            let answer = answer.expect("the server answers");
            let message = &answer["message"];
            assert_eq!(message["seq"], seq, "{answer}");
            let data = message["data"].as_str().unwrap_or_default();
            lines.extend(STANDARD.decode(data).expect("the API writes base64"));
            lines.push(b'\n');
            subjects.push(message["subject"].as_str().unwrap_or_default().to_owned());
        }
        (Delivered::parse(&lines), subjects)
    }

    fn ask(&self, subject: &str, request: &Value) -> Option<Value> {
        Talk::start(self.port())?.ask(subject, request)
    }
}

/// A connection of the simplest kind: one request, one answer.
struct Talk {
    stream: BufReader<TcpStream>,
    /// Where its own answers come, and no others.
    inbox: String,
}

impl Talk {
    fn start(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let inbox = format!("inbox.{}", stream.local_addr().ok()?.port());
        let mut talk = Self {
            stream: BufReader::new(stream),
            inbox,
        };
        let _info = talk.line()?;
        talk.write(&format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB {} 1\r\n",
            talk.inbox
        ))?;
        Some(talk)
    }

    fn write(&mut self, text: &str) -> Option<()> {
        self.stream.get_mut().write_all(text.as_bytes()).ok()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    fn ask(&mut self, subject: &str, request: &Value) -> Option<Value> {
        let body = if request.is_null() {
            String::new()
        } else {
            request.to_string()
        };
        let (inbox, length) = (&self.inbox, body.len());
        self.write(&format!("PUB {subject} {inbox} {length}\r\n{body}\r\n"))?;
        loop {
            let line = self.line()?;
            if line == "PING" {
                self.write("PONG\r\n")?;
            }
            let Some(length) = line
                .strip_prefix("MSG ")
                .and_then(|rest| rest.rsplit(' ').next())
            else {
                continue;
            };
            let mut body = vec![0; length.parse::<usize>().ok()? + 2];
            self.stream.read_exact(&mut body).ok()?;
            return serde_json::from_slice(&body).ok();
        }
    }
}
