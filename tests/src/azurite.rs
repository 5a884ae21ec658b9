//! Microsoft's own emulator of Azure Blob Storage, read back by its HTTP interface.

use std::path::Path;

use crate::Delivered;
use crate::plain_http::ask;
use crate::real_server::RealServer;

/// The container of the tests.
pub const CONTAINER: &str = "audit";

/// The account that every emulator has.
pub const ACCOUNT: &str = "devstoreaccount1";

/// The key of that account, the same everywhere and in Microsoft's documentation.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A signature made with that key, for everything but deletion, until 2099.
pub const SIGNATURE: &str = "sv=2019-12-12&ss=b&srt=sco&sp=rwlac&se=2099-01-01T00%3A00%3A00Z\
                             &sig=uatANjPzui4cezoLjnkUKbpKcCAVoA9UTmIKTuSzCMs%3D";

/// A blob service.
pub struct Azurite(RealServer);

impl Azurite {
    /// Starts one that keeps its data in a folder, with an empty container.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let server = RealServer::start("azurite-blob", folder, |port| {
            let port = port.to_string();
            let location = folder.display().to_string();
            let arguments = [
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port,
                "--location",
                &location,
                "--silent",
                "--disableTelemetry",
                // Clients are newer than emulators.
                "--skipApiVersionCheck",
            ];
            arguments.map(str::to_owned).to_vec()
        })?;
        let store = Self(server);
        let made = store.ask("PUT", &format!("/{CONTAINER}?restype=container"));
        made.map(|_| store)
            .ok_or("`azurite-blob` makes no container".into())
    }

    /// The address of its account.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.0.port())
    }

    /// The names of all blobs.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub fn names(&self) -> Vec<String> {
        let listed = self.ask("GET", &format!("/{CONTAINER}?restype=container&comp=list"));
        let listed = listed.expect("the container is listed");
        let listed = String::from_utf8(listed).expect("a list is text");
        let names = listed.split("<Name>").skip(1);
        let names = names.filter_map(|rest| rest.split_once("</Name>"));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// What stands in all blobs.
    ///
    /// # Panics
    /// When a blob cannot be read.
    pub fn delivered(&self) -> Delivered {
        let objects = self.names().into_iter().map(|name| {
            let packed = self.ask("GET", &format!("/{CONTAINER}/{name}?"));
            let packed = packed.unwrap_or_else(|| panic!("{name} cannot be read"));
            (name, packed)
        });
        Delivered::unpack(objects)
    }

    /// The body of a good answer.
    fn ask(&self, method: &str, path: &str) -> Option<Vec<u8>> {
        let path = format!("/{ACCOUNT}{path}&{SIGNATURE}");
        let fields = "host: 127.0.0.1\r\ncontent-length: 0\r\n";
        ask(self.0.port(), method, &path, fields)
    }
}
