//! Section `sinks`: where every event goes.

use std::collections::HashMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::Scope;
use super::decode::Part;
use super::report::{Path, Place};

/// One place where every event is delivered. An event counts as delivered when all sinks have it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "sink")]
pub enum SinkSection {
    /// Writes events to standard output, one JSON object a line.
    Stdout(StdoutSection),
    /// Appends events to a file, one JSON object a line.
    File(FileSection),
}

/// Writes events to standard output, one JSON object a line.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "stdout")]
pub struct StdoutSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
}

/// Appends events to a file, one JSON object a line. What is in the file is on the disk before it
/// counts as delivered, and after a crash the file is cut back to that.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "file")]
pub struct FileSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The file, seen from the working directory.
    #[schemars(extend("examples" = ["events.ndjson"]))]
    pub path: String,
}

/// One sink, checked.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
    },
}

impl SinkSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Sink {
        let (kind_name, name, kind) = match self {
            Self::Stdout(section) => ("stdout", &section.name, SinkKind::Stdout),
            Self::File(section) => {
                if section.path.trim().is_empty() || section.path.ends_with('/') {
                    let at = at.key("file").key("path");
                    scope.report.add(
                        &at,
                        "`path` names no file",
                        "for example `path: events.ndjson`",
                    );
                }
                (
                    "file",
                    &section.name,
                    SinkKind::File {
                        path: PathBuf::from(&section.path),
                    },
                )
            }
        };
        let at = at.key(kind_name);
        if let Some(name) = name {
            scope.name(&at.key("name"), name, 64);
        }
        Sink {
            name: name.clone().unwrap_or_else(|| kind_name.to_owned()),
            place: scope.report.place(&at),
            kind,
        }
    }
}

/// Checks all sinks: at least one, with names and files of their own.
pub(super) fn check_all(
    scope: &Scope<'_, '_>,
    at: &Path,
    sections: &[Part<SinkSection>],
) -> Vec<Sink> {
    if sections.is_empty() {
        scope
            .report
            .add(at, "there is no sink", "add one: `- stdout: {}`");
    }
    let mut names: HashMap<String, u64> = HashMap::new();
    let mut targets: Vec<(SinkKind, u64)> = Vec::new();
    let mut sinks = Vec::new();
    for (index, part) in sections.iter().enumerate() {
        let Some(section) = &part.0 else { continue };
        let sink = section.check(scope, &at.index(index));
        let at = at.index(index).key(match sink.kind {
            SinkKind::Stdout => "stdout",
            SinkKind::File { .. } => "file",
        });
        let line = sink.place.at.line;
        if let Some((_, first)) = targets.iter().find(|(kind, _)| *kind == sink.kind) {
            let what = "two sinks write to the same place";
            scope.report.add(
                &at,
                what,
                format!("the other stands in line {first}; remove one"),
            );
        } else if let Some(first) = names.get(&sink.name) {
            let what = format!("sink name `{}` is used twice", sink.name);
            let help = format!("the other stands in line {first}; set `name` on one of them");
            scope.report.add(&at, what, help);
        }
        names.entry(sink.name.clone()).or_insert(line);
        targets.push((sink.kind.clone(), line));
        sinks.push(sink);
    }
    sinks
}
