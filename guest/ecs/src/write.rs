//! Writes the event: the fields in the order of the table, the kept members as `o365.audit`.
//!
//! An object is opened when its first member turns out to be kept; a value that vanishes takes back
//! whatever was opened for it. A member that no rule touched is copied as one piece.

use crate::bytes::{put, put_quoted};
use crate::clean::write_tree;
use crate::document::{Document, Slot};
use crate::record::{Member, Record};
use crate::scan::{EMPTY, NUMBER};
use crate::table::fields::{Field, ROWS, opening, shared_objects};
use crate::value::Value;

/// How values are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Leave out null, `""`, `[]` and `{}`, at every depth.
    pub(crate) prune: bool,
    /// Numbers of the record are texts.
    pub(crate) quoted: bool,
}

/// Writes the whole event. `audit` is the field that holds the record; whatever stands there.
pub(crate) fn write_event(
    document: &Document<'_>,
    record: &Record<'_>,
    audit: Field,
    style: Style,
    out: &mut Vec<u8>,
) {
    let mut writer = Writer {
        out,
        style,
        depth: 0,
        comma: false,
    };
    writer.out.push(b'{');
    let mut last = None;
    for row in document.rows() {
        let Some(slot) = document.at(row) else {
            continue;
        };
        let before = (writer.out.len(), writer.depth, writer.comma);
        writer.open(row, last.map_or(0, |last| shared_objects(last, row)));
        let kept = match slot {
            _ if row == audit as usize => writer.members(&record.members),
            Slot::One(value) => writer.value(*value),
            Slot::Many(values) => writer.list(values.iter().copied()),
        };
        if kept {
            writer.comma = true;
            last = Some(row);
        } else {
            writer.out.truncate(before.0);
            (writer.depth, writer.comma) = (before.1, before.2);
        }
    }
    let depth = writer.depth;
    writer.out.extend(std::iter::repeat_n(b'}', depth + 1));
}

/// Writes one value as it is.
pub(crate) fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    let style = Style {
        prune: false,
        quoted: false,
    };
    Writer {
        out,
        style,
        depth: 0,
        comma: false,
    }
    .value(value);
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    style: Style,
    /// Objects open inside the outermost one.
    depth: usize,
    /// Something stands before the next member of the innermost open object.
    comma: bool,
}

impl Writer<'_> {
    /// Closes objects until `shared` are open, then opens those of the row and its name.
    fn open(&mut self, row: usize, shared: usize) {
        while self.depth > shared {
            self.out.push(b'}');
            self.depth -= 1;
            self.comma = true;
        }
        if self.comma {
            self.out.push(b',');
        }
        put(self.out, opening(row, shared));
        self.depth = ROWS[row].parents.len();
        self.comma = false;
    }

    /// The members that no rule moved away.
    fn members(&mut self, members: &[Member<'_>]) -> bool {
        let changes =
            if self.style.prune { EMPTY } else { 0 } | if self.style.quoted { NUMBER } else { 0 };
        let start = self.out.len();
        self.out.push(b'{');
        for member in members {
            if member.moved {
                continue;
            }
            let before = self.out.len();
            if before > start + 1 {
                self.out.push(b',');
            }
            if !member.source.is_empty() && member.flags & changes == 0 {
                put(self.out, member.source);
                continue;
            }
            put_quoted(self.out, member.name);
            self.out.push(b':');
            if !self.value(member.value) {
                self.out.truncate(before);
            }
        }
        let kept = self.out.len() > start + 1 || !self.style.prune;
        self.out.push(b'}');
        kept
    }

    /// Writes a value; false when it vanishes, and then nothing is written.
    #[expect(
        clippy::inline_always,
        reason = "most values are texts; a call would cost more than they do"
    )]
    #[inline(always)]
    fn value(&mut self, value: Value<'_>) -> bool {
        if let Value::Text(text) = value {
            if self.style.prune && text.is_empty() {
                return false;
            }
            put_quoted(self.out, text.escaped);
            return true;
        }
        self.other_value(value)
    }

    /// The same for what is not a text; most values are.
    #[inline(never)]
    fn other_value(&mut self, value: Value<'_>) -> bool {
        let prune = self.style.prune;
        match value {
            Value::Null if prune => return false,
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::Bool(true) => self.out.extend_from_slice(b"true"),
            Value::Bool(false) => self.out.extend_from_slice(b"false"),
            Value::Number(digits) => put(self.out, digits),
            Value::Text(text) => put_quoted(self.out, text.escaped),
            Value::Tree(tree) => return write_tree(tree, prune, self.out),
            Value::Pairs(pairs) => {
                let start = self.out.len();
                self.out.push(b'{');
                for pair in pairs {
                    let before = self.out.len();
                    if before > start + 1 {
                        self.out.push(b',');
                    }
                    put_quoted(self.out, pair.name.escaped);
                    self.out.push(b':');
                    if !self.value(pair.value) {
                        self.out.truncate(before);
                    }
                }
                return self.close(start, b'}');
            }
            Value::List(list) => return self.list(list.iter().copied()),
        }
        true
    }

    fn list<'a>(&mut self, values: impl Iterator<Item = Value<'a>>) -> bool {
        let start = self.out.len();
        self.out.push(b'[');
        for value in values {
            let before = self.out.len();
            if before > start + 1 {
                self.out.push(b',');
            }
            if !self.value(value) {
                self.out.truncate(before);
            }
        }
        self.close(start, b']')
    }

    fn close(&mut self, start: usize, bracket: u8) -> bool {
        if self.style.prune && self.out.len() == start + 1 {
            self.out.truncate(start);
            return false;
        }
        self.out.push(bracket);
        true
    }
}
