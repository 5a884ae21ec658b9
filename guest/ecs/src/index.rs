//! Finds a row by its hash: a plain search while there are few, open addressing after that.
//!
//! Lists are short in real records and endless in hostile ones; both must take no longer than their
//! bytes deserve.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::scan::Hash;

/// Up to so many rows a plain search is faster.
const SEARCHED: usize = 64;

/// The hashes of rows, in the order the rows were added.
pub(crate) struct Index<'a> {
    hashes: ArenaVec<'a, Hash>,
    /// Row plus one at the first free place behind its hash; empty while a search does.
    slots: ArenaVec<'a, u32>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(arena: &'a Bump) -> Self {
        let hashes = ArenaVec::with_capacity_in(SEARCHED, arena);
        Index {
            hashes,
            slots: ArenaVec::new_in(arena),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The row of this hash that is the same.
    pub(crate) fn find(&self, hash: Hash, same: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            let mut rows = self.hashes.iter().enumerate();
            return rows
                .find(|&(row, have)| *have == hash && same(row))
                .map(|(row, _)| row);
        }
        let mut slot = self.slot(hash);
        while self.slots[slot] > 0 {
            let row = self.slots[slot] as usize - 1;
            if self.hashes[row] == hash && same(row) {
                return Some(row);
            }
            slot = (slot + 1) % self.slots.len();
        }
        None
    }

    /// Adds the next row.
    pub(crate) fn push(&mut self, hash: Hash) {
        self.hashes.push(hash);
        let rows = self.hashes.len();
        if rows <= SEARCHED {
            return;
        }
        let full = rows * 2 > self.slots.len();
        if full {
            self.slots.clear();
            self.slots.resize((rows * 4).next_power_of_two(), 0);
        }
        for row in if full { 0 } else { rows - 1 }..rows {
            let mut slot = self.slot(self.hashes[row]);
            while self.slots[slot] > 0 {
                slot = (slot + 1) % self.slots.len();
            }
            self.slots[slot] = u32::try_from(row + 1).unwrap_or(0);
        }
    }

    fn slot(&self, hash: Hash) -> usize {
        usize::try_from(hash.get() >> 32).unwrap_or(0) % self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    #[test]
    fn many_rows_are_found_again() {
        let arena = Bump::new();
        let mut index = Index::new(&arena);
        let hash = |row: usize| hash::bytes(row.to_string().as_bytes());
        for row in 0..1000 {
            assert_eq!(index.find(hash(row), |found| found == row), None);
            index.push(hash(row));
        }
        for row in 0..1000 {
            assert_eq!(index.find(hash(row), |found| found == row), Some(row));
        }
        assert_eq!(index.len(), 1000);
    }
}
