//! Looks into an event and adds members to it without taking it apart.
//!
//! One pass skips over everything but the members asked for, which stay the bytes that they are;
//! additions are spliced in between, so whatever was there before is there afterwards, byte for
//! byte.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Finds members of the object that `bytes` are, by name; of several with one name the last.
pub(super) fn members<'a, const N: usize>(
    bytes: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let found = Members(names).deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// Finds members of a value; none of them when it is no object.
pub(super) fn inner<'a, const N: usize>(
    value: &'a RawValue,
    names: [&str; N],
) -> [Option<&'a RawValue>; N] {
    members(value.get().as_bytes(), names).unwrap_or([None; N])
}

/// Appends members, written as `"name":value` with commas between, to objects inside an event.
#[derive(Debug)]
pub(super) struct Additions<'a> {
    body: &'a [u8],
    /// Where, and what; from front to back.
    places: Vec<(usize, Vec<u8>)>,
}

impl<'a> Additions<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            places: Vec::new(),
        }
    }

    /// Appends to an object that `members` found in the same body. Anything else is left alone.
    pub(super) fn append(&mut self, object: &'a RawValue, members: &[u8]) {
        let text = object.get().as_bytes();
        let [b'{', within @ .., b'}'] = text else {
            return;
        };
        // What was found is a part of the body, so the distance of the two is its place.
        let start = (text.as_ptr() as usize).wrapping_sub(self.body.as_ptr() as usize);
        let end = start.wrapping_add(text.len());
        if members.is_empty() || self.body.get(start..end) != Some(text) {
            return;
        }
        let mut added = Vec::with_capacity(members.len() + 1);
        if !within.trim_ascii().is_empty() {
            added.push(b',');
        }
        added.extend_from_slice(members);
        let place = end - 1;
        let index = self.places.partition_point(|(other, _)| *other <= place);
        self.places.insert(index, (place, added));
    }

    /// The event with the additions; `None` when there are none.
    pub(super) fn splice(self) -> Option<Vec<u8>> {
        if self.places.is_empty() {
            return None;
        }
        let more: usize = self.places.iter().map(|(_, added)| added.len()).sum();
        let mut spliced = Vec::with_capacity(self.body.len() + more);
        let mut from = 0;
        for (place, added) in self.places {
            spliced.extend_from_slice(&self.body[from..place]);
            spliced.extend_from_slice(&added);
            from = place;
        }
        spliced.extend_from_slice(&self.body[from..]);
        Some(spliced)
    }
}

/// Writes `"name":` and a text, with a comma in front of all but the first member.
pub(super) fn text(out: &mut Vec<u8>, name: &str, text: &str) {
    self::name(out, name);
    string(out, text);
}

/// Writes `"name":`, with a comma in front of all but the first member.
pub(super) fn name(out: &mut Vec<u8>, name: &str) {
    if out.last().is_some_and(|byte| *byte != b'{') {
        out.push(b',');
    }
    string(out, name);
    out.push(b':');
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is always JSON, and a vector takes all of it");
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(Name(&self.0))? {
            match index {
                Some(index) => found[index] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Which of the names a member has.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, members_added: &str, expected: Option<&str>) {
        let [a, b] = members(body.as_bytes(), ["a", "b"]).unwrap();
        let mut additions = Additions::new(body.as_bytes());
        // In the order that is wrong for most bodies: places are sorted, not calls.
        for object in [b, a].into_iter().flatten() {
            additions.append(object, members_added.as_bytes());
        }
        let spliced = additions
            .splice()
            .map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(spliced.as_deref(), expected, "{body}");
    }

    #[test]
    fn appends_to_the_objects_found_and_keeps_every_other_byte() {
        let x = r#""x":1"#;
        check(r#"{"a":{}}"#, x, Some(r#"{"a":{"x":1}}"#));
        check(
            r#"{"a": { } ,"c":"}"}"#,
            x,
            Some(r#"{"a": { "x":1} ,"c":"}"}"#),
        );
        let both = r#" {"a":{"y":[1.50,"\u00e9}"]},"b":{"z":null}}  "#;
        let done = r#" {"a":{"y":[1.50,"\u00e9}"],"x":1},"b":{"z":null,"x":1}}  "#;
        check(both, x, Some(done));
        check(r#"{"\u0061":{}}"#, x, Some(r#"{"\u0061":{"x":1}}"#));
        check(
            r#"{"a":{"y":1},"a":{"y":2}}"#,
            x,
            Some(r#"{"a":{"y":1},"a":{"y":2,"x":1}}"#),
        );
        for nothing in [
            r#"{"a":"{}"}"#,
            r#"{"a":[{}]}"#,
            r#"{"a":null,"b":3}"#,
            "{}",
        ] {
            check(nothing, x, None);
        }
        check(r#"{"a":{}}"#, "", None);
    }

    #[test]
    fn never_splices_into_other_bytes() {
        let (one, other) = (br#"{"a":{}}"#.to_vec(), br#"{"a":{}}"#.to_vec());
        let [Some(object)] = members(&one, ["a"]).unwrap() else {
            panic!("`a` is there")
        };
        let mut additions = Additions::new(&other);
        additions.append(object, br#""x":1"#);
        assert!(additions.splice().is_none());
    }

    #[test]
    fn refuses_what_is_no_object() {
        for bad in ["", "[]", "1", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":{"b"}}"#] {
            assert!(members(bad.as_bytes(), ["c"]).is_err(), "{bad}");
        }
    }
}
