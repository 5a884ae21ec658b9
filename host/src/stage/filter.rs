//! Keeps or drops events by the value of one field.
//!
//! Only the way to the field is read: members beside it are skipped, never built. An event that is
//! not valid JSON is rejected, never dropped, since nobody can say what its field holds.

use std::fmt;

use async_trait::async_trait;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::{Stage, Staged, sift};
use crate::error::Error;
use crate::event::Batch;

/// Which events, and what happens to them.
#[derive(Clone, Debug)]
pub struct FilterStageOptions {
    /// The field, such as `event.action`; found in nested objects and as a dotted key alike.
    pub field: String,
    /// Strings, numbers and booleans; one that equals the field, or an element of it, is a match.
    pub equals: Vec<Value>,
    /// Whether matching events are kept and the others dropped, and not the other way round.
    pub keep: bool,
}

/// Keeps or drops events by fields: those of which every one has one of its values match.
#[derive(Debug)]
pub struct FilterStage {
    fields: Vec<Field>,
    keep: bool,
}

/// A field and the values that it may have to match.
#[derive(Debug)]
struct Field {
    field: String,
    equals: Vec<Value>,
}

impl FilterStage {
    /// A filter on one field; the options are checked here, once.
    pub fn new(options: FilterStageOptions) -> Result<Self, Error> {
        let FilterStageOptions {
            field,
            equals,
            keep,
        } = options;
        Ok(Self {
            fields: vec![Field::new(field, equals)?],
            keep,
        })
    }

    /// The filter that a pipeline describes.
    pub fn of(filter: &crate::config::Filter) -> Result<Self, Error> {
        let fields = filter.fields.iter().cloned();
        let fields: Result<_, Error> = fields
            .map(|(name, equals)| Field::new(name, equals))
            .collect();
        Ok(Self {
            fields: fields?,
            keep: filter.keep,
        })
    }

    /// Whether it keeps an event with this body; why that cannot be said, when it is no JSON object.
    pub fn keeps(&self, body: &[u8]) -> Result<bool, String> {
        match self.matches(body) {
            Ok(matches) => Ok(matches == self.keep),
            Err(error) => Err(format!("the event is not a JSON object: {error}")),
        }
    }

    fn matches(&self, body: &[u8]) -> Result<bool, serde_json::Error> {
        for field in &self.fields {
            if !field.matches(body)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Field {
    fn new(field: String, equals: Vec<Value>) -> Result<Self, Error> {
        if field.is_empty() || field.split('.').any(str::is_empty) {
            return Err(
                Error::config(format!("`{field}` is not the name of a field"))
                    .at("stage `filter`")
                    .help("write a dotted path, such as `event.action`"),
            );
        }
        if equals.is_empty() {
            return Err(Error::config("a filter without values matches nothing")
                .at("stage `filter`")
                .help("list at least one value under `equals`"));
        }
        if let Some(value) = equals
            .iter()
            .find(|value| value.is_object() || value.is_array())
        {
            return Err(
                Error::config(format!("`{value}` cannot be compared with a field"))
                    .at("stage `filter`")
                    .help("compare with strings, numbers, `true`, `false` or `null`"),
            );
        }
        Ok(Self { field, equals })
    }

    fn matches(&self, body: &[u8]) -> Result<bool, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let found = Object(Search {
            path: &self.field,
            equals: &self.equals,
        });
        let found = found.deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }
}

#[async_trait]
impl Stage for FilterStage {
    fn name(&self) -> &'static str {
        "filter"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        sift(batch.events, |event| self.keeps(&event.body))
    }
}

/// What is looked for from some place in the event on.
#[derive(Clone, Copy)]
struct Search<'a> {
    /// The rest of the path; empty at the field itself.
    path: &'a str,
    equals: &'a [Value],
}

impl Search<'_> {
    /// The search inside the member `key`, when the path leads through it: `a.b` leads to `c` of `a.b.c`.
    fn inside(self, key: &str) -> Option<Self> {
        let rest = self.path.strip_prefix(key)?;
        let path = if rest.is_empty() {
            rest
        } else {
            rest.strip_prefix('.')?
        };
        (!key.is_empty()).then_some(Self { path, ..self })
    }

    /// Whether this is the field and one of the values fits.
    fn holds(self, is: impl Fn(&Value) -> bool) -> bool {
        self.path.is_empty() && self.equals.iter().any(is)
    }

    fn object<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(inside) = map.next_key_seed(Key(self))? {
            if let Some(inside) = inside.filter(|_| !found) {
                found = map.next_value_seed(inside)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// The event itself, which has to be an object.
struct Object<'a>(Search<'a>);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        self.0.object(map)
    }
}

/// A member's name: the search inside it.
struct Key<'a>(Search<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<Search<'a>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<Search<'a>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.inside(key))
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(self.holds(|wanted| wanted.as_bool() == Some(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        Ok(self.holds(|wanted| equal(wanted, &value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        Ok(self.holds(|wanted| equal(wanted, &value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        let number = Number::from_f64(value);
        Ok(self.holds(|wanted| number.as_ref().is_some_and(|number| equal(wanted, number))))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        Ok(self.holds(|wanted| wanted.as_str() == Some(value)))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(self.holds(Value::is_null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let mut found = false;
        loop {
            let element = if found {
                elements.next_element::<IgnoredAny>()?.map(|_| true)
            } else {
                elements.next_element_seed(self)?
            };
            match element {
                Some(matches) => found |= matches,
                None => return Ok(found),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        self.object(map)
    }
}

/// Whether a value is this number: `1` equals `1.0`.
fn equal(wanted: &Value, number: &Number) -> bool {
    wanted.as_number().is_some_and(|wanted| {
        let floats = wanted.is_f64() || number.is_f64();
        wanted == number || floats && wanted.as_f64() == number.as_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Identity, Part, StreamKey};
    use serde_json::json;

    fn filter(field: &str, equals: Vec<Value>, keep: bool) -> FilterStage {
        FilterStage::new(FilterStageOptions {
            field: field.into(),
            equals,
            keep,
        })
        .unwrap()
    }

    fn check(field: &str, equals: Value, body: &str, expected: bool) {
        let found = filter(field, vec![json!("other"), equals], true).matches(body.as_bytes());
        assert_eq!(found.unwrap(), expected, "{field} of {body}");
    }

    #[test]
    fn finds_the_field_nested_dotted_and_half_way() {
        for body in [
            r#"{"event":{"action":{"name":"a"}}}"#,
            r#"{"event.action.name":"a"}"#,
            r#"{"event":{"action.name":"a"}}"#,
            r#"{"x":[{}],"event":{"action":{"id":1}},"event.action":{"name":"a"},"y":{"z":null}}"#,
            r#"{"event":[{"action":{"name":["b","a"]}}]}"#,
            r#"{"\u0065vent":{"action":{"name":"\u0061"}}}"#,
        ] {
            check("event.action.name", json!("a"), body, true);
            check("event.action.name", json!("b "), body, false);
        }
        for body in [
            r#"{"event":{"action":{"names":"a"}}}"#,
            r#"{"event":{"action":{"name":{"name":"a"}}}}"#,
            r#"{"event":"a"}"#,
            r#"{"name":"a","action":{"name":"a"}}"#,
            r#"{"":{"event":{"action":{"name":"a"}}}}"#,
            "{}",
        ] {
            check("event.action.name", json!("a"), body, false);
        }
    }

    #[test]
    fn compares_numbers_booleans_null_and_elements() {
        for (wanted, value, expected) in [
            (json!(1), "1", true),
            (json!(1), "1.0", true),
            (json!(1.0), "1", true),
            (json!(-7), "-7", true),
            (json!(u64::MAX), "18446744073709551615", true),
            (json!(9_007_199_254_740_993_u64), "9007199254740992", false),
            (json!("1"), "1", false),
            (json!(true), "true", true),
            (json!(true), "\"true\"", false),
            (json!(null), "null", true),
            (json!(2), "[1,[2],3]", true),
            (json!(4), "[1,[2],3]", false),
        ] {
            check("n", wanted, &format!(r#"{{"n":{value}}}"#), expected);
        }
    }

    #[tokio::test]
    async fn drops_keeps_and_rejects() {
        let event = |body: &'static str| Event {
            id: body.into(),
            fingerprint: 0,
            time_ms: 0,
            body: bytes::Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        };
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":1"#,
            "[]",
            r#"{"a":1} x"#,
        ];
        let batch = || Batch {
            stream: StreamKey::new("contoso", "Audit.General"),
            events: bodies.map(event).to_vec(),
            part: Part::default(),
        };
        for (keep, passed) in [(true, bodies[0]), (false, bodies[1])] {
            let staged = filter("a", vec![json!(1)], keep).apply(batch()).await;
            assert_eq!(staged.dropped, 1);
            assert_eq!(
                staged
                    .passed
                    .iter()
                    .map(|event| &event.id[..])
                    .collect::<Vec<_>>(),
                [passed]
            );
            assert_eq!(staged.rejected.len(), 3);
            assert!(staged.rejected[0].1.contains("not a JSON object"));
        }
    }

    #[test]
    fn refuses_options_that_mean_nothing() {
        for (field, equals) in [
            ("", vec![json!(1)]),
            ("a..b", vec![json!(1)]),
            ("a", vec![]),
            ("a", vec![json!([1])]),
        ] {
            let options = FilterStageOptions {
                field: field.into(),
                equals,
                keep: true,
            };
            assert!(!FilterStage::new(options).unwrap_err().help.is_empty());
        }
    }
}
