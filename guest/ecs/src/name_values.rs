//! Arrays of names and values become objects: `Parameters`, `ExtendedProperties`,
//! `ModifiedProperties`.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::bytes::any;
use crate::event::{Event, Failure, Step, describe};
use crate::hash;
use crate::index::Index;
use crate::scan::Hash;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Pair, Value, Walk};

/// Most names that robust mode turns into members; a real cmdlet has under a hundred. What is
/// beyond stays in `event.original`.
const NAMES_LIMIT: usize = 500;

/// `Parameters`.
pub(crate) fn parameters(event: &mut Event<'_>) -> Step {
    by_name(event, Known::Parameters)
}

/// `ExtendedProperties`.
pub(crate) fn extended(event: &mut Event<'_>) -> Step {
    by_name(event, Known::ExtendedProperties)
}

fn by_name(event: &mut Event<'_>, known: Known) -> Step {
    let Some(value) = event.get(known) else {
        return Ok(());
    };
    match value.kind() {
        Kind::Array => {
            let object = fold(event, value, known)?;
            event.record.put(known, object);
        }
        Kind::Text => wrap(event, known, value),
        _ => {}
    }
    Ok(())
}

fn wrap<'a>(event: &mut Event<'a>, known: Known, value: Value<'a>) {
    let pair = Pair {
        name: Text::plain(b"_raw"),
        value,
    };
    let pairs: &[Pair<'a>] = event.arena.alloc_slice_copy(&[pair]);
    event.record.put(known, Value::Pairs(pairs));
}

/// The object of an array of `{"Name", "Value"}`; the last value of a name wins.
fn fold<'a>(event: &mut Event<'a>, value: Value<'a>, known: Known) -> Result<Value<'a>, Failure> {
    let Value::Tree(tree) = value else {
        return Ok(value);
    };
    let mut names = Names::new(event.arena);
    let (mut odd, mut beyond) = (false, 0);
    let mut walk = Walk::new(tree);
    while walk.next() {
        let pair = match name_value(&mut walk) {
            Ok(Some(pair)) => pair,
            Ok(None) => continue,
            Err(what) if event.robust => {
                odd = true;
                event.note(&format!("an element of `{}` {what}", known.name()));
                continue;
            }
            Err(what) => {
                return Err(Failure(format!("an element of `{}` {what}", known.name())));
            }
        };
        if event.robust && names.pairs.len() >= NAMES_LIMIT && names.find(pair.name).is_none() {
            beyond += 1;
            continue;
        }
        names.put(pair);
    }
    if beyond > 0 {
        let name = known.name();
        event.note(&format!(
            "`{name}` has {beyond} names beyond {NAMES_LIMIT}: see event.original"
        ));
    }
    if odd {
        names.put(Pair {
            name: Text::plain(b"_raw_items"),
            value,
        });
    }
    Ok(names.into_value())
}

/// The name and the value of the element that stands here; nothing when there is no value.
fn name_value<'a>(walk: &mut Walk<'a>) -> Result<Option<Pair<'a>>, String> {
    if !walk.enter_object() {
        let found = walk.value().map_or("nothing", describe);
        return Err(format!("is {found}, not an object"));
    }
    let (mut name, mut value) = (None, None);
    while walk.next() {
        if walk.named(br#""Name""#) {
            name = walk.member_value();
        } else if walk.named(br#""Value""#) {
            value = walk.member_value();
        } else if walk.pair().is_none() {
            break;
        }
    }
    walk.leave();
    match (name, value.filter(|value| !value.is_null())) {
        (_, None) => Ok(None),
        (Some(Value::Text(name)), Some(value)) => Ok(Some(Pair { name, value })),
        (None, _) => Err("has no name".to_owned()),
        (Some(name), _) => Err(format!("has {} for a name", describe(name))),
    }
}

/// `ModifiedProperties`: old and new value by name, names without spaces and dots.
pub(crate) fn modified(event: &mut Event<'_>) -> Step {
    let known = Known::ModifiedProperties;
    let Some(value) = event.get(known) else {
        return Ok(());
    };
    if value.kind() == Kind::Text {
        wrap(event, known, value);
    }
    let Value::Tree(tree) = value else {
        return Ok(());
    };
    if value.is_object() {
        return Ok(());
    }
    let mut names = Names::new(event.arena);
    let mut odd = false;
    let mut walk = Walk::new(tree);
    while walk.next() {
        match change(event.arena, &mut walk) {
            Ok(Some(pair)) => names.put(pair),
            Ok(None) => {}
            Err(what) if event.robust => {
                odd = true;
                event.note(what);
            }
            Err(what) => return Err(Failure(what.to_owned())),
        }
    }
    if odd {
        names.put(Pair {
            name: Text::plain(b"_raw_items"),
            value,
        });
    }
    if names.pairs.is_empty() {
        event.record.remove(known);
    } else {
        event.record.put(known, names.into_value());
    }
    Ok(())
}

/// The changed property that stands here, when both its values are there.
fn change<'a>(arena: &'a Bump, walk: &mut Walk<'a>) -> Result<Option<Pair<'a>>, &'static str> {
    if !walk.enter_object() {
        let name = walk.value().and_then(Value::text);
        return Ok(name.map(|name| Pair {
            name: sanitise(arena, name),
            value: Value::Pairs(&[]),
        }));
    }
    let (mut name, mut old, mut new) = (None, None, None);
    while walk.next() {
        if walk.named(br#""Name""#) {
            name = walk.member_value();
        } else if walk.named(br#""OldValue""#) {
            old = walk.member_value().filter(|value| !value.is_null());
        } else if walk.named(br#""NewValue""#) {
            new = walk.member_value().filter(|value| !value.is_null());
        } else if walk.pair().is_none() {
            break;
        }
    }
    walk.leave();
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(None);
    };
    let Some(Value::Text(name)) = name else {
        return Err("an element of `ModifiedProperties` has no name");
    };
    let pair = |name: &'static [u8], value| Pair {
        name: Text::plain(name),
        value,
    };
    let values: &[Pair<'a>] =
        arena.alloc_slice_copy(&[pair(b"NewValue", new), pair(b"OldValue", old)]);
    Ok(Some(Pair {
        name: sanitise(arena, name),
        value: Value::Pairs(values),
    }))
}

/// Spaces and dots become underscores, so that a name is one member in any index.
fn sanitise<'a>(arena: &'a Bump, name: Text<'a>) -> Text<'a> {
    if !any(name.escaped, |byte| matches!(byte, b' ' | b'.')) {
        return name;
    }
    let escaped = arena.alloc_slice_copy(name.escaped);
    for byte in &mut *escaped {
        let fits = !matches!(*byte, b' ' | b'.');
        *byte = if fits { *byte } else { b'_' };
    }
    Text {
        escaped,
        plain: name.plain,
    }
}

/// Members by name, in order of first appearance.
pub(crate) struct Names<'a> {
    arena: &'a Bump,
    pairs: ArenaVec<'a, Pair<'a>>,
    index: Index<'a>,
    /// A bit for each name by its hash: most lists hold no name twice.
    seen: [u64; 8],
}

impl<'a> Names<'a> {
    pub(crate) fn new(arena: &'a Bump) -> Self {
        let pairs = ArenaVec::with_capacity_in(64, arena);
        Names {
            arena,
            pairs,
            index: Index::new(arena),
            seen: [0; 8],
        }
    }

    /// The object.
    pub(crate) fn into_value(self) -> Value<'a> {
        Value::Pairs(self.pairs.into_bump_slice())
    }

    fn find(&self, name: Text<'a>) -> Option<usize> {
        self.row(hash::bytes(name.decode(self.arena)), name)
    }

    fn row(&self, hash: Hash, name: Text<'a>) -> Option<usize> {
        self.index
            .find(hash, |row| self.pairs[row].name.same(name, self.arena))
    }

    pub(crate) fn put(&mut self, pair: Pair<'a>) {
        let hash = hash::bytes(pair.name.decode(self.arena));
        let bit = 1 << (hash.get() >> 24 & 63);
        let seen = &mut self.seen[(hash.get() >> 30 & 7) as usize];
        let similar = *seen & bit != 0;
        *seen |= bit;
        if similar && let Some(row) = self.row(hash, pair.name) {
            self.pairs[row] = pair;
            return;
        }
        self.pairs.push(pair);
        self.index.push(hash);
    }
}
