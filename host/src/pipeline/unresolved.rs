//! What can be said of a pipeline without its environment: `validate --no-environment`.
//!
//! Config, plugins, grants and stages are checked as for a start. Left out is what belongs to the machine it will run
//! on: secrets, certificates, sign-in and the API's token, so a pipeline can be checked where it is written.

use super::Runtime;
use super::source::{Findings, SourceMaker};
use super::stages::{Salts, make_conditions, make_stages};
use crate::config::{Auth, Config, HttpConfig};
use crate::error::Error;

/// Checks what needs no secret and no file but plugins. Returns what the plugins would rather have different.
pub async fn check_offline(
    mut config: Config,
    runtime: &Runtime,
) -> Result<Vec<Error>, Vec<Error>> {
    config.http = HttpConfig::default();
    for tenant in &mut config.source.tenants {
        tenant.auth = Auth::None;
    }
    let maker = SourceMaker::new(&config, runtime)
        .await
        .map_err(|error| vec![error])?;
    let (
        _,
        Findings {
            mut errors,
            warnings,
        },
    ) = maker.sources(&config).await;
    let _ = make_stages(&config, runtime, Salts::StandIn, &mut errors).await;
    let _ = make_conditions(&config, &mut errors);
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(errors)
    }
}
