//! One record on its way to an event, and the primitives every rule is made of: move, copy, append,
//! note.
//!
//! In `reference` mode a broken rule ends the mapping, as the reference mapping does. In `robust`
//! mode the rule is noted in `error.message`, the raw member stays where it was, and the next rule
//! runs.

use bumpalo::Bump;

use crate::document::Document;
use crate::options::{ErrorMode, Options, Profile};
use crate::record::Record;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Value};

/// Why a rule could not be applied.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// What a rule gives.
pub(crate) type Step = Result<(), Failure>;

/// A failure, from a sentence.
pub(crate) fn fail(what: impl Into<String>) -> Step {
    Err(Failure(what.into()))
}

/// One record on its way to an event.
pub(crate) struct Event<'a> {
    pub(crate) arena: &'a Bump,
    pub(crate) options: &'a Options,
    /// Profile `newer`, otherwise `1.7.1`.
    pub(crate) newer: bool,
    /// Never give up.
    pub(crate) robust: bool,
    pub(crate) record: &'a mut Record<'a>,
    pub(crate) document: &'a mut Document<'a>,
    /// The number of the record type, when the table knows it.
    pub(crate) code: Option<u16>,
    /// When the event happened, in milliseconds.
    pub(crate) time_ms: Option<i64>,
    /// `ThreatDetectionMethods` of the entities in `Data`, put into the record last.
    pub(crate) methods: Option<Value<'a>>,
}

impl<'a> Event<'a> {
    pub(crate) fn new(arena: &'a Bump, options: &'a Options, record: &'a mut Record<'a>) -> Self {
        Event {
            arena,
            options,
            newer: options.profile == Profile::Newer,
            robust: options.error_mode == ErrorMode::Robust,
            record,
            document: Document::new(arena),
            code: None,
            time_ms: None,
            methods: None,
        }
    }

    /// Runs a rule; in robust mode its failure is noted and does not stop the others.
    #[inline]
    pub(crate) fn attempt(&mut self, rule: impl Fn(&mut Self) -> Step) -> Step {
        match rule(self) {
            Err(Failure(what)) if self.robust => {
                self.note(&what);
                Ok(())
            }
            result => result,
        }
    }

    /// Adds a line to `error.message`.
    #[cold]
    pub(crate) fn note(&mut self, line: &str) {
        let line = self.arena.alloc_str(line);
        let text = Text::encode(self.arena, line.as_bytes());
        self.document.append(Field::ErrorMessage, Value::Text(text));
    }

    /// A member of the record, null included.
    #[inline]
    pub(crate) fn get(&self, known: Known) -> Option<Value<'a>> {
        self.record.get(known)
    }

    /// A member of the record that is neither missing nor null.
    #[inline]
    pub(crate) fn set(&self, known: Known) -> Option<Value<'a>> {
        self.record.set_value(known)
    }

    /// Moves a member to a field.
    #[inline]
    pub(crate) fn take(&mut self, from: Known, to: Field) -> Step {
        let Some(value) = self.get(from) else {
            return Ok(());
        };
        if self.is_free(to, value, from.name())? && self.put(to, value, from.name()) {
            self.record.remove(from);
        }
        Ok(())
    }

    /// Moves a member of a member to a field.
    pub(crate) fn take_inner(&mut self, outer: Known, from: &str, to: Field) -> Step {
        let Some(object) = self.get(outer) else {
            return Ok(());
        };
        let Some(value) = object.member(from) else {
            return Ok(());
        };
        if self.is_free(to, value, from)? && self.put(to, value, from) {
            let rest = object.without(self.arena, &[from]);
            self.record.put(outer, rest);
        }
        Ok(())
    }

    /// Whether the value may stand in the field. In robust mode null stands in nobody's way, and
    /// what stands there already stays.
    #[inline]
    fn is_free(&mut self, to: Field, value: Value<'a>, name: &str) -> Result<bool, Failure> {
        if !self.document.has(to) || self.robust && !self.document.is_set(to) {
            return Ok(true);
        }
        if !(self.robust && value.is_null()) {
            self.occupied(to.name(), name)?;
        }
        Ok(false)
    }

    #[cold]
    fn occupied(&mut self, to: &str, name: &str) -> Step {
        if !self.robust {
            return fail(format!("field [{to}] already exists"));
        }
        self.note(&format!(
            "`{name}` stays as it is: field [{to}] already exists"
        ));
        Ok(())
    }

    /// Copies a member to a field if it is neither missing nor null nor `""`.
    #[inline]
    pub(crate) fn copy(&mut self, from: Known, to: Field) {
        if let Some(value) = self.get(from).filter(|value| !value.is_blank()) {
            self.put(to, value, from.name());
        }
    }

    /// Moves a member of the record to another name inside the record.
    pub(crate) fn rename(&mut self, from: Known, to: Known) -> Step {
        let Some(value) = self.get(from) else {
            return Ok(());
        };
        if self.record.get(to).is_some() {
            return self.occupied(to.name(), from.name());
        }
        self.record.put(to, value);
        self.record.remove(from);
        Ok(())
    }

    /// Sets a field. In robust mode an object has no place in a field of scalars: it stays in the
    /// record.
    pub(crate) fn put(&mut self, to: Field, value: Value<'a>, name: &str) -> bool {
        if self.robust && !is_flat(value) {
            self.no_place(to, name);
            return false;
        }
        self.document.set(to, value);
        true
    }

    /// Appends to a list. In robust mode an object has no place in a list of scalars.
    pub(crate) fn add(&mut self, to: Field, value: Value<'a>, name: &str) {
        if self.robust && !is_flat(value) {
            self.no_place(to, name);
        } else {
            self.document.append(to, value);
        }
    }

    #[cold]
    fn no_place(&mut self, to: Field, name: &str) {
        self.note(&format!(
            "`{name}` holds an object and cannot be `{}`: kept as it is",
            to.name()
        ));
    }

    /// A value that rules need as text; in robust mode numbers and booleans are converted.
    pub(crate) fn need_text(&self, value: Value<'a>, name: &str) -> Result<Text<'a>, Failure> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) if self.robust => {
                Ok(crate::print::print(self.arena, value))
            }
            _ => Err(Failure(format!(
                "`{name}` is {}, not a text",
                describe(value)
            ))),
        }
    }

    /// The member as an object: none when missing or null, a failure when it is something else.
    pub(crate) fn object(&self, known: Known) -> Result<Option<Value<'a>>, Failure> {
        match self.set(known) {
            Some(value) if !value.is_object() => {
                if self.robust {
                    return Ok(None);
                }
                let name = known.name();
                Err(Failure(format!(
                    "`{name}` is {}, not an object",
                    describe(value)
                )))
            }
            value => Ok(value),
        }
    }

    /// The action as text, decoded.
    pub(crate) fn action(&self) -> Option<&'a [u8]> {
        self.document
            .text(Field::EventAction)
            .map(|text| text.decode(self.arena))
    }

    /// Appends to `event.category` and `event.type`.
    pub(crate) fn classify(&mut self, categories: &[&'static str], types: &[&'static str]) {
        for (field, words) in [
            (Field::EventCategory, categories),
            (Field::EventType, types),
        ] {
            for word in words {
                self.append_word(field, word);
            }
        }
    }

    pub(crate) fn append_word(&mut self, field: Field, word: &'static str) {
        if self.options.tidy {
            self.document.append_unique(field, Value::word(word));
        } else {
            self.document.append(field, Value::word(word));
        }
    }
}

/// A scalar or an array of scalars.
#[inline]
fn is_flat(value: Value<'_>) -> bool {
    matches!(value, Value::Text(_)) || is_flat_other(value)
}

/// The same for what is not a text; most values are.
fn is_flat_other(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Object => false,
        Kind::Array => value
            .elements()
            .all(|element| !matches!(element.kind(), Kind::Object | Kind::Array)),
        _ => true,
    }
}

/// The type of a value, for a sentence.
pub(crate) fn describe(value: Value<'_>) -> &'static str {
    match value.kind() {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::Text => "a text",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}
