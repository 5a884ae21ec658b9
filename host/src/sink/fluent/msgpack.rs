//! `MessagePack`: events into it, a server's answers out of it.
//!
//! An event keeps every member. Whole numbers that fit into 64 bits stay whole, other numbers become doubles; a whole
//! number that is larger becomes text, since a double would change its digits.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sink::members::Members;

/// A value of a server's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// Text or bytes: servers write one for the other.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(Vec<(Value, Value)>),
    /// A number or an extension: nothing that we look at.
    Other,
}

impl Value {
    /// What a map holds under a name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        let found = pairs
            .iter()
            .find(|(key, _)| key.bytes() == Some(name.as_bytes()));
        found.map(|(_, value)| value)
    }

    /// Text or bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The head of a list of so many values.
pub(super) fn list(out: &mut Vec<u8>, length: usize) {
    head(out, length, &[(0x90, 15)], [None, Some(0xdc), Some(0xdd)]);
}

/// The head of a map of so many pairs.
pub(super) fn map(out: &mut Vec<u8>, length: usize) {
    head(out, length, &[(0x80, 15)], [None, Some(0xde), Some(0xdf)]);
}

/// Text.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    head(
        out,
        text.len(),
        &[(0xa0, 31)],
        [Some(0xd9), Some(0xda), Some(0xdb)],
    );
    out.extend_from_slice(text.as_bytes());
}

/// Bytes.
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, bytes.len(), &[], [Some(0xc4), Some(0xc5), Some(0xc6)]);
    out.extend_from_slice(bytes);
}

/// A length in its shortest form; batches are far below four gigabytes.
fn head(out: &mut Vec<u8>, length: usize, short: &[(u8, u8)], marks: [Option<u8>; 3]) {
    let small = u8::try_from(length).ok();
    if let (Some(small), Some((mark, most))) = (small, short.first())
        && small <= *most
    {
        out.push(mark | small);
    } else if let (Some(small), Some(mark)) = (small, marks[0]) {
        out.extend_from_slice(&[mark, small]);
    } else if let (Ok(length), Some(mark)) = (u16::try_from(length), marks[1]) {
        out.push(mark);
        out.extend_from_slice(&length.to_be_bytes());
    } else if let Some(mark) = marks[2] {
        out.push(mark);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// A whole number from zero.
pub(super) fn unsigned(out: &mut Vec<u8>, number: u64) {
    if let Ok(small @ 0..=0x7f) = u8::try_from(number) {
        out.push(small);
    } else {
        out.push(0xcf);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A time in milliseconds, as `EventTime`; outside of its years, in whole seconds.
pub(super) fn time(out: &mut Vec<u8>, time_ms: i64) {
    let (seconds, millis) = (time_ms.div_euclid(1000), time_ms.rem_euclid(1000));
    let (short, millis) = (u32::try_from(seconds), u32::try_from(millis));
    if let (Ok(seconds), Ok(millis)) = (short, millis) {
        out.extend_from_slice(&[0xd7, 0x00]);
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&(millis * 1_000_000).to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
}

/// An event, which is an object of JSON.
pub(super) fn object(out: &mut Vec<u8>, body: &[u8]) -> Result<(), serde_json::Error> {
    members(out, serde_json::from_slice(body)?)
}

fn members(out: &mut Vec<u8>, members: Members<'_>) -> Result<(), serde_json::Error> {
    map(out, members.0.len());
    for (name, raw) in members.0 {
        text(out, &name);
        value(out, raw)?;
    }
    Ok(())
}

/// Text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn value(out: &mut Vec<u8>, raw: &RawValue) -> Result<(), serde_json::Error> {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'{') => members(out, serde_json::from_str(raw)?)?,
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw)?;
            list(out, items.len());
            for item in items {
                value(out, item)?;
            }
        }
        Some(b'"') => text(out, &serde_json::from_str::<Text<'_>>(raw)?.0),
        Some(b't') => out.push(0xc3),
        Some(b'f') => out.push(0xc2),
        Some(b'n') => out.push(0xc0),
        _ => number(out, raw),
    }
    Ok(())
}

fn number(out: &mut Vec<u8>, raw: &str) {
    if let Ok(number) = raw.parse::<u64>() {
        return unsigned(out, number);
    }
    if let Ok(number) = raw.parse::<i64>() {
        out.push(0xd3);
        out.extend_from_slice(&number.to_be_bytes());
        return;
    }
    match raw.parse::<f64>() {
        Ok(number) if raw.contains(['.', 'e', 'E']) && number.is_finite() => {
            out.push(0xcb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        _ => text(out, raw),
    }
}

/// Values within values of an answer: a server's are flat.
const DEEPEST: usize = 8;

/// What is not `MessagePack`, or deeper than any answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first value of `bytes` and how long it is; `None` when it has not all come yet.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut rest = bytes;
    match parse(&mut rest, 0) {
        Ok(value) => Ok(Some((value, bytes.len() - rest.len()))),
        Err(None) => Ok(None),
        Err(Some(malformed)) => Err(malformed),
    }
}

/// `Err(None)` when there is not enough.
type Parsed<T> = Result<T, Option<Malformed>>;

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Parsed<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).ok_or(None)?;
    *rest = left;
    Ok(taken)
}

/// A length of one, two or four bytes.
fn length(rest: &mut &[u8], bytes: usize) -> Parsed<usize> {
    let taken = take(rest, bytes)?;
    Ok(taken
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

fn parse(rest: &mut &[u8], depth: usize) -> Parsed<Value> {
    if depth > DEEPEST {
        return Err(Some(Malformed));
    }
    let mark = take(rest, 1)?[0];
    let short = usize::from(mark);
    Ok(match mark {
        0x00..=0x7f | 0xe0..=0xff => Value::Other,
        0x80..=0x8f => pairs(rest, short & 15, depth)?,
        0x90..=0x9f => items(rest, short & 15, depth)?,
        0xa0..=0xbf => Value::Bytes(take(rest, short & 31)?.to_vec()),
        0xc0 => Value::Nil,
        0xc1 => return Err(Some(Malformed)),
        0xc2 | 0xc3 => Value::Bool(mark == 0xc3),
        0xc4 | 0xd9 => blob(rest, 1)?,
        0xc5 | 0xda => blob(rest, 2)?,
        0xc6 | 0xdb => blob(rest, 4)?,
        0xc7..=0xc9 => {
            let bytes = length(rest, 1 << (mark - 0xc7))?;
            other(rest, bytes + 1)?
        }
        0xca | 0xce | 0xd2 => other(rest, 4)?,
        0xcb | 0xcf | 0xd3 => other(rest, 8)?,
        0xcc | 0xd0 => other(rest, 1)?,
        0xcd | 0xd1 => other(rest, 2)?,
        0xd4..=0xd8 => other(rest, (1 << (mark - 0xd4)) + 1)?,
        0xdc => {
            let count = length(rest, 2)?;
            items(rest, count, depth)?
        }
        0xdd => {
            let count = length(rest, 4)?;
            items(rest, count, depth)?
        }
        0xde => {
            let count = length(rest, 2)?;
            pairs(rest, count, depth)?
        }
        0xdf => {
            let count = length(rest, 4)?;
            pairs(rest, count, depth)?
        }
    })
}

fn other(rest: &mut &[u8], bytes: usize) -> Parsed<Value> {
    take(rest, bytes).map(|_| Value::Other)
}

fn blob(rest: &mut &[u8], bytes: usize) -> Parsed<Value> {
    let length = length(rest, bytes)?;
    Ok(Value::Bytes(take(rest, length)?.to_vec()))
}

fn items(rest: &mut &[u8], count: usize, depth: usize) -> Parsed<Value> {
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(parse(rest, depth + 1)?);
    }
    Ok(Value::List(items))
}

fn pairs(rest: &mut &[u8], count: usize, depth: usize) -> Parsed<Value> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((parse(rest, depth + 1)?, parse(rest, depth + 1)?));
    }
    Ok(Value::Map(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, wanted: &[u8]) {
        let mut out = Vec::new();
        object(&mut out, json.as_bytes()).unwrap();
        assert_eq!(out, wanted, "{json}");
    }

    #[test]
    fn every_kind_of_value_is_written_as_the_specification_says() {
        check("{}", &[0x80]);
        check(
            r#"{"a":1,"b":[true,false,null,"\u00fc"]}"#,
            b"\x82\xa1a\x01\xa1b\x94\xc3\xc2\xc0\xa2\xc3\xbc",
        );
        check(r#"{"a":128}"#, b"\x81\xa1a\xcf\0\0\0\0\0\0\0\x80");
        check(
            r#"{"a":-1}"#,
            b"\x81\xa1a\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        );
        check(r#"{"a":1.5}"#, b"\x81\xa1a\xcb\x3f\xf8\0\0\0\0\0\0");
        check(
            r#"{"a":18446744073709551616}"#,
            b"\x81\xa1a\xb418446744073709551616",
        );
        check(r#"{"a":{"b":{}}}"#, b"\x81\xa1a\x81\xa1b\x80");
        let mut out = Vec::new();
        assert!(object(&mut out, b"[]").is_err());
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        let head_of = |write: fn(&mut Vec<u8>, &str), length: usize| {
            let mut out = Vec::new();
            write(&mut out, &"x".repeat(length));
            out[..out.len() - length].to_vec()
        };
        assert_eq!(head_of(text, 31), [0xbf]);
        assert_eq!(head_of(text, 32), [0xd9, 32]);
        assert_eq!(head_of(text, 256), [0xda, 1, 0]);
        assert_eq!(head_of(text, 65_536), [0xdb, 0, 1, 0, 0]);
        assert_eq!(
            head_of(|out, text| binary(out, text.as_bytes()), 3),
            [0xc4, 3]
        );
        let mut out = Vec::new();
        list(&mut out, 16);
        map(&mut out, 16);
        assert_eq!(out, [0xdc, 0, 16, 0xde, 0, 16]);
    }

    #[test]
    fn answers_are_read_when_they_have_all_come() {
        let mut answer = Vec::new();
        map(&mut answer, 2);
        text(&mut answer, "ack");
        binary(&mut answer, b"abc");
        text(&mut answer, "n");
        time(&mut answer, 1_500);
        for end in 0..answer.len() {
            assert_eq!(read(&answer[..end]), Ok(None), "{end}");
        }
        let whole = answer.len();
        answer.push(0xc0);
        let (value, length) = read(&answer).unwrap().unwrap();
        assert_eq!(length, whole);
        assert_eq!(value.get("ack").and_then(Value::bytes), Some(&b"abc"[..]));
        assert_eq!(read(&[0xc1]), Err(Malformed));
        assert_eq!(read(&[0x91; 20]), Err(Malformed));
        assert_eq!(read(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Ok(None));
    }
}
