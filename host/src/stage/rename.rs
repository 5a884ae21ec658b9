//! Gives fields other names, or other places in the event.
//!
//! A new name in the same object is written over the old one, in lists' objects, too; a new place is
//! made of new objects where there are none. A field that has the new name already is replaced.
//! Values and all other bytes stay what they are.

use std::borrow::Cow;
use std::ops::Range;

use async_trait::async_trait;

use super::fields::{Edits, Member, Object, find, inside, members_at, text};
use super::{Stage, Staged, change};
use crate::event::Batch;

/// The stage `rename`.
#[derive(Debug)]
pub struct RenameStage {
    names: Vec<(String, String)>,
}

impl RenameStage {
    /// Renames fields, one after the other: old name, new name, both with dots.
    pub fn new(names: Vec<(String, String)>) -> Self {
        Self { names }
    }

    /// The event with other names; `None` when there is nothing to rename.
    fn apply_to(&self, body: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut body = Cow::Borrowed(body);
        for (from, to) in &self.names {
            let renamed = match (from.rsplit_once('.'), to.rsplit_once('.')) {
                (None, None) => in_place(&body, from, from, to)?,
                (Some((parent, old)), Some((other, new))) if parent == other => {
                    in_place(&body, from, old, new)?
                }
                _ => elsewhere(&body, from, to)?,
            };
            if let Some(renamed) = renamed {
                body = Cow::Owned(renamed);
            }
        }
        Ok(match body {
            Cow::Owned(body) => Some(body),
            Cow::Borrowed(_) => None,
        })
    }
}

#[async_trait]
impl Stage for RenameStage {
    fn name(&self) -> &'static str {
        "rename"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        change(batch, |body| self.apply_to(body))
    }
}

/// Writes a new name over the last part of the old one.
fn in_place(body: &[u8], from: &str, old: &str, new: &str) -> Result<Option<Vec<u8>>, String> {
    let mut edits = Edits::default();
    for Object { members, hits, .. } in find(body, &[from])? {
        let renamed: Vec<String> = hits
            .iter()
            .filter_map(|hit| members[*hit].name.strip_suffix(old))
            .map(|parent| format!("{parent}{new}"))
            .collect();
        // A member that goes takes a comma with it; one that is renamed only loses its name.
        edits.remove(&members, |index| {
            renamed.iter().any(|name| *name == members[index].name)
        });
        for (hit, name) in hits.iter().zip(&renamed) {
            edits.replace(members[*hit].key.clone(), quoted(name));
        }
    }
    Ok(edits.splice(body))
}

/// Moves a value to another object.
fn elsewhere(body: &[u8], from: &str, to: &str) -> Result<Option<Vec<u8>>, String> {
    let mut objects = find(body, &[from])?;
    // One place has no room for the values of a list.
    objects.retain(|object| !object.listed);
    let last = |object: &Object<'_>| Some(object.members[*object.hits.last()?].value.clone());
    let Some(value) = objects.iter().filter_map(last).max_by_key(|at| at.start) else {
        return Ok(None);
    };
    let mut edits = Edits::default();
    for Object { members, hits, .. } in &objects {
        edits.remove(members, |index| hits.contains(&index));
    }
    let rest = edits.splice(body).unwrap_or_default();
    insert(&rest, to, &body[value]).map(Some)
}

/// Puts a value where `path` leads.
fn insert(body: &[u8], path: &str, value: &[u8]) -> Result<Vec<u8>, String> {
    let body_text = text(body)?;
    let start = body.len() - body_text.trim_start().len();
    let mut object = start..body_text.trim_end().len();
    let mut left = path;
    loop {
        let members = members_at(body_text, object.clone())?;
        let next = members.iter().rev().find_map(|member| {
            let rest = inside(left, &member.name)?;
            Some((member, rest))
        });
        let mut edits = Edits::default();
        match next {
            Some((member, "")) => edits.replace(member.value.clone(), value),
            Some((member, rest)) if body[member.value.start] == b'{' => {
                (object, left) = (member.value.clone(), rest);
                continue;
            }
            Some((member, _)) => {
                let what = format!("`{path}` cannot be set: `{}` is no object", member.name);
                return Err(what);
            }
            None => append(&mut edits, &object, &members, left, value),
        }
        return Ok(edits.splice(body).unwrap_or_default());
    }
}

/// Appends a field to an object, within new objects where its name has dots.
fn append(
    edits: &mut Edits,
    object: &Range<usize>,
    members: &[Member<'_>],
    path: &str,
    value: &[u8],
) {
    let mut added = Vec::with_capacity(path.len() + value.len() + 8);
    if !members.is_empty() {
        added.push(b',');
    }
    for (index, name) in path.split('.').enumerate() {
        if index > 0 {
            added.push(b'{');
        }
        added.extend(quoted(name));
        added.push(b':');
    }
    added.extend_from_slice(value);
    added.extend(path.split('.').skip(1).map(|_| b'}'));
    edits.replace(object.end - 1..object.end - 1, added);
}

fn quoted(name: &str) -> Vec<u8> {
    serde_json::Value::from(name).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[(&str, &str)], body: &str, expected: Option<&str>) {
        let names = names
            .iter()
            .map(|(from, to)| ((*from).into(), (*to).into()));
        let renamed = RenameStage::new(names.collect()).apply_to(body.as_bytes());
        let renamed = renamed
            .unwrap()
            .map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(renamed.as_deref(), expected, "{body}");
    }

    #[test]
    fn a_new_name_in_the_same_object_changes_nothing_but_the_name() {
        check(
            &[("a", "x\"y")],
            r#" { "a" : 1.500 , "b":18446744073709551616} "#,
            Some(r#" { "x\"y" : 1.500 , "b":18446744073709551616} "#),
        );
        check(
            &[("a.b", "a.x")],
            r#"{"a":[{"\u0062":1},{"c":2}],"a.b":3}"#,
            Some(r#"{"a":[{"x":1},{"c":2}],"a.x":3}"#),
        );
        check(&[("a.b", "a.x")], r#"{"a":{"c":1},"b":2}"#, None);
        check(&[("a", "x")], r#"{"a":1,"a":2}"#, Some(r#"{"x":1,"x":2}"#));
    }

    #[test]
    fn a_value_moves_to_another_object() {
        check(
            &[("a", "x.y.z")],
            r#"{"a":"\/","b":2}"#,
            Some(r#"{"b":2,"x":{"y":{"z":"\/"}}}"#),
        );
        check(
            &[("a.b", "c")],
            r#"{"a":{"b":1.0}}"#,
            Some(r#"{"a":{},"c":1.0}"#),
        );
        check(
            &[("a", "x.y")],
            r#"{"a":1,"x":{"z":2}}"#,
            Some(r#"{"x":{"z":2,"y":1}}"#),
        );
        check(
            &[("a", "x.y.z")],
            r#" {"x.y":{ },"a":1} "#,
            Some(r#" {"x.y":{ "z":1}} "#),
        );
        check(
            &[("a", "a.old")],
            r#"{"a":{"b":1}}"#,
            Some(r#"{"a":{"old":{"b":1}}}"#),
        );
        check(
            &[("a.b", "a")],
            r#"{"a":{"b":1,"c":2}}"#,
            Some(r#"{"a":1}"#),
        );
        check(
            &[("a", "x.y")],
            r#"{"a":1,"a":2}"#,
            Some(r#"{"x":{"y":2}}"#),
        );
    }

    #[test]
    fn values_of_a_list_stay_in_their_objects() {
        check(&[("a.b", "c")], r#"{"a":[{"b":1},{"b":2}]}"#, None);
    }

    #[test]
    fn a_field_that_has_the_new_name_is_replaced() {
        check(
            &[("a", "b")],
            r#"{"b":1,"a":2,"c":3}"#,
            Some(r#"{"b":2,"c":3}"#),
        );
        check(&[("a", "b")], r#"{"a":2,"b":1}"#, Some(r#"{"b":2}"#));
        check(
            &[("a", "x.y")],
            r#"{"a":1,"x":{"y":[9],"z":0}}"#,
            Some(r#"{"x":{"y":1,"z":0}}"#),
        );
        check(&[("a", "x.y")], r#"{"a":1,"x.y":9}"#, Some(r#"{"x.y":1}"#));
    }

    #[test]
    fn names_change_one_after_the_other() {
        check(&[("a", "b"), ("b", "c")], r#"{"a":1}"#, Some(r#"{"c":1}"#));
        check(
            &[("b", "c"), ("a", "b")],
            r#"{"a":1,"b":2}"#,
            Some(r#"{"b":1,"c":2}"#),
        );
    }

    #[test]
    fn refuses_what_it_cannot_read_and_a_way_through_text() {
        let stage = RenameStage::new(vec![("a".into(), "x.y".into())]);
        for bad in [
            "",
            "[1]",
            r#"{"a":1"#,
            r#"{"a":1,"x":"text"}"#,
            r#"{"a":1,"x":[{}]}"#,
        ] {
            assert!(stage.apply_to(bad.as_bytes()).is_err(), "{bad}");
        }
        let error = stage.apply_to(br#"{"a":1,"x":null}"#).unwrap_err();
        assert_eq!(error, "`x.y` cannot be set: `x` is no object");
    }
}
