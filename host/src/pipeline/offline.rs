//! A pipeline without its ends: mapping, stages and routes, as `sluicegate test` runs them.
//!
//! Nothing is fetched, delivered or remembered, and no secret is read. Each input passes alone, so
//! that what became of it is known.

use std::sync::Arc;

use super::stages::{Salts, make_conditions, make_stages};
use super::{Runtime, source};
use crate::config::{Config, TestInput};
use crate::error::Error;
use crate::event::{Batch, Event, Identity, Part, StreamKey};
use crate::line::route::Routes;
use crate::plugin::{Export, Outcome, Plugin, PluginTransform};
use crate::sandbox::Limits;
use crate::stage::Stage;
use crate::stage::script::Runner;

/// What events pass through between source and sinks.
pub struct Offline {
    config: Config,
    runtime: Runtime,
    /// Maps records; only loaded when there are any.
    plugin: Option<Arc<Plugin>>,
    stages: Vec<Box<dyn Stage>>,
    routes: Routes,
}

/// What became of one input.
#[derive(Debug, Default)]
pub struct Fate {
    /// What reaches a sink.
    pub events: Vec<Arrived>,
    /// Who left events out, once for each.
    pub dropped: Vec<String>,
    /// What became a dead letter: by whom, and why.
    pub rejected: Vec<String>,
}

/// An event that reaches a sink.
#[derive(Debug)]
pub struct Arrived {
    /// The event.
    pub event: Event,
    /// Where it comes from.
    pub stream: StreamKey,
    /// For each sink of the pipeline whether it goes there.
    pub sinks: Vec<bool>,
}

impl Offline {
    /// Loads what a pipeline's tests need, and says all that is wrong.
    pub async fn new(config: Config, runtime: &Runtime) -> Result<Self, Vec<Error>> {
        let mut errors = config.source.broken.clone();
        let mut inputs = config.tests.iter().flat_map(|test| &test.inputs);
        let mut plugin = None;
        if inputs.any(|input| input.is_record) {
            match source::load(&config, runtime).await {
                Ok(loaded) if loaded.is_transform() => plugin = Some(loaded),
                Ok(_) => {
                    let what =
                        "the plugin exports no `transform`, so it cannot map a test's record";
                    let error = config.source.place.error(what);
                    errors.push(error.help("let tests begin with an `event`"));
                }
                Err(error) => errors.push(error),
            }
        }
        let stages = make_stages(&config, runtime, Salts::StandIn, &mut errors).await;
        let conditions = make_conditions(&config, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            config,
            runtime: runtime.clone(),
            plugin,
            stages,
            routes: Routes::new(conditions),
        })
    }

    /// The pipeline's config, with its tests.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Lets one input pass.
    pub async fn pass(&self, input: &TestInput) -> Result<Fate, Error> {
        let tenants = &self.config.source.tenants;
        let tenant = match &input.tenant {
            Some(id) => id.as_str(),
            None => tenants.first().map_or("test", |tenant| &*tenant.id),
        };
        let stream = StreamKey::new(tenant, &input.stream);
        let mut fate = Fate::default();
        let mut events = vec![event(&input.body, tenant)];
        if input.is_record {
            events = self.map(&stream, &events, &mut fate).await?;
        }
        for (index, stage) in self.stages.iter().enumerate() {
            if events.is_empty() {
                break;
            }
            let by = format!("stage {} ({})", index + 1, stage.name());
            let stream = stream.clone();
            let part = Part::default();
            let staged = stage
                .apply(Batch {
                    stream,
                    events,
                    part,
                })
                .await;
            fate.dropped.extend((0..staged.dropped).map(|_| by.clone()));
            let rejected = staged.rejected.into_iter();
            fate.rejected
                .extend(rejected.map(|(_, reason)| format!("{by}: {reason}")));
            events = staged.passed;
        }
        let mut runner = Runner::default();
        for event in events {
            match self.routes.sinks_of(&mut runner, &event, &stream) {
                Ok(sinks) if sinks.contains(&true) => fate.events.push(Arrived {
                    event,
                    stream: stream.clone(),
                    sinks,
                }),
                Ok(_) => fate.dropped.push("`when`: no sink wants it".into()),
                Err(reason) => fate
                    .rejected
                    .push(format!("key `when` of a sink: {reason}")),
            }
        }
        Ok(fate)
    }

    /// Maps a record with its tenant's config.
    async fn map(
        &self,
        stream: &StreamKey,
        records: &[Event],
        fate: &mut Fate,
    ) -> Result<Vec<Event>, Error> {
        let Some(plugin) = &self.plugin else {
            return Err(Error::internal("a record has no plugin to map it"));
        };
        let tenants = &self.config.source.tenants;
        let Some(tenant) = tenants.iter().find(|tenant| tenant.id == stream.tenant) else {
            let what = format!("there is no tenant `{}` to map a record for", stream.tenant);
            let help = "name one that the directory holds under `tenant` of the input";
            return Err(Error::config(what).at(&self.config.source.place).help(help));
        };
        let config = tenant.config.to_string();
        let found = plugin.check_config(Export::Transform, &config).await?;
        if let Some(found) = found.into_iter().find(|found| found.fatal) {
            let place = self.config.config_place(tenant, &found.pointer);
            return Err(place.error(found.what).help(found.help));
        }
        let (limits, clock) = (Limits::from(&tenant.limits), self.runtime.clock.clone());
        let transform = PluginTransform::new(plugin.clone(), config, limits, clock)?;
        let applied = transform.apply(&stream.tenant, records).await;
        let transformed = applied.map_err(|failure| Error::unavailable(failure.to_string()))?;
        for outcome in transformed.outcomes {
            match outcome {
                Outcome::Made(_) => {}
                Outcome::Dropped(reason) => fate.dropped.push(format!("source: {reason}")),
                Outcome::Rejected(reason) => fate.rejected.push(format!("source: {reason}")),
            }
        }
        let mut events = transformed.events;
        // As when it is read: what an event is known by comes from the record itself.
        for event in &mut events {
            event.identity = Identity::of(&stream.tenant, &event.id, event.fingerprint);
        }
        Ok(events)
    }
}

/// An event with this body; its id is the one that it names.
fn event(body: &str, tenant: &str) -> Event {
    let named = serde_json::from_str::<serde_json::Value>(body).ok();
    let named = named.as_ref().and_then(|body| {
        let id = body
            .get("event.id")
            .or_else(|| body.get("event")?.get("id"));
        id?.as_str()
    });
    let id = named.unwrap_or("test");
    Event {
        id: id.into(),
        fingerprint: 0,
        time_ms: 0,
        body: body.to_owned().into(),
        identity: Identity::of(tenant, id, 0),
    }
}
