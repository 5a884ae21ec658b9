//! The table of rows names tests and fixtures that exist, and leaves no row out.

use std::collections::BTreeSet;

use crate::root;

/// Every name of a function in the tree's Rust files, and of a fixture of a hostile record.
fn known() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["host/src", "guest", "tests"] {
        collect(&root().join(folder), &mut names);
    }
    for entry in std::fs::read_dir(root().join("tests/fixtures/o365/hostile")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        names.extend(name.split('.').next().map(str::to_owned));
    }
    names
}

fn collect(folder: &std::path::Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, names);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let functions = text
                .lines()
                .filter_map(|line| line.split_once("fn "))
                .map(|(_, rest)| rest);
            names.extend(
                functions
                    .filter_map(|rest| rest.split(['(', '<']).next())
                    .map(str::to_owned),
            );
        }
    }
}

/// The rows of the tables: what stands before the first blank, the last column, the whole line.
fn rows() -> Vec<(String, Vec<String>, String)> {
    let page = std::fs::read_to_string(root().join("tests/ROWS.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.map(|line| {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let named = columns
            .last()
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned);
        let first = columns[0].split_whitespace().next().unwrap_or_default();
        (first.to_owned(), named.collect(), line.to_owned())
    })
    .collect()
}

#[test]
fn every_test_that_a_row_names_is_there() {
    let known = known();
    for (row, named, line) in rows() {
        if ["row", "limit"].contains(&row.as_str()) {
            continue;
        }
        assert!(
            !named.is_empty() || line.contains("Left: "),
            "{row} names no test and does not say why"
        );
        for name in named {
            assert!(known.contains(&name), "{row}: there is no `{name}`");
        }
    }
}

#[test]
fn no_row_is_left_out() {
    let rows: BTreeSet<String> = rows().into_iter().map(|(row, ..)| row).collect();
    for row in (1..=62)
        .map(|row| format!("B{row}"))
        .chain((1..=44).map(|row| format!("H{row}")))
    {
        assert!(rows.contains(&row), "{row} is missing");
    }
}
