//! Command line in, exit code out. One file per command.
//!
//! Exit codes follow `sysexits.h`: 0 done, 1 looked and found something missing, 64 wrong command line, 65 some input
//! could not be used, 69 something needed cannot be had, 70 a defect of ours, 75 incomplete (try again), 78 wrong
//! configuration.

mod ask;
mod audit;
mod by_hand;
mod completion;
mod dead_letter;
mod demo;
mod doctor;
mod forget;
mod generate;
mod graph;
mod hand_over;
mod inspect;
mod list;
mod log;
mod man;
mod people;
mod progress;
mod retry;
mod run;
mod state;
mod tap;
mod test;
mod time_range;
mod top;
mod transform;
mod validate;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::capability::http::note_start;
use crate::error::{Error, Kind};
use crate::pipeline::Runtime;
use crate::sandbox::compiler::{Compiler, child};
use crate::secret::Redactor;

/// Runs sandboxed log plugins: fetches, maps and delivers every event, and loses none.
#[derive(Parser)]
#[command(name = "sluicegate", version, arg_required_else_help = true)]
struct Arguments {
    /// How log lines on standard error are written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// More log lines; twice for all. `SLUICEGATE_LOG` (such as `debug,hyper=info`) goes before.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Only errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run pipelines until stopped.
    Run(run::Run),
    /// Run everything once against simulated tenants on this machine; needs nothing.
    Demo(demo::Demo),
    /// Map records from standard input to events on standard output.
    Transform(transform::Transform),
    /// Check pipelines without running them.
    Validate(validate::Validate),
    /// Run the unit tests that stand in pipeline files.
    Test(test::Test),
    /// Walk the live path of each tenant step by step: what is wrong, and where to put it right.
    Doctor(doctor::Doctor),
    /// Show what a plugin asks for and offers.
    Inspect(inspect::Inspect),
    /// Show how each stream of a pipeline stands.
    State(state::State),
    /// List everything again and prove that it was delivered.
    Audit(audit::Audit),
    /// Have splits in quarantine read again now.
    Retry(retry::Retry),
    /// Give splits in quarantine up, as declared losses.
    Forget(forget::Forget),
    /// Look at what no retry can deliver, and send it again.
    DeadLetter(dead_letter::DeadLetter),
    /// Start where another collector stands.
    HandOver(hand_over::HandOver),
    /// Watch events of a running collector as they pass.
    Tap(tap::Tap),
    /// Show how a running collector is, again and again.
    Top(top::Top),
    /// Draw a pipeline, as Mermaid or DOT.
    Graph(graph::Graph),
    /// List the plugins, stages and sinks that there are.
    List(list::List),
    /// Print a starter pipeline made of named parts.
    Generate(generate::Generate),
    /// Print a script that completes this command in a shell.
    Completion(completion::Completion),
    /// Print a manual page, or write all of them.
    Man(man::Man),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    note_start();
    if let Some(arguments) = child::asked() {
        return child::main(arguments);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing more can be said when even this cannot be printed.
            let _ = error.print();
            let code = if error.use_stderr() {
                Kind::Usage.code()
            } else {
                0
            };
            return ExitCode::from(code);
        }
    };
    let redactor = Arc::new(Redactor::new());
    log::start(
        arguments.log_format,
        arguments.verbose,
        arguments.quiet,
        &redactor,
    );
    log::panics(&redactor);
    if !arguments.quiet && arguments.log_format == LogFormat::Text {
        progress::allow();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&[Error::unavailable(format!("cannot start threads: {error}"))]);
        }
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Run(run) => run.run(redactor).await,
            Command::Demo(demo) => demo.run(redactor).await,
            Command::Transform(transform) => transform.run(redactor).await,
            Command::Validate(validate) => validate.run(redactor).await,
            Command::Test(test) => test.run(redactor).await,
            Command::Doctor(doctor) => doctor.run(redactor).await,
            Command::Inspect(inspect) => inspect.run(redactor).await,
            Command::State(state) => state.run(redactor).await,
            Command::Audit(audit) => audit.run(redactor).await,
            Command::Retry(retry) => retry.run(redactor).await,
            Command::Forget(forget) => forget.run(redactor).await,
            Command::DeadLetter(dead_letter) => dead_letter.run(redactor).await,
            Command::HandOver(hand_over) => hand_over.run(redactor).await,
            Command::Tap(tap) => tap.run(redactor).await,
            Command::Top(top) => top.run(redactor).await,
            Command::Graph(graph) => graph.run(),
            Command::List(list) => list.run(redactor).await,
            Command::Generate(generate) => generate.run(),
            Command::Completion(completion) => completion.run(),
            Command::Man(man) => man.run(),
        }
    });
    // Whatever still runs has nothing to finish: the ledger knows what is not delivered.
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(errors) => fail(&errors),
    }
}

/// The runtime of the command: plugins are compiled by this program, in a process of their own.
fn runtime(redactor: Arc<Redactor>) -> Result<Runtime, Error> {
    let mut runtime = Runtime::new(redactor)?;
    runtime.sandbox = runtime.sandbox.compiled_by(Compiler::this_program());
    Ok(runtime)
}

/// Prints to standard output. Whoever has read enough may close it: `sluicegate man | head`.
fn print(text: impl AsRef<[u8]>) -> Done {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    let printed = output
        .write_all(text.as_ref())
        .and_then(|()| output.flush());
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let what = format!("cannot write to standard output: {error}");
            Err(vec![Error::unavailable(what)])
        }
        _ => Ok(0),
    }
}

/// What a command came to: its exit code, or everything that is wrong.
type Done = Result<u8, Vec<Error>>;

fn fail(errors: &[Error]) -> ExitCode {
    for error in errors {
        eprintln!("error: {error}");
    }
    ExitCode::from(
        errors
            .first()
            .map_or(Kind::Internal, |error| error.kind)
            .code(),
    )
}
