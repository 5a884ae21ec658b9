//! What the benchmarks share: the records, the time of one core, the rivals.

pub mod component;
pub mod corpus;
pub mod machine;
pub mod vrl;
