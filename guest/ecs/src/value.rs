//! One value of the event: a piece of the record as it stands, or something built from pieces.
//!
//! Values are small copies that borrow the record or the arena of the current record. A container
//! of the record stays JSON text; only what a rule reshapes becomes `Pairs` or `List`.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::scan::{self, Scanner};
use crate::text::Text;

/// A JSON value that is not yet written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// The digits as they stood in the JSON text.
    Number(&'a [u8]),
    Text(Text<'a>),
    /// An object or array as JSON text.
    Tree(Tree<'a>),
    /// An object made of pieces.
    Pairs(&'a [Pair<'a>]),
    /// An array made of pieces.
    List(&'a [Value<'a>]),
}

/// A member of an object made of pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) value: Value<'a>,
}

/// An object or array as JSON text, already found to be valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) json: &'a [u8],
    /// What `scan` met inside.
    pub(crate) flags: scan::Flags,
    /// Numbers inside count as texts (string-number style).
    pub(crate) quoted: bool,
}

/// The type of a value, as JSON has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

impl<'a> Value<'a> {
    /// The value whose valid JSON text is `json`.
    #[inline]
    pub(crate) fn of(json: &'a [u8], flags: scan::Flags, quoted: bool) -> Self {
        match json.first() {
            Some(b'"') => {
                let escaped = json.get(1..json.len() - 1).unwrap_or_default();
                Value::Text(Text {
                    escaped,
                    plain: flags & scan::ESCAPE == 0,
                })
            }
            Some(b'{' | b'[') => Value::Tree(Tree {
                json,
                flags,
                quoted,
            }),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') | None => Value::Null,
            Some(_) if quoted => Value::Text(Text::plain(json)),
            Some(_) => Value::Number(json),
        }
    }

    /// A word of our own.
    pub(crate) const fn word(word: &'static str) -> Self {
        Value::Text(Text::plain(word.as_bytes()))
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::Text(_) => Kind::Text,
            Value::Tree(tree) if tree.json.first() == Some(&b'{') => Kind::Object,
            Value::Pairs(_) => Kind::Object,
            Value::Tree(_) | Value::List(_) => Kind::Array,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self, Value::Null)
    }

    pub(crate) fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    pub(crate) fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// Null or `""`.
    pub(crate) fn is_blank(self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn text(self) -> Option<Text<'a>> {
        if let Value::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The members of an object; of anything else, none.
    pub(crate) fn members(self) -> Members<'a> {
        match self {
            Value::Pairs(pairs) => Members::Pairs(pairs.iter()),
            Value::Tree(tree) if self.is_object() => Members::Tree(Walk::new(tree)),
            _ => Members::Pairs([].iter()),
        }
    }

    /// The elements of an array; of anything else, none.
    pub(crate) fn elements(self) -> Elements<'a> {
        match self {
            Value::List(list) => Elements::List(list.iter()),
            Value::Tree(tree) if self.is_array() => Elements::Tree(Walk::new(tree)),
            _ => Elements::List([].iter()),
        }
    }

    /// The member of this name, the last one when there are several.
    pub(crate) fn member(self, name: &str) -> Option<Value<'a>> {
        let is_named = |pair: &Pair<'a>| pair.name.is(name);
        let found = match self {
            Value::Pairs(pairs) => pairs.iter().copied().rfind(is_named),
            _ => self.members().filter(is_named).last(),
        };
        found.map(|pair| pair.value)
    }

    /// The member of this name if it is present and not null.
    pub(crate) fn set_member(self, name: &str) -> Option<Value<'a>> {
        self.member(name).filter(|value| !value.is_null())
    }

    /// Room for the members and one more, as far as it is known without reading them.
    fn room(self) -> usize {
        if let Value::Pairs(pairs) = self {
            pairs.len() + 1
        } else {
            16
        }
    }

    /// The object without the members of these names.
    pub(crate) fn without(self, arena: &'a Bump, names: &[&str]) -> Value<'a> {
        let mut pairs = ArenaVec::with_capacity_in(self.room(), arena);
        pairs.extend(
            self.members()
                .filter(|pair| !names.iter().any(|name| pair.name.is(name))),
        );
        Value::Pairs(pairs.into_bump_slice())
    }

    /// The object with this member set.
    pub(crate) fn with(self, arena: &'a Bump, name: &'static str, value: Value<'a>) -> Value<'a> {
        let mut pairs = ArenaVec::with_capacity_in(self.room(), arena);
        pairs.extend(self.members().filter(|pair| !pair.name.is(name)));
        pairs.push(Pair {
            name: Text::plain(name.as_bytes()),
            value,
        });
        Value::Pairs(pairs.into_bump_slice())
    }

    /// Same type and same value; containers are compared by their hash.
    pub(crate) fn same(self, other: Value<'a>, arena: &'a Bump) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a.same(b, arena),
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Null, Value::Null) => true,
            (Value::Tree(a), Value::Tree(b)) => {
                let hash = |tree: Tree<'a>| Scanner::<true>::new(tree.json).value(0);
                hash(a) == hash(b)
            }
            _ => false,
        }
    }
}

/// Steps through the members or elements of a tree, and into what stands there.
#[derive(Clone)]
pub(crate) struct Walk<'a> {
    tree: Tree<'a>,
    scanner: Scanner<'a, false>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tree: Tree<'a>) -> Self {
        let mut scanner = Scanner::new(tree.json);
        scanner.at = 1;
        Walk { tree, scanner }
    }

    /// Goes to the next name or element; false at the end of the container.
    #[inline]
    pub(crate) fn next(&mut self) -> bool {
        self.scanner.space();
        if self.scanner.peek() == Some(b',') {
            self.scanner.at += 1;
            self.scanner.space();
        }
        !matches!(self.scanner.peek(), None | Some(b'}' | b']'))
    }

    /// Steps into the object that stands here; false when something else does.
    #[inline]
    pub(crate) fn enter_object(&mut self) -> bool {
        self.scanner.expect(b'{').is_some()
    }

    /// Steps out of the object whose end was reached.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.scanner.at += 1;
    }

    /// The value that stands here.
    pub(crate) fn value(&mut self) -> Option<Value<'a>> {
        let start = self.scanner.at;
        self.scanner.flags = 0;
        self.scanner.value(1)?;
        let json = self.tree.json.get(start..self.scanner.at)?;
        Some(Value::of(json, self.scanner.flags, self.tree.quoted))
    }

    /// Passes a member's name if it is this one, given with its quotes.
    #[inline]
    pub(crate) fn named<const N: usize>(&mut self, name: &[u8; N]) -> bool {
        let rest = self.tree.json.get(self.scanner.at..).unwrap_or_default();
        let named = rest.first_chunk() == Some(name);
        if named {
            self.scanner.at += N;
        }
        named
    }

    /// The value behind a name that was passed.
    #[expect(
        clippy::inline_always,
        reason = "most values are short texts; a call would cost more than they do"
    )]
    #[inline(always)]
    pub(crate) fn member_value(&mut self) -> Option<Value<'a>> {
        self.scanner.space();
        self.scanner.expect(b':')?;
        self.scanner.space();
        if self.scanner.peek() == Some(b'"') {
            return self.text().map(Value::Text);
        }
        self.value()
    }

    /// The text that stands here.
    #[inline]
    fn text(&mut self) -> Option<Text<'a>> {
        self.scanner.at += 1;
        let start = self.scanner.at;
        self.scanner.flags = 0;
        self.scanner.string()?;
        Some(Text {
            escaped: self.tree.json.get(start..self.scanner.at - 1)?,
            plain: self.scanner.flags & scan::ESCAPE == 0,
        })
    }

    /// The name and the value that stand here.
    #[inline]
    pub(crate) fn pair(&mut self) -> Option<Pair<'a>> {
        Some(Pair {
            name: self.text()?,
            value: self.member_value()?,
        })
    }
}

/// See `Value::members`.
#[derive(Clone)]
pub(crate) enum Members<'a> {
    Pairs(std::slice::Iter<'a, Pair<'a>>),
    Tree(Walk<'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        match self {
            Members::Pairs(pairs) => pairs.next().copied(),
            Members::Tree(walk) => {
                if walk.next() {
                    walk.pair()
                } else {
                    None
                }
            }
        }
    }
}

/// See `Value::elements`.
#[derive(Clone)]
pub(crate) enum Elements<'a> {
    List(std::slice::Iter<'a, Value<'a>>),
    Tree(Walk<'a>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Elements::List(list) => list.next().copied(),
            Elements::Tree(walk) => {
                if walk.next() {
                    walk.value()
                } else {
                    None
                }
            }
        }
    }
}
