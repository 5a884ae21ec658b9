//! A text in the form it has inside JSON quotes.
//!
//! Nearly every text passes from the record to the event untouched, so it is carried escaped, as it
//! came; decoding happens only where a rule must look behind a backslash.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::bytes::{any, position, same};

/// The inside of a JSON string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// Between the quotes, as it stands in JSON.
    pub(crate) escaped: &'a [u8],
    /// No backslash occurs, so `escaped` is the text itself.
    pub(crate) plain: bool,
}

impl<'a> Text<'a> {
    /// A text that is known to need no escapes, such as a word of our own.
    pub(crate) const fn plain(text: &'a [u8]) -> Self {
        Text {
            escaped: text,
            plain: true,
        }
    }

    /// Escapes a text where it needs it.
    pub(crate) fn encode(arena: &'a Bump, text: &'a [u8]) -> Self {
        if !any(text, |byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            return Text::plain(text);
        }
        let mut escaped = ArenaVec::with_capacity_in(text.len() + 16, arena);
        escape(text, &mut |bytes| escaped.extend_from_slice_copy(bytes));
        Text {
            escaped: escaped.into_bump_slice(),
            plain: false,
        }
    }

    /// The text itself. Half surrogate pairs become U+FFFD.
    #[inline]
    pub(crate) fn decode(self, arena: &'a Bump) -> &'a [u8] {
        if self.plain {
            self.escaped
        } else {
            self.unescape(arena)
        }
    }

    #[cold]
    fn unescape(self, arena: &'a Bump) -> &'a [u8] {
        let mut text = ArenaVec::with_capacity_in(self.escaped.len(), arena);
        unescape(self.escaped, &mut text);
        text.into_bump_slice()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.escaped.is_empty()
    }

    /// Equal as texts, however they are escaped.
    #[inline]
    pub(crate) fn same(self, other: Text<'a>, arena: &'a Bump) -> bool {
        if self.plain && other.plain {
            return same(self.escaped, other.escaped);
        }
        same(self.escaped, other.escaped) || self.decode(arena) == other.decode(arena)
    }

    /// Equal to a word of our own.
    #[inline]
    pub(crate) fn is(self, word: &str) -> bool {
        same(self.escaped, word.as_bytes())
    }
}

/// Writes `text` with JSON escapes.
pub(crate) fn escape(text: &[u8], write: &mut dyn FnMut(&[u8])) {
    let mut done = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        write(&text[done..at]);
        done = at + 1;
        let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 15)];
        match byte {
            b'"' => write(b"\\\""),
            b'\\' => write(b"\\\\"),
            b'\n' => write(b"\\n"),
            b'\r' => write(b"\\r"),
            b'\t' => write(b"\\t"),
            0x08 => write(b"\\b"),
            0x0c => write(b"\\f"),
            _ => write(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]),
        }
    }
    write(&text[done..]);
}

fn unescape(escaped: &[u8], text: &mut ArenaVec<'_, u8>) {
    let mut rest = escaped;
    while let Some(at) = position(rest, b'\\') {
        text.extend_from_slice_copy(&rest[..at]);
        let length = match rest.get(at + 1) {
            Some(b'n') => push(text, '\n'),
            Some(b'r') => push(text, '\r'),
            Some(b't') => push(text, '\t'),
            Some(b'b') => push(text, '\u{8}'),
            Some(b'f') => push(text, '\u{c}'),
            Some(b'u') => unescape_unit(&rest[at..], text),
            Some(&other) => push(text, char::from(other)),
            None => 1,
        };
        rest = rest.get(at + length..).unwrap_or_default();
    }
    text.extend_from_slice_copy(rest);
}

fn push(text: &mut ArenaVec<'_, u8>, character: char) -> usize {
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    2
}

/// Decodes `\uXXXX`, or a pair of them; gives the bytes read.
fn unescape_unit(escaped: &[u8], text: &mut ArenaVec<'_, u8>) -> usize {
    let unit = |at: usize| {
        let digits = escaped
            .get(at..at + 6)
            .filter(|digits| digits.starts_with(b"\\u"))?;
        u16::from_str_radix(str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let first = unit(0).unwrap_or(0xfffd);
    let pair = [first, unit(6).unwrap_or(0)];
    let surrogates = (0xd800..0xdc00).contains(&pair[0]) && (0xdc00..0xe000).contains(&pair[1]);
    let units = if surrogates { &pair[..] } else { &pair[..1] };
    for character in char::decode_utf16(units.iter().copied()) {
        push(text, character.unwrap_or('\u{fffd}'));
    }
    6 * units.len()
}

/// Without the characters up to U+0020 at both ends.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [0..=b' ', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., 0..=b' '] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_round_trip() {
        let arena = Bump::new();
        for text in ["plain", "a\"b\\c\n\u{1}", "\u{e9}\u{1f600}", ""] {
            let encoded = Text::encode(&arena, text.as_bytes());
            assert_eq!(encoded.decode(&arena), text.as_bytes());
            let json = format!("\"{}\"", str::from_utf8(encoded.escaped).unwrap());
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn surrogates() {
        let arena = Bump::new();
        let check = |escaped: &str, expected: &str| {
            let text = Text {
                escaped: escaped.as_bytes(),
                plain: false,
            };
            assert_eq!(text.decode(&arena), expected.as_bytes(), "{escaped}");
        };
        check(r"\ud83d\ude00", "\u{1f600}");
        check(r"\ud83d!", "\u{fffd}!");
        check(r"\ude00\u0041", "\u{fffd}A");
        check(r"\/\\\u00e9", "/\\\u{e9}");
    }
}
