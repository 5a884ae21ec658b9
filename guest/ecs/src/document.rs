//! The event while it is being made: one slot for each field of the table.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::hash;
use crate::index::Index;
use crate::print::render;
use crate::scan::Hash;
use crate::table::fields::{COUNT, Field};
use crate::text::Text;
use crate::value::Value;

/// What a field holds.
#[derive(Debug)]
pub(crate) enum Slot<'a> {
    Missing,
    One(Value<'a>),
    Many(ArenaVec<'a, Value<'a>>),
}

/// The fields of one event.
pub(crate) struct Document<'a> {
    arena: &'a Bump,
    slots: [Slot<'a>; COUNT],
    /// For the lists that have grown long.
    indexes: Vec<(Field, Index<'a>)>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(arena: &'a Bump) -> Self {
        Document {
            arena,
            slots: [const { Slot::Missing }; COUNT],
            indexes: Vec::new(),
        }
    }

    pub(crate) fn slot(&self, field: Field) -> &Slot<'a> {
        &self.slots[field as usize]
    }

    /// The slots in the order of the table.
    pub(crate) fn slots(&self) -> &[Slot<'a>; COUNT] {
        &self.slots
    }

    /// Present, also with null.
    pub(crate) fn has(&self, field: Field) -> bool {
        !matches!(self.slot(field), Slot::Missing)
    }

    /// Present and not null.
    pub(crate) fn is_set(&self, field: Field) -> bool {
        !matches!(self.slot(field), Slot::Missing | Slot::One(Value::Null))
    }

    /// The value if the field holds a single one that is not null.
    pub(crate) fn get(&self, field: Field) -> Option<Value<'a>> {
        match self.slot(field) {
            Slot::One(value) if !value.is_null() => Some(*value),
            _ => None,
        }
    }

    /// The text if the field holds one.
    pub(crate) fn text(&self, field: Field) -> Option<Text<'a>> {
        self.get(field).and_then(Value::text)
    }

    pub(crate) fn set(&mut self, field: Field, value: Value<'a>) {
        self.slots[field as usize] = Slot::One(value);
    }

    pub(crate) fn set_word(&mut self, field: Field, word: &'static str) {
        self.set(field, Value::word(word));
    }

    pub(crate) fn clear(&mut self, field: Field) {
        self.slots[field as usize] = Slot::Missing;
    }

    /// The elements if the field holds several.
    pub(crate) fn many(&self, field: Field) -> &[Value<'a>] {
        if let Slot::Many(values) = self.slot(field) {
            values
        } else {
            &[]
        }
    }

    /// The field as an array; a single value becomes its first element.
    pub(crate) fn list(&mut self, field: Field) -> &mut ArenaVec<'a, Value<'a>> {
        let arena = self.arena;
        let slot = &mut self.slots[field as usize];
        if !matches!(slot, Slot::Many(_)) {
            let mut values = ArenaVec::with_capacity_in(4, arena);
            match *slot {
                Slot::One(value) if value.is_array() => values.extend(value.elements()),
                Slot::One(value) if !value.is_null() => values.push(value),
                _ => {}
            }
            *slot = Slot::Many(values);
        }
        match slot {
            Slot::Many(values) => values,
            Slot::Missing | Slot::One(_) => unreachable!("the slot was made a list just above"),
        }
    }

    pub(crate) fn append(&mut self, field: Field, value: Value<'a>) {
        self.list(field).push(value);
    }

    /// Appends the rendered value unless the field already holds it.
    pub(crate) fn append_unique(&mut self, field: Field, value: Value<'a>) {
        let arena = self.arena;
        let value = Value::Text(render(arena, value));
        if matches!(self.slot(field), Slot::One(one) if one.same(value, arena)) {
            return;
        }
        if self.list(field).len() > SEARCHED {
            return self.append_indexed(field, value);
        }
        let values = self.list(field);
        if !values.iter().any(|have| have.same(value, arena)) {
            values.push(value);
        }
    }

    /// The same for a long list.
    #[cold]
    fn append_indexed(&mut self, field: Field, value: Value<'a>) {
        let arena = self.arena;
        let found = self.indexes.iter().position(|(have, _)| *have == field);
        let at = found.unwrap_or(self.indexes.len());
        if found.is_none() {
            self.indexes.push((field, Index::new(arena)));
        }
        let Slot::Many(values) = &mut self.slots[field as usize] else {
            return;
        };
        let index = &mut self.indexes[at].1;
        for have in &values[index.len()..] {
            index.push(hash_of(arena, *have));
        }
        let hash = hash_of(arena, value);
        if index
            .find(hash, |row| values[row].same(value, arena))
            .is_none()
        {
            values.push(value);
            index.push(hash);
        }
    }
}

/// Up to so many values a list is searched from its start.
const SEARCHED: usize = 32;

fn hash_of<'a>(arena: &'a Bump, value: Value<'a>) -> Hash {
    match value {
        Value::Text(text) => hash::bytes(text.decode(arena)),
        _ => Hash::MIN,
    }
}
