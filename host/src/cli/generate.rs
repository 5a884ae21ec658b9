//! `sluicegate generate`: a starter pipeline made of named parts, as Vector's `generate` makes one.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Map, Value};

use super::{Done, print};
use crate::config::catalog::{self, Component};
use crate::config::report::suggest;
use crate::config::source::BUILT_IN;
use crate::error::{Error, Kind};

/// What a pipeline begins with, for each built-in plugin.
const SOURCES: &[(&str, &str)] = &[(
    "o365",
    "\
source:
  plugin: o365
  config:
    content_types: [Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General]
  tenants:
    - id: contoso
      auth:
        microsoft:                  # the README says how to register the application
          cloud: commercial         # gcc | gcc-high | dod | china | custom
          directory_id: 11111111-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret: { env: CONTOSO_SECRET }
",
)];

/// Print a starter pipeline: `sluicegate generate o365/user_agent,filter/elasticsearch > contoso.yaml`.
///
/// Every address, path and name in it is an example to be replaced.
#[derive(Args)]
pub(super) struct Generate {
    /// `SOURCE/STAGES/SINKS`: names as `sluicegate list` shows them, with commas between several. There may be no
    /// stage: `o365//stdout`.
    #[arg(value_name = "PARTS")]
    parts: String,
}

impl Generate {
    pub fn run(self) -> Done {
        let text = pipeline(&self.parts).map_err(|error| vec![error])?;
        print(text)
    }
}

/// The text of a pipeline of these parts.
fn pipeline(parts: &str) -> Result<String, Error> {
    let [source, stages, sinks] = parts.split('/').collect::<Vec<_>>()[..] else {
        let what = format!("`{parts}` is not `SOURCE/STAGES/SINKS`");
        let help = "for example `o365/user_agent,filter/elasticsearch`, or `o365//stdout`";
        return Err(Error::new(Kind::Usage, what).help(help));
    };
    let source = source.trim();
    let starter = SOURCES.iter().find(|(name, _)| *name == source);
    let starter = starter.map(|(_, text)| *text);
    let starter = starter.ok_or_else(|| unknown("source", source, BUILT_IN))?;
    let stages = pick("stage", stages, catalog::stages())?;
    let sinks = pick("sink", sinks, catalog::sinks())?;
    if sinks.is_empty() {
        let what = "a pipeline needs a sink";
        return Err(Error::new(Kind::Usage, what).help("for example `o365//stdout`"));
    }
    for (index, sink) in sinks.iter().enumerate() {
        if sinks[..index].contains(sink) {
            let what = format!("sink `{}` is named twice", sink.name);
            let help = "two of one kind need names and addresses that only you know";
            return Err(Error::new(Kind::Usage, what).help(help));
        }
    }
    let mut text = format!(
        "# A start, made by `sluicegate generate {parts}`: replace the examples, then\n\
         # `sluicegate validate FILE` says what is missing. pipelines/REFERENCE.md has every key.\n\
         {starter}"
    );
    for (section, components) in [("stages", stages), ("sinks", sinks)] {
        if !components.is_empty() {
            let _ = writeln!(text, "{section}:");
        }
        components.iter().for_each(|one| write(&mut text, one));
    }
    Ok(text)
}

/// The components that a list names.
fn pick(kind: &str, list: &str, known: Vec<Component>) -> Result<Vec<Component>, Error> {
    let names = list.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let found = known.iter().find(|one| one.name == name);
            found.cloned().ok_or_else(|| {
                let known: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
                unknown(kind, name, &known)
            })
        })
        .collect()
}

fn unknown(kind: &str, name: &str, known: &[&str]) -> Error {
    let what = format!("there is no {kind} `{name}`");
    Error::new(Kind::Usage, what).help(suggest(name, known))
}

/// An item of the list of stages or sinks, with its sentence above and the keys it could have below.
fn write(text: &mut String, component: &Component) {
    let Component {
        name,
        about,
        starter,
        more,
    } = component;
    let _ = writeln!(text, "  # {about}");
    if starter.is_empty() {
        let _ = writeln!(text, "  - {name}: {{}}");
    } else {
        let _ = writeln!(text, "  - {name}:");
        write_map(text, starter, 6);
    }
    if !more.is_empty() {
        let _ = writeln!(text, "      # also: {}", more.join(", "));
    }
}

fn write_map(text: &mut String, map: &Map<String, Value>, indent: usize) {
    for (key, value) in map {
        let key = scalar(key);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let _ = writeln!(text, "{:indent$}{key}:", "");
                write_map(text, inner, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                let _ = writeln!(text, "{:indent$}{key}:", "");
                for item in items {
                    let _ = writeln!(text, "{:indent$}  - {}", "", inline(item));
                }
            }
            value => {
                let _ = writeln!(text, "{:indent$}{key}: {}", "", inline(value));
            }
        }
    }
}

/// A value in one line. JSON is YAML; only text is written plainer where it can be.
fn inline(value: &Value) -> String {
    match value {
        Value::String(plain) => scalar(plain),
        other => other.to_string(),
    }
}

/// Text without quotes where nobody could take it for something else.
fn scalar(text: &str) -> String {
    let begins = text
        .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/' || letter == '.');
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@".contains(letter);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.contains(&text.to_ascii_lowercase().as_str());
    if begins && text.chars().all(fine) && !text.ends_with(':') && !word && !text.starts_with("..")
    {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests;
