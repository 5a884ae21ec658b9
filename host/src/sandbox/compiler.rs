//! Where components become machine code, and how much that may take.
//!
//! What the compiler needs grows with what a component makes of its bytes, and nothing interrupts it. So the command
//! runs it in a process of its own, with limits that the kernel keeps: one that goes too far ends alone, and is a
//! component that is refused. Such a process has no environment and no descriptor but its three; it may open none,
//! and writes no file. Programs that embed this crate have no such command, and compile in their own process unless
//! they name one.

pub mod child;

use std::num::NonZero;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use wasmtime::Engine;

use crate::capability::log::{REASON_BYTES, escape};
use crate::config::unit::{Period, Size};

/// Most machine code of one component. Ours is 1.1 MB and becomes 3.1 MB.
pub const CODE_BYTES: u64 = 256 << 20;

/// What is kept of a compiler's words.
const WORDS_BYTES: u64 = 16 << 10;

/// Most threads that one compiler works with: each works on a function of its own, which takes memory.
const THREADS: usize = 4;

/// What compiling one component may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory that it may write to; half a gigabyte more of address space is for the program itself.
    pub memory_bytes: u64,
    /// Computing time of all its threads together, in whole seconds.
    pub cpu: Duration,
    /// Time from start to end.
    pub wall: Duration,
}

impl Default for CompileLimits {
    /// Ours takes 80 MB and, by a compiler that is built without optimisation, three seconds.
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            cpu: Duration::from_secs(30),
            wall: Duration::from_mins(5),
        }
    }
}

/// Where components are compiled.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// In this process, without limits: for programs that load only what they trust.
    #[default]
    InProcess,
    /// By a program that does what `sluicegate` does when it is given [`child::SUBCOMMAND`] and two numbers.
    Program {
        /// Where it is.
        program: PathBuf,
        /// What it is given before those.
        arguments: Vec<String>,
    },
}

/// Why there is no machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is no component, or not one that the compiler takes.
    Malformed(String),
    /// A limit was reached; which.
    Limit(String),
    /// The compiler broke down over it, which is no fault of the component's author.
    Broken(String),
    /// There is no compiler.
    Unavailable(String),
}

impl Compiler {
    /// This very program, however it is called and even when its file has been replaced since.
    pub fn this_program() -> Self {
        let this = PathBuf::from("/proc/self/exe");
        let program = match std::env::current_exe() {
            Ok(path) if !this.exists() => path,
            // One that is not there fails when it is needed, with its name.
            _ => this,
        };
        let arguments = Vec::new();
        Self::Program { program, arguments }
    }

    /// Compiles a component for an engine like this one.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        bytes: Arc<[u8]>,
        limits: CompileLimits,
    ) -> Result<Vec<u8>, Failure> {
        match self {
            Self::InProcess => {
                let engine = engine.clone();
                let compiling =
                    tokio::task::spawn_blocking(move || engine.precompile_component(&bytes));
                compiling
                    .await
                    .map_err(|error| Failure::Broken(format!("the compiler panicked: {error}")))?
                    .map_err(|error| Failure::Malformed(format!("{error:#}")))
            }
            Self::Program { program, arguments } => {
                let command = Command::new(program);
                elsewhere(command, arguments, &bytes, limits).await
            }
        }
    }
}

/// Compiles in a process of its own, which is gone when this ends, however it ends.
async fn elsewhere(
    mut command: Command,
    arguments: &[String],
    bytes: &[u8],
    limits: CompileLimits,
) -> Result<Vec<u8>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    command
        .args(arguments)
        .arg(child::SUBCOMMAND)
        .arg(limits.memory_bytes.to_string())
        .arg(seconds(limits.cpu).to_string())
        .env_clear()
        // As the compiler's pool of threads reads it.
        .env("RAYON_NUM_THREADS", threads.min(THREADS).to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        let program = command.as_std().get_program().display();
        Failure::Unavailable(format!("cannot start the compiler `{program}`: {error}"))
    })?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut input) = input {
            // One that does not read to the end says why in its own way.
            let _ = input.write_all(bytes).await;
        }
    };
    let all = async {
        let ((), code, words) = tokio::join!(
            give,
            keep(output, CODE_BYTES + 1),
            drain(errors, WORDS_BYTES)
        );
        let long = code.len() as u64 > CODE_BYTES;
        // One that writes on is not waited for: it ends with this.
        let status = if long { None } else { Some(child.wait().await) };
        (code, words, status)
    };
    let Ok((code, words, status)) = tokio::time::timeout(limits.wall, all).await else {
        let wall = Period(limits.wall);
        let what = format!("compiling it takes longer than {wall}");
        return Err(Failure::Limit(what));
    };
    let Some(status) = status else {
        let most = Size(CODE_BYTES);
        let what = format!("it becomes more than {most} of machine code");
        return Err(Failure::Limit(what));
    };
    let status = status
        .map_err(|error| Failure::Broken(format!("the compiler was lost sight of: {error}")))?;
    if !status.success() {
        return Err(explain(status, &String::from_utf8_lossy(&words), limits));
    }
    if code.is_empty() {
        return Err(Failure::Broken("the compiler made nothing of it".into()));
    }
    Ok(code)
}

/// Reads so many bytes, or to the end.
async fn keep(from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(from) = from {
        // A pipe that breaks is one that has ended; the exit code says what became of it.
        let _ = from.take(most).read_to_end(&mut kept).await;
    }
    kept
}

/// Reads to the end, and keeps so many bytes: whoever says more is not held up.
async fn drain(mut from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let kept = keep(from.as_mut(), most).await;
    if let Some(mut from) = from {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    kept
}

/// Why a compiler ended without code.
fn explain(status: ExitStatus, words: &str, limits: CompileLimits) -> Failure {
    let said = escape(&words.trim().replace('\n', " "), REASON_BYTES);
    // The component's own names may stand in these words, so they are not looked into further.
    if status.code() == Some(child::REFUSED) {
        return Failure::Malformed(said);
    }
    if status.code() == Some(child::NO_LIMITS) {
        return Failure::Unavailable(format!("the compiler cannot be given limits: {said}"));
    }
    if out_of_memory(words) {
        let memory = Size(limits.memory_bytes);
        return Failure::Limit(format!("compiling it takes more than {memory} of memory"));
    }
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        let cpu = Period(Duration::from_secs(seconds(limits.cpu)));
        return Failure::Limit(format!(
            "compiling it takes more than {cpu} of computing time"
        ));
    }
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return Failure::Broken(
            "something killed the compiler, most likely for want of memory on the machine".into(),
        );
    }
    Failure::Broken(format!("the compiler broke down ({status}): {said}"))
}

/// Whether these are the last words of a process that was refused memory.
fn out_of_memory(words: &str) -> bool {
    ["memory allocation of ", "out of memory", "(os error 12)"]
        .iter()
        .any(|last| words.contains(last))
}

/// The kernel counts computing time in whole seconds.
fn seconds(cpu: Duration) -> u64 {
    cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
