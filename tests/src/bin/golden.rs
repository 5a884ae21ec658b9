//! `cargo golden`: runs the tests that own generated and golden files, telling them to write what comes out now.
//!
//! Read the diff afterwards: it is the change that you are making.

use std::process::{Command, ExitCode};

/// Who owns such files: the config's error texts and reference, the mapping's fixtures and pages; the dashboards.
const OWNERS: [&[&str]; 2] = [
    &["--package", "sluicegate", "--package", "sluicegate-ecs"],
    &[
        "--package",
        "sluicegate-tests",
        "--test",
        "it",
        "dashboards::",
    ],
];

fn main() -> ExitCode {
    for owner in OWNERS {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.arg("test").args(owner).env("SLUICEGATE_GOLDEN", "1");
        match cargo.status() {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: cannot start cargo: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
