//! Real servers of other projects, started on a free port where they are installed, killed and started again at will.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::http_server::dawdle;
use crate::{Pipeline, Simulated, Sluicegate};

/// No server takes longer to start, or to find its data again, on two busy cores; six seconds (Kafka) on quiet ones.
const LONGEST_START: Duration = Duration::from_mins(3);

/// Where Debian keeps servers, which is not in everyone's `PATH`.
const ELSEWHERE: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A running server; stopped with the value.
pub struct RealServer {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl RealServer {
    /// Starts `program` in `folder` on a free port of this machine, and waits until it accepts connections.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn start(
        program: &str,
        folder: &Path,
        arguments: impl FnOnce(u16) -> Vec<String>,
    ) -> Result<Self, String> {
        let program = find(program).ok_or(format!("`{program}` is not installed"))?;
        let port = free_port();
        let mut server = Self {
            program,
            arguments: arguments(port),
            folder: folder.to_owned(),
            port,
            child: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it (SIGKILL), unless it is stopped.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it once more, on the same port with the same data.
    ///
    /// # Errors
    /// Says what it wrote when it does not start.
    pub fn start_again(&mut self) -> Result<(), String> {
        let log = self.folder.join("server.log");
        let said = |error: std::io::Error| error.to_string();
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(said)?;
        let errors = file.try_clone().map_err(said)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn();
        self.child = Some(child.map_err(said)?);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let child = self.child.as_mut().and_then(|child| child.try_wait().ok());
            if since.elapsed() > LONGEST_START || child.flatten().is_some() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!(
                    "`{}` does not start: {log}",
                    self.program.display()
                ));
            }
            dawdle(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn switch(&mut self, on: bool) {
        if on {
            self.start_again().expect("it started before");
        } else {
            self.stop();
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ELSEWHERE.map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A port of this machine that nothing listens on.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Runs a pipeline to its end, but not without five kills of it and a restart of the server before each: `server` stops
/// (false) and starts (true) it, `delivered` says how much is there while it runs. A machine that stands still for
/// seconds may see fewer of them.
///
/// # Panics
/// When nothing is delivered in three minutes, or everything is before the first kill.
pub fn torment<Amount: PartialOrd>(
    command: impl Fn() -> Sluicegate,
    pipeline: &Pipeline,
    mut server: impl FnMut(bool),
    delivered: impl Fn() -> Amount,
) {
    let mut random = fastrand::Rng::with_seed(98);
    let pipeline = pipeline
        .clone()
        .limits("requests_per_minute: 1000000, in_flight: 2");
    for round in 0..5 {
        let before = delivered();
        let running = pipeline.give(command().args("run --once")).start();
        let mut pause = || Duration::from_millis(random.u64(50..300));
        let begun = Instant::now();
        let mut ended = false;
        while !ended && delivered() <= before {
            assert!(
                begun.elapsed() < Duration::from_mins(3),
                "nothing was delivered: {}",
                running.stderr()
            );
            ended = running.ends_within(Duration::from_millis(20));
        }
        ended = ended || running.ends_within(pause());
        server(false);
        ended = ended || running.ends_within(pause());
        server(true);
        if ended || running.ends_within(pause()) {
            assert!(
                round > 0,
                "the end came before a kill: {}",
                running.stderr()
            );
            break;
        }
        let _ = running.kill();
    }
    let _ = pipeline.give(command().args("run --once")).run().expect(0);
}

/// An office with enough to live through [`torment`]: 2,400 events.
pub fn patient_office(seed: u64) -> Simulated {
    let builder = sluicegate_office::Office::builder(seed)
        .blobs(600)
        .events_per_blob(4);
    Simulated::start(builder.latency(Duration::from_millis(15)).page_size(100))
}
