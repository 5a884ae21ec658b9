//! The deterministic simulation: the real component, engine, line and ledger in one thread under virtual time.
//!
//! Everything follows from one seed. The service, the disk and the sinks outlive the process, which dies at effects
//! that a plan names; an oracle that never asks the code under test says what may be. See `tests/README.md`.

pub mod bodies;
pub mod chance;
pub mod collector;
pub mod coverage;
pub mod director;
pub mod disk;
pub mod effects;
pub mod found;
pub mod judge;
pub mod ledger;
pub mod logs;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod run;
pub mod secrets;
pub mod shrink;
pub mod store;
pub mod sweep;
pub mod time;
pub mod world;
#[cfg(feature = "mutants")]
pub mod wrong;

pub use collector::Machine;
pub use plan::{Plan, Size};
pub use run::{Outcome, run};
