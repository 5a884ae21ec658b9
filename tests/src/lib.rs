//! The harness of the integration tests: a simulated office on loopback, a pipeline file for it, the real command
//! run on that file, and what it delivered, judged by the office's oracle.
//!
//! Nothing here asks the code under test what is right: events are read back from the file as any reader would,
//! and the oracle knows only what the office issued.

pub mod azure;
pub mod azurite;
pub mod bulk;
mod chance;
pub mod collector;
pub mod command;
pub mod delivered;
pub mod forward;
pub mod http_server;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod lumberjack;
pub mod maven;
pub mod nats;
pub mod office;
pub mod opensearch;
pub mod otlp;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod pipeline;
mod plain_http;
pub mod real_server;
pub mod receiver;
pub mod redis;
pub mod rig;
pub mod seaweed;
pub mod shipped;
pub mod syslog;
pub mod telemetry;

pub use azure::{IngestionFaults, LogsIngestion};
pub use bulk::{Bulk, BulkFaults};
pub use collector::{Collector, CollectorFaults};
pub use command::{Ended, Running, Sluicegate};
pub use delivered::Delivered;
pub use office::Simulated;
pub use pipeline::Pipeline;
pub use receiver::{Incoming, Lines, Receiver};
pub use telemetry::Told;
