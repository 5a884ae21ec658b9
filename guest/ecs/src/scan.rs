//! Reads JSON bytes once: checks them, finds where values end, hashes what they mean.
//!
//! Strings are read eight bytes at a time and hashed from the words already in hand, so the fingerprint costs
//! next to nothing. An object's hash is a sum over its members and white space is never hashed, so neither the
//! order of members nor the spacing changes it. Nothing is decoded and nothing is built here.

use crate::hash;

/// A number occurs.
pub(crate) const NUMBER: u8 = 1;
/// `null`, `""`, `[]` or `{}` occurs: the clean-up of profile `newer` has work to do.
pub(crate) const EMPTY: u8 = 2;
/// A line break stands between tokens.
pub(crate) const NEWLINE: u8 = 4;
/// A backslash occurs inside a string.
pub(crate) const ESCAPE: u8 = 8;
/// Bytes above ASCII occur, so the text must still be checked as UTF-8.
pub(crate) const HIGH: u8 = 16;
/// One object may hold one name twice (a 64-bit filter said so).
pub(crate) const TWICE: u8 = 32;
/// A string holds a control byte, which JSON forbids and which is repaired in robust mode.
pub(crate) const CONTROL: u8 = 64;
/// An escape names half of a surrogate pair.
pub(crate) const SURROGATE: u8 = 128;

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

/// A place in the bytes, moving forward.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    /// The next byte to read.
    pub(crate) at: usize,
    /// What has been met so far, see the constants.
    pub(crate) flags: u8,
}

type Scanned<T> = Result<T, Broken>;

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Scanner {
            bytes,
            at: 0,
            flags: 0,
        }
    }

    #[inline]
    fn broken<T>(&self) -> Scanned<T> {
        Err(Broken::Syntax(self.at))
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips white space between tokens.
    #[inline]
    pub(crate) fn space(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.flags |= NEWLINE,
                _ => return,
            }
            self.at += 1;
        }
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Scanned<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.broken()
    }

    /// Eight bytes from `at`, padded with zeros behind the end.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        if let Some(Ok(word)) = self.bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
            return u64::from_le_bytes(word);
        }
        let mut word = [0; 8];
        if let Some(rest) = self.bytes.get(at..) {
            word[..rest.len()].copy_from_slice(rest);
        }
        u64::from_le_bytes(word)
    }

    /// Reads a string whose opening quote is behind `at`; leaves `at` behind the closing one.
    #[inline]
    pub(crate) fn string(&mut self) -> Scanned<u64> {
        let start = self.at;
        let mut state = hash::SEED;
        let mut at = start;
        loop {
            let word = self.word(at);
            let stop = stops(word);
            if stop == 0 {
                state = hash::mix(state, word);
                self.flags |= high(word);
                at += 8;
                continue;
            }
            let length = (stop.trailing_zeros() / 8) as usize;
            let tail = word & !(u64::MAX << (8 * length));
            if self.bytes.get(at + length) == Some(&b'"') {
                self.flags |= high(tail);
                self.at = at + length + 1;
                return Ok(hash::finish(state, tail, at + length - start));
            }
            return self.string_slowly(start, at + length);
        }
    }

    /// The rest of a string from its first backslash, control byte or missing end on.
    #[cold]
    fn string_slowly(&mut self, start: usize, mut at: usize) -> Scanned<u64> {
        self.flags |= high_in(&self.bytes[start..at]);
        loop {
            let word = self.word(at);
            let stop = stops(word);
            if stop == 0 {
                self.flags |= high(word);
                at += 8;
                continue;
            }
            let length = stop.trailing_zeros() / 8;
            self.flags |= high(word & !(u64::MAX << (8 * length)));
            at += length as usize;
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at = self.escape(at)?,
                Some(_) => {
                    self.flags |= CONTROL;
                    at += 1;
                }
                None => return Err(Broken::Syntax(at)),
            }
        }
        self.at = at + 1;
        Ok(hash::bytes(&self.bytes[start..at]))
    }

    /// Checks the escape at `at` and gives the place behind it.
    fn escape(&mut self, at: usize) -> Scanned<usize> {
        self.flags |= ESCAPE;
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => {
                let unit = self.unit(at)?;
                if (0xd800..0xdc00).contains(&unit) {
                    let low = self.bytes.get(at + 6..at + 8) == Some(b"\\u");
                    if low && matches!(self.unit(at + 6), Ok(0xdc00..=0xdfff)) {
                        return Ok(at + 12);
                    }
                    self.flags |= SURROGATE;
                } else if (0xdc00..0xe000).contains(&unit) {
                    self.flags |= SURROGATE;
                }
                Ok(at + 6)
            }
            _ => Err(Broken::Syntax(at)),
        }
    }

    /// The UTF-16 unit of the `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Scanned<u32> {
        let digits = self.bytes.get(at + 2..at + 6).ok_or(Broken::Syntax(at))?;
        let mut unit = 0;
        for &digit in digits {
            unit = unit * 16 + char::from(digit).to_digit(16).ok_or(Broken::Syntax(at))?;
        }
        Ok(unit)
    }

    /// Reads any value; `depth` is how many containers stand around it.
    #[inline]
    pub(crate) fn value(&mut self, depth: u32) -> Scanned<u64> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                if self.peek() == Some(b'"') {
                    self.flags |= EMPTY;
                }
                self.string()
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => {
                self.flags |= EMPTY;
                self.literal(b"null")
            }
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Scanned<u64> {
        if depth >= DEPTH_LIMIT {
            return Err(Broken::Deep);
        }
        self.at += 1;
        self.space();
        let (mut sum, mut seen) = (0u64, 0u64);
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.flags |= EMPTY;
            return Ok(hash::object(sum));
        }
        loop {
            self.expect(b'"')?;
            let name = self.string()?;
            self.flags |= if seen >> (name >> 58) & 1 == 1 {
                TWICE
            } else {
                0
            };
            seen |= 1 << (name >> 58);
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.value(depth + 1)?;
            sum = sum.wrapping_add(hash::member(name, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(hash::object(sum));
                }
                _ => return self.broken(),
            }
            self.space();
        }
    }

    fn array(&mut self, depth: u32) -> Scanned<u64> {
        if depth >= DEPTH_LIMIT {
            return Err(Broken::Deep);
        }
        self.at += 1;
        self.space();
        let mut state = hash::ARRAY;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.flags |= EMPTY;
            return Ok(state);
        }
        loop {
            state = hash::mix(state, self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(state);
                }
                _ => return self.broken(),
            }
            self.space();
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Scanned<u64> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(hash::mix(hash::SCALAR, u64::from(word[0])));
        }
        self.broken()
    }

    fn digits(&mut self) -> Scanned<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            self.broken()
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Scanned<u64> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
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
        Ok(hash::mix(
            hash::SCALAR,
            hash::bytes(&self.bytes[start..self.at]),
        ))
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes that end a run of plain text: quote, backslash, control. The lowest mark is exact.
#[inline]
fn stops(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5c);
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(quote) | zero(backslash) | control) & HIGHS
}

#[inline]
fn high(word: u64) -> u8 {
    if word & HIGHS == 0 { 0 } else { HIGH }
}

fn high_in(bytes: &[u8]) -> u8 {
    if bytes.is_ascii() { 0 } else { HIGH }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> (Scanned<u64>, u8) {
        let mut scanner = Scanner::new(json.as_bytes());
        let hash = scanner.value(0);
        if hash.is_ok() {
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
        assert_eq!(check(json).0, Ok(0xa8e8_61e9_7c2d_c6c6));
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
            assert!(check(good).0.is_ok(), "{good}");
        }
        for bad in [
            "01", "-", "1.", "1e", "\"", r#""\x""#, "[1,]", "{\"a\"}", "{,}", "NaN", "tru", "'a'",
            "",
        ] {
            let mut scanner = Scanner::new(bad.as_bytes());
            let whole = scanner.value(0).is_ok() && scanner.at == bad.len();
            assert!(!whole, "{bad}");
        }
        assert_eq!(check(&"[".repeat(1_000_000)).0, Err(Broken::Deep));
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
