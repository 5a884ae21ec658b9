//! The mapping as a filter of Fluent Bit: one record in, one event out.
//!
//! Fluent Bit drops a record whose answer is null or no JSON object, so every answer here is one
//! object: what cannot be mapped comes out marked `pipeline_error`, with its text in
//! `event.original`. Mapping options are the default ones (profile `newer`), because Fluent Bit
//! hands a module neither arguments nor an environment.
//!
//! `abi` holds what Fluent Bit calls, and all the unsafe code; `filter` and `wrap` are plain Rust.

pub mod abi;
mod filter;
mod wrap;

pub use filter::Filter;

// It would build and then not load: Fluent Bit compiles its runtime without SIMD.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
compile_error!("Fluent Bit's runtime has no SIMD: build without `-C target-feature=+simd128`");
