//! Builds the module for Fluent Bit (`guest/fluentbit`), for the build script.
//!
//! The tests find it under `SLUICEGATE_FLUENTBIT`. It is the command that people type, so a flag that Fluent Bit's
//! runtime cannot load would show here.

use std::env;
use std::path::Path;
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the module; the target for wasm must be installed.
pub fn build() -> Result<(), String> {
    let variable = |name| env::var(name).map_err(|_| format!("cargo did not set {name}"));
    let (manifest, out) = (variable("CARGO_MANIFEST_DIR")?, variable("OUT_DIR")?);
    let root = Path::new(&manifest)
        .parent()
        .ok_or("the tests stand in the repository")?;
    for source in [
        "guest/fluentbit/src",
        "guest/fluentbit/Cargo.toml",
        "guest/ecs/src",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    // OUT_DIR is `<target>/<profile>/build/<package>/out`. A folder of its own, because cargo holds a lock on the
    // other, and one for all profiles, because the module is the same for all of them.
    let target = Path::new(&out)
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is not in a target folder")?;
    let target = target.join("fluentbit");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root);
    cargo.args([
        "build",
        "--profile",
        "guest",
        "--locked",
        "--package",
        "sluicegate-fluentbit",
    ]);
    cargo
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target);
    // What the outer build sets for its own target (clippy's wrapper, coverage flags) is not for the module.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    let output = cargo
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the module for Fluent Bit (guest/fluentbit) did not build:\n{words}"
        ));
    }
    let module = target
        .join(TARGET)
        .join("guest")
        .join("sluicegate_fluentbit.wasm");
    println!("cargo:rustc-env=SLUICEGATE_FLUENTBIT={}", module.display());
    Ok(())
}
