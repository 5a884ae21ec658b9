//! Takes fields out of events.
//!
//! Every other byte of the event stays what it is. An object that loses its last member stays, as an
//! empty one: whether it means something is not for this stage to say.

use async_trait::async_trait;

use super::fields::{Edits, find};
use super::{Stage, Staged, change};
use crate::event::Batch;

/// The stage `drop`.
#[derive(Debug)]
pub struct DropStage {
    fields: Vec<String>,
}

impl DropStage {
    /// Takes out fields named with dots, such as `user.name`.
    pub fn new(fields: Vec<String>) -> Self {
        Self { fields }
    }

    /// The event without the fields; `None` when it has none of them.
    fn apply_to(&self, body: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut edits = Edits::default();
        for object in find(body, &self.fields)? {
            let gone = |index| object.hits.contains(&index);
            edits.remove(&object.members, gone);
        }
        Ok(edits.splice(body))
    }
}

#[async_trait]
impl Stage for DropStage {
    fn name(&self) -> &'static str {
        "drop"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        change(batch, |body| self.apply_to(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[&str], body: &str, expected: Option<&str>) {
        let stage = DropStage::new(fields.iter().map(ToString::to_string).collect());
        let dropped = stage.apply_to(body.as_bytes()).unwrap();
        let dropped = dropped.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(dropped.as_deref(), expected, "{body}");
    }

    #[test]
    fn takes_fields_out_and_keeps_every_other_byte() {
        let body = r#" { "a" : 1.500, "b":{"c":18446744073709551616 , "d":"\u00e9"}, "e":[] } "#;
        check(
            &["a"],
            body,
            Some(r#" { "b":{"c":18446744073709551616 , "d":"\u00e9"}, "e":[] } "#),
        );
        check(
            &["b.d", "e"],
            body,
            Some(r#" { "a" : 1.500, "b":{"c":18446744073709551616} } "#),
        );
        check(
            &["b.c"],
            body,
            Some(r#" { "a" : 1.500, "b":{"d":"\u00e9"}, "e":[] } "#),
        );
        check(&["b", "b.c"], body, Some(r#" { "a" : 1.500, "e":[] } "#));
        check(&["b.c.x", "x", "d"], body, None);
    }

    #[test]
    fn commas_fit_whichever_members_go() {
        for (fields, expected) in [
            (&["a", "b", "c"][..], "{}"),
            (&["a", "b"], r#"{"c":3}"#),
            (&["b", "c"], r#"{"a":1}"#),
            (&["a", "c"], r#"{"b":2}"#),
            (&["b"], r#"{"a":1,"c":3}"#),
        ] {
            check(fields, r#"{"a":1,"b":2,"c":3}"#, Some(expected));
        }
    }

    #[test]
    fn finds_fields_nested_dotted_escaped_listed_and_repeated() {
        check(&["a.b"], r#"{"a.b":1,"a":{"b":2}}"#, Some(r#"{"a":{}}"#));
        check(
            &["a.b.c"],
            r#"{"a":{"b.c":1,"b":{"c":2}}}"#,
            Some(r#"{"a":{"b":{}}}"#),
        );
        check(&["a\"b"], r#"{"\u0061\"b":1}"#, Some("{}"));
        check(
            &["a.b"],
            r#"{"a":[{"b":1,"c":2},[{"b":3}],4]}"#,
            Some(r#"{"a":[{"c":2},[{}],4]}"#),
        );
        check(&["a"], r#"{"a":1,"b":2,"a":3}"#, Some(r#"{"b":2}"#));
        check(&["a.b"], r#"{"":{"a":{"b":1}}}"#, None);
    }

    #[test]
    fn an_object_that_loses_its_last_member_stays() {
        check(
            &["a.b"],
            r#"{"a":{"b":1},"c":2}"#,
            Some(r#"{"a":{},"c":2}"#),
        );
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let stage = DropStage::new(vec!["a.b".into()]);
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(300), "]".repeat(300));
        for bad in [
            "",
            "[]",
            "1",
            r#"{"a":1"#,
            r#"{"b":1} x"#,
            r#"{"\ud800":1}"#,
            &deep,
        ] {
            assert!(stage.apply_to(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
