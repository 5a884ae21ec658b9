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
    One(Value<'a>),
    Many(&'a mut ArenaVec<'a, Value<'a>>),
}

const WORDS: usize = COUNT.div_ceil(64);

/// Rows of the table, one bit each.
pub(crate) struct Rows([u64; WORDS]);

impl Iterator for Rows {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        for (index, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(index * 64 + bit);
            }
        }
        None
    }
}

/// The fields of one event. Most fields are missing in most events, so what is there stands in a
/// short list and each field has its place in it.
pub(crate) struct Document<'a> {
    arena: &'a Bump,
    /// One more than the place in `slots`; zero when the field is missing.
    places: [u8; COUNT],
    slots: ArenaVec<'a, Slot<'a>>,
    /// A bit for each field that is present.
    rows: [u64; WORDS],
    /// For the lists that have grown long.
    indexes: ArenaVec<'a, (Field, Index<'a>)>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(arena: &'a Bump) -> &'a mut Self {
        arena.alloc_with(|| Document {
            arena,
            places: [0; COUNT],
            slots: ArenaVec::with_capacity_in(64, arena),
            rows: [0; WORDS],
            indexes: ArenaVec::new_in(arena),
        })
    }

    #[inline]
    pub(crate) fn slot(&self, field: Field) -> Option<&Slot<'a>> {
        self.at(field as usize)
    }

    /// The rows that are there, in the order of the table.
    #[inline]
    pub(crate) fn rows(&self) -> Rows {
        Rows(self.rows)
    }

    /// What the row that `rows` gave holds.
    #[inline]
    pub(crate) fn at(&self, row: usize) -> Option<&Slot<'a>> {
        let place = usize::from(*self.places.get(row)?);
        self.slots.get(place.wrapping_sub(1))
    }

    /// Present, also with null.
    #[inline]
    pub(crate) fn has(&self, field: Field) -> bool {
        self.places[field as usize] != 0
    }

    /// Whether a field from `first` to `last` of the table is present.
    pub(crate) fn has_any(&self, first: Field, last: Field) -> bool {
        let places = &self.places[first as usize..=last as usize];
        places.iter().any(|&place| place != 0)
    }

    /// Present and not null.
    pub(crate) fn is_set(&self, field: Field) -> bool {
        !matches!(self.slot(field), None | Some(Slot::One(Value::Null)))
    }

    /// The value if the field holds a single one that is not null.
    pub(crate) fn get(&self, field: Field) -> Option<Value<'a>> {
        match self.slot(field) {
            Some(Slot::One(value)) if !value.is_null() => Some(*value),
            _ => None,
        }
    }

    /// The text if the field holds one.
    pub(crate) fn text(&self, field: Field) -> Option<Text<'a>> {
        self.get(field).and_then(Value::text)
    }

    pub(crate) fn set(&mut self, field: Field, value: Value<'a>) {
        self.put(field, Slot::One(value));
    }

    pub(crate) fn set_word(&mut self, field: Field, word: &'static str) {
        self.set(field, Value::word(word));
    }

    pub(crate) fn clear(&mut self, field: Field) {
        self.places[field as usize] = 0;
        self.rows[field as usize / 64] &= !(1 << (field as usize % 64));
    }

    fn put(&mut self, field: Field, slot: Slot<'a>) {
        let place = &mut self.places[field as usize];
        if let Some(old) = self.slots.get_mut(usize::from(*place).wrapping_sub(1)) {
            *old = slot;
            return;
        }
        // A field that was cleared has its slot no more; rules clear a few fields once.
        self.slots.push(slot);
        *place = u8::try_from(self.slots.len()).unwrap_or(0);
        self.rows[field as usize / 64] |= 1 << (field as usize % 64);
    }

    /// The elements if the field holds several.
    pub(crate) fn many(&self, field: Field) -> &[Value<'a>] {
        if let Some(Slot::Many(values)) = self.slot(field) {
            values
        } else {
            &[]
        }
    }

    /// The field as an array; a single value becomes its first element.
    pub(crate) fn list(&mut self, field: Field) -> &mut ArenaVec<'a, Value<'a>> {
        let place = usize::from(self.places[field as usize]).wrapping_sub(1);
        if !matches!(self.slots.get(place), Some(Slot::Many(_))) {
            self.make_list(field);
        }
        let place = usize::from(self.places[field as usize]).wrapping_sub(1);
        match self.slots.get_mut(place) {
            Some(Slot::Many(values)) => values,
            _ => unreachable!("the slot was made a list just above"),
        }
    }

    fn make_list(&mut self, field: Field) {
        let mut values = ArenaVec::with_capacity_in(4, self.arena);
        match self.slot(field) {
            Some(Slot::One(value)) if value.is_array() => values.extend(value.elements()),
            Some(Slot::One(value)) if !value.is_null() => values.push(*value),
            _ => {}
        }
        self.put(field, Slot::Many(self.arena.alloc(values)));
    }

    pub(crate) fn append(&mut self, field: Field, value: Value<'a>) {
        self.list(field).push(value);
    }

    /// Appends the rendered value unless the field already holds it.
    pub(crate) fn append_unique(&mut self, field: Field, value: Value<'a>) {
        let arena = self.arena;
        let value = Value::Text(render(arena, value));
        if matches!(self.slot(field), Some(Slot::One(one)) if one.same(value, arena)) {
            return;
        }
        let values = self.list(field);
        if values.len() > SEARCHED {
            return self.append_indexed(field, value);
        }
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
        let place = usize::from(self.places[field as usize]).wrapping_sub(1);
        let Some(Slot::Many(values)) = self.slots.get_mut(place) else {
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
