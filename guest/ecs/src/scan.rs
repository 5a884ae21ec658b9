//! Reads JSON bytes once: checks them, finds where values end, hashes what they mean.
//!
//! Strings are read sixteen bytes at a time and hashed from the words already in hand, so the
//! fingerprint costs next to nothing. An object's hash is a sum over its members and white space is
//! never hashed, so neither the order of members nor the spacing changes it. Nothing is decoded and
//! nothing is built here.

use std::num::NonZeroU64;

use crate::block::Block;
use crate::hash;

/// What a scanner met, one bit each.
pub(crate) type Flags = u16;

/// A number occurs.
pub(crate) const NUMBER: Flags = 1;
/// `null`, `""`, `[]` or `{}` occurs: the clean-up of profile `newer` has work to do.
pub(crate) const EMPTY: Flags = 2;
/// A line break stands between tokens.
pub(crate) const NEWLINE: Flags = 4;
/// A backslash occurs inside a string.
pub(crate) const ESCAPE: Flags = 8;
/// Bytes above ASCII occur, so the text must still be checked as UTF-8.
pub(crate) const HIGH: Flags = 16;
/// One object may hold one name twice (a 64-bit filter said so).
pub(crate) const TWICE: Flags = 32;
/// A string holds a control byte, which JSON forbids and which is repaired in robust mode.
pub(crate) const CONTROL: Flags = 64;
/// An escape names half of a surrogate pair.
pub(crate) const SURROGATE: Flags = 128;
/// An escape stands for a character that needs none, and rules know words by their bytes.
pub(crate) const RESPELLED: Flags = 256;

/// Deepest nesting that is followed; the service stays below ten.
pub(crate) const DEPTH_LIMIT: u32 = 128;

/// Why the bytes are not one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The grammar is broken at this byte.
    Syntax(usize),
    /// Nested deeper than `DEPTH_LIMIT`.
    Deep,
}

/// A hash that is never zero, so that a failure costs no room beside it.
pub(crate) type Hash = NonZeroU64;

/// A place in the bytes, moving forward. Without `HASH` it only skips, and every hash is 1.
#[derive(Clone)]
pub(crate) struct Scanner<'a, const HASH: bool> {
    bytes: &'a [u8],
    /// The next byte to read; after a failure about where it was met.
    pub(crate) at: usize,
    /// What has been met so far, see the constants.
    pub(crate) flags: Flags,
    deep: bool,
}

impl<'a, const HASH: bool> Scanner<'a, HASH> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Scanner {
            bytes,
            at: 0,
            flags: 0,
            deep: false,
        }
    }

    /// Why the last reading gave nothing.
    pub(crate) fn broken(&self) -> Broken {
        if self.deep {
            Broken::Deep
        } else {
            Broken::Syntax(self.at)
        }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips white space between tokens: none as the service writes it, one space as many tools do.
    #[inline]
    pub(crate) fn space(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            if self.peek() == Some(b' ')
                && self.bytes.get(self.at + 1).is_some_and(|&byte| byte > b' ')
            {
                self.at += 1;
            } else {
                self.space_slowly();
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn space_slowly(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            if byte > b' ' {
                return;
            }
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.flags |= NEWLINE,
                _ => return,
            }
            self.at += 1;
        }
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Option<()> {
        // A jump that is foretold: a sum would make all that follows wait for it.
        if self.peek() != Some(byte) {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Reads a string whose opening quote is behind `at`; leaves `at` behind the closing one.
    #[expect(
        clippy::inline_always,
        reason = "most strings end in their first block; a call would cost more than they do"
    )]
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Option<Hash> {
        let start = self.at;
        let block = Block::load(self.bytes, start);
        let Block { low, high, .. } = block;
        let stop = block.stops();
        if stop == 0 {
            return self.string_of_blocks(low, high);
        }
        let length = stop.trailing_zeros();
        let (state, seen, word) = if length < 8 {
            (hash::SEED, 0, low)
        } else if HASH {
            (hash::mix(hash::SEED, low), low, high)
        } else {
            (hash::SEED, low, high)
        };
        let bits = length % 8 * 8;
        let tail = word & ((1 << bits) - 1);
        let length = length as usize;
        if word >> bits & 0xff != u64::from(b'"') {
            return self.string_slowly(start, start + length);
        }
        self.at = start + length + 1;
        self.flags |= above_ascii(seen | tail);
        Some(if HASH {
            hash::finish(state, tail, length)
        } else {
            Hash::MIN
        })
    }

    /// Reads the rest of a string whose first sixteen bytes are these.
    #[inline(never)]
    fn string_of_blocks(&mut self, low: u64, high: u64) -> Option<Hash> {
        let start = self.at;
        let mut state = if HASH {
            hash::mix(hash::mix(hash::SEED, low), high)
        } else {
            hash::SEED
        };
        let (mut seen, mut at) = (low | high, start + 16);
        loop {
            let block = Block::load(self.bytes, at);
            let Block { low, high, .. } = block;
            let stop = block.stops();
            if stop == 0 {
                if HASH {
                    state = hash::mix(hash::mix(state, low), high);
                }
                seen |= low | high;
                at += 16;
                continue;
            }
            let length = stop.trailing_zeros();
            let mut tail = low;
            if length >= 8 {
                if HASH {
                    state = hash::mix(state, low);
                }
                seen |= low;
                tail = high;
            }
            tail &= (1 << (length % 8 * 8)) - 1;
            at += length as usize;
            if self.bytes.get(at) != Some(&b'"') {
                return self.string_slowly(start, at);
            }
            self.flags |= above_ascii(seen | tail);
            self.at = at + 1;
            return Some(if HASH {
                hash::finish(state, tail, at - start)
            } else {
                Hash::MIN
            });
        }
    }

    /// The rest of a string from its first backslash or control byte on.
    #[inline(never)]
    fn string_slowly(&mut self, start: usize, mut at: usize) -> Option<Hash> {
        loop {
            let stop = Block::load(self.bytes, at).stops();
            if stop == 0 {
                at += 16;
                continue;
            }
            at += stop.trailing_zeros() as usize;
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at = at;
                    at = self.escape(at)?;
                }
                Some(_) => {
                    self.flags |= CONTROL;
                    at += 1;
                }
                None => {
                    self.at = at;
                    return None;
                }
            }
        }
        let text = &self.bytes[start..at];
        if !text.is_ascii() {
            self.flags |= HIGH;
        }
        self.at = at + 1;
        Some(if HASH { hash::bytes(text) } else { Hash::MIN })
    }

    /// Checks the escape at `at` and gives the place behind it.
    fn escape(&mut self, at: usize) -> Option<usize> {
        self.flags |= ESCAPE;
        match self.bytes.get(at + 1)? {
            b'/' => {
                self.flags |= RESPELLED;
                Some(at + 2)
            }
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
            b'u' => {
                let unit = self.unit(at)?;
                if (0xd800..0xdc00).contains(&unit) {
                    let low = self.bytes.get(at + 6..at + 8) == Some(b"\\u");
                    if low && matches!(self.unit(at + 6), Some(0xdc00..=0xdfff)) {
                        return Some(at + 12);
                    }
                    self.flags |= SURROGATE;
                } else if (0xdc00..0xe000).contains(&unit) {
                    self.flags |= SURROGATE;
                } else if (0x20..0x7f).contains(&unit) {
                    self.flags |= RESPELLED;
                }
                Some(at + 6)
            }
            _ => None,
        }
    }

    /// The UTF-16 unit of the `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at + 2..at + 6)?;
        let digit = |unit, &byte: &u8| Some(unit * 16 + char::from(byte).to_digit(16)?);
        digits.iter().try_fold(0, digit)
    }

    /// Reads any value; `depth` is how many containers stand around it.
    #[expect(
        clippy::inline_always,
        reason = "a container is read in one function, whatever scalars it holds"
    )]
    #[inline(always)]
    pub(crate) fn value(&mut self, depth: u32) -> Option<Hash> {
        let first = self.peek()?;
        if first == b'"' {
            // Most values are; a test of its own is foretold better than a jump among many.
            self.at += 1;
            if self.peek() == Some(b'"') {
                self.flags |= EMPTY;
            }
            return self.string();
        }
        match first {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => {
                self.flags |= EMPTY;
                self.literal(b"null")
            }
            _ => self.number(),
        }
    }

    /// Steps into a container; true when it is empty, and then it is passed.
    #[inline]
    fn enter(&mut self, depth: u32, close: u8) -> Option<bool> {
        if depth >= DEPTH_LIMIT {
            self.deep = true;
            return None;
        }
        self.at += 1;
        self.space();
        let empty = self.peek() == Some(close);
        if empty {
            self.at += 1;
            self.flags |= EMPTY;
        }
        Some(empty)
    }

    /// Goes on to the next member or element; false behind the end of the container.
    #[inline]
    fn more(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        if byte == b',' {
            self.at += 1;
            self.space();
            return Some(true);
        }
        if byte != close {
            return None;
        }
        self.at += 1;
        Some(false)
    }

    #[inline(never)]
    fn object(&mut self, depth: u32) -> Option<Hash> {
        let (mut sum, mut seen) = (0u64, 0u64);
        let mut more = !self.enter(depth, b'}')?;
        while more {
            self.expect(b'"')?;
            let before = std::mem::take(&mut self.flags);
            let name = self.string()?;
            if HASH {
                self.see(&mut seen, name);
            }
            self.flags |= before;
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.value(depth + 1)?;
            if HASH {
                sum = sum.wrapping_add(hash::member(name, value));
            }
            more = self.more(b'}')?;
        }
        Some(hash::object(sum))
    }

    /// Suspects a name of being there twice: by six bits of its hash, or because it is escaped, so
    /// that another spelling may be the same name.
    #[inline]
    fn see(&mut self, seen: &mut u64, name: Hash) {
        // These bits tell the names apart that stand together in real records.
        let bit = 1 << (name.get() >> 24 & 63);
        if *seen & bit != 0 || self.flags & ESCAPE != 0 {
            self.flags |= TWICE;
        }
        *seen |= bit;
    }

    #[inline(never)]
    fn array(&mut self, depth: u32) -> Option<Hash> {
        let mut state = hash::ARRAY;
        let mut more = !self.enter(depth, b']')?;
        while more {
            let value = self.value(depth + 1)?;
            if HASH {
                state = hash::mix(state, value.get());
            }
            more = self.more(b']')?;
        }
        Some(hash::never_zero(state))
    }

    #[inline]
    fn literal<const N: usize>(&mut self, word: &'static [u8; N]) -> Option<Hash> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.first_chunk() == Some(word);
        self.at += if found { N } else { 0 };
        found.then(|| hash::scalar(u64::from(word[0])))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    #[inline(never)]
    fn number(&mut self) -> Option<Hash> {
        let start = self.at;
        self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.flags |= NUMBER;
        if !HASH {
            return Some(Hash::MIN);
        }
        Some(hash::scalar(hash::bytes(&self.bytes[start..self.at]).get()))
    }
}

#[inline]
fn above_ascii(bytes: u64) -> Flags {
    if bytes & 0x8080_8080_8080_8080 == 0 {
        0
    } else {
        HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> (Option<Hash>, Flags) {
        let mut scanner = Scanner::<true>::new(json.as_bytes());
        let hash = scanner.value(0);
        if hash.is_some() {
            assert_eq!(scanner.at, json.len(), "{json}");
        }
        (hash, scanner.flags)
    }

    #[test]
    fn order_and_space_do_not_count() {
        let a = check(r#"{"a":{"x":1,"y":[1,2]},"b":"text of some length"}"#).0;
        let b = check("{ \"b\" : \"text of some length\",\n\"a\":{\"y\":[1, 2],\"x\":1} }").0;
        assert_eq!(a, b);
        assert_ne!(
            a,
            check(r#"{"a":{"x":1,"y":[2,1]},"b":"text of some length"}"#).0
        );
        assert_ne!(check(r#"{"a":1,"b":2}"#).0, check(r#"{"a":2,"b":1}"#).0);
        assert_ne!(check(r#""1""#).0, check("1").0);
        assert_ne!(check("[]").0, check("{}").0);
    }

    #[test]
    fn the_fingerprint_is_stable() {
        let json = r#"{"Id":"a","N":[1,null,true,"long enough for two words",""]}"#;
        assert_eq!(check(json).0, Hash::new(0x144e_33a6_ef5e_3054));
    }

    #[test]
    fn grammar() {
        for good in [
            "0",
            "-0.5e+9",
            r#""\u00e9\n""#,
            "[ ]",
            "{ }",
            r#"{"a":[{}]}"#,
            "null",
        ] {
            assert!(check(good).0.is_some(), "{good}");
        }
        for bad in [
            "01", "-", "1.", "1e", "\"", r#""\x""#, "[1,]", "{\"a\"}", "{,}", "NaN", "tru", "'a'",
            "",
        ] {
            let mut scanner = Scanner::<true>::new(bad.as_bytes());
            let whole = scanner.value(0).is_some() && scanner.at == bad.len();
            assert!(!whole, "{bad}");
        }
        let deep = "[".repeat(1_000_000);
        let mut scanner = Scanner::<false>::new(deep.as_bytes());
        assert_eq!((scanner.value(0), scanner.broken()), (None, Broken::Deep));
    }

    #[test]
    fn flags() {
        assert_eq!(check(r#"{"a":"b"}"#).1, 0);
        assert_eq!(check(r#"{"a":1}"#).1, NUMBER);
        assert_eq!(check(r#"["x",""]"#).1, EMPTY);
        assert_eq!(check("[true,\n\"x\"]").1, NEWLINE);
        assert_eq!(check(r#""\ud83d\ude00""#).1, ESCAPE);
        assert_eq!(check(r#""\ud83d x""#).1, ESCAPE | SURROGATE);
        assert_eq!(check("\"long enough \u{e9}\"").1, HIGH);
        assert_eq!(check("\"a\u{1}b\"").1, CONTROL);
        assert_eq!(check(r#"{"a":{"k":"1","k":"2"}}"#).1, TWICE);
        assert_eq!(
            check(r#"[{"Name":"1","OldValue":"2","NewValue":"3"}]"#).1,
            0
        );
        assert_eq!(check(r#"[{"ID":"1","Type":"2"}]"#).1, 0);
    }
}
