//! What goes wrong, and with which of many: the same for the same seed and the same id.

/// Any numbers, the same for the same seed (xorshift).
#[derive(Debug, Default)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[expect(clippy::cast_precision_loss, reason = "a probability needs no more")]
        let share = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        share < probability
    }
}

/// One in so many ids, always the same ones.
pub(crate) fn chosen(id: &str, one_in: Option<u64>, salt: u64) -> bool {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325 ^ salt, step);
    one_in.is_some_and(|one_in| (hash >> 7) % one_in == 0)
}
