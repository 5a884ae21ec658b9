//! `sluicegate graph`: a pipeline as a picture, in the languages of Mermaid and Graphviz.
//!
//! It only reads the file: neither secrets nor plugins are needed.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Done, print};
use crate::config::{Config, PluginRef};

/// More tenants than this are drawn as one.
const MOST_TENANTS: usize = 12;

/// Draw a pipeline: its tenants, source, stages and sinks, with the conditions of sinks.
#[derive(Args)]
pub(super) struct Graph {
    /// The pipeline's file.
    file: PathBuf,
    /// The language.
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For Markdown pages.
    Mermaid,
    /// For Graphviz: `sluicegate graph FILE --format dot | dot -Tsvg`.
    Dot,
}

impl Graph {
    pub fn run(self) -> Done {
        let config = Config::load(&self.file)?;
        let picture = Picture::of(&config);
        print(match self.format {
            Format::Mermaid => picture.mermaid(),
            Format::Dot => picture.dot(),
        })
    }
}

/// What part of a pipeline a box stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Tenant,
    Source,
    Stage,
    Sink,
}

struct Node {
    id: String,
    part: Part,
    label: String,
}

struct Edge {
    from: String,
    to: String,
    /// The condition of what goes this way.
    label: Option<String>,
}

struct Picture {
    name: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl Picture {
    fn of(config: &Config) -> Self {
        let mut picture = Self {
            name: config.name.clone(),
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        let plugin = match &config.source.plugin {
            PluginRef::BuiltIn(name) => (*name).to_owned(),
            PluginRef::File(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        };
        for (index, label) in tenants(config).into_iter().enumerate() {
            picture.node(format!("tenant_{index}"), Part::Tenant, label);
        }
        let mut last = picture.node("source".into(), Part::Source, plugin);
        for tenant in 0..picture.nodes.len() - 1 {
            picture.edge(format!("tenant_{tenant}"), &last, None);
        }
        for (index, stage) in config.stages.iter().enumerate() {
            // A stage is called as the last part of its key, such as `stages[0].filter`.
            let kind = stage.place.key.rsplit('.').next().unwrap_or_default();
            let id = picture.node(format!("stage_{index}"), Part::Stage, kind.to_owned());
            picture.edge(last, &id, None);
            last = id;
        }
        for (index, sink) in config.sinks.iter().enumerate() {
            let kind = sink.kind.key();
            let label = if sink.name == kind {
                kind.to_owned()
            } else {
                format!("{} ({kind})", sink.name)
            };
            let id = picture.node(format!("sink_{index}"), Part::Sink, label);
            picture.edge(last.clone(), &id, config.condition(index));
        }
        picture
    }

    fn node(&mut self, id: String, part: Part, label: String) -> String {
        let node = Node {
            id: id.clone(),
            part,
            label,
        };
        self.nodes.push(node);
        id
    }

    fn edge(&mut self, from: String, to: &str, label: Option<String>) {
        let to = to.to_owned();
        self.edges.push(Edge { from, to, label });
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for Node { id, part, label } in &self.nodes {
            let label = for_mermaid(label);
            let (open, close) = match part {
                Part::Tenant => ("([", "])"),
                Part::Source | Part::Stage => ("[", "]"),
                Part::Sink => ("[(", ")]"),
            };
            let _ = writeln!(text, "    {id}{open}\"{label}\"{close}");
        }
        for Edge { from, to, label } in &self.edges {
            let _ = match label {
                None => writeln!(text, "    {from} --> {to}"),
                Some(label) => writeln!(text, "    {from} -->|\"{}\"| {to}", for_mermaid(label)),
            };
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = format!("digraph \"{}\" {{\n    rankdir=LR;\n", for_dot(&self.name));
        for Node { id, part, label } in &self.nodes {
            let shape = match part {
                Part::Tenant => "ellipse",
                Part::Source => "component",
                Part::Stage => "box",
                Part::Sink => "cylinder",
            };
            let label = for_dot(label);
            let _ = writeln!(text, "    {id} [shape={shape}, label=\"{label}\"];");
        }
        for Edge { from, to, label } in &self.edges {
            let label = label.as_ref().map_or_else(String::new, |label| {
                format!(" [label=\"{}\"]", for_dot(label))
            });
            let _ = writeln!(text, "    {from} -> {to}{label};");
        }
        text + "}\n"
    }
}

/// A label for each tenant, or one for all of them.
fn tenants(config: &Config) -> Vec<String> {
    let tenants = &config.source.tenants;
    let mut labels = Vec::new();
    if let Some(directory) = &config.source.directory {
        labels.push(format!("tenants of {}", directory.path.display()));
    } else if tenants.len() > MOST_TENANTS {
        labels.push(format!("{} tenants", tenants.len()));
    } else {
        labels.extend(tenants.iter().map(|tenant| tenant.id.to_string()));
    }
    labels
}

/// Mermaid has entities instead of escapes; what is left is text in quotes.
fn for_mermaid(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '"' | '#' | '&' | '<' | '>' | '`' | '|' | '\\' => {
                let _ = write!(escaped, "#{};", u32::from(letter));
            }
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn for_dot(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(if letter.is_control() { ' ' } else { letter });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
source:
  plugin: o365
  tenants: [{ id: contoso }, { id: fabrikam }]
stages:
  - user_agent: {}
  - filter: { drop: { event.action: a } }
sinks:
  - file: { path: events.ndjson }
  - http: { name: alarms, uri: 'http://a/', when: { event.kind: 'say \"alert\"' } }
";

    fn picture() -> Picture {
        let path = std::path::Path::new("contoso.yaml");
        Picture::of(&Config::parse(path, FILE, None).unwrap())
    }

    #[test]
    fn mermaid_draws_the_line_and_its_fan() {
        let wanted = "\
flowchart LR
    tenant_0([\"contoso\"])
    tenant_1([\"fabrikam\"])
    source[\"o365\"]
    stage_0[\"user_agent\"]
    stage_1[\"filter\"]
    sink_0[(\"file\")]
    sink_1[(\"alarms (http)\")]
    tenant_0 --> source
    tenant_1 --> source
    source --> stage_0
    stage_0 --> stage_1
    stage_1 --> sink_0
    stage_1 -->|\"event.kind: say #34;alert#34;\"| sink_1
";
        assert_eq!(picture().mermaid(), wanted);
    }

    #[test]
    fn dot_draws_the_same() {
        let dot = picture().dot();
        assert!(
            dot.starts_with("digraph \"contoso\" {\n    rankdir=LR;\n"),
            "{dot}"
        );
        for line in [
            "    source [shape=component, label=\"o365\"];",
            "    sink_0 [shape=cylinder, label=\"file\"];",
            "    tenant_1 -> source;",
            "    stage_1 -> sink_1 [label=\"event.kind: say \\\"alert\\\"\"];",
        ] {
            assert!(dot.lines().any(|found| found == line), "{line}\n{dot}");
        }
        assert!(dot.ends_with("}\n"));
    }

    #[test]
    fn many_tenants_are_one() {
        let list: Vec<_> = (0..40).map(|id| format!("{{ id: t{id} }}")).collect();
        let text = FILE.replace("{ id: contoso }, { id: fabrikam }", &list.join(", "));
        let path = std::path::Path::new("contoso.yaml");
        let picture = Picture::of(&Config::parse(path, &text, None).unwrap());
        let labels = picture
            .nodes
            .iter()
            .filter(|node| node.part == Part::Tenant);
        assert_eq!(
            labels.map(|node| &*node.label).collect::<Vec<_>>(),
            ["40 tenants"]
        );
    }
}
