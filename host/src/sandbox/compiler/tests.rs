//! Compilers that do what compilers should not, played by the shell.

use super::*;
use crate::sandbox::Sandbox;

/// The smallest component.
const EMPTY: [u8; 8] = *b"\0asm\x0d\0\x01\0";

async fn compile(script: &str, limits: CompileLimits) -> Result<Vec<u8>, Failure> {
    let compiler = Compiler::Program {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
    };
    let sandbox = Sandbox::without_ticks().unwrap();
    let bytes = Arc::new(EMPTY);
    compiler.compile(sandbox.engine(), bytes, limits).await
}

async fn failure(script: &str) -> Failure {
    compile(script, CompileLimits::default()).await.unwrap_err()
}

#[tokio::test]
async fn a_compiler_is_given_the_component_and_its_limits() {
    let code = compile("echo $0 $1 $2; cat", CompileLimits::default()).await;
    let expected = [b"compile-plugin 536870912 30\n", EMPTY.as_slice()].concat();
    assert_eq!(code, Ok(expected));
    let limits = CompileLimits {
        memory_bytes: 7,
        cpu: Duration::from_millis(1_001),
        ..CompileLimits::default()
    };
    let code = compile("echo $0 $1 $2", limits).await;
    assert_eq!(code, Ok(b"compile-plugin 7 2\n".to_vec()));
}

#[tokio::test]
async fn a_compiler_is_told_nothing_of_where_it_runs() {
    let seen = compile(
        "tr '\\0' ' ' </proc/$$/environ; pwd",
        CompileLimits::default(),
    )
    .await;
    let seen = String::from_utf8(seen.unwrap()).unwrap();
    let (variable, folder) = seen.trim_end().split_once(' ').unwrap();
    assert!(variable.starts_with("RAYON_NUM_THREADS="), "{seen}");
    assert_eq!(folder, "/", "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_compiler_has_five_minutes_by_default() {
    let begun = tokio::time::Instant::now();
    let stopped = failure("exec sleep 1000").await;
    assert_eq!(
        stopped,
        Failure::Limit("compiling it takes longer than 5m".into())
    );
    let took = begun.elapsed().as_secs();
    assert!((300..=301).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_compiler_that_writes_without_end_is_not_listened_to() {
    let stopped = failure("exec cat /dev/zero").await;
    let expected = "it becomes more than 256MiB of machine code";
    assert_eq!(stopped, Failure::Limit(expected.into()));
}

#[tokio::test]
async fn words_are_cut_and_escaped_and_never_hold_the_compiler_up() {
    let said = failure("head -c 1000000 /dev/zero | tr '\\0' '\\033' >&2; exit 65").await;
    let Failure::Malformed(said) = said else {
        panic!("{said:?}");
    };
    assert!((1..=REASON_BYTES).contains(&said.len()), "{}", said.len());
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[tokio::test]
async fn each_end_of_a_compiler_is_told_apart() {
    let limit = |what: &str| Failure::Limit(what.into());
    let memory = "compiling it takes more than 512MiB of memory";
    let ends = [
        (
            "echo 'unknown import' >&2; exit 65",
            Failure::Malformed("unknown import".into()),
        ),
        (
            "echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$",
            limit(memory),
        ),
        ("echo 'out of memory' >&2; exit 74", limit(memory)),
        (
            "kill -XCPU $$",
            limit("compiling it takes more than 30s of computing time"),
        ),
        (
            "exit 0",
            Failure::Broken("the compiler made nothing of it".into()),
        ),
    ];
    for (script, expected) in ends {
        assert_eq!(failure(script).await, expected, "{script}");
    }
    for (script, words) in [
        ("kill -KILL $$", "for want of memory on the machine"),
        ("kill -SEGV $$", "the compiler broke down (signal: 11"),
        ("echo 'a bug' >&2; exit 101", "exit status: 101): a bug"),
    ] {
        let Failure::Broken(what) = failure(script).await else {
            panic!("{script}");
        };
        assert!(what.contains(words), "{script}: {what}");
    }
    let Failure::Unavailable(what) = failure("echo 'not permitted' >&2; exit 71").await else {
        panic!("a compiler without limits");
    };
    assert_eq!(what, "the compiler cannot be given limits: not permitted");
}

#[tokio::test]
async fn a_compiler_that_is_not_there_is_named() {
    let compiler = Compiler::Program {
        program: "/nowhere/sluicegate".into(),
        arguments: Vec::new(),
    };
    let sandbox = Sandbox::without_ticks().unwrap();
    let limits = CompileLimits::default();
    let compiled = compiler.compile(sandbox.engine(), Arc::new(EMPTY), limits);
    let Err(Failure::Unavailable(what)) = compiled.await else {
        panic!("there is nothing that compiles");
    };
    assert!(what.contains("`/nowhere/sluicegate`"), "{what}");
}
