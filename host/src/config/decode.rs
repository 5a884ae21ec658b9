//! Turns the tree into the structs of the config, gathering what is wrong on the way.
//!
//! A serde deserializer over [`Node`]: unknown keys are noted and passed over, a bad item of a list
//! or a bad section is noted and the next one read, so one run of `validate` finds most of what
//! there is to find. Text from the file is repeated only where it is a misspelt key or name, never
//! where a secret could stand by mistake.

mod list_or;

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

pub use list_or::ListOr;

use super::report::{Path, Report, suggest};
use super::yaml::{Node, Value};
use list_or::LIST_OR;

/// Decodes the whole tree; `None` when it is too broken to go on, which the report then says.
pub fn decode<'n, T: Deserialize<'n>>(root: &'n Node, report: &Report<'n>) -> Option<T> {
    let decoder = Decoder {
        node: root,
        report,
        path: Path::default(),
    };
    let path = decoder.path.clone();
    T::deserialize(decoder)
        .map_err(|halt| note(report, &path, halt))
        .ok()
}

/// A part whose trouble does not keep the rest from being read; `None` when it had some.
#[derive(Clone, Debug, Default)]
pub struct Part<T>(pub Option<T>);

/// Names the newtype by which [`Part`] asks the decoder for recovery.
const PART: &str = "sluicegate::Part";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for PartVisitor<T> {
            type Value = Part<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a part of the config")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut one: A) -> Result<Part<T>, A::Error> {
                one.next_element().map(Part)
            }
        }
        deserializer.deserialize_newtype_struct(PART, PartVisitor(std::marker::PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Part<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// Why decoding stopped, and where if that is further in than where it is noticed.
#[derive(Debug)]
pub struct Halt {
    path: Option<Path>,
    what: String,
    help: String,
    missing: Option<&'static str>,
    noted: bool,
}

impl Halt {
    fn new(what: String, help: String) -> Self {
        Self {
            path: None,
            what,
            help,
            missing: None,
            noted: false,
        }
    }

    fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Halt {}

impl de::Error for Halt {
    /// What a value's own parser says: the first line is what is wrong, the second what to do.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (what, help) = message.split_once('\n').unwrap_or((&message, ""));
        Self::new(what.to_owned(), help.to_owned())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "`true` or `false`",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Str(_) | Unexpected::Char(_) => "text",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a map",
            _ => "something else",
        };
        let expected = expectation(&expected.to_string());
        let help = if expected == "text" && found != "a list" && found != "a map" {
            "put the value in quotes to make it text"
        } else {
            ""
        };
        Self::new(
            format!("expected {expected}, found {found}"),
            help.to_owned(),
        )
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expectation(&expected.to_string());
        match unexpected {
            Unexpected::Unsigned(number) => Self::new(
                format!("`{number}` is out of range: expected {expected}"),
                String::new(),
            ),
            Unexpected::Signed(number) => Self::new(
                format!("`{number}` is out of range: expected {expected}"),
                String::new(),
            ),
            _ => Self::invalid_type(unexpected, &expected.as_str()),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(
            format!("`{variant}` is not known here"),
            suggest(variant, expected),
        )
    }

    fn missing_field(field: &'static str) -> Self {
        let mut halt = Self::new(
            format!("key `{field}` is missing"),
            format!("add `{field}: ...`"),
        );
        halt.missing = Some(field);
        halt
    }
}

/// serde's names for types, in the words of the manual.
fn expectation(serde: &str) -> String {
    match serde {
        "a string" => "text".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_owned(),
        other if other.starts_with("struct ") => "a map".to_owned(),
        other => other.to_owned(),
    }
}

/// Adds what stopped the decoding to the report, unless it stands there already.
fn note(report: &Report<'_>, path: &Path, halt: Halt) {
    if halt.noted {
        return;
    }
    let path = halt.path.unwrap_or_else(|| path.clone());
    if let Some(key) = halt.missing
        && report.explains(&path, key)
    {
        return;
    }
    report.add(&path, halt.what, halt.help);
}

struct Decoder<'n, 'r> {
    node: &'n Node,
    report: &'r Report<'n>,
    path: Path,
}

impl<'n, 'r> Decoder<'n, 'r> {
    fn child(&self, node: &'n Node, path: Path) -> Decoder<'n, 'r> {
        Decoder {
            node,
            report: self.report,
            path,
        }
    }

    fn wrong<V: Visitor<'n>>(&self, visitor: &V) -> Halt {
        let unexpected = match &self.node.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Unsigned(value) => Unexpected::Unsigned(*value),
            Value::Signed(value) => Unexpected::Signed(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::Text(text) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        };
        <Halt as de::Error>::invalid_type(unexpected, visitor)
    }
}

impl<'n> Deserializer<'n> for Decoder<'n, '_> {
    type Error = Halt;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Halt> {
        let path = self.path.clone();
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items {
                of: &self,
                list: items,
                next: 0,
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                of: &self,
                map: entries,
                next: 0,
                fields: None,
            }),
        }
        .map_err(|halt| halt.at(&path))
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Halt> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        match (name, &self.node.value) {
            (PART, _) => visitor.visit_seq(One { of: Some(self) }),
            (LIST_OR, Value::Map(_)) => visitor.visit_newtype_struct(self),
            (LIST_OR, _) => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        let path = self.path.clone();
        let entries: &[_] = match &self.node.value {
            Value::Map(entries) => entries,
            // `stdout:` with nothing after it means the same as `stdout: {}`.
            Value::Null => &[],
            _ => return Err(self.wrong(&visitor).at(&path)),
        };
        visitor
            .visit_map(Entries {
                of: &self,
                map: entries,
                next: 0,
                fields: Some(fields),
            })
            .map_err(|halt| halt.at(&path))
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        let path = self.path.clone();
        match &self.node.value {
            Value::Text(name) => visitor
                .visit_enum(name.as_str().into_deserializer())
                .map_err(|halt: Halt| {
                    let colon = variants.contains(&name.as_str());
                    if colon {
                        needs_colon(name).at(&path)
                    } else {
                        halt.at(&path)
                    }
                }),
            Value::Map(entries) if entries.len() == 1 => {
                let (key, value) = &entries[0];
                let inner = path.key(&key.text);
                if !variants.contains(&key.text.as_str()) {
                    let what = format!("`{}` is not known here", key.text);
                    self.report
                        .add_key(&inner, what, suggest(&key.text, variants));
                    return Err(Halt {
                        noted: true,
                        ..Halt::new(String::new(), String::new())
                    });
                }
                let value = self.child(value, inner);
                visitor.visit_enum(Variant {
                    name: &key.text,
                    value,
                })
            }
            Value::Map(entries) => {
                let what = format!("expected one key, found {}", entries.len());
                let help = format!("write exactly one of {}", super::report::list(variants));
                Err(Halt::new(what, help).at(&path))
            }
            other => {
                let what = format!("expected a name, found {}", other.kind());
                let help = format!("known here: {}", super::report::list(variants));
                Err(Halt::new(what, help).at(&path))
            }
        }
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn needs_colon(name: &str) -> Halt {
    Halt::new(
        format!("`{name}` is a section"),
        format!("write `{name}: {{}}`"),
    )
}

/// A list whose bad items are noted and passed over only where the items are [`Part`]s.
struct Items<'a, 'n, 'r> {
    of: &'a Decoder<'n, 'r>,
    list: &'n [Node],
    next: usize,
}

impl<'n> SeqAccess<'n> for Items<'_, 'n, '_> {
    type Error = Halt;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Halt> {
        let Some(item) = self.list.get(self.next) else {
            return Ok(None);
        };
        let path = self.of.path.index(self.next);
        self.next += 1;
        seed.deserialize(self.of.child(item, path)).map(Some)
    }
}

/// The one value of a [`Part`]: trouble in it is noted, and `None` comes out.
struct One<'n, 'r> {
    of: Option<Decoder<'n, 'r>>,
}

impl<'n> SeqAccess<'n> for One<'n, '_> {
    type Error = Halt;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Halt> {
        let Some(decoder) = self.of.take() else {
            return Ok(None);
        };
        let (report, path) = (decoder.report, decoder.path.clone());
        match seed.deserialize(decoder) {
            Ok(value) => Ok(Some(value)),
            Err(halt) => {
                note(report, &path, halt);
                Ok(None)
            }
        }
    }
}

/// A map; with `fields`, keys that are not among them are noted and passed over.
struct Entries<'a, 'n, 'r> {
    of: &'a Decoder<'n, 'r>,
    map: &'n [(super::yaml::Key, Node)],
    next: usize,
    fields: Option<&'static [&'static str]>,
}

impl<'n> MapAccess<'n> for Entries<'_, 'n, '_> {
    type Error = Halt;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Halt> {
        while let Some((key, _)) = self.map.get(self.next) {
            self.next += 1;
            match self.fields {
                Some(fields) if !fields.contains(&key.text.as_str()) => {
                    let what = format!("unknown key `{}`", key.text);
                    let help = suggest(&key.text, fields);
                    self.of
                        .report
                        .add_key(&self.of.path.key(&key.text), what, help);
                }
                _ => {
                    return seed
                        .deserialize(BorrowedStrDeserializer::new(&key.text))
                        .map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Halt> {
        let (key, value) = &self.map[self.next - 1];
        seed.deserialize(self.of.child(value, self.of.path.key(&key.text)))
    }
}

/// `name: value`, read as one case of an enum.
struct Variant<'n, 'r> {
    name: &'n str,
    value: Decoder<'n, 'r>,
}

impl<'n, 'r> EnumAccess<'n> for Variant<'n, 'r> {
    type Error = Halt;
    type Variant = Decoder<'n, 'r>;

    fn variant_seed<V: DeserializeSeed<'n>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Decoder<'n, 'r>), Halt> {
        let name = StrDeserializer::<Halt>::new(self.name);
        Ok((seed.deserialize(name)?, self.value))
    }
}

impl<'n> VariantAccess<'n> for Decoder<'n, '_> {
    type Error = Halt;

    fn unit_variant(self) -> Result<(), Halt> {
        let what = format!("expected a name, found {}", self.node.value.kind());
        Err(Halt::new(what, String::new()).at(&self.path))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, Halt> {
        let path = self.path.clone();
        seed.deserialize(self).map_err(|halt| halt.at(&path))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Halt> {
        Deserializer::deserialize_any(self, visitor)
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        Deserializer::deserialize_struct(self, "", fields, visitor)
    }
}
