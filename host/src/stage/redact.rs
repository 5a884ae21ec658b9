//! Hides what must not leave: whole fields, or what looks like an address or a number within texts.
//!
//! What is hidden becomes `[redacted]`, a salted hash that is the same for the same text, so that
//! events can still be joined, or nothing. Every other byte of the event stays what it is. Names of
//! members are never changed.

pub mod pattern;

use std::fmt::Write as _;
use std::ops::Range;

use async_trait::async_trait;
use memchr::memchr2;
use ring::hmac;
use serde::de::IgnoredAny;

use self::pattern::Pattern;
use super::fields::{Edits, find, text, unescape};
use super::{Stage, Staged, change};
use crate::event::Batch;
use crate::secret::Secret;

/// What stands in the place of what is masked.
const MASK: &str = "[redacted]";

/// How much of a hash is written: enough that no two texts of a lifetime share it.
const HASH_BYTES: usize = 16;

/// The shortest salt.
const SALT_BYTES: usize = 16;

/// What is put in the place of what is hidden.
#[derive(Debug)]
pub enum With {
    /// `[redacted]`.
    Mask,
    /// A salted hash.
    Hash(Salt),
    /// Nothing.
    Drop,
}

/// The key of the hashes.
pub struct Salt(hmac::Key);

impl Salt {
    /// Takes a secret as the key; one that could be guessed would give away what it hides.
    pub fn new(secret: &Secret) -> Result<Self, &'static str> {
        if secret.expose().len() < SALT_BYTES {
            return Err("the salt has less than 16 bytes");
        }
        Ok(Self::of(secret.expose()))
    }

    fn of(key: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl With {
    /// What stands in the place of a text.
    fn instead_of(&self, text: &str) -> String {
        match self {
            Self::Mask => MASK.to_owned(),
            Self::Hash(Salt(key)) => {
                let tag = hmac::sign(key, text.as_bytes());
                let half = tag.as_ref().iter().take(HASH_BYTES);
                half.fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
            }
            Self::Drop => String::new(),
        }
    }
}

/// The stage `redact`.
#[derive(Debug)]
pub struct RedactStage {
    fields: Vec<String>,
    patterns: Vec<Pattern>,
    with: With,
}

impl RedactStage {
    /// Hides the values of `fields`; with patterns, what fits one of them in these fields, or in all
    /// texts when there are no fields.
    pub fn new(fields: Vec<String>, patterns: Vec<Pattern>, with: With) -> Self {
        Self {
            fields,
            patterns,
            with,
        }
    }

    /// The event with what must be hidden hidden; `None` when there is none of it.
    fn apply_to(&self, body: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let text = text(body)?;
        let mut edits = Edits::default();
        if self.fields.is_empty() {
            // Any value would do for the scan below, and half of one would be misread.
            let whole = serde_json::from_str::<IgnoredAny>(text);
            whole.map_err(|error| format!("the event is not a JSON object: {error}"))?;
            if !text.trim_start().starts_with('{') {
                return Err("the event is not a JSON object".to_owned());
            }
            self.value(text, 0..text.len(), &mut edits)?;
            return Ok(edits.splice(body));
        }
        for object in find(body, &self.fields)? {
            if self.patterns.is_empty() && matches!(self.with, With::Drop) {
                let gone = |index| object.hits.contains(&index);
                edits.remove(&object.members, gone);
                continue;
            }
            for hit in &object.hits {
                self.value(text, object.members[*hit].value.clone(), &mut edits)?;
            }
        }
        Ok(edits.splice(body))
    }

    /// Hides what must be hidden within a value.
    fn value(&self, text: &str, at: Range<usize>, edits: &mut Edits) -> Result<(), String> {
        for leaf in Leaves::within(text, at) {
            let written = &text[leaf.clone()];
            let is_text = written.starts_with('"');
            let hidden = if self.patterns.is_empty() {
                match written {
                    // There is nothing to hide in it.
                    "null" => None,
                    _ if is_text => Some(self.with.instead_of(&unescape(written)?)),
                    _ => Some(self.with.instead_of(written)),
                }
            } else if is_text {
                self.patterned(&unescape(written)?)
            } else {
                None
            };
            if let Some(hidden) = hidden {
                edits.replace(leaf, serde_json::Value::from(hidden).to_string());
            }
        }
        Ok(())
    }

    /// A text without what fits a pattern; `None` when nothing does.
    fn patterned(&self, text: &str) -> Option<String> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for pattern in &self.patterns {
            found.extend(pattern.find(text));
        }
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|at| (at.start, at.end));
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        let mut rest = found.into_iter().peekable();
        while let Some(mut at) = rest.next() {
            // Patterns look at the text as it was, so what two of them find is hidden as one.
            while let Some(next) = rest.next_if(|next| next.start < at.end) {
                at.end = at.end.max(next.end);
            }
            out.push_str(&text[from..at.start]);
            out.push_str(&self.with.instead_of(&text[at.clone()]));
            from = at.end;
        }
        out.push_str(&text[from..]);
        Some(out)
    }
}

#[async_trait]
impl Stage for RedactStage {
    fn name(&self) -> &'static str {
        "redact"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        change(batch, |body| self.apply_to(body))
    }
}

/// Where the texts, numbers, booleans and nulls of a JSON value stand; names of members do not
/// count. The value is known to be well-formed.
struct Leaves<'a> {
    text: &'a [u8],
    from: usize,
    end: usize,
}

impl<'a> Leaves<'a> {
    fn within(text: &'a str, at: Range<usize>) -> Self {
        Self {
            text: text.as_bytes(),
            from: at.start,
            end: at.end,
        }
    }

    /// The end of a text that begins at `start`.
    fn end_of_text(&self, start: usize) -> usize {
        let mut at = start + 1;
        while let Some(found) = memchr2(b'"', b'\\', &self.text[at..self.end]) {
            at += found + 1;
            if self.text[at - 1] == b'"' {
                return at;
            }
            at += 1;
        }
        self.end
    }

    fn is_name(&self, end: usize) -> bool {
        let rest = self.text[end..self.end].trim_ascii_start();
        rest.first() == Some(&b':')
    }
}

impl Iterator for Leaves<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while self.from < self.end {
            let start = self.from;
            match self.text[start] {
                b'"' => {
                    self.from = self.end_of_text(start);
                    if !self.is_name(self.from) {
                        return Some(start..self.from);
                    }
                }
                b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                    self.from += 1;
                }
                _ => {
                    let ends = |byte: &u8| b",]} \t\n\r".contains(byte);
                    let length = self.text[start..self.end].iter().position(ends);
                    self.from = length.map_or(self.end, |length| start + length);
                    return Some(start..self.from);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::pattern::Kind;
    use super::*;

    fn stage(fields: &[&str], patterns: &[Kind], with: With) -> RedactStage {
        let fields = fields.iter().map(ToString::to_string).collect();
        let patterns = patterns.iter().map(|kind| Pattern::new(kind).unwrap());
        RedactStage::new(fields, patterns.collect(), with)
    }

    #[track_caller]
    fn check(stage: &RedactStage, body: &str, expected: Option<&str>) {
        let redacted = stage.apply_to(body.as_bytes()).unwrap();
        let redacted = redacted.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(redacted.as_deref(), expected, "{body}");
    }

    fn hash(salt: &str) -> With {
        With::Hash(Salt::of(salt))
    }

    #[test]
    fn fields_are_masked_and_every_other_byte_stays() {
        let stage = stage(&["user.name", "n"], &[], With::Mask);
        check(
            &stage,
            r#" {"user" : {"name":"al\"ex","id":1.500}, "n":[1,{"k":true},null,"\u0041"] } "#,
            Some(concat!(
                r#" {"user" : {"name":"[redacted]","id":1.500}, "#,
                r#""n":["[redacted]",{"k":"[redacted]"},null,"[redacted]"] } "#
            )),
        );
        check(
            &stage,
            r#"{"n":{},"user":{"name":[]},"name":18446744073709551616}"#,
            None,
        );
        check(
            &stage,
            r#"{"n":1,"n":2}"#,
            Some(r#"{"n":"[redacted]","n":"[redacted]"}"#),
        );
    }

    #[test]
    fn fields_are_dropped() {
        let stage = stage(&["user.name"], &[], With::Drop);
        check(
            &stage,
            r#"{"user":{"name":"a"},"x":1}"#,
            Some(r#"{"user":{},"x":1}"#),
        );
    }

    #[test]
    fn hashes_are_those_of_hmac_and_the_same_wherever_a_text_stands() {
        // RFC 4231, test case 2.
        let stage = stage(&["a"], &[], hash("Jefe"));
        let what = "what do ya want for nothing?";
        let expected = "5bdcc146bf60754e6a042426089575c7";
        check(
            &stage,
            &format!(r#"{{"a":["{what}","what\u0020do ya want for nothing?"]}}"#),
            Some(&format!(r#"{{"a":["{expected}","{expected}"]}}"#)),
        );
        let other = self::stage(&["a"], &[], hash("another salt"));
        let body = format!(r#"{{"a":"{what}"}}"#);
        let redacted = other.apply_to(body.as_bytes()).unwrap().unwrap();
        assert!(!String::from_utf8(redacted).unwrap().contains(expected));
        assert!(
            !format!("{stage:?}{other:?}").contains("Jefe"),
            "a salt is never printed"
        );
        assert!(Salt::new(&Secret::new("fifteen letters")).is_err());
        assert!(Salt::new(&Secret::new("sixteen letters!")).is_ok());
    }

    #[test]
    fn patterns_hide_parts_of_all_texts_but_no_names() {
        let stage = stage(&[], &[Kind::Email, Kind::Ipv4], With::Mask);
        check(
            &stage,
            r#"{"a@b.example":{"t":"from alex@example.com (192.0.2.1)\n","n":1.50},"u":["\u0061@b.example"]}"#,
            Some(concat!(
                r#"{"a@b.example":{"t":"from [redacted] ([redacted])\n","n":1.50},"#,
                r#""u":["[redacted]"]}"#
            )),
        );
        check(&stage, r#"{"t":"nothing \u00e9 of it","n":192.0}"#, None);
    }

    #[test]
    fn patterns_with_fields_look_only_there() {
        let stage = stage(&["m"], &[Kind::Ipv4], With::Drop);
        check(
            &stage,
            r#"{"ip":"192.0.2.1","m":{"x":["at 192.0.2.1!"]}}"#,
            Some(r#"{"ip":"192.0.2.1","m":{"x":["at !"]}}"#),
        );
    }

    #[test]
    fn what_two_patterns_find_is_hidden_as_one() {
        let patterns = [
            Kind::Regex("b[0-9]+c".into()),
            Kind::Regex("[0-9]+cd".into()),
        ];
        let stage = stage(&[], &patterns, With::Mask);
        check(
            &stage,
            r#"{"t":"ab12cde"}"#,
            Some(r#"{"t":"a[redacted]e"}"#),
        );
        // A hash in the place of one pattern is no prey of the next.
        let patterns = [Kind::Regex("x".into()), Kind::Regex("[0-9a-f]".into())];
        let stage = self::stage(&[], &patterns, hash("salt"));
        let redacted = stage.apply_to(br#"{"t":"x"}"#).unwrap().unwrap();
        assert_eq!(redacted.len(), r#"{"t":""}"#.len() + 2 * HASH_BYTES);
    }

    #[test]
    fn refuses_what_it_cannot_read_whole() {
        for stage in [
            stage(&["a.b"], &[], With::Mask),
            stage(&[], &[Kind::Email], With::Mask),
        ] {
            for bad in [
                "",
                "[]",
                "\"a\"",
                r#"{"a":1"#,
                r#"{"a":1} x"#,
                "{\"a\":\"\n\"}",
            ] {
                assert!(stage.apply_to(bad.as_bytes()).is_err(), "{bad}");
            }
        }
        let stage = stage(&[], &[Kind::Email], With::Mask);
        assert!(stage.apply_to(br#"{"a":"\ud800"}"#).is_err());
    }
}
