//! What the benchmarks share: the records, the time of one core, the rivals.

pub mod component;
pub mod corpus;
pub mod discard;
pub mod machine;
#[cfg(feature = "vrl")]
pub mod vrl;
