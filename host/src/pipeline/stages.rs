//! Builds the stages that a pipeline file describes.

use crate::capability::Grants;
use crate::config::{self, Config, RedactWith, StageKind};
use crate::error::Error;
use crate::plugin::{Export, Plugin, PluginTransform, TransformStage};
use crate::sandbox::Limits;
use crate::secret::{Redactor, Secret};
use crate::stage::Stage;
use crate::stage::condition::{Condition, ConditionStage};
use crate::stage::drop::DropStage;
use crate::stage::filter::FilterStage;
use crate::stage::geoip::GeoipStage;
use crate::stage::redact::pattern::Pattern;
use crate::stage::redact::{RedactStage, Salt, With};
use crate::stage::remap::RemapStage;
use crate::stage::rename::RenameStage;
use crate::stage::sample::SampleStage;
use crate::stage::user_agent::UserAgentStage;

use super::{Runtime, read_plugin};

/// Where the salts of hashes come from.
#[derive(Clone, Copy)]
pub(super) enum Salts {
    /// They are read.
    Read,
    /// The same one stands in for each, so that a test needs no secret and hashes alike everywhere.
    StandIn,
}

/// All stages; each that cannot be made leaves an error.
pub(super) async fn make_stages(
    config: &Config,
    runtime: &Runtime,
    salts: Salts,
    errors: &mut Vec<Error>,
) -> Vec<Box<dyn Stage>> {
    let mut stages = Vec::new();
    for stage in &config.stages {
        match make_stage(stage, runtime, salts).await {
            Ok(made) => stages.push(made),
            Err(error) => errors.push(error.at(&stage.place)),
        }
    }
    stages
}

/// The conditions of all sinks; each that cannot be made leaves an error.
pub(super) fn make_conditions(config: &Config, errors: &mut Vec<Error>) -> Vec<Option<Condition>> {
    let mut conditions = Vec::new();
    for sink in &config.sinks {
        match sink.when.as_ref().map(Condition::of).transpose() {
            Ok(condition) => conditions.push(condition),
            Err(error) => errors.push(error.at(&sink.place)),
        }
    }
    conditions
}

/// A stage, with its plugin loaded and its secrets read.
async fn make_stage(
    stage: &config::Stage,
    runtime: &Runtime,
    salts: Salts,
) -> Result<Box<dyn Stage>, Error> {
    Ok(match &stage.kind {
        StageKind::Filter(filter) => Box::new(FilterStage::of(filter)?),
        StageKind::Condition(condition) => Box::new(ConditionStage::new(condition.clone())),
        StageKind::Remap(remap) => Box::new(RemapStage::new(
            remap.script.clone(),
            remap.on_error,
            remap.drop_on_abort,
        )),
        StageKind::Wasm(wasm) => {
            let (name, bytes) = read_plugin(&wasm.plugin)?;
            // A transform needs no capability; whatever else it imports fails by name.
            let grants = Grants {
                http: name == "o365",
                wasi: wasm.grants.wasi,
            };
            let plugin = Plugin::load(&runtime.sandbox, &name, &bytes, grants).await?;
            let limits = Limits::from(&wasm.limits);
            let clock = runtime.clock.clone();
            let config = wasm.config.to_string();
            let found = plugin.check_config(Export::Transform, &config).await?;
            if let Some(found) = found.into_iter().find(|found| found.fatal) {
                return Err(Error::config(found.what).at(found.pointer).help(found.help));
            }
            Box::new(TransformStage(PluginTransform::new(
                plugin, config, limits, clock,
            )?))
        }
        StageKind::Geoip { city, asn } => Box::new(GeoipStage::new(
            city.clone(),
            asn.clone(),
            runtime.clock.clone(),
        )),
        StageKind::UserAgent => Box::new(UserAgentStage::default()),
        StageKind::Redact(redact) => Box::new(make_redact(redact, &runtime.redactor, salts)?),
        StageKind::Sample(sample) => {
            let exclude = sample.exclude.as_ref().map(Condition::of).transpose()?;
            let key_field = sample.key_field.clone();
            Box::new(SampleStage::new(sample.rate, key_field, exclude))
        }
        StageKind::Rename(names) => Box::new(RenameStage::new(names.clone())),
        StageKind::Drop(fields) => Box::new(DropStage::new(fields.clone())),
    })
}

fn make_redact(
    redact: &config::Redact,
    redactor: &Redactor,
    salts: Salts,
) -> Result<RedactStage, Error> {
    let with = match &redact.with {
        RedactWith::Mask => With::Mask,
        RedactWith::Drop => With::Drop,
        RedactWith::Hash(salt) => {
            let secret = match salts {
                Salts::Read => salt.resolve()?,
                Salts::StandIn => Secret::new("stands in for the salt"),
            };
            redactor.learn(&secret);
            With::Hash(Salt::new(&secret).map_err(|what| {
                let help = "`openssl rand -hex 32` makes one";
                Error::config(what).help(help)
            })?)
        }
    };
    let patterns: Result<_, _> = redact.patterns.iter().map(Pattern::new).collect();
    let patterns = patterns.map_err(Error::config)?;
    Ok(RedactStage::new(redact.fields.clone(), patterns, with))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::event::{Batch, Event, Identity, Part, StreamKey};

    const PIPELINE: &str = "\
source:
  plugin: o365
  tenants:
    - id: contoso
      auth:
        microsoft:
          directory_id: 11111111-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret: { env: CONTOSO_SECRET }
stages:
  - geoip: { city: city.mmdb, asn: asn.mmdb }
  - user_agent: {}
sinks:
  - stdout: {}
";

    /// The databases may come later, so a pipeline without them is in order.
    #[tokio::test]
    async fn stages_of_a_file_run_in_its_order_and_without_databases() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("contoso.yaml");
        let config = Config::parse(&file, PIPELINE, Some(folder.path())).unwrap();
        let runtime = Runtime::new(Arc::new(Redactor::default())).unwrap();
        let body = r#"{"source":{"ip":"192.0.2.1"},"user_agent":{"original":"curl/8.5.0"}}"#;
        let mut events = vec![Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: 0,
            body: body.into(),
            identity: Identity::of("contoso", "1", 0),
        }];
        let mut names = Vec::new();
        for stage in &config.stages {
            let stage = make_stage(stage, &runtime, Salts::Read).await.unwrap();
            names.push(stage.name());
            let stream = StreamKey::new("contoso", "Audit.General");
            let staged = stage
                .apply(Batch {
                    stream,
                    events,
                    part: Part::default(),
                })
                .await;
            assert_eq!((staged.dropped, staged.rejected.len()), (0, 0));
            events = staged.passed;
        }
        assert_eq!(names, ["geoip", "user_agent"]);
        let expected = concat!(
            r#"{"source":{"ip":"192.0.2.1"},"user_agent":{"original":"curl/8.5.0","#,
            r#""name":"curl","version":"8.5.0","device":{"name":"Other"}}}"#
        );
        assert_eq!(events[0].body, expected.as_bytes());
    }
}
