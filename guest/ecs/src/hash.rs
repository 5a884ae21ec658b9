//! The 64-bit hash behind the fingerprint and the table of known members.
//!
//! Our own, so that it is the same in every release, on every machine and in wasm: words of eight
//! bytes, read little-endian, are folded in with one 64-bit multiplication each; the last word is
//! padded with zeros and the length follows. It identifies content, it does not resist an attacker:
//! whoever can forge a record can also copy one. Changing anything here makes every remembered
//! event look new.

use crate::scan::Hash;

/// The state before the first word of a string.
pub(crate) const SEED: u64 = 0x9ae1_6a3b_2f90_404f;
/// The state before the first element of an array.
pub(crate) const ARRAY: u64 = 0xc2b2_ae3d_27d4_eb4f;
/// The state before a number or a literal.
const SCALAR: u64 = 0x27d4_eb2f_1656_67c5;
const OBJECT: u64 = 0x1656_67b1_9e37_79f9;
const MEMBER: u64 = 0x8535_38d7_0c6b_9f2d;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds one word into a state. For a fixed word it is a permutation of the states.
#[inline]
pub(crate) const fn mix(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(FACTOR);
    product ^ (product >> 32)
}

/// Ends a text: its last, zero-padded word and its length in bytes.
#[inline]
pub(crate) const fn finish(state: u64, tail: u64, length: usize) -> Hash {
    never_zero(mix(mix(state, tail), length as u64))
}

/// Zero becomes one, so that there is a value that is no hash.
#[inline]
pub(crate) const fn never_zero(hash: u64) -> Hash {
    match Hash::new(hash) {
        Some(hash) => hash,
        None => Hash::MIN,
    }
}

/// A number or a literal.
#[inline]
pub(crate) const fn scalar(word: u64) -> Hash {
    never_zero(mix(SCALAR, word))
}

/// One member of an object.
#[inline]
pub(crate) const fn member(name: Hash, value: Hash) -> u64 {
    mix(mix(MEMBER, name.get()), value.get())
}

/// An object, from the sum of its members.
#[inline]
pub(crate) const fn object(sum: u64) -> Hash {
    never_zero(mix(OBJECT, sum))
}

/// A text in one piece; equal to what `scan` computes on the way.
#[inline]
pub(crate) const fn bytes(text: &[u8]) -> Hash {
    let (mut state, mut rest) = (SEED, text);
    while let Some((words, behind)) = rest.split_first_chunk::<16>() {
        let words = u128::from_le_bytes(*words);
        #[expect(clippy::cast_possible_truncation, reason = "one half after the other")]
        let low = words as u64;
        state = mix(mix(state, low), (words >> 64) as u64);
        rest = behind;
    }
    if let Some((word, behind)) = rest.split_first_chunk() {
        state = mix(state, u64::from_le_bytes(*word));
        rest = behind;
    }
    // Up to seven bytes: two of four that may overlap, or up to three.
    let tail = if let (Some(first), Some(last)) = (rest.first_chunk(), rest.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        first as u64 | (last as u64) << (8 * (rest.len() - 4))
    } else if let (Some(&first), Some(&last)) = (rest.first(), rest.last()) {
        // Where there are not three, one of them is read again.
        let middle = rest.len() / 2;
        let middle = (rest[middle] as u64) << (8 * middle);
        first as u64 | middle | (last as u64) << (8 * (rest.len() - 1))
    } else {
        0
    };
    finish(state, tail, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    #[test]
    fn scanning_and_hashing_agree() {
        for length in 0..40 {
            let text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"[..length].to_owned();
            let quoted = format!("{text}\"");
            assert_eq!(
                Scanner::<true>::new(quoted.as_bytes()).string(),
                Some(bytes(text.as_bytes()))
            );
        }
        let escaped = r"a\nb and more \\ text";
        let quoted = format!("{escaped}\"");
        assert_eq!(
            Scanner::<true>::new(quoted.as_bytes()).string(),
            Some(bytes(escaped.as_bytes()))
        );
    }
}
