//! Parts of a checked config as the file says them, in one line: for pictures and lists.

use super::Config;
use super::yaml::{Node, Value};

impl Config {
    /// The condition of the sink at `index`, as it is written.
    pub fn condition(&self, index: usize) -> Option<String> {
        let Value::List(sinks) = &self.tree.value.get("sinks")?.value else {
            return None;
        };
        let Value::Map(sink) = &sinks.get(index)?.value else {
            return None;
        };
        let (_, settings) = sink.first()?;
        settings.value.get("when").map(flow)
    }
}

impl Value {
    /// What stands under a key of a map.
    fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(pairs) = self else { return None };
        let found = pairs.iter().find(|(name, _)| name.text == key);
        found.map(|(_, node)| node)
    }
}

/// A value in one line.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::List(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(pairs) => {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(key, node)| format!("{}: {}", key.text, flow(node)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}
