//! What is written down is true: commands exist, links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{folder, root, sluicegate};

/// Every page of ours.
fn pages() -> Vec<PathBuf> {
    let listed = std::process::Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ])
        .current_dir(root())
        .output();
    let listed = listed.expect("a checkout has git");
    let text = String::from_utf8(listed.stdout).unwrap();
    let pages: Vec<_> = text
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.exists())
        .collect();
    assert!(
        pages.iter().any(|page| page.ends_with("tests/README.md")),
        "{pages:?}"
    );
    pages
}

#[test]
fn relative_links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let folder = page.parent().unwrap_or(Path::new(""));
            if !folder.join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The commands that `sluicegate --help` knows.
fn commands() -> BTreeSet<String> {
    let folder = folder();
    let ended = sluicegate(&folder).args("--help").run().expect(0);
    let list = ended
        .text()
        .split("Commands:")
        .nth(1)
        .expect("the help lists commands");
    let list = list.split("Options:").next().unwrap_or_default();
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn pages_name_only_commands_that_exist() {
    let known = commands();
    assert!(known.contains("run") && known.contains("demo"), "{known:?}");
    let mut unknown = Vec::new();
    let mut named = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines() {
            // A command stands at the start of a line of a block, or in backticks.
            for rest in line.split("sluicegate ").skip(1) {
                let word: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                    .collect();
                let before = line.split("sluicegate ").next().unwrap_or_default();
                let typed = before.is_empty() || before.ends_with('`') || before.ends_with("$ ");
                if !typed || word.is_empty() || word.starts_with('-') {
                    continue;
                }
                named += 1;
                if !known.contains(&word) {
                    unknown.push(format!("{}: {line}", page.display()));
                }
            }
        }
    }
    assert!(named > 0, "no page names a command");
    assert!(unknown.is_empty(), "{unknown:#?}");
}
