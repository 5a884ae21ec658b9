//! The simulated Office 365 Management Activity API: tenants, tokens, listings, content, and their
//! faults.
//!
//! The core is a state machine without sockets and without a clock: [`Office::handle`] takes an
//! instant and a request and gives a reply with the way it is to be sent. [`Server`] plays it on
//! loopback; a simulation plays it under virtual time. The same seed gives the same content and the
//! same faults. The oracle knows every record ever offered, so a test can ask what is missing,
//! repeated or invented.

mod builder;
mod control;
mod faults;
mod feed;
mod fetch;
mod http;
mod kind;
mod listing;
mod office;
mod oracle;
mod pool;
mod random;
mod records;
mod script;
mod stats;
mod subscription;
mod tenant;
mod time;
mod token;
mod wire;

pub use builder::Builder;
pub use faults::{Fault, Faults, Late, Order, Paging, Scope, Waits, Windows};
pub use http::{Clock, Server};
pub use kind::ContentType;
pub use office::Office;
pub use oracle::{Absent, Oracle, Verdict};
pub use pool::Pool;
pub use records::RecordStream;
pub use script::{Operation, Script};
pub use stats::Stats;
pub use tenant::{Application, Tenant};
pub use time::{DAY_MS, HOUR_MS};
pub use token::Assertion;
pub use wire::{Content, End, Framing, Reply, Request, Transport};
