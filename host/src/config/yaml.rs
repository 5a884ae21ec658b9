//! Reads YAML into a tree in which every value and key knows its line and column.
//!
//! Everything after this works on the tree, so every finding can be placed, also those about things
//! that are missing. Nothing is interpolated. Anchors work, within limits that keep a small file
//! from becoming a large tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::budget::BudgetBreach;

/// A place in the file; both count from 1. Line 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl From<serde_saphyr::Location> for Position {
    fn from(location: serde_saphyr::Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where it begins.
    pub at: Position,
    /// Its text.
    pub text: String,
}

/// What a YAML value can be.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Unsigned(u64),
    /// A whole number below zero.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What people call it; never its content, which may be a secret in the wrong place.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "`true` or `false`",
            Self::Unsigned(_) | Self::Signed(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// Whether the other says the same, wherever and in whatever order of keys.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::Unsigned(one), Value::Unsigned(other)) => one == other,
            (Value::Signed(one), Value::Signed(other)) => one == other,
            (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
            (Value::Text(one), Value::Text(other)) => one == other,
            (Value::List(one), Value::List(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len() && pairs.all(|(one, other)| one.is_same(other))
            }
            (Value::Map(one), Value::Map(map)) => {
                let has = |(key, node): &(Key, Self)| {
                    let found = other.get(&key.text);
                    found.is_some_and(|found| node.is_same(found))
                };
                one.len() == map.len() && one.iter().all(has)
            }
            _ => false,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(name, _)| name.text == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value at an index of a list.
    pub fn item(&self, index: usize) -> Option<&Node> {
        match &self.value {
            Value::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// A file that is not YAML: what is wrong and where.
#[derive(Debug)]
pub struct NotYaml {
    /// Where.
    pub at: Position,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

/// Reads one YAML document.
pub fn parse(text: &str) -> Result<Node, NotYaml> {
    // A pipeline is written by hand: a thousand tenants with twenty keys each stay far below these.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 400_000,
            max_nodes: 200_000,
            max_depth: 32,
            max_documents: 1,
            max_anchors: 1_000,
            max_aliases: 10_000,
        },
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let error = error.without_snippet();
        let (what, help) = words(error);
        NotYaml {
            at: error.location().map(Position::from).unwrap_or_default(),
            what,
            help,
        }
    })
}

/// The parser's words, without the place, which stands elsewhere.
fn words(error: &serde_saphyr::Error) -> (String, &'static str) {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            format!("key `{key}` stands twice in one map"),
            "keep one of them",
        ),
        Error::Eof { .. } => (
            "the file is empty".to_owned(),
            "a pipeline has `source` and `sinks`",
        ),
        Error::MultipleDocuments { .. } => {
            (TWO_DOCUMENTS.to_owned(), "make a file for each pipeline")
        }
        Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        } => (TWO_DOCUMENTS.to_owned(), "make a file for each pipeline"),
        Error::Budget { .. } => {
            let help = "make several smaller pipelines, and use fewer anchors and aliases";
            ("the file is too large or too deep".to_owned(), help)
        }
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.find(" at line ").map_or(text, |end| &text[..end]);
            (
                format!("this is not YAML: {}", text.trim()),
                "indent with blanks, and close what is opened",
            )
        }
    }
}

const TWO_DOCUMENTS: &str = "the file holds more than one YAML document";

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                at: key.referenced.into(),
                text: key.value,
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
