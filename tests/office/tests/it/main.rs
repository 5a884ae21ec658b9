//! The office's behaviours, one by one: through its public face, in memory under a time of the
//! test's own, and over loopback where only a socket can show them.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod client;
mod content;
mod faults;
mod listing;
mod script;
mod server;
mod subscriptions;
mod tokens;
