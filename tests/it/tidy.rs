//! The form that style asks for, as far as a machine can see it: the tree, sizes, heads of files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// What may stand at the top. Something new there is a decision, not an accident.
const TOP: [&str; 14] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".deny.toml",
    ".gitignore",
    ".rustfmt.toml",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "guest",
    "host",
    "pipelines",
];

/// And these two, which would break the line above.
const TOP_TOO: [&str; 2] = ["tests", "wit"];

/// Most lines of a file. Tables, tests and generated files may be longer: they are read in pieces.
const LINES: usize = 600;

/// Longest line of code. Nothing that rustfmt leaves alone may run away.
const COLUMNS: usize = 120;

/// Files that git knows or would take.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("a checkout has git");
    let text = String::from_utf8(listed.stdout).expect("our names are UTF-8");
    let paths: Vec<_> = text
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(paths.len() > 100, "only {} files", paths.len());
    paths
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("source files are UTF-8")
}

/// Rust files; `ours` leaves those out that only a person wrote for tests.
fn sources() -> Vec<PathBuf> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// Whether a path is of tests: read in pieces, and free to unwrap.
fn of_tests(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with("tests/") || text.contains("/tests") || text.contains("/benches/")
}

#[track_caller]
fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let mut wrong = Vec::new();
    for path in files() {
        let top = path
            .iter()
            .next()
            .expect("a path has a part")
            .to_string_lossy()
            .into_owned();
        let known = TOP.contains(&top.as_str()) || TOP_TOO.contains(&top.as_str());
        if !known && !wrong.contains(&top) {
            wrong.push(top);
        }
    }
    none(&wrong, "not known at the top level");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let heads = sources()
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"));
    let wrong: Vec<_> = heads.map(|path| path.display().to_string()).collect();
    none(&wrong, "does not begin with `//!`");
}

#[test]
fn no_file_is_too_long_and_no_line_too_wide() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = read(&path);
        let table = path.to_string_lossy().contains("/table/");
        if text.lines().count() > LINES && !table && !of_tests(&path) {
            wrong.push(format!(
                "{} has {} lines",
                path.display(),
                text.lines().count()
            ));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS && !table {
                wrong.push(format!("{}:{} is too wide", path.display(), number + 1));
            }
        }
    }
    none(&wrong, "too long");
}

#[test]
fn there_is_no_mod_rs() {
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "mod.rs"))
        .map(|path| path.display().to_string())
        .collect();
    none(&wrong, "`foo.rs` with `foo/`, no `mod.rs`");
}

#[test]
fn nothing_is_left_undone_and_no_test_is_left_out() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimplemen", "ted!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
    ];
    let mut wrong = Vec::new();
    for path in sources() {
        for (number, line) in read(&path).lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    none(&wrong, "left undone");
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let homes = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
    ];
    let text = [
        "rs", "toml", "yaml", "md", "json", "wit", "err", "ndjson", "run",
    ];
    let mut wrong = Vec::new();
    for path in files() {
        let end = path
            .extension()
            .or(path.file_name())
            .unwrap_or_default()
            .to_string_lossy();
        // Records name such paths as what they are: values that users had.
        if !text.contains(&end.as_ref()) || path.starts_with("tests/fixtures/o365") {
            continue;
        }
        let bytes = std::fs::read(root().join(&path)).expect("a listed file can be read");
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    none(&wrong, "a path of one machine");
}
