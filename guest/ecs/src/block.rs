//! Sixteen bytes at once: where a run of plain text ends.
//!
//! Written with the vector instructions that every x86-64 has and that wasm has with `simd128`;
//! elsewhere with two words. All three give the same answer, and a test asks them.

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The first eight.
    pub(crate) low: u64,
    /// The other eight.
    pub(crate) high: u64,
    /// All of them once more: to put the words together again takes longer than to read twice.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    all: std::arch::wasm32::v128,
}

impl Block {
    /// The sixteen bytes from `at`, with zeros behind the end of the bytes.
    #[inline]
    pub(crate) fn load(bytes: &[u8], at: usize) -> Self {
        // Two loads into registers: as one array the block would go through memory in wasm.
        if let Some(rest) = bytes.get(at..)
            && let Some(all) = rest.first_chunk::<16>()
            && let Some((low, rest)) = all.split_first_chunk()
            && let Some(high) = rest.first_chunk()
        {
            return Block {
                low: u64::from_le_bytes(*low),
                high: u64::from_le_bytes(*high),
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                all: wasm::load(all),
            };
        }
        Block::from(load_end(bytes, bytes.len().saturating_sub(at)))
    }

    /// Marks, one bit a byte, quotes, backslashes and control bytes.
    #[inline]
    pub(crate) fn stops(self) -> u32 {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "the one way to say that every x86-64 has SSE2")]
        // SAFETY: SSE2 is part of x86-64; there is no such machine without it.
        return unsafe { x86::stops(self.low, self.high) };
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return wasm::stops(self.all);
        #[cfg(not(any(
            target_arch = "x86_64",
            all(target_arch = "wasm32", target_feature = "simd128")
        )))]
        return words(self.low, self.high);
    }
}

impl From<(u64, u64)> for Block {
    fn from((low, high): (u64, u64)) -> Self {
        Block {
            low,
            high,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            all: std::arch::wasm32::u64x2(low, high),
        }
    }
}

/// The last `length` bytes, fewer than sixteen: what stands before them is read too and shifted out.
#[inline(never)]
fn load_end(bytes: &[u8], length: usize) -> (u64, u64) {
    let mut block = [0; 16];
    let Some(last) = bytes.last_chunk::<16>() else {
        let rest = &bytes[bytes.len() - length..];
        block[..length].copy_from_slice(rest);
        let Block { low, high, .. } = Block::load(&block, 0);
        return (low, high);
    };
    let Block { low, high, .. } = Block::load(last, 0);
    let shift = 8 * (16 - length);
    match shift {
        0 => (low, high),
        1..64 => (low >> shift | high << (64 - shift), high >> shift),
        64..128 => (high >> (shift - 64), 0),
        _ => (0, 0),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn stops(low: u64, high: u64) -> u32 {
        let block = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
        let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x22));
        let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x5c));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)).cast_unsigned()
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use std::arch::wasm32::{
        u8x16_bitmask, u8x16_eq, u8x16_min, u8x16_splat, u8x16_sub_sat, v128, v128_load, v128_xor,
    };

    #[inline]
    #[expect(unsafe_code, reason = "there is no safe way to load a vector")]
    pub(super) fn load(bytes: &[u8; 16]) -> v128 {
        // SAFETY: all sixteen bytes are there, and a load in wasm needs no alignment.
        unsafe { v128_load(bytes.as_ptr().cast()) }
    }

    #[inline]
    pub(super) fn stops(block: v128) -> u32 {
        // With bit 1 flipped the quote is 0x20, just above the control bytes, which stay below it.
        let quote_or_control = u8x16_sub_sat(v128_xor(block, u8x16_splat(0x02)), u8x16_splat(0x20));
        let backslash = v128_xor(block, u8x16_splat(0x5c));
        let stop = u8x16_min(quote_or_control, backslash);
        u32::from(u8x16_bitmask(u8x16_eq(stop, u8x16_splat(0))))
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The high bit of every byte that ends a run; the lowest mark is exact, those above may be false.
#[inline]
fn word(word: u64) -> u64 {
    // With bit 1 flipped the quote is 0x20, just above the control bytes, which stay below it.
    let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & (ONES * 0x80)
}

/// The high bit of every such byte; the lowest mark is exact, those above may be false.
#[inline]
pub(crate) fn equal(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * u64::from(byte));
    zero.wrapping_sub(ONES) & !zero & (ONES * 0x80)
}

/// What `stops` gives where there are no vector instructions: the first mark only.
#[cfg_attr(
    any(target_arch = "x86_64", target_feature = "simd128"),
    allow(dead_code, reason = "the other machines' way, tested on all")
)]
fn words(low: u64, high: u64) -> u32 {
    let first = |word_: u64, from: u32| match word(word_) {
        0 => 0,
        marks => 1 << (from + marks.trailing_zeros() / 8),
    };
    match first(low, 0) {
        0 => first(high, 8),
        mark => mark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_end_are_zeros() {
        let bytes: Vec<u8> = (1..=40).collect();
        for length in 0..=bytes.len() {
            let bytes = &bytes[..length];
            for at in 0..=length {
                let mut block = [0; 16];
                let count = (length - at).min(16);
                block[..count].copy_from_slice(&bytes[at..at + count]);
                let half = |from| u64::from_le_bytes(block[from..from + 8].try_into().unwrap());
                let Block { low, high, .. } = Block::load(bytes, at);
                assert_eq!((low, high), (half(0), half(8)), "{at} of {length}");
            }
        }
    }

    #[test]
    fn every_way_finds_the_first_stop() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                for rest in [b'a', b'"', 0x80, 0xff, 0x20, 0x23] {
                    let mut block = [rest; 16];
                    block[..at].fill(b'~');
                    block[at] = byte;
                    let half = |from| u64::from_le_bytes(block[from..from + 8].try_into().unwrap());
                    let stop = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
                    let expected = block.iter().position(stop);
                    let found = |marks: u32| (marks != 0).then(|| marks.trailing_zeros() as usize);
                    assert_eq!(found(Block::load(&block, 0).stops()), expected, "{block:?}");
                    assert_eq!(found(words(half(0), half(8))), expected, "{block:?}");
                }
            }
        }
    }
}
