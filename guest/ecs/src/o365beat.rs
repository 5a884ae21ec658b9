//! Profile `o365beat`: the record at the top level, a few ECS members beside it.
//!
//! For those who run o365beat today and want the same documents tomorrow. Field names, texts and
//! omissions are its own, also where ECS says otherwise.

use std::fmt::Write as _;
use std::net::IpAddr;

use bumpalo::Bump;

use crate::dates;
use crate::name_values::Names;
use crate::options::{BeatMode, BeatNameValues, ErrorMode, Options};
use crate::print::print;
use crate::record::Record;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Pair, Value};

const LISTS: [Known; 3] = [
    Known::Parameters,
    Known::ExtendedProperties,
    Known::ModifiedProperties,
];

/// Member of the record, object and member of the event.
const CONVERSIONS: [(Known, &str, &str); 7] = [
    (Known::Id, "event", "id"),
    (Known::RecordType, "event", "code"),
    (Known::Operation, "event", "action"),
    (Known::Workload, "event", "category"),
    (Known::ResultStatus, "event", "outcome"),
    (Known::OrganizationId, "cloud", "account"),
    (Known::UserId, "user", "id"),
];

/// Writes the event.
pub(crate) fn map<'a>(
    arena: &'a Bump,
    options: &Options,
    record: &mut Record<'a>,
    arrival_ms: i64,
    out: &mut Vec<u8>,
) {
    let mut beat = Beat {
        arena,
        objects: Vec::new(),
    };
    beat.put("ecs", "version", Value::word("1.1.0"));
    beat.timestamp(record, arrival_ms, options.error_mode);
    let converted = beat.dissect(record);
    if options.o365beat.processed {
        for known in [Known::Parameters, Known::ExtendedProperties] {
            if let Some(value) = record.get(known).filter(|value| value.is_array()) {
                let object = by_name(arena, value, |_| Value::Null);
                beat.put("processed", known.name(), object);
            }
        }
    }
    let rename = options.o365beat.mode == BeatMode::Rename;
    for (known, object, name) in CONVERSIONS {
        let Some(value) = record.set_value(known) else {
            continue;
        };
        let Some(text) = to_text(arena, value) else {
            continue;
        };
        if known == Known::OrganizationId {
            let id: &[Pair<'a>] = arena.alloc_slice_copy(&[Pair {
                name: Text::plain(b"id"),
                value: text,
            }]);
            beat.put(object, name, Value::Pairs(id));
        } else {
            beat.put(object, name, text);
        }
        if rename {
            record.remove(known);
        }
    }
    if rename && converted {
        record.remove(Known::ClientIP);
    }
    for known in LISTS {
        if let Some(value) = record.get(known).filter(|value| !value.is_null()) {
            record.put(known, list(arena, value, options.o365beat.name_values));
        }
    }
    if !options.tags.is_empty() {
        let tags: Vec<_> = options
            .tags
            .iter()
            .map(|tag| Value::Text(Text::encode(arena, arena.alloc_str(tag).as_bytes())))
            .collect();
        beat.put("", "tags", Value::List(arena.alloc_slice_copy(&tags)));
    }
    beat.write(record, out);
}

struct Beat<'a> {
    arena: &'a Bump,
    /// Members by object; the empty name is the top level.
    objects: Vec<(&'static str, Vec<Pair<'a>>)>,
}

impl<'a> Beat<'a> {
    fn put(&mut self, object: &'static str, name: &'static str, value: Value<'a>) {
        let found = self.objects.iter().position(|(have, _)| *have == object);
        let index = found.unwrap_or(self.objects.len());
        if found.is_none() {
            self.objects.push((object, Vec::new()));
        }
        let pairs = &mut self.objects[index].1;
        pairs.retain(|pair| !pair.name.is(name));
        pairs.push(Pair {
            name: Text::plain(name.as_bytes()),
            value,
        });
    }

    /// `CreationTime` with a `Z` behind it, so in `reference` mode one with a zone is none.
    fn timestamp(&mut self, record: &Record<'a>, arrival_ms: i64, mode: ErrorMode) {
        let text = record.set_value(Known::CreationTime).and_then(Value::text);
        let text = text.map(|text| text.decode(self.arena));
        let fits = |text: &&[u8]| {
            let zone = |byte: &u8| !byte.is_ascii_digit() && *byte != b'.';
            mode == ErrorMode::Robust || text.get(19..).is_some_and(|end| !end.iter().any(zone))
        };
        let time = text.filter(fits).and_then(dates::parse);
        if time.is_none() {
            let line = Value::word("`CreationTime` is missing or no date");
            self.put("error", "message", line);
        }
        let text = dates::format(self.arena, time.unwrap_or(arrival_ms));
        self.put("", "@timestamp", Value::Text(Text::plain(text)));
    }

    /// The parts of `UserId` and `ClientIP`, and `client.ip`; whether all of `ClientIP` is an
    /// address.
    fn dissect(&mut self, record: &Record<'a>) -> bool {
        let arena = self.arena;
        let text = |known| match record.set_value(known) {
            Some(Value::Text(text)) => Some(text.decode(arena)),
            _ => None,
        };
        let value = |bytes| Value::Text(Text::encode(arena, bytes));
        if let Some((name, domain)) = text(Known::UserId).and_then(|id| split_at(id, b'@')) {
            let pair = |name: &'static [u8], value| Pair {
                name: Text::plain(name),
                value,
            };
            let user: &[Pair<'a>] = arena
                .alloc_slice_copy(&[pair(b"name", value(name)), pair(b"domain", value(domain))]);
            self.put("dissect", "user", Value::Pairs(user));
        }
        let Some(client) = text(Known::ClientIP) else {
            return false;
        };
        let whole = is_ip(client);
        if whole {
            self.put("client", "ip", value(client));
        }
        let parts = if client.contains(&b'[') {
            let parts = bracketed(client);
            if parts.is_none() {
                let flags = [Value::word("dissect_parsing_error")];
                self.put("log", "flags", Value::List(arena.alloc_slice_copy(&flags)));
            }
            parts
        } else {
            split_at(client, b':')
        };
        let Some((address, port)) = parts else {
            return whole;
        };
        self.put("dissect", "clientip", value(address));
        self.put("dissect", "clientport", value(port));
        if is_ip(address) {
            self.put("client", "ip", value(address));
        }
        whole
    }

    /// The name stands at the top level already.
    fn holds(&self, name: &[u8]) -> bool {
        self.objects.iter().any(|(object, pairs)| {
            let own = object.as_bytes() == name && !object.is_empty();
            own || object.is_empty() && pairs.iter().any(|pair| pair.name.escaped == name)
        })
    }

    fn write(&self, record: &Record<'a>, out: &mut Vec<u8>) {
        let mut first = true;
        let mut comma = |out: &mut Vec<u8>| {
            out.push(if std::mem::take(&mut first) {
                b'{'
            } else {
                b','
            });
        };
        for (object, pairs) in &self.objects {
            if object.is_empty() {
                for pair in pairs {
                    comma(out);
                    member(out, pair.name.escaped, pair.value);
                }
                continue;
            }
            comma(out);
            let pairs: &[Pair<'a>] = self.arena.alloc_slice_copy(pairs);
            member(out, object.as_bytes(), Value::Pairs(pairs));
        }
        for entry in record.members.iter().filter(|member| !member.moved) {
            comma(out);
            if self.holds(entry.name) {
                // Microsoft has no such names; a record that does must not spoil the event.
                member(out, &[b"record_", entry.name].concat(), entry.value);
            } else {
                member(out, entry.name, entry.value);
            }
        }
        out.push(b'}');
    }
}

fn member(out: &mut Vec<u8>, name: &[u8], value: Value<'_>) {
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
    crate::write::write_value(value, out);
}

/// The two sides of the first separator.
fn split_at(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// `[X]:Y`.
fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"[")?;
    let at = inner.windows(2).position(|window| window == b"]:")?;
    Some((&inner[..at], &inner[at + 2..]))
}

fn is_ip(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

/// A scalar as text; a conversion that fails is left out.
fn to_text<'a>(arena: &'a Bump, value: Value<'a>) -> Option<Value<'a>> {
    let scalar = !matches!(value.kind(), Kind::Array | Kind::Object);
    scalar.then(|| match value {
        Value::Number(digits) => {
            let text = arena.alloc_str(&plain(digits)).as_bytes();
            Value::Text(Text::plain(text))
        }
        _ => Value::Text(print(arena, value)),
    })
}

fn list<'a>(arena: &'a Bump, value: Value<'a>, form: BeatNameValues) -> Value<'a> {
    if value.kind() == Kind::Text {
        return value;
    }
    let text = |text: String| Value::Text(Text::encode(arena, arena.alloc_str(&text).as_bytes()));
    match form {
        BeatNameValues::Text => {
            let mut out = String::new();
            go_print(arena, value, &mut out);
            text(out)
        }
        BeatNameValues::Json => {
            let mut out = Vec::new();
            crate::write::write_value(value, &mut out);
            text(String::from_utf8_lossy(&out).into_owned())
        }
        BeatNameValues::Objects if value.is_array() => {
            by_name(arena, value, |element| changes(arena, element))
        }
        BeatNameValues::Objects | BeatNameValues::Arrays => value,
    }
}

/// The object of names and values; entries without a name are left out, the last value of a name
/// wins, and `other` gives that of an entry without one.
fn by_name<'a>(
    arena: &'a Bump,
    value: Value<'a>,
    other: impl Fn(Value<'a>) -> Value<'a>,
) -> Value<'a> {
    let mut names = Names::new(arena);
    for element in value.elements() {
        let name = element.member("Name").and_then(Value::text);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let value = element.member("Value").unwrap_or_else(|| other(element));
            names.put(Pair { name, value });
        }
    }
    names.into_value()
}

/// `ModifiedProperties` has an old and a new value instead.
fn changes<'a>(arena: &'a Bump, element: Value<'a>) -> Value<'a> {
    let pairs: Vec<_> = element
        .members()
        .filter(|pair| !pair.name.is("Name"))
        .collect();
    if pairs.is_empty() {
        Value::Null
    } else {
        Value::Pairs(arena.alloc_slice_copy(&pairs))
    }
}

/// The default print form of the language o365beat is written in: `[map[Name:a Value:b]]`.
fn go_print<'a>(arena: &'a Bump, value: Value<'a>, out: &mut String) {
    match value.kind() {
        Kind::Null => out.push_str("<nil>"),
        Kind::Array => {
            out.push('[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                go_print(arena, element, out);
            }
            out.push(']');
        }
        Kind::Object => {
            let mut pairs: Vec<_> = value
                .members()
                .map(|pair| (pair.name.decode(arena), pair.value))
                .collect();
            pairs.sort_by_key(|(name, _)| *name);
            out.push_str("map[");
            for (index, (name, value)) in pairs.into_iter().enumerate() {
                let space = if index > 0 { " " } else { "" };
                let _ = write!(out, "{space}{}:", String::from_utf8_lossy(name));
                go_print(arena, value, out);
            }
            out.push(']');
        }
        _ => match value {
            Value::Number(digits) => out.push_str(&short(digits)),
            _ => out.push_str(&String::from_utf8_lossy(print(arena, value).decode(arena))),
        },
    }
}

/// A number as a conversion to text writes it: no exponent, no `.0`. Integers keep their digits.
fn plain(digits: &[u8]) -> String {
    let text = String::from_utf8_lossy(digits);
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && text.contains(['.', 'e', 'E']) => double.to_string(),
        _ => text.into_owned(),
    }
}

/// A number inside a printed list: the shortest form, with an exponent of two digits from a million
/// on and below a ten-thousandth.
fn short(digits: &[u8]) -> String {
    let text = String::from_utf8_lossy(digits);
    let Some(double) = text.parse::<f64>().ok().filter(|double| double.is_finite()) else {
        return text.into_owned();
    };
    let long = format!("{double:e}");
    let (mantissa, exponent) = long.split_once('e').unwrap_or((&long, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => double.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (digits, text, in_list) in [
            ("15", "15", "15"),
            ("15.0", "15", "15"),
            ("-1.50", "-1.5", "-1.5"),
            ("2e3", "2000", "2000"),
            ("1e21", "1000000000000000000000", "1e+21"),
            ("25e-7", "0.0000025", "2.5e-06"),
            ("123456", "123456", "123456"),
            ("1234567", "1234567", "1.234567e+06"),
        ] {
            assert_eq!(plain(digits.as_bytes()), text);
            assert_eq!(short(digits.as_bytes()), in_list);
        }
    }
}
