//! Builds the Office 365 component and leaves it where the host embeds it.
//!
//! The guest is compiled to `wasm32-unknown-unknown` and encoded as a component, so that its imports are exactly
//! those of our WIT world. The rustup target is added when it is missing; where that cannot be
//! done the message says what to do by hand. Set `SLUICEGATE_O365_COMPONENT` to embed a component that was
//! built elsewhere (packagers without a WASM target).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

fn main() {
    if let Err(message) = run() {
        // Cargo shows a build script's panic message; a plain exit code would hide ours.
        panic!("\n\n{message}\n");
    }
}

fn run() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = manifest
        .parent()
        .ok_or("the host crate has no parent folder")?;
    for watched in [
        "wit",
        "guest/records",
        "guest/ecs/src",
        "guest/ecs/Cargo.toml",
        "guest/o365",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    println!(
        "cargo:rerun-if-changed={}",
        root.join("Cargo.toml").display()
    );
    println!("cargo:rerun-if-env-changed=SLUICEGATE_O365_COMPONENT");
    let component = match env::var_os("SLUICEGATE_O365_COMPONENT") {
        Some(path) => read(Path::new(&path))?,
        None => encode(&build_guest(root, &out)?)?,
    };
    let path = out.join("o365.wasm");
    fs::write(&path, component).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn build_guest(root: &Path, out: &Path) -> Result<Vec<u8>, String> {
    ensure_target()?;
    // OUT_DIR is `<target>/<profile>/build/<package>/out`. One folder for every profile of the host, because
    // the component is the same for all of them; its own folder, because cargo holds a lock on the other.
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is not inside a target folder")?;
    let guest = target.join("guest");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(root)
        .args([
            "build",
            "--package",
            "sluicegate-o365",
            "--lib",
            "--profile",
            "guest",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&guest)
        // Calls cost more in wasm than elsewhere: each asks whether the call's time is over. So more is inlined.
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            "-C target-feature=+simd128 -C llvm-args=-inline-threshold=700",
        );
    // What the outer build sets for its own target (clippy's wrapper, coverage flags) is not for the guest.
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
            "the Office 365 component (guest/o365) did not build:\n{words}"
        ));
    }
    read(
        &guest
            .join(TARGET)
            .join("guest")
            .join("sluicegate_o365.wasm"),
    )
}

fn ensure_target() -> Result<(), String> {
    if target_installed()? {
        return Ok(());
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .output();
    if target_installed()? {
        return Ok(());
    }
    let words = match added {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("cannot start rustup: {error}"),
    };
    Err(format!(
        "the Rust target {TARGET} is missing and could not be added ({words}).\n\
         Run `rustup target add {TARGET}`, or install your system's package with the standard library for it \
         (Debian: libstd-rust-dev-wasm32), or set SLUICEGATE_O365_COMPONENT to a component built elsewhere."
    ))
}

fn target_installed() -> Result<bool, String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("cannot start rustc: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()))
}

fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(wit_component::ComponentEncoder::encode)
        .map_err(|error| format!("cannot encode the component: {error:#}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
