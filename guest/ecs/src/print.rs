//! The text a value has when a rule forces it into text.
//!
//! Two forms: rendered (`{0=a, 1=b}` for arrays), which templates use, and printed (`[a, b]`),
//! which everything nested uses. Both come from the reference mapping and reach documents, see
//! `related.user`.

use std::borrow::Cow;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::text::Text;
use crate::value::{Kind, Value};

/// The value as a template writes it.
#[inline]
pub(crate) fn render<'a>(arena: &'a Bump, value: Value<'a>) -> Text<'a> {
    if let Value::Text(text) = value {
        text
    } else {
        render_other(arena, value)
    }
}

/// The same for what is not a text; most values are.
fn render_other<'a>(arena: &'a Bump, value: Value<'a>) -> Text<'a> {
    match value {
        Value::Null => Text::plain(b""),
        _ => {
            let mut text = ArenaVec::new_in(arena);
            if value.is_array() {
                text.push(b'{');
                for (index, element) in value.elements().enumerate() {
                    if index > 0 {
                        text.extend_from_slice(b", ");
                    }
                    text.extend_from_slice(index.to_string().as_bytes());
                    text.push(b'=');
                    append(arena, element, &mut text);
                }
                text.push(b'}');
            } else {
                append(arena, value, &mut text);
            }
            Text::encode(arena, text.into_bump_slice())
        }
    }
}

/// The value as it prints itself.
pub(crate) fn print<'a>(arena: &'a Bump, value: Value<'a>) -> Text<'a> {
    if let Value::Text(text) = value {
        return text;
    }
    let mut text = ArenaVec::new_in(arena);
    append(arena, value, &mut text);
    Text::encode(arena, text.into_bump_slice())
}

/// Convert to text as the old profile does: arrays element by element, null stays.
pub(crate) fn convert<'a>(arena: &'a Bump, value: Value<'a>) -> Value<'a> {
    match value.kind() {
        Kind::Null => Value::Null,
        Kind::Array => {
            let mut list = ArenaVec::new_in(arena);
            list.extend(
                value
                    .elements()
                    .map(|element| Value::Text(print(arena, element))),
            );
            Value::List(list.into_bump_slice())
        }
        _ => Value::Text(print(arena, value)),
    }
}

fn append<'a>(arena: &'a Bump, value: Value<'a>, out: &mut ArenaVec<'a, u8>) {
    match value.kind() {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Array => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                append(arena, element, out);
            }
            out.push(b']');
        }
        Kind::Object => {
            out.push(b'{');
            for (index, pair) in value.members().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(pair.name.decode(arena));
                out.push(b'=');
                append(arena, pair.value, out);
            }
            out.push(b'}');
        }
        Kind::Bool | Kind::Number | Kind::Text => match value {
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(digits) => out.extend_from_slice(number(digits).as_bytes()),
            Value::Text(text) => out.extend_from_slice(text.decode(arena)),
            _ => {}
        },
    }
}

/// A number as the reference prints it: integers as they are, all others as the shortest decimal
/// with a point. What no double can hold stays as it came.
fn number(digits: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(digits);
    if !digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return text;
    }
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() => {
            let point = if double.fract() == 0.0 { ".0" } else { "" };
            Cow::Owned(format!("{double}{point}"))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (digits, expected) in [
            ("15", "15"),
            ("-0", "-0"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1.50", "1.5"),
            ("2e3", "2000.0"),
            ("1.0", "1.0"),
            ("-25E-2", "-0.25"),
            ("1e999", "1e999"),
        ] {
            assert_eq!(number(digits.as_bytes()), expected);
        }
    }
}
