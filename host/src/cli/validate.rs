//! `sluicegate validate`: config, plugins, grants and secrets, without touching state or network.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Done, run::prepare_all};
use crate::config::Config;
use crate::error::Error;
use crate::pipeline::{Runtime, check_offline};
use crate::secret::Redactor;

/// Check pipelines: exit 0 when each could start, 78 when not.
#[derive(Args)]
pub(super) struct Validate {
    /// Pipeline files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only what the files and their plugins say: no secret, no certificate, nothing of the machine they will run on.
    #[arg(long)]
    no_environment: bool,
    /// Refuse what is only warned of otherwise.
    #[arg(long)]
    deny_warnings: bool,
}

impl Validate {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let runtime = super::runtime(redactor).map_err(|error| vec![error])?;
        let warnings = if self.no_environment {
            self.without_environment(&runtime).await?
        } else {
            let prepared = prepare_all(&self.files, &runtime).await?;
            prepared.iter().map(|one| one.warnings.len()).sum()
        };
        if self.deny_warnings && warnings > 0 {
            let what = format!("{warnings} warning(s), which `--deny-warnings` refuses");
            return Err(vec![
                Error::config(what).help("the lines above say what to change"),
            ]);
        }
        for file in &self.files {
            println!("{}: ok", file.display());
        }
        Ok(0)
    }

    /// Returns how many warnings there were.
    async fn without_environment(&self, runtime: &Runtime) -> Result<usize, Vec<Error>> {
        let (mut warnings, mut errors) = (0, Vec::new());
        for file in &self.files {
            let checked = match Config::load(file) {
                Ok(config) => check_offline(config, runtime).await,
                Err(found) => Err(found),
            };
            match checked {
                Ok(found) => {
                    warnings += found.len();
                    found.iter().for_each(|one| eprintln!("warning: {one}"));
                }
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() {
            Ok(warnings)
        } else {
            Err(errors)
        }
    }
}
