//! Compares 64 bytes at once with the few that end strings and brackets.

/// Bytes in a block: one bit each in a `u64`.
pub(crate) const BLOCK: usize = 64;

/// For each byte of a block, whether it is the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Masks {
    pub(crate) quote: u64,
    pub(crate) backslash: u64,
    /// Braces and brackets, opening and closing.
    pub(crate) bracket: u64,
}

impl Masks {
    #[inline]
    pub(crate) fn of(block: &[u8; BLOCK]) -> Self {
        let mut masks = Self {
            quote: 0,
            backslash: 0,
            bracket: 0,
        };
        let (lanes, _) = block.as_chunks::<16>();
        for (index, lane) in lanes.iter().enumerate() {
            let (quote, backslash, bracket) = lane::masks(lane);
            let shift = index * 16;
            masks.quote |= u64::from(quote) << shift;
            masks.backslash |= u64::from(backslash) << shift;
            masks.bracket |= u64::from(bracket) << shift;
        }
        masks
    }
}

/// Splits a lane into the two halves that vector registers are made of.
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
fn halves(lane: &[u8; 16]) -> (i64, i64) {
    let whole = u128::from_le_bytes(*lane);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are what is wanted"
    )]
    let (low, high) = (whole as u64, (whole >> 64) as u64);
    (low.cast_signed(), high.cast_signed())
}

#[cfg(target_arch = "x86_64")]
mod lane {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    /// SSE2, which every x86-64 has.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn masks_sse2(lane: &[u8; 16]) -> (u16, u16, u16) {
        let (low, high) = super::halves(lane);
        let bytes = _mm_set_epi64x(high, low);
        // Setting bit 0x20 makes a brace of each bracket, so that two comparisons find all four.
        let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5C));
        let bracket = _mm_or_si128(
            _mm_cmpeq_epi8(folded, _mm_set1_epi8(0x7B)),
            _mm_cmpeq_epi8(folded, _mm_set1_epi8(0x7D)),
        );
        let bits = |mask| (_mm_movemask_epi8(mask).cast_unsigned() & 0xFFFF) as u16;
        (bits(quote), bits(backslash), bits(bracket))
    }

    #[inline]
    pub(super) fn masks(lane: &[u8; 16]) -> (u16, u16, u16) {
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { masks_sse2(lane) }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lane {
    use std::arch::wasm32::{i8x16_eq, i8x16_splat, i64x2, u8x16_bitmask, v128_or};

    #[inline]
    pub(super) fn masks(lane: &[u8; 16]) -> (u16, u16, u16) {
        let (low, high) = super::halves(lane);
        let bytes = i64x2(low, high);
        // Setting bit 0x20 makes a brace of each bracket, so that two comparisons find all four.
        let folded = v128_or(bytes, i8x16_splat(0x20));
        let quote = i8x16_eq(bytes, i8x16_splat(0x22));
        let backslash = i8x16_eq(bytes, i8x16_splat(0x5C));
        let bracket = v128_or(
            i8x16_eq(folded, i8x16_splat(0x7B)),
            i8x16_eq(folded, i8x16_splat(0x7D)),
        );
        (
            u8x16_bitmask(quote),
            u8x16_bitmask(backslash),
            u8x16_bitmask(bracket),
        )
    }
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
mod lane {
    #[inline]
    pub(super) fn masks(lane: &[u8; 16]) -> (u16, u16, u16) {
        let (mut quote, mut backslash, mut bracket) = (0, 0, 0);
        for (index, byte) in lane.iter().enumerate() {
            quote |= u16::from(*byte == b'"') << index;
            backslash |= u16::from(*byte == b'\\') << index;
            bracket |= u16::from(matches!(byte, b'{' | b'}' | b'[' | b']')) << index;
        }
        (quote, backslash, bracket)
    }
}
