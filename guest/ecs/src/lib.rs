//! Turns one Office 365 audit record into one ECS event.
//!
//! Pure and total: no I/O, no clock, and what the tables do not know stays under `o365.audit`, so
//! an operation Microsoft adds tonight is searchable tomorrow, before anyone writes a row for it.
//!
//! A record is read once at its top level; values that pass through are copied as bytes, derived
//! fields are written directly. No tree is built of a record, and buffers are kept from one record
//! to the next.

#![expect(
    clippy::unnecessary_wraps,
    reason = "every rule has one signature, so that `steps.rs` reads as one list"
)]

mod address;
mod block;
mod bytes;
mod clean;
mod codes;
mod common;
mod data;
mod dates;
mod device;
mod dlp;
mod document;
mod embedded;
mod event;
mod hash;
mod index;
mod ip;
mod mail;
mod mapper;
mod name_values;
mod o365beat;
mod options;
mod original;
mod print;
mod record;
mod repair;
mod scan;
mod steps;
pub mod table;
mod text;
mod users;
mod value;
mod write;

pub use mapper::{Mapped, Mapper, Rejected};
pub use options::{BeatMode, BeatNameValues, BeatOptions, ErrorMode, Options, Profile};
pub use table::fields::{IndexType, fields};
