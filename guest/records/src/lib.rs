//! Splits JSON that arrives in chunks into its records, without building a tree.
//!
//! Every byte of the input ends in a record, in a bad slice that says why, or is white space,
//! punctuation between records or a byte-order mark: nothing is dropped in silence, and a body
//! that ends too early is an error. What stands inside a record is checked only as far as finding
//! its end needs (strings and brackets); whoever maps the record parses it.

mod block;
mod element;
mod item;
mod salvage;

use element::{Element, Outcome};
pub use item::{Item, Limits, Malformed, Reason, Stop};
use salvage::next_start;

/// Deepest nesting of a record. Real records stay below 20; the stack of brackets is one integer.
pub const DEPTH_LIMIT: u32 = 128;

/// What may come next between records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Only a byte-order mark or white space has been seen.
    Start,
    /// Behind an opening bracket: a value, or the end of the array.
    First,
    /// Behind a comma: a value.
    Value,
    /// Behind a value: a comma or the end of the array; outside of arrays, anything.
    Next,
}

/// The splitter: feed it with [`push`](Self::push), close it with [`finish`](Self::finish).
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    /// Bytes of the input before the slice that is being scanned.
    base: u64,
    /// Bytes of a byte-order mark matched so far; 3 once past the beginning.
    mark: u8,
    /// Arrays that are open around the records.
    arrays: u32,
    expect: Expect,
    inside: Inside,
    /// The unfinished element, from its first byte to the end of the last chunk.
    held: Vec<u8>,
    /// Where the unfinished element begins in the input.
    begun: u64,
    /// The last thing seen is the end of an outermost array: only another document may follow.
    after_array: bool,
    recovering: bool,
    /// Restarts within each other at this moment.
    restarts: u32,
    /// Bytes that were read again behind damage.
    reread: u64,
    records: u64,
}

/// What the last byte belonged to.
#[derive(Debug)]
enum Inside {
    /// Nothing: between elements.
    Between,
    Object(Element),
    /// A string at the place of a record; the flag says that the next byte is escaped.
    Text(bool),
    /// A number or a word at the place of a record.
    Word,
    /// Damage; everything up to the next place where a record may begin.
    Damage {
        closed: bool,
        reason: Reason,
    },
    /// A record over the limit, of which no more is kept.
    Oversize(Element),
}

impl Splitter {
    /// A splitter for one input.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            base: 0,
            mark: 0,
            arrays: 0,
            expect: Expect::Start,
            inside: Inside::Between,
            held: Vec::new(),
            begun: 0,
            after_array: false,
            recovering: false,
            restarts: 0,
            reread: 0,
            records: 0,
        }
    }

    /// Good records handed over so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes the next chunk and hands every element that ends in it to `each`.
    pub fn push<E>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.run(chunk, &mut each)
    }

    /// Says that the input is complete.
    pub fn finish<E>(
        &mut self,
        mut each: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        while !matches!(self.inside, Inside::Between) {
            if self.arrays == 0 && matches!(self.inside, Inside::Word) {
                self.end_bad(&[], Reason::NotAnObject, &mut each)?;
            } else if !self.limits.salvage {
                return Err(self.malformed(0, Reason::Truncated));
            } else if matches!(self.inside, Inside::Object(_)) {
                let broken = std::mem::take(&mut self.held);
                let cut = next_start(&broken);
                self.restart(broken, cut, Reason::Truncated, &mut each)?;
            } else {
                let reason = match self.inside {
                    Inside::Damage { reason, .. } => reason,
                    _ => Reason::Truncated,
                };
                self.end_bad(&[], reason, &mut each)?;
            }
        }
        if !self.limits.salvage && (self.arrays > 0 || self.expect == Expect::Value) {
            return Err(self.malformed(0, Reason::Truncated));
        }
        if self.limits.salvage && self.arrays > 0 {
            self.arrays = 0;
            let offset = self.base;
            each(Item::Bad {
                bytes: &[],
                offset,
                reason: Reason::Truncated,
            })
            .map_err(Stop::Caller)?;
        }
        Ok(())
    }

    fn run<E>(
        &mut self,
        chunk: &[u8],
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.inside {
                Inside::Between => self.between(chunk, at, each)?,
                Inside::Object(_) => self.object(chunk, at, each)?,
                Inside::Text(_) => self.text(chunk, at, each)?,
                Inside::Word => self.word(chunk, at, each)?,
                Inside::Damage { .. } => self.damage(chunk, at, each)?,
                Inside::Oversize(_) => self.oversize(chunk, at, each)?,
            };
        }
        self.base += chunk.len() as u64;
        Ok(())
    }

    /// Reads what stands between elements: at most a few bytes in ordinary input.
    fn between<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let byte = chunk[at];
        if self.mark < 3 && self.mark(byte, at)? {
            return Ok(at + 1);
        }
        let in_array = self.arrays > 0;
        let value_may_come = self.expect != Expect::Next || !in_array;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(at + 1),
            b'{' if value_may_come => self.begin(at, Inside::Object(Element::new())),
            b'[' if value_may_come => {
                self.arrays += 1;
                self.after_array = false;
                self.expect = Expect::First;
                return Ok(at + 1);
            }
            b']' if in_array && matches!(self.expect, Expect::First | Expect::Next) => {
                self.arrays -= 1;
                self.expect = Expect::Next;
                self.after_array = self.arrays == 0;
                return Ok(at + 1);
            }
            b',' if in_array && self.expect == Expect::Next => {
                self.expect = Expect::Value;
                return Ok(at + 1);
            }
            b'"' if value_may_come && !self.after_array => {
                self.begin(at, Inside::Text(false));
                self.held.push(byte);
                return Ok(at + 1);
            }
            _ if value_may_come && !self.after_array && is_word(byte) => {
                self.begin(at, Inside::Word);
            }
            _ => return self.out_of_place(chunk, at, each),
        }
        Ok(at)
    }

    /// Whether a byte belongs to a byte-order mark at the beginning.
    fn mark<E>(&mut self, byte: u8, at: usize) -> Result<bool, Stop<E>> {
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        if byte == MARK[usize::from(self.mark)] {
            self.mark += 1;
            return Ok(true);
        }
        let part = std::mem::replace(&mut self.mark, 3);
        if part > 0 && !self.limits.salvage {
            return Err(self.malformed(at, Reason::Garbage));
        }
        Ok(false)
    }

    /// Deals with a byte that may not stand where it does.
    fn out_of_place<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let byte = chunk[at];
        let value = matches!(byte, b'{' | b'[' | b'"') || is_word(byte);
        let in_array = self.arrays > 0;
        let comma = in_array && (value || matches!(byte, b',' | b']'));
        let reason = if comma {
            Reason::Comma
        } else {
            Reason::Garbage
        };
        if !self.limits.salvage {
            return Err(self.malformed(at, reason));
        }
        if !value && !comma {
            self.recovering = true;
            self.begin(
                at,
                Inside::Damage {
                    closed: true,
                    reason,
                },
            );
            return Ok(at);
        }
        self.after_array = false;
        let offset = self.base + at as u64;
        if value {
            // Where the value begins is plain, although its comma is missing.
            self.expect = Expect::Value;
            each(Item::Bad {
                bytes: &[],
                offset,
                reason,
            })
            .map_err(Stop::Caller)?;
            return Ok(at);
        }
        self.arrays -= u32::from(byte == b']');
        self.expect = if byte == b']' {
            Expect::Next
        } else {
            Expect::Value
        };
        each(Item::Bad {
            bytes: &chunk[at..=at],
            offset,
            reason,
        })
        .map_err(Stop::Caller)?;
        Ok(at + 1)
    }

    fn begin(&mut self, at: usize, inside: Inside) {
        self.begun = self.base + at as u64;
        self.held.clear();
        self.after_array = false;
        self.inside = inside;
    }

    fn object<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Object(element) = &mut self.inside else {
            return Ok(at);
        };
        let outcome = element.scan(&chunk[at..]);
        let deep = element.too_deep();
        let end = match outcome {
            Outcome::Open => chunk.len(),
            Outcome::Closed(length) | Outcome::Mismatch(length) => at + length,
        };
        let size = self.held.len() + (end - at);
        if size > self.limits.element_bytes && !matches!(outcome, Outcome::Mismatch(_)) {
            if let Some(end) = self.too_late(chunk, at, each)? {
                return Ok(end);
            }
            return self.too_large(chunk, at, end, outcome == Outcome::Open, each);
        }
        if outcome == Outcome::Open {
            self.hold(&chunk[at..]);
            return Ok(end);
        }
        if outcome != Outcome::Closed(end - at) {
            if !self.limits.salvage {
                return Err(self.malformed(end - 1, Reason::Mismatch));
            }
            let mut broken = std::mem::take(&mut self.held);
            broken.extend_from_slice(&chunk[at..end]);
            let cut = next_start(&broken);
            // The broken part is read again, as input in front of the rest of this chunk.
            let base = self.base;
            self.restart(broken, cut, Reason::Mismatch, each)?;
            self.base = base;
            return Ok(end);
        }
        if deep {
            self.end_bad(&chunk[at..end], Reason::TooDeep, each)?;
            return Ok(end);
        }
        self.inside = Inside::Between;
        self.expect = Expect::Next;
        self.records += 1;
        let bytes = if self.held.is_empty() {
            &chunk[at..end]
        } else {
            self.held.extend_from_slice(&chunk[at..end]);
            &self.held[..]
        };
        let item = if self.recovering {
            Item::Recovered(bytes)
        } else {
            Item::Record(bytes)
        };
        let answer = each(item).map_err(Stop::Caller);
        self.held.clear();
        answer.map(|()| end)
    }

    /// Keeps bytes of an unfinished element. Large elements grow by a quarter instead of by
    /// doubling, so that memory stays near the element's own size.
    fn hold(&mut self, bytes: &[u8]) {
        let need = self.held.len() + bytes.len();
        if need > self.held.capacity() && need > 1 << 20 {
            self.held.reserve_exact(bytes.len() + need / 4);
        }
        self.held.extend_from_slice(bytes);
    }

    fn text<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Text(escaped) = &mut self.inside else {
            return Ok(at);
        };
        let mut end = at;
        if *escaped {
            *escaped = false;
            end += usize::from(chunk[at] != b'\n');
        }
        let ends = |rest| memchr::memchr3(b'"', b'\\', b'\n', rest);
        while let Some(found) = ends(chunk.get(end..).unwrap_or_default()) {
            end += found + 1;
            if chunk[end - 1] == b'"' {
                self.end_bad(&chunk[at..end], Reason::NotAnObject, each)?;
                return Ok(end);
            }
            if chunk[end - 1] == b'\n' {
                if self.limits.salvage {
                    // No text goes on in the next line: a quote stood where none belongs.
                    self.end_bad(&chunk[at..end - 1], Reason::Garbage, each)?;
                    return Ok(end - 1);
                }
                continue;
            }
            match chunk.get(end) {
                None => *escaped = true,
                Some(b'\n') => {}
                Some(_) => end += 1,
            }
        }
        self.hold_bad(&chunk[at..]);
        Ok(chunk.len())
    }

    fn word<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let length = chunk[at..]
            .iter()
            .take_while(|byte| is_word(**byte))
            .count();
        if at + length == chunk.len() {
            self.hold_bad(&chunk[at..]);
        } else {
            self.end_bad(&chunk[at..at + length], Reason::NotAnObject, each)?;
        }
        Ok(at + length)
    }

    fn hold_bad(&mut self, bytes: &[u8]) {
        let room = self.limits.element_bytes.saturating_sub(self.held.len());
        self.held.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// Ends an element that is no record.
    fn end_bad<E>(
        &mut self,
        last: &[u8],
        reason: Reason,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.inside = Inside::Between;
        self.expect = Expect::Next;
        let offset = self.begun;
        let answer = if self.held.is_empty() {
            each(Item::Bad {
                bytes: last,
                offset,
                reason,
            })
        } else {
            self.hold_bad(last);
            each(Item::Bad {
                bytes: &self.held,
                offset,
                reason,
            })
        };
        self.held.clear();
        answer.map_err(Stop::Caller)
    }

    fn malformed<E>(&self, at: usize, reason: Reason) -> Stop<E> {
        Stop::Malformed(Malformed {
            offset: self.base + at as u64,
            reason,
        })
    }
}

/// Whether a byte may stand in a number or a literal.
fn is_word(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b'.') || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests;
