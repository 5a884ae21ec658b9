//! Section `remap`, and conditions: programs in VRL, compiled while the file is checked.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StageKind;
use crate::config::check::Scope;
use crate::config::report::Path;
use crate::config::yaml::Position;
use crate::secret::plain;
use crate::stage::remap::OnError;
use crate::stage::script::{Mistake, Purpose, Script};

/// A program is written by people; a larger file is something else.
const MOST_BYTES: u64 = 1 << 20;

const HELP: &str = "https://vrl.dev explains the language and its errors; functions that reach \
    files, network or environment are left out";

/// Changes events by a program in VRL, the Vector Remap Language (<https://vrl.dev>). The event is
/// `.`, and has to stay an object; a list of objects becomes several events. `%tenant`, `%stream` and
/// `%id` can be read. Identity, time and acknowledgement stay whatever the program does. What it
/// leaves alone keeps its bytes; numbers that it changes are 64-bit integers or floats. Functions
/// that reach files, network, environment or the log are left out. A program is trusted as the rest of
/// this file is: what it computes is limited, the memory it uses while it runs is not.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "remap", extend("examples" = [{ "source": ".labels.tenant = %tenant" }]))]
pub struct RemapSection {
    /// The program. Either this or `file` is needed.
    #[schemars(extend("examples" = [".labels.tenant = %tenant"]))]
    pub source: Option<String>,
    /// The program's file, seen from the pipeline's folder; read at the start.
    #[schemars(extend("examples" = ["mapping.vrl"]))]
    pub file: Option<String>,
    /// What becomes of an event for which the program fails.
    #[serde(default)]
    pub on_error: OnErrorSection,
    /// Whether an event for which the program says `abort` is dropped, and counted; otherwise it goes
    /// on as it was.
    #[serde(default = "yes")]
    pub drop_on_abort: bool,
}

fn yes() -> bool {
    true
}

/// What becomes of an event for which the program fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "on_error", inline)]
pub enum OnErrorSection {
    /// It is kept as a dead letter with the language's own words.
    #[default]
    Reject,
    /// It goes on as it was.
    Keep,
}

/// Changes events by a program, checked.
#[derive(Clone, Debug)]
pub struct Remap {
    /// The program.
    pub script: Arc<Script>,
    /// What becomes of an event for which it fails.
    pub on_error: OnError,
    /// Whether `abort` drops the event.
    pub drop_on_abort: bool,
}

impl RemapSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<StageKind> {
        let script = match (&self.source, &self.file) {
            (Some(source), None) => compile(scope, &at.key("source"), source, Purpose::Remap),
            (None, Some(file)) => compile_file(scope, &at.key("file"), file),
            _ => {
                let help = "for example `source: .labels.tenant = %tenant`";
                let what = "`remap` has either `source` or `file`";
                scope.report.add(at, what, help);
                None
            }
        };
        Some(StageKind::Remap(Remap {
            script: script?,
            on_error: match self.on_error {
                OnErrorSection::Reject => OnError::Reject,
                OnErrorSection::Keep => OnError::Keep,
            },
            drop_on_abort: self.drop_on_abort,
        }))
    }
}

/// A condition: VRL as text, or `{ type: vrl, source: TEXT }`, as Vector writes it.
pub(in crate::config) fn check_condition(
    scope: &Scope<'_, '_>,
    at: &Path,
    condition: &Value,
) -> Option<Arc<Script>> {
    let (at, source) = match condition {
        Value::String(source) => (at.clone(), source),
        Value::Object(map) if map.get("type").is_some_and(|kind| kind == "vrl") => {
            match (map.get("source"), map.len()) {
                (Some(Value::String(source)), 2) => (at.key("source"), source),
                _ => return wrong_form(scope, at),
            }
        }
        _ => return wrong_form(scope, at),
    };
    compile(scope, &at, source, Purpose::Condition)
}

fn wrong_form(scope: &Scope<'_, '_>, at: &Path) -> Option<Arc<Script>> {
    let help = "for example `'.event.outcome == \"failure\"'`";
    let what = "a condition is text in VRL, or `{ type: vrl, source: TEXT }`";
    scope.report.add(at, what, help);
    None
}

fn compile(
    scope: &Scope<'_, '_>,
    at: &Path,
    source: &str,
    purpose: Purpose,
) -> Option<Arc<Script>> {
    let mistakes = match Script::compile(source, purpose) {
        Ok(script) => return Some(Arc::new(script)),
        Err(mistakes) => mistakes,
    };
    let start = scope.report.place(at).at;
    for mistake in mistakes {
        let place = locate(scope.text, start, source, &mistake).unwrap_or(start);
        scope.report.add_at(at, place, words(&mistake), HELP);
    }
    None
}

fn compile_file(scope: &Scope<'_, '_>, at: &Path, file: &str) -> Option<Arc<Script>> {
    let path = scope.path(at, file);
    let source = std::fs::metadata(&path).and_then(|found| {
        if found.len() > MOST_BYTES {
            return Err(std::io::Error::other("it has more than 1MiB"));
        }
        std::fs::read_to_string(&path)
    });
    let source = match source {
        Ok(source) => source,
        Err(error) => {
            let what = format!("cannot read `{}`: {}", path.display(), plain(&error));
            scope.report.add(at, what, "check the path");
            return None;
        }
    };
    let mistakes = match Script::compile(&source, Purpose::Remap) {
        Ok(script) => return Some(Arc::new(script)),
        Err(mistakes) => mistakes,
    };
    for mistake in mistakes {
        let Mistake { line, column, .. } = mistake;
        let what = format!("{}:{line}:{column}: {}", path.display(), words(&mistake));
        scope.report.add(at, what, HELP);
    }
    None
}

fn words(mistake: &Mistake) -> String {
    let lines = mistake.picture.lines().map(|line| format!("\n    {line}"));
    format!("VRL: {}{}", mistake.what, lines.collect::<String>())
}

/// Where a place of a program stands in the pipeline file, when the program's lines are found there
/// as they are: they are not where YAML folds lines or takes escapes out.
fn locate(text: &str, start: Position, source: &str, mistake: &Mistake) -> Option<Position> {
    let lines: Vec<&str> = text.lines().collect();
    let program: Vec<&str> = source.lines().take(mistake.line).collect();
    let first = usize::try_from(start.line).ok()?.checked_sub(1)?;
    // A program begins where its value does, or in the line after `|`.
    [first, first + 1].into_iter().find_map(|first| {
        let mut column = 0;
        for (number, line) in program.iter().enumerate() {
            let written = lines.get(first + number)?;
            let from = written.find(line)?;
            column = written[..from].chars().count();
        }
        Some(Position {
            line: u64::try_from(first + mistake.line).ok()?,
            column: u64::try_from(column + mistake.column).ok()?,
        })
    })
}
