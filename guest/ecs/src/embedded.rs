//! JSON that the service carries inside texts: `AdditionalInfo`, `OperationProperties`, `Actions`,
//! `Data`.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::clean::compact;
use crate::event::{Event, Step, fail};
use crate::hash;
use crate::scan::{self, Scanner};
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Value};

/// The value of a JSON text, strictly: nothing behind it, no name twice in one object.
pub(crate) fn parse<'a>(arena: &'a Bump, text: &'a [u8]) -> Option<Value<'a>> {
    let mut scanner = Scanner::<true>::new(text);
    scanner.space();
    if scanner.peek().is_none() {
        return Some(Value::Null);
    }
    scanner.flags = 0;
    let start = scanner.at;
    scanner.value(0)?;
    let end = scanner.at;
    let flags = scanner.flags;
    scanner.space();
    if scanner.peek().is_some() || flags & scan::CONTROL != 0 {
        return None;
    }
    let mut json = &text[start..end];
    if flags & scan::NEWLINE != 0 {
        json = compact(arena, json);
    }
    if flags & scan::TWICE != 0 && names_twice(arena, Value::of(json, flags, false)) {
        return None;
    }
    if flags & (scan::SURROGATE | scan::RESPELLED) != 0 {
        json = crate::repair::rewrite(arena, json);
    }
    Some(Value::of(json, flags, false))
}

/// Some object, at any depth, holds a name twice.
pub(crate) fn names_twice(arena: &Bump, value: Value<'_>) -> bool {
    let mut names = Vec::new();
    for pair in value.members() {
        names.push(hash::bytes(pair.name.decode(arena)));
        if names_twice(arena, pair.value) {
            return true;
        }
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
        || value.elements().any(|element| names_twice(arena, element))
}

/// Replaces the two members that may hold JSON as text.
pub(crate) fn members(event: &mut Event<'_>) -> Step {
    for known in [Known::AdditionalInfo, Known::OperationProperties] {
        let Some(Value::Text(text)) = event.get(known) else {
            continue;
        };
        let text = text.decode(event.arena);
        if let Some(value) = parse(event.arena, text) {
            event.record.put(known, value);
        } else {
            event.record.remove(known);
            note_bad(event, known.name(), text);
        }
    }
    Ok(())
}

/// A line that also keeps the beginning of what was not JSON.
pub(crate) fn note_bad(event: &mut Event<'_>, name: &str, text: &[u8]) {
    let text: String = String::from_utf8_lossy(text).chars().take(1000).collect();
    event.note(&format!("`{name}` is not JSON: {text}"));
}

/// `Actions`: objects first, then what its texts hold.
pub(crate) fn actions(event: &mut Event<'_>) -> Step {
    let Some(value) = event.set(Known::Actions) else {
        return Ok(());
    };
    let arena = event.arena;
    let wrapped = [value];
    let value = if value.is_array() {
        value
    } else {
        Value::List(arena.alloc_slice_copy(&wrapped))
    };
    if value.elements().all(Value::is_object) {
        if wrapped[0].is_object() {
            event.record.put(Known::Actions, value);
        }
        return Ok(());
    }
    let mut list = ArenaVec::new_in(arena);
    list.extend(value.elements().filter(|element| element.is_object()));
    for text in value.elements().filter_map(Value::text) {
        let text = without_query_time(arena, text.decode(arena));
        list.push(parse(arena, text).unwrap_or_else(|| {
            note_bad(event, "Actions", text);
            Value::Text(Text::encode(arena, text))
        }));
    }
    event
        .record
        .put(Known::Actions, Value::List(list.into_bump_slice()));
    Ok(())
}

/// The JSON text without `"QueryTime":"3/5/2024 1:02:03 AM"`, which is followed by another
/// `QueryTime`.
pub(crate) fn without_query_time<'a>(arena: &'a Bump, text: &'a [u8]) -> &'a [u8] {
    const NAME: &[u8] = b"\"QueryTime\":\"";
    let found = |text: &[u8]| text.windows(NAME.len()).position(|window| window == NAME);
    if found(text).is_none() {
        return text;
    }
    let mut out = ArenaVec::with_capacity_in(text.len(), arena);
    let mut rest = text;
    while let Some(at) = found(rest) {
        let behind = &rest[at + NAME.len()..];
        let length = query_time(behind);
        let before = rest[..at].strip_suffix(b",");
        match (length, before) {
            (Some(length), Some(before)) => {
                out.extend_from_slice(before);
                rest = &behind[length..];
            }
            (Some(length), None) if behind.get(length) == Some(&b',') => {
                out.extend_from_slice(&rest[..at]);
                rest = &behind[length + 1..];
            }
            _ => {
                out.extend_from_slice(&rest[..at + NAME.len()]);
                rest = behind;
            }
        }
    }
    out.extend_from_slice(rest);
    out.into_bump_slice()
}

/// The length of `3/5/2024 1:02:03 AM"`.
fn query_time(text: &[u8]) -> Option<usize> {
    let run = |at: usize, allowed: fn(&u8) -> bool| {
        let length = text
            .get(at..)?
            .iter()
            .take_while(|byte| allowed(byte))
            .count();
        (length > 0).then_some(at + length)
    };
    let one = |at: usize, allowed: fn(&u8) -> bool| {
        text.get(at).filter(|byte| allowed(byte)).map(|_| at + 1)
    };
    let space: fn(&u8) -> bool = |byte| matches!(byte, b' ' | b'\t'..=b'\r');
    let colon: fn(&u8) -> bool = |&byte| byte == b':';
    let mut at = run(0, |&byte| byte.is_ascii_digit() || byte == b'/')?;
    for separator in [space, colon, colon] {
        at = run(one(at, separator)?, u8::is_ascii_digit)?;
    }
    at = one(
        one(one(at, space)?, |byte| matches!(byte, b'A' | b'P'))?,
        |&byte| byte == b'M',
    )?;
    one(at, |&byte| byte == b'"')
}

/// A check for `Data` of a type that must be cleaned and cannot be.
pub(crate) fn need_texts(event: &Event<'_>, value: Value<'_>) -> Step {
    let texts = match value.kind() {
        Kind::Text | Kind::Number => true,
        Kind::Array => value.elements().all(|element| element.kind() == Kind::Text),
        _ => false,
    };
    if texts || event.robust {
        Ok(())
    } else {
        fail("`Data` is no text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictness() {
        let arena = Bump::new();
        for good in [
            "",
            " ",
            "null",
            "{\"a\":[1,{\"b\":2}]}",
            " \"t\" ",
            "{\"a\":1,\"A\":1}",
        ] {
            assert!(parse(&arena, good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "{",
            "[1] x",
            "{\"a\":1,\"a\":2}",
            "[{\"x\":{\"a\":1,\"\\u0061\":2}}]",
            "not json",
        ] {
            assert!(parse(&arena, bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn query_times() {
        let arena = Bump::new();
        let check = |text: &str, expected: &str| {
            let cleaned = without_query_time(&arena, text.as_bytes());
            assert_eq!(str::from_utf8(cleaned).unwrap(), expected);
        };
        let date = r#""QueryTime":"1/2/2024 1:2:3 PM""#;
        check(
            &format!("{{{date},\"QueryTime\":\"z\"}}"),
            r#"{"QueryTime":"z"}"#,
        );
        check(&format!("{{\"a\":1,{date}}}"), r#"{"a":1}"#);
        check(&format!("{{{date}}}"), &format!("{{{date}}}"));
        check(
            r#"{"QueryTime":"2024","b":1}"#,
            r#"{"QueryTime":"2024","b":1}"#,
        );
    }
}
