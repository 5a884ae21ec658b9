//! The members of a JSON object with their values as they stand, for sinks that write events in another form.
//!
//! Nothing is built but a list of slices: text and numbers reach the other side digit by digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, their values as they stand.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The value of a field such as `event.action`, in nested objects and as a dotted key alike.
    pub fn find(&self, path: &str) -> Option<&'a RawValue> {
        let of = |name: &str| self.0.iter().find(|(known, _)| known == name);
        if let Some((_, value)) = of(path) {
            return Some(value);
        }
        path.match_indices('.').find_map(|(dot, _)| {
            let (_, value) = of(&path[..dot])?;
            let inner: Members<'a> = serde_json::from_str(value.get()).ok()?;
            inner.find(&path[dot + 1..])
        })
    }

    /// The same as text, where it is text, a number, `true` or `false`.
    pub fn text(&self, path: &str) -> Option<String> {
        let raw = self.find(path)?.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).ok(),
            Some(b'{' | b'[' | b'n') => None,
            _ => Some(raw.to_owned()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
