//! `sluicegate list`: the plugins, stages and sinks of this program, a line each.

use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Done, people::table, print};
use crate::capability::Grants;
use crate::config::catalog;
use crate::config::source::BUILT_IN;
use crate::error::Error;
use crate::pipeline::Runtime;
use crate::plugin::{self, Plugin};
use crate::secret::Redactor;

/// List the plugins, stages and sinks that there are; `pipelines/REFERENCE.md` has every key of them.
#[derive(Args)]
pub(super) struct List {
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A name and what it stands for.
type Row = (String, String);

impl List {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let runtime = super::runtime(redactor).map_err(wrong)?;
        let mut plugins = Vec::new();
        for name in BUILT_IN {
            plugins.push(plugin(name, &runtime).await.map_err(wrong)?);
        }
        let named = |components: Vec<catalog::Component>| -> Vec<Row> {
            let rows = components.into_iter();
            rows.map(|one| (one.name, one.about)).collect()
        };
        let lists = [
            ("plugins", plugins),
            ("stages", named(catalog::stages())),
            ("sinks", named(catalog::sinks())),
        ];
        print(match self.format {
            Format::Text => text(&lists),
            Format::Json => format!("{:#}\n", json(&lists)),
        })
    }
}

/// A built-in plugin, as it describes itself.
async fn plugin(name: &str, runtime: &Runtime) -> Result<Row, Error> {
    let bytes = plugin::read(name, Path::new(""))?;
    // Describing itself reaches nothing; see `inspect`.
    let all = Grants {
        http: true,
        wasi: true,
    };
    let plugin = Plugin::load(&runtime.sandbox, name, &bytes, all).await?;
    let described = plugin.describe().await?;
    let schema: Value = serde_json::from_str(&described.config_schema).unwrap_or_default();
    let about = schema["description"].as_str().unwrap_or_default();
    Ok((name.to_owned(), about.to_owned()))
}

fn text(lists: &[(&str, Vec<Row>)]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (title, list) in lists {
        rows.push(vec![(*title).to_owned()]);
        rows.extend(list.iter().map(|(name, about)| {
            let about = about.replace('`', "");
            vec![format!("  {name}"), about]
        }));
    }
    table(&rows)
}

fn json(lists: &[(&str, Vec<Row>)]) -> Value {
    let list = |rows: &[Row]| -> Value {
        let rows = rows.iter();
        rows.map(|(name, about)| json!({ "name": name, "description": about }))
            .collect()
    };
    let lists = lists.iter();
    lists
        .map(|(title, rows)| ((*title).to_owned(), list(rows)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> [(&'static str, Vec<Row>); 2] {
        let row = |name: &str| (name.to_owned(), format!("About `{name}`."));
        [
            ("stages", vec![row("filter")]),
            ("sinks", vec![row("elasticsearch"), row("file")]),
        ]
    }

    #[test]
    fn people_get_aligned_lines() {
        let wanted = "stages\n  filter         About filter.\nsinks\n  elasticsearch  About elasticsearch.\n  \
                      file           About file.\n";
        assert_eq!(text(&lists()), wanted);
    }

    #[test]
    fn programs_get_a_list_for_each_kind() {
        let found = json(&lists());
        assert_eq!(found["sinks"][1]["name"], "file");
        assert_eq!(found["stages"][0]["description"], "About `filter`.");
    }
}
