//! The answer to a bulk request, read without a tree: one word when all went well, else an item for each event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// So much of a reason is kept: servers repeat documents in it.
const REASON_CHARS: usize = 1_000;

/// What came of a bulk request.
#[derive(Debug)]
pub(super) enum Bulk<'a> {
    /// Every document was created.
    AllTaken,
    /// What came of each, in order.
    Items(Vec<Item<'a>>),
}

/// What came of one document.
#[derive(Debug, Deserialize)]
pub(super) struct Item<'a> {
    pub status: u16,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
}

#[derive(Debug, Deserialize)]
struct Fault<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    caused_by: Option<Cause<'a>>,
}

#[derive(Debug, Deserialize)]
struct Cause<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Outline<'a> {
    errors: bool,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// Reads an answer.
pub(super) fn read(body: &[u8]) -> Result<Bulk<'_>, serde_json::Error> {
    let outline: Outline<'_> = serde_json::from_slice(body)?;
    if !outline.errors {
        return Ok(Bulk::AllTaken);
    }
    let items = outline.items.map_or("[]", RawValue::get);
    let items: Vec<Action<'_>> = serde_json::from_str(items)?;
    Ok(Bulk::Items(
        items.into_iter().map(|action| action.0).collect(),
    ))
}

/// The kind and the reason of an error that a whole request got, if that is what the body is.
pub(super) fn fault(body: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Fault<'a>,
    }
    let Refusal { error } = serde_json::from_slice(body).ok()?;
    Some((error.kind.to_string(), error.to_string()))
}

impl Item<'_> {
    /// The kind of its error.
    pub fn kind(&self) -> &str {
        self.error.as_ref().map_or("", |error| &error.kind)
    }

    /// What the server says about it.
    pub fn reason(&self) -> String {
        let text = match &self.error {
            Some(error) => error.to_string(),
            None => format!("status {}", self.status),
        };
        text.chars().take(REASON_CHARS).collect()
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.kind)?;
        let cause = self
            .caused_by
            .as_ref()
            .and_then(|cause| cause.reason.as_ref());
        for reason in [self.reason.as_ref(), cause].into_iter().flatten() {
            write!(formatter, ": {reason}")?;
        }
        Ok(())
    }
}

/// `{"create": ITEM}`, whatever the action is called.
struct Action<'a>(Item<'a>);

impl<'de> Deserialize<'de> for Action<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ActionVisitor;

        impl<'de> Visitor<'de> for ActionVisitor {
            type Value = Action<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an action with its outcome")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Action<'de>, A::Error> {
                let first = map.next_entry::<IgnoredAny, Item<'de>>()?;
                let (_, item) = first.ok_or_else(|| serde::de::Error::custom("an empty item"))?;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Action(item))
            }
        }
        deserializer.deserialize_map(ActionVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_errors_is_one_word() {
        for body in [
            r#"{"errors":false,"took":3,"items":[{"create":{"status":201}}]}"#,
            r#"{"took":3,"errors":false}"#,
        ] {
            assert!(
                matches!(read(body.as_bytes()).unwrap(), Bulk::AllTaken),
                "{body}"
            );
        }
    }

    #[test]
    fn items_are_read_with_their_reasons() {
        let body = r#"{"took":3,"errors":true,"items":[{"create":{"_id":"a","status":201}},
            {"create":{"status":400,"error":{"type":"document_parsing_exception",
            "reason":"failed to parse field [client.ip]","caused_by":{"type":"x","reason":"'no' is \"none\""}}}},
            {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":null}}}]}"#;
        let Bulk::Items(items) = read(body.as_bytes()).unwrap() else {
            panic!("items")
        };
        let found: Vec<_> = items
            .iter()
            .map(|item| (item.status, item.reason()))
            .collect();
        let wanted =
            "document_parsing_exception: failed to parse field [client.ip]: 'no' is \"none\"";
        assert_eq!(
            found,
            [
                (201, "status 201".to_owned()),
                (400, wanted.to_owned()),
                (429, "es_rejected_execution_exception".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in [
            "",
            "[]",
            "<html>",
            r#"{"took":1}"#,
            r#"{"errors":true,"items":[{}]}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let cut = r#"{"errors":true,"items":[{"create":{"status":201}},{"cre"#;
        assert!(read(cut.as_bytes()).is_err());
    }

    #[test]
    fn the_fault_of_a_whole_request_is_named() {
        let body = br#"{"error":{"root_cause":[],"type":"security_exception","reason":"no"},"status":403}"#;
        let (kind, reason) = fault(body).unwrap();
        assert_eq!(
            (kind.as_str(), reason.as_str()),
            ("security_exception", "security_exception: no")
        );
        assert!(fault(b"Bad Request").is_none());
        assert!(fault(br#"{"error":"no handler found"}"#).is_none());
    }
}
