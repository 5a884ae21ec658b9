//! The tables: one line a row, sorted, looked up without allocation.

pub mod fields;
pub(crate) mod members;
pub mod operations;
pub mod record_types;
