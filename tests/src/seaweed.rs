//! A real object store that speaks S3: SeaweedFS, read back by its own file interface.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::Delivered;
use crate::http_server::dawdle;
use crate::plain_http::ask;
use crate::real_server::{RealServer, free_port};

/// The bucket of the tests.
pub const BUCKET: &str = "audit";

/// Who may write there: `sluice` with the key `gate-gate`.
const IDENTITIES: &str = r#"{"identities":[{"name":"sluice","credentials":
    [{"accessKey":"sluice","secretKey":"gate-gate"}],"actions":["Read","Write","List"]}]}"#;

/// An object store.
pub struct Seaweed {
    server: RealServer,
    files: u16,
}

impl Seaweed {
    /// Starts one that keeps its data in a folder, with an empty bucket.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let identities = folder.join("identities.json");
        std::fs::write(&identities, IDENTITIES).map_err(|error| error.to_string())?;
        let files = free_port();
        let server = RealServer::start("weed", folder, |port| {
            let mut arguments = vec![
                "server".to_owned(),
                "-s3".into(),
                "-ip=127.0.0.1".into(),
                format!("-dir={}", folder.display()),
                format!("-s3.config={}", identities.display()),
                format!("-s3.port={port}"),
                format!("-filer.port={files}"),
                "-s3.port.iceberg=0".into(),
                "-s3.port.lance=0".into(),
                "-volume.max=16".into(),
                "-master.volumeSizeLimitMB=64".into(),
            ];
            for other in [
                "master.port",
                "master.port.grpc",
                "volume.port",
                "volume.port.grpc",
                "filer.port.grpc",
                "s3.port.grpc",
            ] {
                arguments.push(format!("-{other}={}", free_port()));
            }
            arguments
        })?;
        let store = Self { server, files };
        // It accepts connections before its parts have found each other.
        let made = || store.ask("POST", &format!("/buckets/{BUCKET}/")).is_some();
        for _ in 0..3_000 {
            if made() {
                return Ok(store);
            }
            dawdle(Duration::from_millis(20));
        }
        Err("`weed` makes no bucket".into())
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Kills it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn switch(&mut self, on: bool) {
        self.server.switch(on);
    }

    /// The names of all objects; none while it is down.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = format!("/buckets/{BUCKET}/{folder}?limit=100000");
            let listed = self.ask("GET", &path).unwrap_or_default();
            let listed: Value = serde_json::from_slice(&listed).unwrap_or_default();
            for entry in listed["Entries"].as_array().into_iter().flatten() {
                let path = entry["FullPath"].as_str().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default();
                // The mode of a folder has its highest bit set.
                if entry["Mode"].as_u64().unwrap_or_default() >> 31 == 1 {
                    folders.push(format!("{folder}{name}/"));
                } else {
                    names.push(format!("{folder}{name}"));
                }
            }
        }
        names.sort();
        names
    }

    /// All objects, by name.
    ///
    /// # Panics
    /// When an object cannot be read.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let objects = self.names().into_iter().map(|name| {
            let packed = self.ask("GET", &format!("/buckets/{BUCKET}/{name}"));
            let packed = packed.unwrap_or_else(|| panic!("{name} cannot be read"));
            (name, packed)
        });
        objects.collect()
    }

    /// What stands in all objects.
    ///
    /// # Panics
    /// When an object cannot be read.
    pub fn delivered(&self) -> Delivered {
        Delivered::unpack(self.objects())
    }

    /// The body of a good answer of its file interface.
    fn ask(&self, method: &str, path: &str) -> Option<Vec<u8>> {
        ask(self.files, method, path, "accept: application/json\r\n")
    }
}
