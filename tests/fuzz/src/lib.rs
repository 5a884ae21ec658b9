//! What is tried with any bytes: one function for each place where bytes of others are read.
//!
//! A function gets an input and panics when a promise is broken. `tests/it/fuzz.rs` feeds all of them with seeded
//! damage to known inputs, on every change; `guest/ecs/fuzz` lets cargo-fuzz look for inputs of its own.

pub mod address;
pub mod cursor;
pub mod error_body;
pub mod map_record;
pub mod next_page;
pub mod plugin_config;
pub mod split;
