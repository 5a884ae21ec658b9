//! Finds fields of an event by dotted names, and changes them without taking the event apart.
//!
//! A field is found in nested objects, as a dotted key and in the objects of lists alike, as the
//! stage `filter` finds it. Only the way to it is read; edits are spliced in, so that every other
//! byte of the event stays what it is, also a number that no machine could hold.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Lists and objects within each other on the way to a field; the parser's own limit for whole
/// values.
const DEPTH: usize = 128;

/// Whether text is the name of a field, such as `event.action`.
pub(crate) fn is_field(name: &str) -> bool {
    !name.is_empty() && name.split('.').all(|part| !part.is_empty())
}

/// A member of an object in an event; the places are in the event.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// Its name, without escapes.
    pub(super) name: Cow<'a, str>,
    /// Where its name stands, quotes included.
    pub(super) key: Range<usize>,
    /// Where its value stands.
    pub(super) value: Range<usize>,
}

/// An object of an event that holds at least one of the fields.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// The indices of the members that are one of the fields.
    pub(super) hits: Vec<usize>,
    /// Whether a list leads to it.
    pub(super) listed: bool,
}

/// Finds fields by their names in the object that `body` is.
pub(super) fn find<'a, N: AsRef<str>>(
    body: &'a [u8],
    names: &[N],
) -> Result<Vec<Object<'a>>, String> {
    let text = text(body)?;
    let paths: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    let mut search = Search {
        text,
        found: Vec::new(),
    };
    search.object(text, &paths, false, 0)?;
    Ok(search.found)
}

/// The members of an object that stands in `text`.
pub(super) fn members_at(text: &str, at: Range<usize>) -> Result<Vec<Member<'_>>, String> {
    read_members(text, &text[at])
}

/// The text that an event is.
pub(super) fn text(body: &[u8]) -> Result<&str, String> {
    str::from_utf8(body).map_err(|error| not_an_object(&error))
}

fn not_an_object(error: &dyn fmt::Display) -> String {
    format!("the event is not a JSON object: {error}")
}

/// Takes the escapes out of a text that stands in quotes.
pub(super) fn unescape(quoted: &str) -> Result<Cow<'_, str>, String> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') {
        let text = serde_json::from_str(quoted);
        text.map(Cow::Owned)
            .map_err(|error| format!("a text of the event is not Unicode: {error}"))
    } else {
        Ok(Cow::Borrowed(inner))
    }
}

struct Search<'a> {
    text: &'a str,
    found: Vec<Object<'a>>,
}

impl<'a> Search<'a> {
    fn object(
        &mut self,
        object: &'a str,
        paths: &[&str],
        listed: bool,
        depth: usize,
    ) -> Result<(), String> {
        let members = read_members(self.text, object)?;
        let mut hits = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let inner: Vec<_> = paths
                .iter()
                .filter_map(|path| inside(path, &member.name))
                .collect();
            if inner.contains(&"") {
                hits.push(index);
            } else if !inner.is_empty() {
                self.value(&self.text[member.value.clone()], &inner, listed, depth + 1)?;
            }
        }
        if !hits.is_empty() {
            self.found.push(Object {
                members,
                hits,
                listed,
            });
        }
        Ok(())
    }

    fn value(
        &mut self,
        value: &'a str,
        paths: &[&str],
        listed: bool,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("the event is nested deeper than {DEPTH} times"));
        }
        match value.as_bytes().first() {
            Some(b'{') => self.object(value, paths, listed, depth),
            Some(b'[') => {
                let elements = serde_json::from_str(value);
                let Elements(elements) = elements.map_err(|error| not_an_object(&error))?;
                for element in elements {
                    self.value(element.get(), paths, true, depth + 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What is left of a path inside the member `name`: `c` of `a.b.c` inside `a.b`, nothing when the
/// member is the field itself.
pub(super) fn inside<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name).filter(|_| !name.is_empty())?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('.')
    }
}

/// Where a part of `text` stands in it.
fn place(text: &str, part: &str) -> Range<usize> {
    // The parser hands out parts of what it reads, so the distance of the two is the place.
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

fn read_members<'a>(text: &'a str, object: &'a str) -> Result<Vec<Member<'a>>, String> {
    let Raw(raw) = serde_json::from_str(object).map_err(|error| not_an_object(&error))?;
    raw.into_iter()
        .map(|(key, value)| {
            Ok(Member {
                name: unescape(key.get())?,
                key: place(text, key.get()),
                value: place(text, value.get()),
            })
        })
        .collect()
}

/// The members of an object, as written.
struct Raw<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Raw(members))
            }
        }
        deserializer.deserialize_map(RawVisitor)
    }
}

/// The elements of a list, as written.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor;

        impl<'de> Visitor<'de> for ElementsVisitor {
            type Value = Elements<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

/// Changes to make in an event, which never overlap.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    /// Puts other bytes in the place of some.
    pub(super) fn replace(&mut self, at: Range<usize>, with: impl Into<Vec<u8>>) {
        self.0.push((at, with.into()));
    }

    /// Takes members out of an object, with the commas that they no longer need.
    pub(super) fn remove(&mut self, members: &[Member<'_>], gone: impl Fn(usize) -> bool) {
        let mut kept: Option<&Member<'_>> = None;
        for (index, member) in members.iter().enumerate() {
            if !gone(index) {
                kept = Some(member);
                continue;
            }
            let at = match (kept, members.get(index + 1)) {
                // The comma in front goes with it; of the next ones it is the one before them.
                (Some(_), _) => members[index - 1].value.end..member.value.end,
                (None, Some(next)) => member.key.start..next.key.start,
                (None, None) => member.key.start..member.value.end,
            };
            self.0.push((at, Vec::new()));
        }
    }

    /// The event with the changes; `None` when there are none.
    pub(super) fn splice(mut self, body: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by_key(|(at, _)| at.start);
        let more: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let mut spliced = Vec::with_capacity(body.len() + more);
        let mut from = 0;
        for (at, with) in &self.0 {
            spliced.extend_from_slice(&body[from..at.start]);
            spliced.extend_from_slice(with);
            from = at.end;
        }
        spliced.extend_from_slice(&body[from..]);
        Some(spliced)
    }
}
