//! `sluicegate test`: the unit tests that stand in pipeline files, through the real component and stages.
//!
//! Nothing is needed beside the files: no network, no state, no secret. One line for each test on standard output, with
//! what is different where one fails.

mod compare;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::Done;
use crate::config::{Config, Test as Case, has_tests};
use crate::error::{At as _, Error};
use crate::pipeline::Runtime;
use crate::pipeline::offline::Offline;
use crate::secret::{Redactor, plain};

/// Exit code when a test failed.
const FAILED: u8 = 1;

/// Run the unit tests of pipelines: exit 0 when all pass, 1 when one fails, 78 when a file is wrong or none has a test.
#[derive(Args)]
pub(super) struct Test {
    /// Pipeline files, or folders: of their files `*.yaml` and `*.yml` those with a section `tests`.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
}

/// How many tests there were.
#[derive(Default)]
struct Sums {
    passed: usize,
    failed: usize,
}

impl Test {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let runtime = super::runtime(redactor).map_err(|error| vec![error])?;
        let mut sums = Sums::default();
        let mut errors = Vec::new();
        for path in &self.paths {
            match files(path) {
                Ok(files) => {
                    for file in files {
                        let ran = run_file(&file, &runtime, &mut sums).await;
                        errors.extend(ran.err().unwrap_or_default());
                    }
                }
                Err(found) => errors.extend(found),
            }
        }
        let Sums { passed, failed } = sums;
        if passed + failed == 0 && errors.is_empty() {
            let help = "write a section `tests` into the pipeline's file; pipelines/REFERENCE.md shows how";
            errors.push(Error::config("there is no test").help(help));
        }
        if passed + failed > 0 {
            println!("{passed} passed, {failed} failed");
        }
        match (errors.is_empty(), failed) {
            (false, _) => Err(errors),
            (true, 0) => Ok(0),
            (true, _) => Ok(FAILED),
        }
    }
}

/// The file, or the files of a folder that have tests, by name; the others are named.
fn files(path: &Path) -> Result<Vec<PathBuf>, Vec<Error>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| {
        let what = format!("cannot read the folder: {}", plain(&error));
        vec![
            Error::config(what)
                .at(path.display())
                .help("check the path"),
        ]
    })?;
    let mut named: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(std::fs::DirEntry::path)
        .filter(|file| {
            file.extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
        })
        .filter(|file| file.is_file())
        .collect();
    named.sort();
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for file in named {
        match has_tests(&file) {
            Ok(true) => files.push(file),
            Ok(false) => println!("{}: no tests", file.display()),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(errors)
    }
}

async fn run_file(file: &Path, runtime: &Runtime, sums: &mut Sums) -> Result<(), Vec<Error>> {
    let config = Config::load(file)?;
    if config.tests.is_empty() {
        println!("{}: no tests", file.display());
        return Ok(());
    }
    let pipeline = Offline::new(config, runtime).await?;
    let mut errors = Vec::new();
    for case in &pipeline.config().tests {
        match run_case(&pipeline, case).await {
            Ok(true) => sums.passed += 1,
            Ok(false) => sums.failed += 1,
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Runs one test and says how it went.
async fn run_case(pipeline: &Offline, case: &Case) -> Result<bool, Error> {
    let mut fates = Vec::new();
    for input in &case.inputs {
        let passed = pipeline.pass(input).await;
        fates.push(passed.at(&case.place)?);
    }
    let sinks = pipeline.config().sinks.iter();
    let sinks: Vec<&str> = sinks.map(|sink| sink.name.as_str()).collect();
    let differences = compare::compare(case, &fates, &sinks);
    let (file, line) = (&case.place.file, case.place.at.line);
    let outcome = if differences.is_empty() {
        "passed"
    } else {
        "failed"
    };
    println!("{file}:{line}: {} ... {outcome}", case.name);
    for difference in &differences {
        println!("  {}", difference.replace('\n', "\n  "));
    }
    Ok(differences.is_empty())
}
