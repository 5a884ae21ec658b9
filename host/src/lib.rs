//! The host library (being assembled).
pub mod auth;
pub mod clock;
pub mod config;
pub mod error;
pub mod event;
pub mod http;
pub mod ledger;
pub mod secret;
pub mod sink;
pub mod source;
pub mod stage;
