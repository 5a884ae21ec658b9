//! Chance from one seed: the same seed gives the same tenant, the same content and the same faults.
//!
//! Every question asked of chance names its concern and its subject, so adding a fault kind never
//! shifts the answers of another, and the order in which requests happen to arrive changes nothing.

/// What a draw is for. One stream per concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Tenant = 1,
    Blob,
    Record,
    Identity,
    Late,
    Token,
    Page,
    Order,
    Fault,
    Style,
    Swarm,
    Size,
}

/// A point in the tree of draws; every step down names what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn of(self, concern: Concern) -> Self {
        self.with(concern as u64)
    }

    pub(crate) fn with(self, number: u64) -> Self {
        Self(mix(self.0 ^ mix(number.wrapping_add(GOLDEN))))
    }

    pub(crate) fn text(self, text: &str) -> Self {
        // FNV-1a: short keys, and the mixing afterwards repairs its weak high bits.
        let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        self.with(hash)
    }

    pub(crate) fn below(self, bound: u64) -> u64 {
        below(mix(self.0), bound)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub(crate) fn chance(self, rate: f64) -> bool {
        ((mix(self.0) >> 11) as f64) < rate * (1_u64 << 53) as f64
    }

    pub(crate) fn stream(self) -> Stream {
        Stream(self.0)
    }
}

/// A run of draws about one subject (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        below(self.next(), bound)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len() as u64);
        &from[usize::try_from(index).expect("an index below a slice's length fits usize")]
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn below(value: u64, bound: u64) -> u64 {
    let wide = (u128::from(value) * u128::from(bound)) >> 64;
    u64::try_from(wide).expect("the upper half of a 128-bit product fits 64 bits")
}

/// A bijection of 64-bit numbers that looks random; [`unmix`] undoes it.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The inverse of [`mix`].
pub(crate) fn unmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42B2_D24D_8EC3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96DE_1B17_3F11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

/// Appends a GUID in lower case.
pub(crate) fn push_guid(out: &mut Vec<u8>, high: u64, low: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let value = (u128::from(high) << 64) | u128::from(low);
    for (index, byte) in value.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// A GUID of version 4 as text.
pub(crate) fn guid(high: u64, low: u64) -> String {
    let mut out = Vec::with_capacity(36);
    push_guid(&mut out, version_4(high), low & (u64::MAX >> 2) | (1 << 63));
    String::from_utf8(out).expect("hexadecimal digits and hyphens are UTF-8")
}

pub(crate) fn version_4(high: u64) -> u64 {
    high & !0xF000 | 0x4000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmix_undoes_mix() {
        for n in (0..64).map(|bit| 1_u64 << bit).chain([0, 7, u64::MAX]) {
            assert_eq!(unmix(mix(n)), n);
        }
    }

    #[test]
    fn a_rate_is_kept_and_its_ends_are_certain() {
        let seed = Seed(5).of(Concern::Fault);
        let hits = (0..10_000).filter(|n| seed.with(*n).chance(0.05)).count();
        assert!((400..600).contains(&hits), "{hits}");
        assert!((0..1_000).all(|n| seed.with(n).chance(1.0)));
        assert!(!(0..1_000).any(|n| seed.with(n).chance(0.0)));
    }

    #[test]
    fn guids_have_their_form() {
        let guid = guid(0x0123_4567_89ab_cdef, 1);
        assert_eq!(guid, "01234567-89ab-4def-8000-000000000001");
    }
}
