//! A real Redis that keeps everything it has answered, and just enough of its protocol to read it back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Delivered;
use crate::real_server::RealServer;

/// A Redis that writes each answer's data to the disk first.
pub struct Redis {
    server: RealServer,
}

impl Redis {
    /// Starts one with further arguments.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start(folder: &Path, more: &[&str]) -> Result<Self, String> {
        Self::start_with(folder, "--port", more)
    }

    /// Starts one that speaks TLS only, with further arguments.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start_tls(folder: &Path, more: &[&str]) -> Result<Self, String> {
        let more: Vec<_> = ["--port", "0"].iter().chain(more).copied().collect();
        Self::start_with(folder, "--tls-port", &more)
    }

    fn start_with(folder: &Path, port_option: &str, more: &[&str]) -> Result<Self, String> {
        let server = RealServer::start("redis-server", folder, |port| {
            let (port, folder) = (port.to_string(), folder.display().to_string());
            let ours = [
                "--bind",
                "127.0.0.1",
                port_option,
                &port,
                "--dir",
                &folder,
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ];
            ours.iter().chain(more).map(|text| (*text).into()).collect()
        })?;
        let redis = Self { server };
        redis.wait_for_data();
        Ok(redis)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Kills it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn switch(&mut self, on: bool) {
        self.server.switch(on);
        if on {
            self.wait_for_data();
        }
    }

    /// It accepts connections before it has read its data.
    fn wait_for_data(&self) {
        let loading =
            |answer: Option<Value>| answer.is_some_and(|answer| answer["error"].is_string());
        while loading(self.ask(&["DBSIZE"])) {
            crate::http_server::dawdle(Duration::from_millis(20));
        }
    }

    /// What it answers to a command; `None` when there is no answer. An error is `{"error": TEXT}`.
    pub fn ask(&self, words: &[&str]) -> Option<Value> {
        let count = words.len();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let words = words
            .iter()
            .flat_map(|word| [format!("${}", word.len()), (*word).to_owned()]);
        let parts: Vec<_> = std::iter::once(format!("*{count}")).chain(words).collect();
        let request = parts.join("\r\n") + "\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        answer(&mut BufReader::new(stream))
    }

    /// Entries of a stream, or elements of a list; none while the server is down.
    pub fn count(&self, command: &str, key: &str) -> usize {
        let count = self.ask(&[command, key]).and_then(|count| count.as_u64());
        usize::try_from(count.unwrap_or_default()).unwrap_or_default()
    }

    /// Every entry of a stream: the events, and the ids that stand beside them.
    ///
    /// # Panics
    /// When an entry is not what it should be.
    pub fn stream(&self, key: &str) -> (Delivered, Vec<String>) {
        let entries = self.ask(&["XRANGE", key, "-", "+"]).expect("it runs");
        let (mut lines, mut ids) = (String::new(), Vec::new());
        for entry in entries.as_array().expect("a stream is an array") {
            let [id, event] = [1, 3].map(|at| entry[1][at].as_str().unwrap_or_default());
            assert_eq!(
                (&entry[1][0], &entry[1][2]),
                (&json!("id"), &json!("event"))
            );
            ids.push(id.to_owned());
            lines += event;
            lines += "\n";
        }
        (Delivered::parse(lines.as_bytes()), ids)
    }

    /// Every element of a list.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn list(&self, key: &str) -> Delivered {
        let elements = self.ask(&["LRANGE", key, "0", "-1"]).expect("it runs");
        let elements = elements.as_array().expect("a list is an array").iter();
        let mut lines = String::new();
        for element in elements {
            lines += element.as_str().unwrap_or_default();
            lines += "\n";
        }
        Delivered::parse(lines.as_bytes())
    }
}

/// One answer (RESP2).
fn answer(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    Some(match kind {
        "+" => json!(rest),
        "-" => json!({ "error": rest }),
        ":" => json!(rest.parse::<i64>().ok()?),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else {
                return Some(Value::Null);
            };
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text).ok()?;
            text.truncate(length);
            json!(String::from_utf8(text).ok()?)
        }
        "*" => {
            let count = rest.parse::<usize>().unwrap_or_default();
            (0..count).map(|_| answer(stream)).collect::<Option<_>>()?
        }
        _ => return None,
    })
}
