//! The host library (being assembled).
pub mod append_file;
pub mod clock;
pub mod dead_letter;
pub mod error;
pub mod event;
pub mod ledger;
pub mod limiter;
pub mod sink;
pub mod source;
pub mod stage;
