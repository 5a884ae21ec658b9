//! Chance from one seed: one stream for each concern, so that a new kind of fault shifts no other's draws.

/// What a stream of draws is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// What the scenario is made of.
    Plan,
    /// Latencies and broken connections.
    Network,
    /// When the process dies.
    Crash,
    /// What the sinks do.
    Sink,
    /// What the disk and the ledger do.
    Disk,
    /// What operators and the clock do.
    Operator,
    /// Jitter of the code under test.
    Jitter,
}

/// A stream of draws (splitmix64).
#[derive(Clone, Debug)]
pub struct Stream(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijection of 64-bit numbers that looks random.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    /// The stream of a concern under a seed.
    pub fn new(seed: u64, concern: Concern) -> Self {
        Self(mix(seed ^ mix(GOLDEN.wrapping_mul(concern as u64 + 1))))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, which is at least one.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = (u128::from(self.bits()) * u128::from(bound.max(1))) >> 64;
        u64::try_from(wide).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True in so many of a thousand draws.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// True in half of the draws.
    pub fn flip(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }
}
