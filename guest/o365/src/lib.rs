//! The Office 365 plugin: lists and reads audit content, and maps records to events.
//!
//! `component` passes the real imports to the logic and its answers to the host, and is the only
//! one that names generated bindings. Natively the crate is a plain library, so that tests and the
//! simulation run the same logic with fakes of `world`.

pub mod api;
pub mod batch;
pub mod config;
pub mod cursor;
pub mod discover;
pub mod failure;
#[cfg(test)]
mod fake;
pub mod map;
pub mod mutant;
pub mod read;
pub mod subscription;
pub mod time;
pub mod transform;
pub mod url;
pub mod walk;
pub mod world;

#[cfg(target_arch = "wasm32")]
mod component;
