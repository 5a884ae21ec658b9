//! Finds the end of one JSON object: strings, brackets and depth, nothing else.
//!
//! Works on blocks of 64 bytes and carries what it must from one piece of input to the next.

use crate::DEPTH_LIMIT;
use crate::block::{BLOCK, Masks};

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The input ended first.
    Open,
    /// The object ends behind so many bytes.
    Closed(usize),
    /// The byte before this place closes what was not open.
    Mismatch(usize),
}

/// An object whose end has not been seen.
#[derive(Debug)]
pub(crate) struct Element {
    /// All ones while inside a string.
    in_string: u64,
    /// 1 when the first byte of the next block is escaped.
    escaped: u64,
    depth: u32,
    /// Kinds of the open brackets, the innermost in the lowest bit: 1 for a brace.
    kinds: u128,
    too_deep: bool,
}

impl Element {
    pub(crate) fn new() -> Self {
        Self {
            in_string: 0,
            escaped: 0,
            depth: 0,
            kinds: 0,
            too_deep: false,
        }
    }

    pub(crate) fn too_deep(&self) -> bool {
        self.too_deep
    }

    /// Scans bytes that follow those of the last scan.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Outcome {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for (index, block) in blocks.iter().enumerate() {
            if let Some(outcome) = self.block(block, index * BLOCK, BLOCK) {
                return outcome;
            }
        }
        if rest.is_empty() {
            return Outcome::Open;
        }
        let mut padded = [b' '; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        self.block(&padded, blocks.len() * BLOCK, rest.len())
            .unwrap_or(Outcome::Open)
    }

    #[inline]
    fn block(&mut self, block: &[u8; BLOCK], start: usize, length: usize) -> Option<Outcome> {
        let masks = Masks::of(block);
        let escaped = self.escapes(masks.backslash, length);
        let inside = prefix_xor(masks.quote & !escaped) ^ self.in_string;
        let mut brackets = masks.bracket & !inside;
        while brackets != 0 {
            let index = brackets.trailing_zeros() as usize;
            brackets &= brackets - 1;
            let byte = block[index];
            let brace = u128::from(byte & 0x20 != 0);
            if byte & 0x02 != 0 {
                self.depth += 1;
                if self.depth <= DEPTH_LIMIT {
                    self.kinds = (self.kinds << 1) | brace;
                } else {
                    self.too_deep = true;
                }
                continue;
            }
            if self.depth <= DEPTH_LIMIT {
                if self.kinds & 1 != brace {
                    return Some(Outcome::Mismatch(start + index + 1));
                }
                self.kinds >>= 1;
            }
            self.depth -= 1;
            if self.depth == 0 {
                return Some(Outcome::Closed(start + index + 1));
            }
        }
        // The padding of a short block is no string and no escape: the state in front of it counts.
        self.in_string = if (inside >> (length - 1)) & 1 == 1 {
            u64::MAX
        } else {
            0
        };
        None
    }

    /// Which bytes of the block are escaped; leaves in `self.escaped` what the next block needs.
    #[inline]
    fn escapes(&mut self, backslash: u64, length: usize) -> u64 {
        if backslash == 0 && self.escaped == 0 {
            return 0;
        }
        let mut escaped = self.escaped;
        let mut left = backslash & !escaped;
        self.escaped = 0;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            if index as usize + 1 == length {
                self.escaped = 1;
            } else {
                escaped |= 2 << index;
                left &= !(2 << index);
            }
        }
        escaped
    }
}

/// Bit n of the answer is the parity of the bits 0 to n: set from each opening quote up to, and
/// without, the closing one.
#[inline]
fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}
