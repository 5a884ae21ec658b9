//! What goes into a splitter and what comes out of it.

use std::fmt;

use crate::DEPTH_LIMIT;

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
        Self {
            element_bytes: 32 << 20,
            salvage: false,
        }
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
