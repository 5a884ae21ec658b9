//! `sluicegate validate`: config, plugins, grants and secrets, without touching state or network.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Done, run::prepare_all};
use crate::pipeline::Runtime;
use crate::secret::Redactor;

/// Check pipelines: exit 0 when each could start, 78 when not.
#[derive(Args)]
pub(super) struct Validate {
    /// Pipeline files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Validate {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let runtime = Runtime::new(redactor).map_err(|error| vec![error])?;
        prepare_all(&self.files, &runtime).await?;
        for file in &self.files {
            println!("{}: ok", file.display());
        }
        Ok(0)
    }
}
