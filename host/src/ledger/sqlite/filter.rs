//! Says of most identities that they were never seen, without asking the database.
//!
//! A split block Bloom filter: one cache line per question, no false "never seen". Identities are
//! hashes already, so their own bits choose block and bits.

/// Bits per identity: about 0.15 % of unknown identities are mistaken for known ones and looked up.
const BITS_PER_KEY: usize = 16;

/// Words of a block: 64 bytes, a cache line.
const WORDS: usize = 8;

/// The smallest filter, so that a quiet day costs 128 KiB and a busy one few rebuilds.
const MIN_KEYS: usize = 65_536;

/// A set of identities that may claim too much, never too little.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<[u64; WORDS]>,
    keys: usize,
    capacity: usize,
}

impl Filter {
    /// An empty filter that stays sharp up to `keys` identities.
    pub(super) fn for_keys(keys: usize) -> Self {
        let capacity = keys.max(MIN_KEYS);
        let blocks = vec![[0; WORDS]; capacity * BITS_PER_KEY / (WORDS * 64)];
        Self {
            blocks,
            keys: 0,
            capacity,
        }
    }

    /// Adds an identity.
    pub(super) fn add(&mut self, key: u128) {
        let block = self.block(key);
        for (word, bit) in self.blocks[block].iter_mut().zip(bits(key)) {
            *word |= bit;
        }
        self.keys += 1;
    }

    /// Whether the identity may have been added.
    pub(super) fn may_hold(&self, key: u128) -> bool {
        let words = &self.blocks[self.block(key)];
        words
            .iter()
            .zip(bits(key))
            .all(|(word, bit)| word & bit != 0)
    }

    /// Whether it holds more than it was made for.
    pub(super) fn is_full(&self) -> bool {
        self.keys > self.capacity
    }

    /// What it was made for.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the product's upper half is smaller than the number of blocks"
    )]
    fn block(&self, key: u128) -> usize {
        let high = key >> 64;
        ((high * self.blocks.len() as u128) >> 64) as usize
    }
}

/// One bit of each word, from the identity's lower half.
fn bits(key: u128) -> impl Iterator<Item = u64> {
    (0..WORDS).map(move |word| 1_u64 << ((key >> (word * 6)) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Identity;

    fn key(number: u32) -> u128 {
        u128::from_be_bytes(Identity::of("contoso", "a", 0).child(number).0)
    }

    #[test]
    fn never_denies_what_it_holds_and_seldom_claims_what_it_does_not() {
        let mut filter = Filter::for_keys(65_536);
        (0..65_536).for_each(|number| filter.add(key(number)));
        assert!(!filter.is_full());
        assert!((0..65_536).all(|number| filter.may_hold(key(number))));
        let wrong = (65_536..131_072)
            .filter(|&number| filter.may_hold(key(number)))
            .count();
        assert!(
            wrong < 400,
            "{wrong} of 65,536 unknown identities were claimed"
        );
        filter.add(key(131_072));
        assert!(filter.is_full());
    }
}
