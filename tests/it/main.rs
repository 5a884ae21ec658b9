//! The integration tests: one binary, the real command, real sockets, real files.
//!
//! Each module proves one promise from outside; `tests/README.md` says which. No test looks at the clock to decide, and
//! none depends on another.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod api;
mod audit;
mod authoring;
#[cfg(feature = "s3")]
mod azure_blob;
mod azure_logs_ingestion;
mod backfill;
mod blobs;
mod config;
mod dashboards;
mod dead_letter;
mod deploy;
mod directory;
mod docs;
mod doctor;
mod elasticsearch;
mod enrich;
mod failures;
mod files;
mod fluent;
mod fluentbit;
mod fuzz;
#[cfg(feature = "s3")]
mod gcp_cloud_storage;
mod http;
mod identity;
mod interface;
#[cfg(feature = "kafka")]
mod kafka;
mod leaps;
mod logstash;
mod map;
mod misconfigured;
mod nats;
mod opensearch;
mod otlp;
mod otlp_grpc;
#[cfg(feature = "parquet")]
mod parquet;
mod pipeline;
mod progress;
mod redis;
mod reload;
mod restart;
mod rig;
mod rows;
#[cfg(feature = "s3")]
mod s3;
mod sandbox;
mod secrets;
mod simulation;
mod socket;
mod stages;
mod state;
mod state_command;
mod storms;
mod tap;
mod telemetry;
mod tidy;
mod top;
mod unit_tests;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sluicegate_tests::Sluicegate;
use tempfile::TempDir;

/// The root of the repository.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests stand in the repository")
        .to_owned()
}

/// A folder of a test's own; gone with the value.
fn folder() -> TempDir {
    TempDir::new().expect("a test may make a temporary folder")
}

/// The real command, run in a folder.
fn sluicegate(folder: &TempDir) -> Sluicegate {
    Sluicegate::new(program(), folder.path(), cache())
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sluicegate-under-test"))
}

/// Where compiled plugins are kept. The first test of all compiles the built-in one, so that a dozen commands
/// that start at once do not all do it.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        std::fs::create_dir_all(&cache).expect("cargo's folder for tests can be written");
        let _ = Sluicegate::new(program(), &cache, &cache)
            .args("inspect o365")
            .run()
            .expect(0);
        cache
    })
}

/// A fault guest of `tests/plugins`, as a component.
fn guest(name: &str) -> PathBuf {
    Path::new(env!("SLUICEGATE_PLUGINS")).join(format!("{name}.wasm"))
}
