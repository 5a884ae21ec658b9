//! Findings about a file: gathered, placed and put into words.
//!
//! A finding names a path into the file; the place is looked up in the tree when all are gathered,
//! so checks need not carry positions around. What was found is said once, in the order of the
//! file. Values that might be secrets are never repeated.

use std::cell::RefCell;
use std::fmt;

use super::yaml::{Node, Position, Value};
use crate::error::Error;

/// A step from the root of the file to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// The way from the root of the file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// The path to `key` of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }

    /// The path to an item of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(formatter, "[{index}]")?,
                Step::Key(key) if number == 0 => formatter.write_str(key)?,
                Step::Key(key) => write!(formatter, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// One finding.
#[derive(Debug)]
struct Finding {
    path: Path,
    /// Whether the key itself is at fault rather than its value.
    at_key: bool,
    /// The place within the value, where it is known.
    within: Option<Position>,
    what: String,
    help: String,
}

/// Everything found about one file.
#[derive(Debug)]
pub struct Report<'n> {
    file: String,
    root: &'n Node,
    /// The tenant that all of the file is about.
    tenant: Option<String>,
    findings: RefCell<Vec<Finding>>,
}

impl<'n> Report<'n> {
    /// An empty report about a file whose tree is `root`.
    pub fn new(file: &str, root: &'n Node) -> Self {
        Self {
            file: file.to_owned(),
            root,
            tenant: None,
            findings: RefCell::default(),
        }
    }

    /// The same about a file that is all about one tenant.
    #[must_use]
    pub fn of_tenant(self, id: &str) -> Self {
        Self {
            tenant: Some(id.to_owned()),
            ..self
        }
    }

    /// Notes that the value at `path` is wrong, or missing.
    pub fn add(&self, path: &Path, what: impl Into<String>, help: impl Into<String>) {
        self.push(path, false, None, what.into(), help.into());
    }

    /// Notes that something within the value at `path` is wrong.
    pub fn add_at(
        &self,
        path: &Path,
        within: Position,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(path, false, Some(within), what.into(), help.into());
    }

    /// Notes that the last key of `path` is wrong.
    pub fn add_key(&self, path: &Path, what: impl Into<String>, help: impl Into<String>) {
        self.push(path, true, None, what.into(), help.into());
    }

    fn push(
        &self,
        path: &Path,
        at_key: bool,
        within: Option<Position>,
        what: String,
        help: String,
    ) {
        self.findings.borrow_mut().push(Finding {
            path: path.clone(),
            at_key,
            within,
            what,
            help,
        });
    }

    /// Whether a key directly under `path` was found to be misspelt for `key`.
    pub fn explains(&self, path: &Path, key: &str) -> bool {
        let wanted = did_you_mean(key);
        self.findings.borrow().iter().any(|finding| {
            finding.at_key
                && finding.help.starts_with(&wanted)
                && finding
                    .path
                    .0
                    .split_last()
                    .is_some_and(|(_, parent)| parent == path.0)
        })
    }

    /// Where the value at `path` stands, in words.
    pub fn place(&self, path: &Path) -> Place {
        self.describe(path, false)
    }

    /// Where a JSON Pointer leads from `base`, if it leads anywhere.
    pub fn pointed(&self, base: &Path, pointer: &str) -> Option<Place> {
        let mut path = base.clone();
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let list = matches!(self.node(&path)?.value, Value::List(_));
            path = if list {
                path.index(step.parse().ok()?)
            } else {
                path.key(&step)
            };
        }
        self.node(&path)?;
        Some(self.place(&path))
    }

    fn node(&self, path: &Path) -> Option<&'n Node> {
        path.0.iter().try_fold(self.root, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(index) => node.item(*index),
        })
    }

    /// The findings as errors, in the order of the file.
    pub fn finish(self) -> Vec<Error> {
        let mut placed: Vec<(Place, Finding)> = self
            .findings
            .take()
            .into_iter()
            .map(|finding| {
                let mut place = self.describe(&finding.path, finding.at_key);
                place.at = finding.within.unwrap_or(place.at);
                (place, finding)
            })
            .collect();
        placed.sort_by_key(|(place, _)| (place.at.line, place.at.column));
        placed
            .into_iter()
            .map(|(place, finding)| place.error(finding.what).help(finding.help))
            .collect()
    }

    fn describe(&self, path: &Path, at_key: bool) -> Place {
        let (at, listed) = self.locate(path, at_key);
        let own = if listed.is_some() {
            &path.0[3..]
        } else {
            &path.0[..]
        };
        let key = Path(own.to_vec()).to_string();
        Place {
            file: self.file.as_str().into(),
            at,
            tenant: listed.or_else(|| self.tenant.clone()),
            key,
        }
    }

    /// The position of the last thing on the path that is there, and the tenant it belongs to.
    fn locate(&self, path: &Path, at_key: bool) -> (Position, Option<String>) {
        let mut node = self.root;
        let mut at = node.at;
        let mut tenant = None;
        for (number, step) in path.0.iter().enumerate() {
            let last = number + 1 == path.0.len();
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(entries)) => {
                    entries
                        .iter()
                        .find(|(name, _)| name.text == *key)
                        .map(|(name, value)| {
                            // An empty value has no place of its own worth pointing at.
                            let at_key = last && at_key || matches!(value.value, Value::Null);
                            (if at_key { name.at } else { value.at }, value)
                        })
                }
                (Step::Index(index), _) => node.item(*index).map(|item| (item.at, item)),
                _ => None,
            };
            let Some((place, value)) = next else { break };
            (at, node) = (place, value);
            if number == 2 && is_tenant(&path.0) {
                tenant = node.get("id").and_then(|id| match &id.value {
                    Value::Text(text) if !text.is_empty() => Some(text.clone()),
                    _ => None,
                });
            }
        }
        (at, tenant)
    }
}

fn is_tenant(steps: &[Step]) -> bool {
    matches!(steps, [Step::Key(source), Step::Key(tenants), Step::Index(_), ..]
        if source == "source" && tenants == "tenants")
}

/// A place in a pipeline file, kept so that a later error can name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named on the command line.
    pub file: std::sync::Arc<str>,
    /// The line and column.
    pub at: Position,
    /// The tenant it belongs to.
    pub tenant: Option<String>,
    /// The key, within the tenant if there is one, such as `auth.microsoft.cloud`.
    pub key: String,
}

impl Place {
    /// A config error here.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::config(what).at(self)
    }

    /// The same place, with the key continued.
    #[must_use]
    pub fn under(&self, key: &str) -> Self {
        let key = if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        };
        Self {
            key,
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if self.at.line > 0 {
            write!(formatter, ":{}:{}", self.at.line, self.at.column)?;
        }
        if let Some(tenant) = &self.tenant {
            write!(formatter, ", tenant `{tenant}`")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ", key `{}`", self.key)?;
        }
        Ok(())
    }
}

/// `did you mean` for what is close enough, otherwise the list of what there is.
pub fn suggest(text: &str, known: &[&str]) -> String {
    let closest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(text, name), *name))
        .min_by_key(|(distance, _)| *distance);
    match closest {
        // A third of the letters may be wrong; more than that is another word.
        Some((distance, name)) if distance <= (name.len() / 3).max(1) => did_you_mean(name),
        _ if known.is_empty() => "remove it: nothing can be set here".to_owned(),
        _ => format!("known here: {}", list(known)),
    }
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// Names in backticks, with commas.
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
