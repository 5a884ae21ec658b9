//! The compiler's own process: a component on standard input, machine code on standard output.
//!
//! It limits itself before it reads the first byte, and compiles nothing when it cannot.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmtime::Engine;

use crate::plugin::COMPONENT_BYTES;

/// Address space beside the memory: the program as it stands, stacks of threads, what is set aside and not used.
const PROGRAM_BYTES: u64 = 512 << 20;

/// What makes a compiler of the program. Not for people: it is in no help.
pub const SUBCOMMAND: &str = "compile-plugin";

/// Exit code for what is no component that can be compiled; standard error says why.
pub(super) const REFUSED: i32 = 65;

/// Exit code when the component cannot be read, or the code not handed over.
const BROKEN: i32 = 74;

/// Exit code when the limits cannot be set.
pub(super) const NO_LIMITS: i32 = 71;

/// The arguments after the subcommand, when this process is to be a compiler.
pub fn asked() -> Option<impl Iterator<Item = String>> {
    let mut arguments = std::env::args_os().skip(1);
    let asked = arguments.next().is_some_and(|first| first == SUBCOMMAND);
    asked.then(|| arguments.filter_map(|argument| argument.into_string().ok()))
}

/// Compiles what comes in: `SUBCOMMAND MEMORY_BYTES CPU_SECONDS`.
pub fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut number = || arguments.next()?.parse::<u64>().ok();
    let (Some(memory), Some(cpu)) = (number(), number()) else {
        eprintln!("error: `{SUBCOMMAND}` is what this program calls itself with");
        return ExitCode::from(64);
    };
    let ended = match limited(memory, cpu) {
        Err(error) => Err((NO_LIMITS, error.to_string())),
        Ok(engine) => compile(&engine),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            eprintln!("{why}");
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
    }
}

/// Sets every limit; the engine, made on the way, because it looks at the machine while files can still be opened.
fn limited(memory: u64, cpu: u64) -> wasmtime::Result<Engine> {
    crate::heap::settle();
    close_inherited()?;
    limit(Resource::Core, 0, 0)?;
    // No file grows by its writing; its output is a pipe.
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Data, memory, memory)?;
    let space = memory.saturating_add(PROGRAM_BYTES);
    limit(Resource::As, space, space)?;
    // A second after the signal that says so the kernel ends it whatever it does.
    limit(Resource::Cpu, cpu, cpu.saturating_add(1))?;
    let engine = Engine::new(&super::super::compiling())?;
    // It has three descriptors and gets no more.
    limit(Resource::Nofile, 3, 3)?;
    Ok(engine)
}

/// Closes all but standard input, output and error. What the host opens itself never comes this far, but what the host
/// was given when it was started does, and what libraries open that are not written in Rust.
fn close_inherited() -> io::Result<()> {
    let mut numbers = Vec::new();
    // The second is where systems have it that are not Linux.
    let listed = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"))?;
    for entry in listed {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|number| *number > 2) {
        #[allow(
            unsafe_code,
            reason = "there is no safe way to close what nothing here owns"
        )]
        // SAFETY: this is the process's only thread, at its beginning, and what listed them is closed: nothing of
        // ours is open beside the three. Its number is among them; closing that again is an error and nothing else.
        unsafe {
            libc::close(number);
        }
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let before = getrlimit(resource);
    let lower = |wanted: u64, most: Option<u64>| most.map_or(wanted, |most| most.min(wanted));
    let maximum = lower(hard, before.maximum);
    let current = lower(soft, before.current).min(maximum);
    let new = Rlimit {
        current: Some(current),
        maximum: Some(maximum),
    };
    Ok(setrlimit(resource, new)?)
}

fn compile(engine: &Engine) -> Result<(), (i32, String)> {
    let broken = |error: io::Error| (BROKEN, error.to_string());
    let mut component = Vec::new();
    let mut input = io::stdin().lock().take(COMPONENT_BYTES + 1);
    input.read_to_end(&mut component).map_err(broken)?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| (REFUSED, format!("{error:#}")))?;
    let mut output = io::stdout().lock();
    output.write_all(&code).map_err(broken)?;
    output.flush().map_err(broken)
}
