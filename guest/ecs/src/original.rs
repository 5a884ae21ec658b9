//! `event.original`: the record's bytes, exactly.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::text::Text;

/// The bytes as a text; bytes that are no UTF-8 as Base64, and then true.
pub(crate) fn text<'a>(arena: &'a Bump, bytes: &'a [u8]) -> (Text<'a>, bool) {
    if str::from_utf8(bytes).is_ok() {
        return (Text::encode(arena, bytes), false);
    }
    (Text::plain(base64(arena, bytes)), true)
}

fn base64<'a>(arena: &'a Bump, bytes: &[u8]) -> &'a [u8] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = ArenaVec::with_capacity_in(bytes.len().div_ceil(3) * 4, arena);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= chunk.len() {
                DIGITS[index]
            } else {
                b'='
            });
        }
    }
    out.into_bump_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text() {
        let arena = Bump::new();
        for (bytes, expected) in [
            (&b"\xff"[..], "/w=="),
            (b"\xff\xfe", "//4="),
            (b"a\xffb", "Yf9i"),
            (b"caf\xe9", "Y2Fm6Q=="),
        ] {
            let (text, coded) = text(&arena, bytes);
            assert!(coded);
            assert_eq!(str::from_utf8(text.escaped), Ok(expected));
        }
        let (text, coded) = text(&arena, "{\"a\":\"\u{e9}\"}".as_bytes());
        assert!(!coded);
        assert_eq!(text.decode(&arena), "{\"a\":\"\u{e9}\"}".as_bytes());
    }
}
