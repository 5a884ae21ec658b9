//! What happens behind damage: where to go on, and what becomes of the bytes between.

use crate::element::Outcome;
use crate::{Expect, Inside, Item, Malformed, Reason, Splitter, Stop};

/// Most bytes of a bad slice that is kept when the record itself is over its limit.
const OVERSIZE_KEPT_BYTES: usize = 64 * 1024;

/// After so many restarts within each other a broken record is one bad slice up to its next likely
/// end; each is a few calls deep.
const RESTART_LIMIT: u32 = 64;

/// So is it when so many times the bytes of the input so far were read again: each restart reads
/// what is left once more, so without a limit hostile input could cost the square of its length.
const REREAD_LIMIT: u64 = 64;

impl Splitter {
    pub(crate) fn too_large<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        end: usize,
        open: bool,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let limit = self.limits.element_bytes as u64;
        let size = self.base + end as u64 - self.begun;
        if !self.limits.salvage {
            let reason = Reason::TooLarge { size, limit };
            return Err(Stop::Malformed(Malformed {
                offset: self.begun,
                reason,
            }));
        }
        let room = OVERSIZE_KEPT_BYTES
            .saturating_sub(self.held.len())
            .min(end - at);
        self.held.truncate(OVERSIZE_KEPT_BYTES);
        self.held.extend_from_slice(&chunk[at..at + room]);
        self.held.shrink_to_fit();
        if !open {
            self.end_bad(&[], Reason::TooLarge { size, limit }, each)?;
            return Ok(end);
        }
        if let Inside::Object(element) = std::mem::replace(&mut self.inside, Inside::Between) {
            self.inside = Inside::Oversize(element);
        }
        Ok(end)
    }

    pub(crate) fn oversize<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Oversize(element) = &mut self.inside else {
            return Ok(at);
        };
        let outcome = element.scan(&chunk[at..]);
        let end = match outcome {
            Outcome::Open => chunk.len(),
            Outcome::Closed(length) | Outcome::Mismatch(length) => at + length,
        };
        let room = OVERSIZE_KEPT_BYTES
            .saturating_sub(self.held.len())
            .min(end - at);
        self.held.extend_from_slice(&chunk[at..at + room]);
        if outcome == Outcome::Open {
            return Ok(end);
        }
        let size = self.base + end as u64 - self.begun;
        let limit = self.limits.element_bytes as u64;
        self.end_bad(&[], Reason::TooLarge { size, limit }, each)?;
        Ok(end)
    }

    /// Skips damage up to a brace that follows a closing brace with only white space and commas
    /// between them: there the next record may begin.
    pub(crate) fn damage<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Damage { closed, reason } = &mut self.inside else {
            return Ok(at);
        };
        let reason = *reason;
        for (index, byte) in chunk.iter().enumerate().skip(at) {
            match byte {
                b'{' if *closed => {
                    self.end_bad(&chunk[at..index], reason, each)?;
                    self.expect = Expect::Value;
                    return Ok(index);
                }
                b'}' => *closed = true,
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                // Garbage between two records: the next brace begins the second one.
                _ if reason == Reason::Garbage => {}
                _ => *closed = false,
            }
        }
        self.hold_bad(&chunk[at..]);
        Ok(chunk.len())
    }

    /// Deals with an object that is over the limit because its end is missing: another one begins
    /// in a line of its own. Gives where to go on.
    pub(crate) fn too_late<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, Stop<E>> {
        if !self.limits.salvage {
            return Ok(None);
        }
        let before = self.held.len();
        let end = at + (self.limits.element_bytes + 1).saturating_sub(before);
        self.hold(&chunk[at..end]);
        let Some(cut) = memchr::memmem::find(&self.held, b"\n{") else {
            self.held.truncate(before);
            return Ok(None);
        };
        let broken = std::mem::take(&mut self.held);
        let base = self.base;
        self.restart(broken, Some(cut + 1), Reason::Truncated, each)?;
        self.base = base;
        Ok(Some(end))
    }

    /// Begins again inside a broken record, where another one may begin.
    pub(crate) fn restart<E>(
        &mut self,
        broken: Vec<u8>,
        cut: Option<usize>,
        reason: Reason,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.recovering = true;
        self.reread += broken.len() as u64;
        let begun = self.begun;
        let affordable = self.restarts < RESTART_LIMIT
            && self.reread <= REREAD_LIMIT * (begun + broken.len() as u64);
        let Some(cut) = cut.filter(|_| affordable) else {
            // Nothing in it looks like a beginning: what follows belongs to the damage until
            // something does.
            let closed = broken
                .iter()
                .rposition(|&byte| byte == b'}')
                .is_some_and(|last| {
                    broken[last + 1..]
                        .iter()
                        .all(|byte| byte.is_ascii_whitespace() || *byte == b',')
                });
            self.base = begun + broken.len() as u64;
            self.held = broken;
            self.inside = Inside::Damage { closed, reason };
            return Ok(());
        };
        self.inside = Inside::Between;
        self.expect = Expect::Value;
        each(Item::Bad {
            bytes: &broken[..cut],
            offset: begun,
            reason,
        })
        .map_err(Stop::Caller)?;
        self.base = begun + cut as u64;
        self.restarts += 1;
        let answer = self.run(&broken[cut..], each);
        self.restarts -= 1;
        answer
    }
}

/// The first place behind the beginning of a broken record where another one may begin: behind a
/// closing brace, or in a line of its own.
pub(crate) fn next_start(broken: &[u8]) -> Option<usize> {
    let mut closed = false;
    for (index, byte) in broken.iter().enumerate().skip(1) {
        match byte {
            b'{' if closed || broken[index - 1] == b'\n' => return Some(index),
            b'}' => closed = true,
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
            _ => closed = false,
        }
    }
    None
}
