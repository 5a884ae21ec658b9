//! The component with its wrong decisions built in; see `guest/o365/src/mutant.rs`.

use std::path::Path;
use std::process::Command;

/// Every mutant of the component: its name where it stands in the code, and what it does wrong.
pub const ALL: &[(&str, &str)] = &[
    ("first_page_only", "a listing ends with its first page"),
    ("late_not_relisted", "a closed window is not listed again"),
    (
        "token_to_foreign",
        "a URL that leads elsewhere is followed, with the token (host and component)",
    ),
    ("wrong_border", "the last minute of a window is left out"),
    (
        "missing_is_lost",
        "a blob that is not there yet is declared lost",
    ),
    ("damaged_is_whole", "a blob that broke off counts as read"),
    (
        "started_each_time",
        "a subscription is started without looking when it was last",
    ),
    ("position_ahead", "more is said to be listed than was"),
    ("own_clock_only", "the service's clock is not asked"),
    (
        "broken_listing_is_whole",
        "a listing that broke off counts as whole",
    ),
];

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds it as the host's build script builds the right one.
pub fn build() -> Result<Vec<u8>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/mutants");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(target, |own| Path::new(&own).join("mutants"));
    let built = Command::new("cargo")
        .current_dir(&root)
        .args([
            "build",
            "--package",
            "sluicegate-o365",
            "--lib",
            "--profile",
            "guest",
        ])
        .args(["--features", "mutants", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            "-C target-feature=+simd128",
        )
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !built.success() {
        return Err("the component with its mutants did not build".into());
    }
    let module = target.join(TARGET).join("guest/sluicegate_o365.wasm");
    let module =
        std::fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(wit_component::ComponentEncoder::encode)
        .map_err(|error| format!("cannot encode the component: {error:#}"))
}
