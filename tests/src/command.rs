//! Runs the real command in a folder of its own: with its output kept, never longer than a limit, and killed at
//! will.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No run of a test takes longer on two busy cores; one that does hangs.
const LONGEST: Duration = Duration::from_mins(8);

/// Nothing that a run is to come to by itself takes it longer, however slow the machine is.
const LONGEST_WAIT: Duration = Duration::from_mins(4);

/// A command line in the making.
pub struct Sluicegate {
    command: Command,
    folder: PathBuf,
    input: Vec<u8>,
    longest: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

/// A command under way.
pub struct Running {
    child: Leashed,
    stdout: Collected,
    stderr: Collected,
    /// Says nothing; breaks when standard error is closed, which is when the process has ended.
    ended: Receiver<()>,
    started: Instant,
    longest: Duration,
}

/// A pipe that is read by a thread.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    /// What came so far.
    fn so_far(&self) -> Vec<u8> {
        self.bytes
            .lock()
            .expect("reading a pipe does not panic")
            .clone()
    }

    /// All of it, once the pipe is closed.
    fn end(self) -> Vec<u8> {
        self.thread.join().expect("reading a pipe does not panic");
        let mut bytes = self.bytes.lock().expect("reading a pipe does not panic");
        std::mem::take(&mut *bytes)
    }
}

impl Sluicegate {
    /// The program, run in `folder`, with compiled plugins kept in `cache`. It sees no environment but these.
    pub fn new(program: &Path, folder: &Path, cache: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .env("XDG_CACHE_HOME", cache);
        Self {
            command,
            folder: folder.to_owned(),
            input: Vec::new(),
            longest: LONGEST,
        }
    }

    /// Where it runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments, split at blanks.
    #[must_use]
    pub fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut self) -> Running {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = self.command.spawn().expect("the command can be started");
        feed(child.stdin.take(), self.input);
        let (alive, ended) = sync_channel(0);
        let stdout = collect(child.stdout.take(), None);
        let stderr = collect(child.stderr.take(), Some(alive));
        Running {
            child: Leashed(child),
            stdout,
            stderr,
            ended,
            started,
            longest: self.longest,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn run(self) -> Ended {
        self.start().end()
    }
}

/// A process that does not outlive the test that started it, however that ends.
struct Leashed(Child);

impl Drop for Leashed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Lets it run for so long; true when it ended by itself before.
    pub fn ends_within(&self, time: Duration) -> bool {
        let waited = self.ended.recv_timeout(time);
        matches!(waited, Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
    }

    /// Asks again and again, for as long as a slow machine may need, until there is an answer.
    ///
    /// # Panics
    /// When there is none in four minutes, or when the run ends before.
    #[track_caller]
    pub fn until_some<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            // What a run did at its very end counts as well.
            let over = self.ends_within(Duration::from_millis(20));
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(!over, "it ended before {what}:\n{}", tail(&self.stderr()));
            assert!(
                begun.elapsed() < LONGEST_WAIT,
                "not after {LONGEST_WAIT:?}: {what}; its last words:\n{}",
                tail(&self.stderr())
            );
        }
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// As [`Self::until_some`].
    #[track_caller]
    pub fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        self.until_some(what, || so().then_some(()));
    }

    /// Waits until it has said this; the line.
    ///
    /// # Panics
    /// As [`Self::until_some`].
    #[track_caller]
    pub fn until_said(&self, words: &str) -> String {
        self.until_some(words, || {
            let said = self.stderr();
            let mut whole = said
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let line = whole.find(|line| line.contains(words))?;
            Some(line.trim_end().to_owned())
        })
    }

    /// Where it says that its API listens.
    ///
    /// # Panics
    /// As [`Self::until_some`].
    #[track_caller]
    pub fn api(&self) -> SocketAddr {
        let line = self.until_said("the API listens");
        let address = line
            .split_once("address=")
            .and_then(|(_, address)| address.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {line}"))
    }

    /// Waits until it has said why it waits, and insists that it does.
    ///
    /// # Panics
    /// As [`Self::until_some`], or when it ends.
    #[track_caller]
    pub fn must_wait(&self, words: &str) {
        let _ = self.until_said(words);
        let over = self.ends_within(Duration::from_millis(500));
        assert!(!over, "it must wait:\n{}", tail(&self.stderr()));
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// How many files and connections it has open; 0 when it has ended, or on a system without `/proc`.
    pub fn open_files(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.0.id()));
        open.map_or(0, Iterator::count)
    }

    /// Bytes of memory that it has now; 0 when it has ended, or on a system without `/proc`.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) << 10
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Panics
    /// When there is no `kill` command.
    pub fn signal(&self, name: &str) {
        let id = self.child.0.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .stderr(Stdio::null())
            .status();
        // It may have ended a moment ago; whoever asked looks at how.
        sent.expect("a machine that runs tests has `kill`");
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) -> Ended {
        self.child.0.kill().expect("our own child can be killed");
        self.end()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn end(mut self) -> Ended {
        let left = self.longest.saturating_sub(self.started.elapsed());
        let hangs = !self.ends_within(left);
        if hangs {
            // Its output says where it hangs, so it is killed before the test fails.
            let _ = self.child.0.kill();
        }
        let status = self
            .child
            .0
            .wait()
            .expect("our own child can be waited for");
        let took = self.started.elapsed();
        let (stdout, stderr) = (self.stdout.end(), self.stderr.end());
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(
            !hangs,
            "still running after {took:?}; its last words:\n{}",
            tail(&stderr)
        );
        Ended {
            code: status.code(),
            stdout,
            stderr,
            took,
        }
    }
}

impl Ended {
    /// Insists on an exit code.
    ///
    /// # Panics
    /// When it is another one, with what the command said.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "standard error:\n{}",
            tail(&self.stderr)
        );
        self
    }

    /// Insists on words in standard error.
    ///
    /// # Panics
    /// When one of them is not there.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "`{word}` is not in:\n{}",
                tail(&self.stderr)
            );
        }
    }

    /// Standard output as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("what the command prints is UTF-8")
    }
}

/// The last lines, so that a failed test can be read.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn feed(pipe: Option<ChildStdin>, bytes: Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    std::thread::spawn(move || {
        // A command that does not read its input has closed it; that is its right.
        let _ = pipe.write_all(&bytes);
    });
}

fn collect(
    pipe: Option<impl Read + Send + 'static>,
    alive: Option<std::sync::mpsc::SyncSender<()>>,
) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let collected = bytes.clone();
    let thread = std::thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        if let Some(mut pipe) = pipe {
            // What was read before an error is all there is.
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                let mut bytes = collected.lock().expect("nobody panics with the lock");
                bytes.extend_from_slice(&piece[..length]);
            }
        }
        drop(alive);
    });
    Collected { bytes, thread }
}
