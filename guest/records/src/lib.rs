//! Splits JSON that arrives in chunks into its records, without building a tree.
//!
//! Every byte of the input ends in a record, in a bad slice that says why, or is white space,
//! punctuation between records or a byte-order mark: nothing is dropped in silence, and a body
//! that ends too early is an error. What stands inside a record is checked only as far as finding
//! its end needs (strings and brackets); whoever maps the record parses it.

mod block;
mod element;

use element::{Element, Outcome};

/// Deepest nesting of a record. Real records stay below 20; the stack of brackets is one integer.
pub const DEPTH_LIMIT: u32 = 128;

/// Most bytes of a bad slice that is kept when the record itself is over its limit.
const OVERSIZE_KEPT_BYTES: usize = 64 * 1024;

/// After so many restarts inside one broken record the rest of it is one bad slice: each restart
/// scans what is left again, so without a limit hostile input could cost the square of its length.
const RESTART_LIMIT: u32 = 64;

/// What one splitter allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of one record. The only memory that grows with the input.
    pub element_bytes: usize,
    /// Go on behind damage: bad slices come out as [`Item::Bad`] instead of an error.
    pub salvage: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { element_bytes: 32 << 20, salvage: false }
    }
}

/// A piece of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// One JSON object, from its first brace to its last.
    Record(&'a [u8]),
    /// An object found behind damage (salvage only). It may be a fragment of a broken record, so
    /// take it for a record only when it carries what every record must.
    Recovered(&'a [u8]),
    /// Something that is no record.
    Bad {
        /// Its bytes; only the beginning of them for a record over the limit.
        bytes: &'a [u8],
        /// Where it begins in the input.
        offset: u64,
        /// What is wrong.
        reason: Reason,
    },
}

/// What is wrong with a slice or a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A number, string, `true`, `false` or `null` where a record should stand.
    NotAnObject,
    /// Nested deeper than [`DEPTH_LIMIT`].
    TooDeep,
    /// A record of more bytes than the limit.
    TooLarge {
        /// The bytes seen of it.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A closing bracket that does not fit its opening one.
    Mismatch,
    /// Bytes between records that are neither white space nor a comma.
    Garbage,
    /// A comma too many or too few.
    Comma,
    /// The input ended inside a record or before an array was closed.
    Truncated,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::TooDeep => write!(f, "nested deeper than {DEPTH_LIMIT} levels"),
            Self::TooLarge { size, limit } => {
                write!(f, "a record of {size} bytes or more; the limit is {limit}")
            }
            Self::Mismatch => f.write_str("a closing bracket that does not fit"),
            Self::Garbage => f.write_str("bytes between records that are not JSON"),
            Self::Comma => f.write_str("a comma too many or too few"),
            Self::Truncated => f.write_str("the input ended too early"),
        }
    }
}

/// The input cannot be split (further).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Byte of the input where the damage was noticed.
    pub offset: u64,
    /// What it is.
    pub reason: Reason,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for Malformed {}

/// Why splitting stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop<E> {
    /// The input is damaged.
    Malformed(Malformed),
    /// The caller's function returned this.
    Caller(E),
}

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
    recovering: bool,
    restarts: u32,
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
    Damage { closed: bool, reason: Reason },
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
            recovering: false,
            restarts: 0,
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
                self.restart(broken, Reason::Truncated, &mut each)?;
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
            each(Item::Bad { bytes: &[], offset, reason: Reason::Truncated })
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
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        let byte = chunk[at];
        if self.mark < 3 {
            if byte == MARK[usize::from(self.mark)] {
                self.mark += 1;
                return Ok(at + 1);
            }
            self.mark = 3;
        }
        let value_may_come = self.expect != Expect::Next || self.arrays == 0;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(at + 1),
            b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
                if !value_may_come =>
            {
                // Without its comma the array is damaged, yet where the record begins is plain.
                if !self.limits.salvage {
                    return Err(self.malformed(at, Reason::Comma));
                }
                self.expect = Expect::Value;
                let offset = self.base + at as u64;
                each(Item::Bad { bytes: &[], offset, reason: Reason::Comma })
                    .map_err(Stop::Caller)?;
                return Ok(at);
            }
            b'{' => self.begin(at, Inside::Object(Element::new())),
            b'[' => {
                self.arrays += 1;
                self.expect = Expect::First;
                return Ok(at + 1);
            }
            b']' if self.arrays > 0 && matches!(self.expect, Expect::First | Expect::Next) => {
                self.arrays -= 1;
                self.expect = Expect::Next;
                return Ok(at + 1);
            }
            b',' if self.arrays > 0 && self.expect == Expect::Next => {
                self.expect = Expect::Value;
                return Ok(at + 1);
            }
            b'"' => {
                self.begin(at, Inside::Text(false));
                self.held.push(byte);
                return Ok(at + 1);
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => self.begin(at, Inside::Word),
            b']' | b',' if self.arrays > 0 => {
                if !self.limits.salvage {
                    return Err(self.malformed(at, Reason::Comma));
                }
                self.arrays -= u32::from(byte == b']');
                self.expect = if byte == b']' { Expect::Next } else { Expect::Value };
                let (bytes, offset) = (&chunk[at..=at], self.base + at as u64);
                each(Item::Bad { bytes, offset, reason: Reason::Comma }).map_err(Stop::Caller)?;
                return Ok(at + 1);
            }
            _ => {
                if !self.limits.salvage {
                    return Err(self.malformed(at, Reason::Garbage));
                }
                self.recovering = true;
                let reason = Reason::Garbage;
                self.begin(at, Inside::Damage { closed: true, reason });
            }
        }
        Ok(at)
    }

    fn begin(&mut self, at: usize, inside: Inside) {
        self.begun = self.base + at as u64;
        self.held.clear();
        self.inside = inside;
    }

    fn object<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Object(element) = &mut self.inside else { return Ok(at) };
        let outcome = element.scan(&chunk[at..]);
        let deep = element.too_deep();
        let end = match outcome {
            Outcome::Open => chunk.len(),
            Outcome::Closed(length) | Outcome::Mismatch(length) => at + length,
        };
        let size = self.held.len() + (end - at);
        if size > self.limits.element_bytes && !matches!(outcome, Outcome::Mismatch(_)) {
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
            // `restart` scans the broken part again, as input in front of the rest of this chunk.
            let base = self.base;
            self.base = self.begun;
            self.restart(broken, Reason::Mismatch, each)?;
            self.base = base;
            return Ok(end);
        }
        if deep {
            self.end_bad(&chunk[at..end], Reason::TooDeep, each)?;
            return Ok(end);
        }
        self.inside = Inside::Between;
        self.expect = Expect::Next;
        self.restarts = 0;
        self.records += 1;
        let bytes = if self.held.is_empty() {
            &chunk[at..end]
        } else {
            self.held.extend_from_slice(&chunk[at..end]);
            &self.held[..]
        };
        let item = if self.recovering { Item::Recovered(bytes) } else { Item::Record(bytes) };
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

    fn too_large<E>(
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
            return Err(Stop::Malformed(Malformed { offset: self.begun, reason }));
        }
        let room = OVERSIZE_KEPT_BYTES.saturating_sub(self.held.len()).min(end - at);
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

    fn oversize<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Oversize(element) = &mut self.inside else { return Ok(at) };
        let end = match element.scan(&chunk[at..]) {
            Outcome::Open => return Ok(chunk.len()),
            Outcome::Closed(length) | Outcome::Mismatch(length) => at + length,
        };
        let size = self.base + end as u64 - self.begun;
        let limit = self.limits.element_bytes as u64;
        self.end_bad(&[], Reason::TooLarge { size, limit }, each)?;
        Ok(end)
    }

    fn text<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Text(escaped) = &mut self.inside else { return Ok(at) };
        let mut end = at;
        if *escaped {
            *escaped = false;
            end += 1;
        }
        while let Some(found) = memchr::memchr2(b'"', b'\\', chunk.get(end..).unwrap_or_default()) {
            end += found + 1;
            if chunk[end - 1] == b'"' {
                self.end_bad(&chunk[at..end], Reason::NotAnObject, each)?;
                return Ok(end);
            }
            if end == chunk.len() {
                *escaped = true;
            }
            end += 1;
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
        let word = |byte: &u8| matches!(byte, b'+' | b'-' | b'.') || byte.is_ascii_alphanumeric();
        let length = chunk[at..].iter().take_while(|byte| word(byte)).count();
        if at + length == chunk.len() {
            self.hold_bad(&chunk[at..]);
        } else {
            self.end_bad(&chunk[at..at + length], Reason::NotAnObject, each)?;
        }
        Ok(at + length)
    }

    /// Skips damage up to a brace that follows a closing brace with only white space and commas
    /// between them: there the next record may begin.
    fn damage<E>(
        &mut self,
        chunk: &[u8],
        at: usize,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, Stop<E>> {
        let Inside::Damage { closed, reason } = &mut self.inside else { return Ok(at) };
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

    /// Begins again inside a broken record, behind its first likely end.
    fn restart<E>(
        &mut self,
        broken: Vec<u8>,
        reason: Reason,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.recovering = true;
        self.restarts += 1;
        let cut = if self.restarts > RESTART_LIMIT { None } else { next_start(&broken) };
        let begun = self.begun;
        let Some(cut) = cut else {
            // Nothing in it looks like a beginning: what follows belongs to the damage until
            // something does.
            let closed = broken.iter().rposition(|&byte| byte == b'}').is_some_and(|last| {
                broken[last + 1..].iter().all(|byte| byte.is_ascii_whitespace() || *byte == b',')
            });
            self.base = begun + broken.len() as u64;
            self.held = broken;
            self.inside = Inside::Damage { closed, reason };
            return Ok(());
        };
        self.inside = Inside::Between;
        self.expect = Expect::Value;
        each(Item::Bad { bytes: &broken[..cut], offset: begun, reason }).map_err(Stop::Caller)?;
        self.base = begun + cut as u64;
        self.run(&broken[cut..], each)
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
            each(Item::Bad { bytes: last, offset, reason })
        } else {
            self.hold_bad(last);
            each(Item::Bad { bytes: &self.held, offset, reason })
        };
        self.held.clear();
        answer.map_err(Stop::Caller)
    }

    fn malformed<E>(&self, at: usize, reason: Reason) -> Stop<E> {
        Stop::Malformed(Malformed { offset: self.base + at as u64, reason })
    }
}

/// The first place behind the beginning of a broken record where another one may begin.
fn next_start(broken: &[u8]) -> Option<usize> {
    let mut closed = false;
    for (index, byte) in broken.iter().enumerate().skip(1) {
        match byte {
            b'{' if closed => return Some(index),
            b'}' => closed = true,
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
            _ => closed = false,
        }
    }
    None
}

#[cfg(test)]
mod tests;
