//! Components on which the compiler chokes: small, valid, and past every check that looks at them before. It has a
//! process of its own, which meets its limits; the host and whoever else runs in it do not.

use std::path::Path;
use std::time::Duration;

use sluicegate::capability::Grants;
use sluicegate::error::{Error, Kind};
use sluicegate::plugin::{O365, Plugin};
use sluicegate::sandbox::Sandbox;
use sluicegate::sandbox::compiler::{CompileLimits, Compiler};
use sluicegate_office::Office;
use sluicegate_tests::{Delivered, Pipeline, Simulated, Sluicegate};
use wasm_encoder::{BlockType, Function, ValType};

use super::by_hand::ByHand;
use super::load::validate_bytes;
use crate::{folder, program, sluicegate};

/// A function in which every local is needed at every join: what the compiler has to know grows with their product.
fn tangle(locals: u32, joins: u32) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    let mut code = function.instructions();
    code.loop_(BlockType::Empty);
    for number in 0..joins {
        let local = number % locals;
        code.local_get(local).if_(BlockType::Empty);
        code.i32_const(1).local_set(local).end();
    }
    code.br(0).end().end();
    function
}

fn component(more: Vec<Function>) -> Vec<u8> {
    let by_hand = ByHand {
        more,
        ..ByHand::default()
    };
    by_hand.component()
}

/// A hundred kilobytes that take a gigabyte.
fn takes_memory() -> Vec<u8> {
    component(vec![tangle(1_000, 10_000)])
}

/// Each of its functions takes a second or so, and little memory.
fn takes_time() -> Vec<u8> {
    component(vec![tangle(5_000, 1_000); 200])
}

/// A sandbox whose compiler is the command under test, with these limits.
fn sandbox(limits: CompileLimits) -> Sandbox {
    let compiler = Compiler::Program {
        program: program().to_owned(),
        arguments: Vec::new(),
    };
    let sandbox = Sandbox::new().unwrap();
    sandbox.compiled_by(compiler).compiling_within(limits)
}

async fn refused(sandbox: &Sandbox, bytes: &[u8]) -> Error {
    let loaded = Plugin::look(sandbox, "suspect", bytes).await;
    loaded.err().expect("a component like this is not loaded")
}

#[test]
fn a_component_that_takes_half_a_minute_to_compile_is_not_loaded() {
    let ended = validate_bytes(&takes_time()).expect(78);
    ended.says(&[
        "plugin `suspect` is not loaded",
        "compiling it takes more than 30s of computing time",
        "suspect.yaml:",
        "help: ",
    ]);
}

#[test]
fn a_component_that_takes_half_a_gigabyte_to_compile_is_not_loaded() {
    let ended = validate_bytes(&takes_memory()).expect(78);
    ended.says(&[
        "plugin `suspect` is not loaded",
        "compiling it takes more than 512MiB of memory",
        "suspect.yaml:",
        "help: ",
    ]);
    let said_by_us = !ended.stderr.contains("panicked") && !ended.stderr.contains("backtrace");
    assert!(said_by_us, "{}", ended.stderr);
}

#[tokio::test]
async fn limits_are_what_they_are_set_to() {
    let usual = CompileLimits::default();
    let short = CompileLimits {
        cpu: Duration::from_secs(1),
        ..usual
    };
    let error = refused(&sandbox(short), &takes_time()).await;
    assert_eq!(error.kind, Kind::Config);
    assert!(
        error.what.contains("more than 1s of computing time"),
        "{error}"
    );
    let small = CompileLimits {
        memory_bytes: 40 << 20,
        ..usual
    };
    let error = refused(&sandbox(small), &takes_memory()).await;
    assert!(error.what.contains("more than 40MiB of memory"), "{error}");
    let hasty = CompileLimits {
        wall: Duration::from_millis(1),
        ..usual
    };
    let error = refused(&sandbox(hasty), &takes_time()).await;
    assert!(error.what.contains("takes longer than 1ms"), "{error}");
}

/// On one thread: if the host compiled on it, or waited for the compiler, nothing else would happen meanwhile.
#[tokio::test]
async fn others_are_called_while_the_compiler_chokes() {
    let sandbox = sandbox(CompileLimits::default());
    let grants = Grants {
        http: true,
        wasi: false,
    };
    let honest = Plugin::load(&sandbox, "o365", O365, grants).await.unwrap();
    let bytes = takes_memory();
    let mut choking = std::pin::pin!(refused(&sandbox, &bytes));
    let mut calls = 0;
    let error = loop {
        tokio::select! {
            biased;
            error = choking.as_mut() => break error,
            described = honest.describe() => {
                described.unwrap();
                calls += 1;
            }
        }
    };
    assert!(error.what.contains("of memory"), "{error}");
    assert!(calls > 0, "no call came to its end");
    // And the next component is compiled.
    let next = Plugin::look(&sandbox, "next", &component(Vec::new())).await;
    assert_eq!(next.map(|next| next.exports.len()).ok(), Some(1));
}

#[test]
fn a_pipeline_that_is_to_take_such_a_component_goes_on_without_it() {
    let office = Simulated::start(
        Office::builder(511)
            .tenants(2)
            .blobs(100)
            .events_per_blob(2)
            .latency(Duration::from_millis(40)),
    );
    let folder = folder();
    std::fs::write(folder.path().join("bomb.wasm"), takes_memory()).unwrap();
    let pipeline = Pipeline::o365("honest", &office);
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let delivered = || Delivered::so_far(&folder.path().join("honest.ndjson"));
    running.until("it is at work", || !delivered().events.is_empty());
    let stage = "wasm: { plugin: ./bomb.wasm }";
    pipeline.clone().stage(stage).write(folder.path());
    running.signal("HUP");
    running.until_said("compiling it takes more than 512MiB of memory");
    running.until_said("the pipeline goes on as it was");
    running.until("everything is delivered", || {
        office.judge(&delivered()).missing == 0
    });
    running.signal("TERM");
    let ended = running.end().expect(0);
    ended.says(&["alarm=\"config\""]);
    let verdict = office.judge(&delivered());
    assert!(verdict.owed == 400 && verdict.is_clean(), "{verdict:?}");
}

#[test]
fn a_compiler_limits_itself_and_closes_what_it_inherited() {
    let folder = folder();
    // A pipe that nobody ever closes is its input, so that it waits to be looked at.
    let script = format!(
        "mkfifo endless && exec 7</dev/null 8>beside && echo \"pid $$\" >&2 && \
         exec {} compile-plugin 536870912 30 <>endless",
        program().display()
    );
    let shell = Sluicegate::new(Path::new("/bin/sh"), folder.path(), folder.path());
    let running = shell.arg("-c").arg(script).start();
    let line = running.until_said("pid ");
    let process = Path::new("/proc").join(line.trim_start_matches("pid "));
    let limits = running.until_some("its limits", || {
        let text = std::fs::read_to_string(process.join("limits")).ok()?;
        let words = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let limits: Vec<String> = words.collect();
        limits
            .iter()
            .any(|line| line == "Max open files 3 3 files")
            .then_some(limits)
    });
    for expected in [
        "Max cpu time 30 31 seconds",
        "Max file size 0 0 bytes",
        "Max data size 536870912 536870912 bytes",
        "Max core file size 0 0 bytes",
        "Max address space 1073741824 1073741824 bytes",
    ] {
        assert!(
            limits.iter().any(|line| line == expected),
            "{expected}: {limits:?}"
        );
    }
    assert_eq!(running.open_files(), 3);
    running.kill();
}

#[test]
fn nobody_is_told_of_the_compilers_command_and_it_says_so() {
    let folder = folder();
    let help = sluicegate(&folder).args("--help").run().expect(0);
    assert!(!help.text().contains("compile-plugin"), "{}", help.text());
    let by_hand = sluicegate(&folder).args("compile-plugin").run().expect(64);
    by_hand.says(&["what this program calls itself with"]);
    let text = sluicegate(&folder).args("compile-plugin 536870912 30");
    let ended = text.input("source: {}\n").run().expect(65);
    assert!(!ended.stderr.is_empty() && ended.stdout.is_empty());
}
