//! The text a value has when a rule forces it into text.
//!
//! Two forms: rendered (`{0=a, 1=b}` for arrays), which templates use, and printed (`[a, b]`), which everything
//! nested uses. Both come from the reference mapping and reach documents, see `related.user`.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::text::Text;
use crate::value::{Kind, Value};

/// The value as a template writes it.
pub(crate) fn render<'a>(arena: &'a Bump, value: Value<'a>) -> Text<'a> {
    match value {
        Value::Text(text) => text,
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
            Value::Number(digits) => out.extend_from_slice(digits),
            Value::Text(text) => out.extend_from_slice(text.decode(arena)),
            _ => {}
        },
    }
}
