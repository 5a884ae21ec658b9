//! Appending bytes.
//!
//! Most of what is written is short: a name, a word, an id. In wasm a copy of a length known only
//! at run time is a call out of the code, so short texts are appended in pieces of fixed size.

/// Longer texts are worth a call.
const SHORT: usize = 40;

/// Appends `bytes`.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT || cfg!(not(target_arch = "wasm32")) {
        out.extend_from_slice(bytes);
    } else {
        put_short(out, bytes);
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        out.extend_from_slice(chunk);
        rest = behind;
    }
    if let Some((chunk, behind)) = rest.split_first_chunk::<4>() {
        out.extend_from_slice(chunk);
        rest = behind;
    }
    for &byte in rest {
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length() {
        let text: Vec<u8> = (0..100).collect();
        for length in 0..text.len() {
            let mut out = b"x".to_vec();
            put_short(&mut out, &text[..length]);
            assert_eq!(out[1..], text[..length]);
        }
    }
}
