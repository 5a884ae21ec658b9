//! Appending and comparing bytes.
//!
//! Most of what is written is short: a name, a word, an id. In wasm a copy or a comparison of a
//! length known only at run time is a call, so short texts are handled in two pieces of fixed size
//! that may overlap.

use crate::block;

/// Longer texts are worth a call.
const SHORT: usize = 64;

/// Appends `bytes`.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT || cfg!(not(target_arch = "wasm32")) {
        out.extend_from_slice(bytes);
    } else {
        put_short(out, bytes);
    }
}

/// Appends `bytes` between quotes.
#[inline]
pub(crate) fn put_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT - 2 || cfg!(not(target_arch = "wasm32")) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let start = out.len();
    // The quotes are what nothing is copied over.
    out.resize(start + SHORT, b'"');
    if let Some([_, room @ ..]) = out.last_chunk_mut::<SHORT>() {
        copy_short(room, bytes);
    }
    out.truncate(start + bytes.len() + 2);
}

/// Appends up to `SHORT` bytes.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    // Room is asked for once, and the zeros are four stores.
    out.resize(start + SHORT, 0);
    if let Some(room) = out.last_chunk_mut::<SHORT>() {
        copy_short(room, bytes);
    }
    out.truncate(start + bytes.len());
}

#[inline]
fn copy_short<const ROOM: usize>(room: &mut [u8; ROOM], bytes: &[u8]) {
    let _ = ends::<32, ROOM>(room, bytes)
        || ends::<16, ROOM>(room, bytes)
        || ends::<8, ROOM>(room, bytes)
        || ends::<4, ROOM>(room, bytes)
        || ends::<2, ROOM>(room, bytes)
        || ends::<1, ROOM>(room, bytes);
}

/// Copies at least `N` and at most twice as many bytes: the first `N`, then the last `N` over them.
#[inline]
fn ends<const N: usize, const ROOM: usize>(room: &mut [u8; ROOM], bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) else {
        return false;
    };
    room[..N].copy_from_slice(first);
    let behind = room.get_mut(bytes.len() - N..);
    if let Some(place) = behind.and_then(<[u8]>::first_chunk_mut) {
        *place = *last;
    }
    true
}

/// Whether a byte is there of which `is` holds. Sixteen are asked at once, some of them twice.
#[inline]
pub(crate) fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let among = |block: [u8; 16]| block.iter().fold(false, |found, &byte| found | is(byte));
    let twice = |word: u64| u128::from(word) << 64 | u128::from(word);
    if let Some(last) = bytes.last_chunk::<16>() {
        let (blocks, _) = bytes.as_chunks();
        return among(*last) || blocks.iter().any(|block| among(*block));
    }
    let block = if let Some(first) = bytes.first_chunk::<8>()
        && let Some(last) = bytes.last_chunk()
    {
        u128::from(u64::from_le_bytes(*first)) << 64 | u128::from(u64::from_le_bytes(*last))
    } else if let Some(first) = bytes.first_chunk::<4>()
        && let Some(last) = bytes.last_chunk()
    {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        twice(u64::from(first) << 32 | u64::from(last))
    } else {
        return bytes.iter().any(|&byte| is(byte));
    };
    among(block.to_le_bytes())
}

/// Where the first of these bytes stands. Eight are looked at at once.
#[inline]
pub(crate) fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let marks = block::equal(u64::from_le_bytes(*word), byte);
        if marks != 0 {
            return Some(bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    let at = rest.iter().position(|&other| other == byte)?;
    Some(bytes.len() - rest.len() + at)
}

/// Whether both are the same bytes.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if cfg!(not(target_arch = "wasm32")) {
        return one == other;
    }
    if one.len() > 32 {
        let ((blocks, _), (others, _)) = (one.as_chunks::<16>(), other.as_chunks());
        return one.last_chunk::<16>() == other.last_chunk()
            && blocks.iter().zip(others).all(|(one, other)| one == other);
    }
    if let Some(same) = same_ends::<16>(one, other) {
        return same;
    }
    if let Some(same) = same_ends::<8>(one, other) {
        return same;
    }
    if let Some(same) = same_ends::<4>(one, other) {
        return same;
    }
    let three = |bytes: &[u8]| {
        (
            bytes.first().copied(),
            bytes.get(1).copied(),
            bytes.last().copied(),
        )
    };
    three(one) == three(other)
}

/// Whether the first `N` bytes and the last are the same, if there are as many.
#[inline]
fn same_ends<const N: usize>(one: &[u8], other: &[u8]) -> Option<bool> {
    let first = one.first_chunk::<N>()? == other.first_chunk::<N>()?;
    Some(first && one.last_chunk::<N>()? == other.last_chunk::<N>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length() {
        let text: Vec<u8> = (0..100).collect();
        for length in 0..=SHORT {
            let mut out = b"x".to_vec();
            put_short(&mut out, &text[..length]);
            assert_eq!(out[0], b'x');
            assert_eq!(out[1..], text[..length]);
            let mut out = b"x".to_vec();
            put_quoted(&mut out, &text[..length]);
            assert_eq!(
                (out[1], out.len(), out[length + 2]),
                (b'"', length + 3, b'"')
            );
            assert_eq!(out[2..length + 2], text[..length]);
            assert!(same(&text[..length], &text[..length]));
            for at in 0..length {
                let mut other = text[..length].to_vec();
                other[at] ^= 1;
                assert!(!same(&text[..length], &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn the_first_is_found() {
        for rest in [b'a', b'\\' ^ 1, b'\\' ^ 0x80, 0, 0xff, b'\\'] {
            for length in 0..20 {
                let mut text = vec![b'~'; length];
                assert_eq!(position(&text, b'\\'), None);
                for at in (0..length).rev() {
                    text.fill(b'~');
                    text[at + 1..].fill(rest);
                    text[at] = b'\\';
                    assert_eq!(position(&text, b'\\'), Some(at), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn any_of_every_length() {
        for length in 0..70 {
            let mut text = vec![b'~'; length];
            assert!(!any(&text, |byte| byte == b'.'));
            for at in 0..length {
                text[at] = b'.';
                assert!(any(&text, |byte| byte == b'.'), "{at} of {length}");
                text[at] = b'~';
            }
        }
    }
}
