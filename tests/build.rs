//! Compiles the fault guests of `tests/plugins` to components, all in one go.
//!
//! They stand in `OUT_DIR/plugins`, which the tests find under `SLUICEGATE_PLUGINS`; `faults.rs` names a
//! test function for each of them, so a guest without a test of its name does not build.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod build_fluentbit;

const TARGET: &str = "wasm32-unknown-unknown";

/// What the guests share; not a guest.
const SHARED: &str = "common";

fn main() {
    if let Err(message) = run() {
        // Cargo shows a build script's panic message; a plain exit code would hide ours.
        panic!("\n\n{message}\n");
    }
}

fn run() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let plugins = manifest.join("plugins");
    let wit = manifest.join("../wit");
    println!("cargo:rerun-if-changed={}", plugins.display());
    println!("cargo:rerun-if-changed={}", wit.display());
    let built = build(&plugins, &out)?;
    let components = out.join("plugins");
    fs::create_dir_all(&components).map_err(|error| cannot("make", &components, &error))?;
    let mut tests = String::from("[");
    for name in guests(&plugins)? {
        let module = built.join(format!("{name}.wasm"));
        let module = fs::read(&module).map_err(|error| cannot("read", &module, &error))?;
        let path = components.join(format!("{name}.wasm"));
        fs::write(&path, encode(&name, &module)?)
            .map_err(|error| cannot("write", &path, &error))?;
        let _ = write!(tests, "{name}, ");
    }
    tests.push_str("]\n");
    let path = out.join("faults.rs");
    fs::write(&path, tests).map_err(|error| cannot("write", &path, &error))?;
    println!(
        "cargo:rustc-env=SLUICEGATE_PLUGINS={}",
        components.display()
    );
    build_fluentbit::build()
}

/// The folder with every guest as a core module.
fn build(plugins: &Path, out: &Path) -> Result<PathBuf, String> {
    ensure_target()?;
    // OUT_DIR is `<target>/<profile>/build/<package>/out`. A folder of its own, because cargo holds a lock on the
    // other, and one for all profiles, because a guest is the same for all of them.
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is not inside a target folder")?;
    let target = target.join("plugins");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(plugins);
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target);
    // What the outer build sets for its own target (clippy's wrapper, coverage flags) is not for the guests.
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
            "the fault guests (tests/plugins) did not build:\n{words}"
        ));
    }
    Ok(target.join(TARGET).join("release"))
}

/// The names of the guests: one folder each.
fn guests(plugins: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(plugins).map_err(|error| cannot("read", plugins, &error))? {
        let entry = entry.map_err(|error| cannot("read", plugins, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != SHARED && entry.path().join("Cargo.toml").is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn ensure_target() -> Result<(), String> {
    if target_installed()? {
        return Ok(());
    }
    // Whether that worked is asked of the compiler itself.
    let _ = Command::new("rustup")
        .args(["target", "add", TARGET])
        .output();
    if target_installed()? {
        return Ok(());
    }
    Err(format!(
        "the Rust target {TARGET} is missing: run `rustup target add {TARGET}`"
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

fn encode(name: &str, module: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(wit_component::ComponentEncoder::encode)
        .map_err(|error| format!("cannot encode the guest `{name}`: {error:#}"))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
