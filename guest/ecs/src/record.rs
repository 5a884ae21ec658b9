//! The record, borrowed from its bytes: one entry a member, known members by their row.
//!
//! The top level is read once, in the order it came; values are not looked into. Rules move members
//! away, replace them or add some; what is kept at the end is `o365.audit`.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::bytes::any;
use crate::hash;
use crate::scan::{self, Broken, Hash, Scanner};
use crate::table::members::{self, Known, NAMES};
use crate::text::Text;
use crate::value::{Pair, Value};

/// A member of the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// The name as it stands between its quotes.
    pub(crate) name: &'a [u8],
    pub(crate) value: Value<'a>,
    /// Name and value as they stand in the record; empty when a rule made the value.
    pub(crate) source: &'a [u8],
    /// What `scan` met in the value.
    pub(crate) flags: scan::Flags,
    /// A rule moved it away.
    pub(crate) moved: bool,
}

/// One record, split at its top level.
pub(crate) struct Record<'a> {
    pub(crate) members: ArenaVec<'a, Member<'a>>,
    known: [u32; NAMES.len()],
    /// What `scan` met anywhere.
    pub(crate) flags: scan::Flags,
    /// The hash of the content, whatever the order of members.
    pub(crate) fingerprint: u64,
    /// A name occurs twice at the top level.
    pub(crate) twice: bool,
    /// A name is empty or has dots, which no index can tell from a path.
    pub(crate) dotted: bool,
}

const MISSING: u32 = u32::MAX;
/// Up to so many unknown names are compared one by one; real records have about ten.
const COMPARED: usize = 64;

impl<'a> Record<'a> {
    /// Reads one JSON object and nothing behind it.
    ///
    /// It is made where it stays: a record is large, and would be copied at every turn.
    pub(crate) fn read(
        arena: &'a Bump,
        bytes: &'a [u8],
        quoted: bool,
    ) -> Result<&'a mut Self, Broken> {
        let record = arena.alloc_with(|| Record {
            members: ArenaVec::with_capacity_in(48, arena),
            known: [MISSING; NAMES.len()],
            flags: 0,
            fingerprint: 0,
            twice: false,
            dotted: false,
        });
        let mut scanner = Scanner::new(bytes);
        let read = record.read_object(arena, bytes, &mut scanner, quoted);
        read.ok_or_else(|| scanner.broken())?;
        record.flags |= scanner.flags;
        Ok(record)
    }

    fn read_object(
        &mut self,
        arena: &'a Bump,
        bytes: &'a [u8],
        scanner: &mut Scanner<'a, true>,
        quoted: bool,
    ) -> Option<()> {
        scanner.space();
        scanner.expect(b'{')?;
        scanner.space();
        if scanner.peek() == Some(b'}') {
            scanner.at += 1;
        } else {
            self.read_members(arena, bytes, scanner, quoted)?;
        }
        scanner.space();
        self.fingerprint = hash::object(self.fingerprint).get();
        scanner.peek().is_none().then_some(())
    }

    fn read_members(
        &mut self,
        arena: &'a Bump,
        bytes: &'a [u8],
        scanner: &mut Scanner<'a, true>,
        quoted: bool,
    ) -> Option<()> {
        let mut unknown = ArenaVec::with_capacity_in(32, arena);
        // A bit for each unknown name: most records have none that looks like another.
        let mut seen = 0;
        loop {
            let start = scanner.at;
            scanner.expect(b'"')?;
            let name_hash = scanner.string()?;
            // Another spelling of a name must not pass for another name.
            if scanner.flags & scan::ESCAPE != 0 {
                self.flags |= scan::RESPELLED;
            }
            let name = &bytes[start + 1..scanner.at - 1];
            scanner.space();
            scanner.expect(b':')?;
            scanner.space();
            self.flags |= std::mem::take(&mut scanner.flags);
            let value_start = scanner.at;
            let value_hash = scanner.value(1)?;
            let flags = std::mem::take(&mut scanner.flags);
            self.flags |= flags;
            self.fingerprint = self
                .fingerprint
                .wrapping_add(hash::member(name_hash, value_hash));
            if let Some(known) = members::find(name, name_hash) {
                self.see(known);
            } else {
                self.dotted |= is_dotted(name);
                let bit = 1_u64 << (name_hash.get() >> 24 & 63);
                self.see_unknown(&mut unknown, name_hash, seen & bit != 0);
                seen |= bit;
            }
            self.members.push(Member {
                name,
                value: Value::of(&bytes[value_start..scanner.at], flags, quoted),
                source: &bytes[start..scanner.at],
                flags,
                moved: false,
            });
            scanner.space();
            match scanner.peek()? {
                b',' => scanner.at += 1,
                b'}' => break,
                _ => return None,
            }
            scanner.space();
        }
        scanner.at += 1;
        if unknown.len() > COMPARED {
            unknown.sort_unstable();
            self.twice |= unknown.windows(2).any(|pair| pair[0] == pair[1]);
        }
        Some(())
    }

    fn see(&mut self, known: Known) {
        let slot = &mut self.known[known as usize];
        self.twice |= *slot != MISSING;
        *slot = u32::try_from(self.members.len()).unwrap_or(MISSING);
    }

    fn see_unknown(&mut self, unknown: &mut ArenaVec<'a, Hash>, hash: Hash, similar: bool) {
        if similar && unknown.len() <= COMPARED {
            self.twice |= unknown.contains(&hash);
        }
        unknown.push(hash);
    }

    fn index(&self, known: Known) -> Option<usize> {
        let index = self.known[known as usize];
        if index == MISSING {
            None
        } else {
            Some(index as usize)
        }
    }

    /// The member's value, null included.
    #[inline]
    pub(crate) fn get(&self, known: Known) -> Option<Value<'a>> {
        let index = self.index(known)?;
        self.members.get(index).map(|member| member.value)
    }

    /// The member's value if it is present and not null.
    #[inline]
    pub(crate) fn set_value(&self, known: Known) -> Option<Value<'a>> {
        self.get(known).filter(|value| !value.is_null())
    }

    /// Takes the member away, so that it is not kept.
    pub(crate) fn remove(&mut self, known: Known) {
        if let Some(index) = self.index(known) {
            self.members[index].moved = true;
            self.known[known as usize] = MISSING;
        }
    }

    /// Leaves out the members beyond `limit` that no rule knows.
    #[cold]
    pub(crate) fn keep_first(&mut self, limit: usize) {
        let known = &self.known;
        for (index, member) in self.members.iter_mut().enumerate().skip(limit) {
            member.moved |= !known.iter().any(|&at| at as usize == index);
        }
    }

    /// Moves members whose names no index can hold into `_members`, a list of names and values: an
    /// empty name, a dot at an end, two dots, or a dotted name beside the name it begins with.
    #[cold]
    pub(crate) fn list_dotted(&mut self, arena: &'a Bump) {
        let names: Vec<_> = self.members.iter().map(|member| member.name).collect();
        let is_bad = |name: &[u8]| {
            let mut parts = name.split(|&byte| byte == b'.');
            let mut dots = name.iter().enumerate().filter(|&(_, &byte)| byte == b'.');
            parts.any(<[u8]>::is_empty) || dots.any(|(at, _)| names.contains(&&name[..at]))
        };
        let mut list = ArenaVec::new_in(arena);
        for member in self.members.iter_mut().filter(|member| is_bad(member.name)) {
            member.moved = true;
            let name = Value::Text(Text {
                escaped: member.name,
                plain: !member.name.contains(&b'\\'),
            });
            let pairs: &[Pair<'a>] = arena.alloc_slice_copy(&[
                Pair {
                    name: Text::plain(b"Name"),
                    value: name,
                },
                Pair {
                    name: Text::plain(b"Value"),
                    value: member.value,
                },
            ]);
            list.push(Value::Pairs(pairs));
        }
        if list.is_empty() {
            return;
        }
        self.members.push(Member {
            name: b"_members",
            value: Value::List(list.into_bump_slice()),
            source: &[],
            flags: scan::EMPTY,
            moved: false,
        });
    }

    /// Replaces the member's value, or adds the member.
    pub(crate) fn put(&mut self, known: Known, value: Value<'a>) {
        if let Some(index) = self.index(known) {
            let member = &mut self.members[index];
            member.value = value;
            member.source = &[];
            return;
        }
        self.see(known);
        let name = known.name().as_bytes();
        self.members.push(Member {
            name,
            value,
            source: &[],
            flags: scan::EMPTY,
            moved: false,
        });
    }
}

fn is_dotted(name: &[u8]) -> bool {
    name.is_empty() || any(name, |byte| byte == b'.')
}
