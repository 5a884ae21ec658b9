//! Writes JSON text of the record into the event, in one pass over its bytes.
//!
//! Profile `newer` turns numbers into texts and removes null, `""`, `[]` and `{}` at every depth.
//! What needs neither is copied as one piece; otherwise the longest runs between two changes are.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::bytes::put;
use crate::scan::{EMPTY, NUMBER, Scanner};
use crate::value::Tree;

/// Writes a tree; false when nothing of it is left, and then nothing is written.
pub(crate) fn write_tree(tree: Tree<'_>, prune: bool, out: &mut Vec<u8>) -> bool {
    let changes = if prune { EMPTY } else { 0 } | if tree.quoted { NUMBER } else { 0 };
    if tree.flags & changes == 0 {
        put(out, tree.json);
        return true;
    }
    let mut cleaner = Cleaner {
        json: tree.json,
        scanner: Scanner::new(tree.json),
        run: 0,
        prune,
        quote: tree.quoted,
        out,
    };
    if !cleaner.value() {
        return false;
    }
    cleaner.flush(tree.json.len());
    true
}

/// Without white space outside strings.
pub(crate) fn compact<'a>(arena: &'a Bump, json: &[u8]) -> &'a [u8] {
    let mut out = ArenaVec::with_capacity_in(json.len(), arena);
    let mut scanner = Scanner::<false>::new(json);
    while let Some(byte) = scanner.peek() {
        let start = scanner.at;
        scanner.at += 1;
        if byte == b'"' {
            scanner.string();
        }
        if !byte.is_ascii_whitespace() {
            out.extend_from_slice(&json[start..scanner.at]);
        }
    }
    out.into_bump_slice()
}

/// A pass over valid JSON text.
struct Cleaner<'a, 'o> {
    json: &'a [u8],
    scanner: Scanner<'a, false>,
    /// Where the text begins that is read, kept and not yet written.
    run: usize,
    prune: bool,
    quote: bool,
    out: &'o mut Vec<u8>,
}

impl Cleaner<'_, '_> {
    fn peek(&self) -> u8 {
        self.scanner.peek().unwrap_or(b'}')
    }

    /// Writes what is kept up to `end`.
    fn flush(&mut self, end: usize) {
        put(self.out, &self.json[self.run..end]);
        self.run = end;
    }

    /// Passes a string.
    fn string(&mut self) {
        self.scanner.at += 1;
        self.scanner.string();
    }

    /// Passes a value; false when it is to be left out.
    fn value(&mut self) -> bool {
        match self.peek() {
            b'"' => {
                let start = self.scanner.at;
                self.string();
                !(self.prune && self.scanner.at == start + 2)
            }
            b'{' => self.container(true),
            b'[' => self.container(false),
            b'n' => {
                self.scanner.at += 4;
                !self.prune
            }
            b't' => {
                self.scanner.at += 4;
                true
            }
            b'f' => {
                self.scanner.at += 5;
                true
            }
            _ => {
                self.number();
                true
            }
        }
    }

    fn number(&mut self) {
        let start = self.scanner.at;
        while matches!(self.peek(), b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
            self.scanner.at += 1;
        }
        if self.quote {
            self.flush(start);
            self.out.push(b'"');
            self.flush(self.scanner.at);
            self.out.push(b'"');
        }
    }

    fn container(&mut self, object: bool) -> bool {
        let before = (self.out.len(), self.run);
        self.scanner.at += 1;
        // Behind the last thing kept: in the text, in what is written, and the run at that point.
        let mut kept = (self.scanner.at, self.out.len(), self.run);
        let (mut any, mut cut) = (false, false);
        loop {
            self.scanner.space();
            if self.peek() == b',' {
                self.scanner.at += 1;
                self.scanner.space();
            }
            if matches!(self.peek(), b'}' | b']') {
                break;
            }
            if cut {
                if any {
                    self.out.push(b',');
                }
                self.run = self.scanner.at;
            }
            if object {
                self.string();
                self.scanner.space();
                self.scanner.at += 1;
                self.scanner.space();
            }
            if self.value() {
                kept = (self.scanner.at, self.out.len(), self.run);
                (any, cut) = (true, false);
            } else {
                self.out.truncate(kept.1);
                if !cut {
                    self.run = kept.2;
                    self.flush(kept.0);
                    kept.1 = self.out.len();
                    cut = true;
                }
            }
        }
        if self.prune && !any {
            self.out.truncate(before.0);
            self.run = before.1;
            self.scanner.at += 1;
            return false;
        }
        if cut {
            self.run = self.scanner.at;
        }
        self.scanner.at += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let mut out = b"<".to_vec();
        let tree = Tree {
            json: json.as_bytes(),
            flags: EMPTY | NUMBER,
            quoted: true,
        };
        let kept = write_tree(tree, true, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            if kept {
                format!("<{expected}")
            } else {
                "<".to_owned()
            },
            "{json}"
        );
        assert_eq!(kept, !expected.is_empty(), "{json}");
    }

    #[test]
    fn empty_values_go_and_numbers_become_texts() {
        check(r#"{"a":1,"b":"","c":-1.5e3}"#, r#"{"a":"1","c":"-1.5e3"}"#);
        check(r#"{"b":"","c":null,"a":"x"}"#, r#"{"a":"x"}"#);
        check(r#"{"a":"x","b":"","c":[],"d":{}}"#, r#"{"a":"x"}"#);
        check(r#"["","x",null,"y",[{"a":[""]}]]"#, r#"["x","y"]"#);
        check(r#"{"a":{"b":{"c":""}}}"#, "");
        check(
            r#"{"a":"x","n":{"b":1,"c":""},"z":true}"#,
            r#"{"a":"x","n":{"b":"1"},"z":true}"#,
        );
        check(
            r#"{"a":{"b":1,"e":{"f":2,"g":{}},"h":{"i":[[]]}},"j":false}"#,
            r#"{"a":{"b":"1","e":{"f":"2"}},"j":false}"#,
        );
        check(
            r#"{"a" : 1 , "b" : "" , "c" : "\"\\" }"#,
            r#"{"a" : "1","c" : "\"\\" }"#,
        );
        check(r#"[1,2,{"a":3}]"#, r#"["1","2",{"a":"3"}]"#);
        check(r#"[{"a":3},"",5]"#, r#"[{"a":"3"},"5"]"#);
    }

    #[test]
    fn compacting() {
        let arena = Bump::new();
        assert_eq!(
            compact(&arena, b"{ \"a b\" :\r\n [1, \"x\\\" y\"] }"),
            br#"{"a b":[1,"x\" y"]}"#
        );
    }
}
