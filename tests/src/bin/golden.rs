//! `cargo golden`: runs the tests that own generated and golden files, telling them to write what comes out now.
//!
//! Read the diff afterwards: it is the change that you are making.

use std::process::{Command, ExitCode};

/// Who owns such files: the config's error texts and reference, the mapping's fixtures and pages.
const OWNERS: [&str; 2] = ["sluicegate", "sluicegate-ecs"];

fn main() -> ExitCode {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("test")
        .args(OWNERS.iter().flat_map(|owner| ["--package", owner]));
    match cargo.env("SLUICEGATE_GOLDEN", "1").status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
