//! `sluicegate inspect`: what a plugin imports (its permissions), exports and says of itself.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Done;
use crate::capability::Grants;
use crate::capability::log::escape;
use crate::error::Error;
use crate::plugin::{self, Plugin};
use crate::secret::Redactor;

/// How much of a config schema is shown.
const SCHEMA_LINES: usize = 2_000;
const SCHEMA_LINE_BYTES: usize = 64 << 10;

/// Show a plugin's permissions, exports, config schema, version and size.
#[derive(Args)]
pub(super) struct Inspect {
    /// `o365`, or the path of a component.
    plugin: String,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let runtime = super::runtime(redactor).map_err(wrong)?;
        let bytes = plugin::read(&self.plugin, Path::new("")).map_err(wrong)?;
        let sandbox = &runtime.sandbox;
        let plugin = Plugin::look(sandbox, &self.plugin, &bytes)
            .await
            .map_err(wrong)?;
        // Asking it what it is needs an instance; that all is granted here matters little, since `describe` runs
        // without network, state or output.
        let all = Grants {
            http: true,
            wasi: true,
        };
        let described = match Plugin::load(sandbox, &self.plugin, &bytes, all).await {
            Ok(plugin) => plugin.describe().await,
            Err(error) => Err(error),
        };
        if self.json {
            let described = described.ok();
            let schema = described.as_ref().and_then(|described| {
                serde_json::from_str::<serde_json::Value>(&described.config_schema).ok()
            });
            let report = json!({
                "plugin": plugin.name,
                "name": described.as_ref().map(|described| &described.name),
                "version": described.as_ref().map(|described| &described.version),
                "sha256": plugin.digest,
                "bytes": plugin.size,
                "imports": plugin.imports,
                "exports": plugin.exports,
                "config_schema": schema,
            });
            println!("{report:#}");
            return Ok(0);
        }
        println!("plugin   {}", plugin.name);
        match &described {
            Ok(described) => println!("is       {} {}", described.name, described.version),
            Err(error) => println!("is       not a plugin of this host: {}", error.what),
        }
        println!("sha256   {}", plugin.digest);
        println!("bytes    {}", plugin.size);
        for (title, names) in [("imports", &plugin.imports), ("exports", &plugin.exports)] {
            println!("{title}");
            for name in names {
                println!("  {name}");
            }
        }
        if let Ok(described) = described {
            println!("config schema");
            // The plugin's own words may be meant for the terminal.
            for line in described.config_schema.lines().take(SCHEMA_LINES) {
                println!("{}", escape(line, SCHEMA_LINE_BYTES));
            }
        }
        Ok(0)
    }
}
