//! Decisions that are wrong on purpose, to show that the simulation finds each; see the host's module of this name.
//!
//! Without the feature `mutants` every question is answered `false` at compile time. With it, the
//! config's member `mutant` names the one that is on.

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::RefCell;

    use serde_json::{Map, Value};

    thread_local! {
        static ON: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// Takes the name out of a config.
    pub fn take(members: &mut Map<String, Value>) {
        let name = members.remove("mutant");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        ON.with_borrow_mut(|on| name.clone_into(on));
    }

    /// Whether this mutant is on.
    pub fn is_on(name: &str) -> bool {
        ON.with_borrow(|on| on == name)
    }
}

#[cfg(feature = "mutants")]
pub use switch::{is_on, take};

/// Whether this mutant is on: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_on(_name: &str) -> bool {
    false
}
