//! What can be said of a pipeline without its environment: `validate --no-environment`.
//!
//! Config, plugins, grants and stages are checked as for a start. Left out is what belongs to the machine it will run
//! on: secrets, certificates, sign-in and the API's token, so a pipeline can be checked where it is written.

use super::source::SourceMaker;
use super::stages::{Salts, make_stage};
use super::{Runtime, add};
use crate::config::{Auth, Config, HttpConfig};
use crate::error::Error;
use crate::stage::condition::Condition;

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
    let mut errors = config.source.broken.clone();
    let mut warnings = Vec::new();
    for tenant in &config.source.tenants {
        match maker.source(tenant) {
            Ok(source) => {
                let found = maker.check(&config, tenant, &source).await;
                add(&mut errors, found.errors);
                add(&mut warnings, found.warnings);
            }
            Err(error) => errors.push(error),
        }
    }
    for stage in &config.stages {
        if let Err(error) = make_stage(stage, runtime, Salts::StandIn).await {
            errors.push(error.at(&stage.place));
        }
    }
    for sink in &config.sinks {
        if let Some(Err(error)) = sink.when.as_ref().map(Condition::of) {
            errors.push(error.at(&sink.place));
        }
    }
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(errors)
    }
}
