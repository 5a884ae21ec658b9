//! Which splits in quarantine `retry` and `forget` are about, and how they answer.
//!
//! Both write to the ledger beside a running collector, which notices within seconds; neither needs a secret.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;
use crate::ledger::SplitKey;
use crate::ledger::sqlite::by_hand::{ByHand, Handled, Which};

/// Which splits.
#[derive(Args)]
pub(super) struct Meant {
    /// The pipeline file.
    file: PathBuf,
    /// Of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Of this stream, such as `Audit.Exchange`.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// This split, by the id that `state` shows.
    #[arg(long, value_name = "ID", required_unless_present = "all")]
    split: Option<String>,
    /// All that are in quarantine (of the tenant and stream, when they are given).
    #[arg(long, conflicts_with = "split")]
    all: bool,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

impl Meant {
    /// Changes what is meant, in one transaction.
    pub fn change(
        &self,
        change: impl FnOnce(&mut ByHand, &Which) -> Result<Handled, Error>,
    ) -> Result<Handled, Vec<Error>> {
        let config = Config::load(&self.file)?;
        let which = Which {
            tenant: self.tenant.clone(),
            stream: self.stream.clone(),
            split: self.split.clone(),
        };
        ByHand::open(&config.state_dir)
            .and_then(|mut hand| change(&mut hand, &which))
            .map_err(|error| vec![error])
    }

    /// Says what came of it.
    pub fn show(&self, handled: &Handled, done: &str, reading: &str) {
        if self.json {
            let list = |keys: &[SplitKey]| keys.iter().map(json).collect::<Vec<Value>>();
            let report = json!({ "done": list(&handled.done), "reading": list(&handled.reading) });
            println!("{report:#}");
            return;
        }
        for key in &handled.done {
            println!("{}, split {}: {done}", key.stream, key.id);
        }
        for key in &handled.reading {
            println!("{}, split {}: {reading}", key.stream, key.id);
        }
        if handled.done.is_empty() && handled.reading.is_empty() {
            println!(
                "no such split is in quarantine; `sluicegate state FILE` shows those that are"
            );
        }
    }
}

fn json(key: &SplitKey) -> Value {
    json!({ "tenant": &*key.stream.tenant, "stream": &*key.stream.stream, "split": key.id })
}
