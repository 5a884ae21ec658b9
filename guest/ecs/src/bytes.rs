//! Appending and comparing bytes.
//!
//! Most of what is written is short: a name, a word, an id. In wasm a copy or a comparison of a
//! length known only at run time is a call, so short texts are handled in two pieces of fixed size
//! that may overlap.

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

/// Whether a byte is there of which `is` holds. Every byte is asked, so that many are asked at once.
#[inline]
pub(crate) fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | is(byte))
}

/// Whether both are the same bytes.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if one.len() > 32 || cfg!(not(target_arch = "wasm32")) {
        return one == other;
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
}
