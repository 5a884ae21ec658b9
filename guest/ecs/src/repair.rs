//! Makes a damaged record readable: bad UTF-8, control bytes, half surrogate pairs, names that
//! occur twice, escapes that nothing needs.
//!
//! Runs only when `scan` has met one of these. The record's own bytes stay in `event.original`.

use std::collections::BTreeMap;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::scan::Flags;
use crate::text::{Text, escape};
use crate::value::{Kind, Value};

/// The same JSON value, valid and without white space; of a name that occurs twice the last value
/// stays.
pub(crate) fn rewrite<'a>(arena: &'a Bump, json: &'a [u8]) -> &'a [u8] {
    let mut out = ArenaVec::with_capacity_in(json.len() + 16, arena);
    append(arena, Value::of(json, Flags::MAX, false), &mut out);
    out.into_bump_slice()
}

fn append<'a>(arena: &'a Bump, value: Value<'a>, out: &mut ArenaVec<'a, u8>) {
    match value.kind() {
        Kind::Object => {
            let mut last = BTreeMap::new();
            for (index, pair) in value.members().enumerate() {
                last.insert(pair.name.decode(arena), index);
            }
            out.push(b'{');
            let mut first = true;
            for (index, pair) in value.members().enumerate() {
                if last.get(pair.name.decode(arena)) != Some(&index) {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                quote(arena, pair.name, out);
                out.push(b':');
                append(arena, pair.value, out);
            }
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                append(arena, element, out);
            }
            out.push(b']');
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::Text => match value {
            Value::Text(text) => quote(arena, text, out),
            Value::Number(digits) => out.extend_from_slice(digits),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            _ => out.extend_from_slice(b"null"),
        },
    }
}

fn quote<'a>(arena: &'a Bump, text: Text<'a>, out: &mut ArenaVec<'a, u8>) {
    out.push(b'"');
    escape(text.decode(arena), &mut |bytes| {
        out.extend_from_slice(bytes);
    });
    out.push(b'"');
}
