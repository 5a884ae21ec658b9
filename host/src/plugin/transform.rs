//! A component as a stage, and as the engine of `sluicegate transform`.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use wasmtime::Store;

use super::call::{bare, bounded, wit_limits};
use super::{Plugin, wit};
use crate::capability::log::{GuestLog, REASON_BYTES, escape};
use crate::capability::output;
use crate::capability::transform_world::TransformPlugin;
use crate::capability::transform_world::exports::sluicegate::plugin::transform as exports;
use crate::clock::SharedClock;
use crate::error::Error;
use crate::event::{Batch, Event, Identity};
use crate::sandbox::{Call, Limits, WallBudget, explain};
use crate::source::Failure;
use crate::stage::{Stage, Staged};

/// Instances kept for the next batch of the same tenant. A transform is pure, so an instance may serve many calls; one
/// that trapped is thrown away, and none that has seen one tenant's events is given another's.
const KEPT: usize = 8;

/// Largest buffer that is kept for the next batch; usual batches are smaller.
const PACKED_BYTES: usize = 4 << 20;

/// How often a batch is tried before its events become dead letters.
const ATTEMPTS: u32 = 3;

/// Calls after which an instance is replaced, so that a leak in a plugin stays small.
const CALLS: u32 = 1_000;

/// What became of a batch.
#[derive(Debug)]
pub struct Transformed {
    /// All that came of it, in its order.
    pub events: Vec<Event>,
    /// One for each event that went in.
    pub outcomes: Vec<Outcome>,
}

/// What became of one event.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many of the events came of it.
    Made(usize),
    /// Left out on purpose.
    Dropped(String),
    /// Could not be handled.
    Rejected(String),
}

struct Instance {
    /// Whose events it has seen.
    tenant: Arc<str>,
    world: TransformPlugin,
    store: Store<Call>,
    calls: u32,
    /// What the last batch was packed in.
    packed: Vec<u8>,
}

/// A transform plugin with its config.
pub struct PluginTransform {
    plugin: Arc<Plugin>,
    config: String,
    limits: Limits,
    clock: SharedClock,
    kept: Mutex<Vec<Instance>>,
}

impl PluginTransform {
    /// A transform with a config.
    pub fn new(
        plugin: Arc<Plugin>,
        config: String,
        limits: Limits,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        if !plugin.is_transform() {
            return Err(super::incompatible(
                &plugin.name,
                "it exports no `transform`",
            ));
        }
        let kept = Mutex::default();
        Ok(Self {
            plugin,
            config,
            limits,
            clock,
            kept,
        })
    }

    /// Transforms events of one tenant.
    pub async fn apply(&self, tenant: &Arc<str>, events: &[Event]) -> Result<Transformed, Failure> {
        let _slot = self.plugin.sandbox.slot().await;
        let wall = WallBudget::start(self.limits.wall);
        let mut instance = self.instance(tenant, &wall).await?;
        let limits = wit_limits(&self.limits, &self.clock);
        let batch = pack(events, std::mem::take(&mut instance.packed));
        let cpu = instance.store.data().cpu.clone();
        let transform = instance.world.sluicegate_plugin_transform();
        let call = transform.call_apply(&mut instance.store, &self.config, &batch, limits);
        let applied = match bounded(&wall, &cpu, call).await {
            Some(Ok(Ok(applied))) => applied,
            Some(Ok(Err(failure))) => {
                self.keep(instance);
                return Err(failure.into());
            }
            Some(Err(error)) => {
                return Err(self.fault(&explain(&error, instance.store.data(), &self.limits)));
            }
            None => return Err(self.late()),
        };
        let exports::Applied { output, verdicts } = applied;
        if batch.bytes.capacity() <= PACKED_BYTES {
            instance.packed = batch.bytes;
        }
        self.keep(instance);
        self.assign(events, output, verdicts)
    }

    fn fault(&self, why: &str) -> Failure {
        Failure::Fault(format!(
            "plugin `{}` was stopped in `apply`: {why}",
            self.plugin.name
        ))
    }

    fn late(&self) -> Failure {
        crate::metrics::count_fault(&self.plugin.name, super::call::TIME);
        let seconds = self.limits.wall.as_secs_f64();
        self.fault(&format!("it took longer than {seconds} s"))
    }

    /// The instance that served this tenant last, or a fresh one.
    async fn instance(&self, tenant: &Arc<str>, wall: &WallBudget) -> Result<Instance, Failure> {
        let kept = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = kept.iter().rposition(|kept| kept.tenant == *tenant);
            ours.map(|index| kept.remove(index))
        };
        if let Some(mut instance) = kept {
            self.plugin.sandbox.rearm(&mut instance.store, &self.limits);
            return Ok(instance);
        }
        let Some(pre) = &self.plugin.transform else {
            return Err(self.fault("it exports no `transform`"));
        };
        let log = GuestLog::new(&self.plugin.name, String::new(), self.limits.log_lines);
        let call = Call {
            log,
            ..bare(&self.clock)
        };
        let mut store = self.plugin.sandbox.store(call, &self.limits);
        let cpu = store.data().cpu.clone();
        match bounded(wall, &cpu, pre.instantiate_async(&mut store)).await {
            Some(Ok(world)) => Ok(Instance {
                tenant: tenant.clone(),
                world,
                store,
                calls: 0,
                packed: Vec::new(),
            }),
            Some(Err(error)) => Err(self.fault(&explain(&error, store.data(), &self.limits))),
            None => Err(self.late()),
        }
    }

    fn keep(&self, mut instance: Instance) {
        instance.calls += 1;
        if instance.calls >= CALLS {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(instance);
        if kept.len() > KEPT {
            // The one that was used longest ago.
            kept.remove(0);
        }
    }

    /// Gives each event what became of it; a plugin that miscounts is at fault.
    fn assign(
        &self,
        events: &[Event],
        batch: wit::Batch,
        verdicts: Vec<exports::Verdict>,
    ) -> Result<Transformed, Failure> {
        // What comes of a batch may be larger than it, or hold more events.
        let limits = Limits {
            batch_bytes: u32::MAX,
            batch_events: u32::MAX,
            ..self.limits.clone()
        };
        // Each gets its identity below, from the event it was made of.
        let none = |_: &str, _| Identity([0; 16]);
        let mut made = output::events(batch, &limits, none).map_err(|rule| self.fault(&rule))?;
        if verdicts.len() != events.len() {
            let (got, owed) = (verdicts.len(), events.len());
            return Err(self.fault(&format!("it gave {got} verdicts for {owed} events")));
        }
        let mut rest = made.iter_mut();
        let mut outcomes = Vec::with_capacity(events.len());
        for (event, verdict) in events.iter().zip(verdicts) {
            let kept = matches!(verdict, exports::Verdict::Keep);
            let outcome = match verdict {
                exports::Verdict::Keep => Outcome::Made(1),
                exports::Verdict::Many(count) => Outcome::Made(count as usize),
                exports::Verdict::Drop(reason) => Outcome::Dropped(escape(&reason, REASON_BYTES)),
                exports::Verdict::Reject(reason) => {
                    Outcome::Rejected(escape(&reason, REASON_BYTES))
                }
            };
            if let Outcome::Made(count) = outcome {
                if count > rest.len() {
                    return Err(self.fault("its verdicts promise more events than it gave"));
                }
                for (index, made) in rest.by_ref().take(count).enumerate() {
                    made.identity = if kept {
                        event.identity
                    } else {
                        event
                            .identity
                            .child(u32::try_from(index).unwrap_or(u32::MAX))
                    };
                }
            }
            outcomes.push(outcome);
        }
        if rest.next().is_some() {
            return Err(self.fault("it gave more events than its verdicts account for"));
        }
        Ok(Transformed {
            events: made,
            outcomes,
        })
    }
}

/// One buffer, made of `bytes`, and an index into it.
fn pack(events: &[Event], mut bytes: Vec<u8>) -> wit::Batch {
    let length_of = |event: &Event| event.id.len() + event.body.len();
    bytes.clear();
    bytes.reserve(events.iter().map(length_of).sum());
    let mut entries = Vec::with_capacity(events.len());
    for event in events {
        let Event {
            id,
            fingerprint,
            time_ms,
            body,
            ..
        } = event;
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(body);
        entries.push(wit::Entry {
            id_length: length(id.len()),
            body_length: length(body.len()),
            fingerprint: *fingerprint,
            time: *time_ms,
        });
    }
    wit::Batch { bytes, entries }
}

/// A length on the wire; what is too long for it fails the check on the other side.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A transform plugin as a stage of a pipeline.
pub struct TransformStage(pub PluginTransform);

#[async_trait]
impl Stage for TransformStage {
    fn name(&self) -> &'static str {
        "wasm"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let Batch { stream, events, .. } = batch;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.0.apply(&stream.tenant, &events).await {
                Ok(transformed) => return sort(events, transformed),
                Err(failure) => {
                    tracing::warn!(%failure, "a transform failed; trying again");
                    last = failure.to_string();
                }
            }
        }
        let rejected = events
            .into_iter()
            .map(|event| (event, last.clone()))
            .collect();
        Staged {
            rejected,
            ..Staged::default()
        }
    }
}

fn sort(events: Vec<Event>, transformed: Transformed) -> Staged {
    let mut staged = Staged {
        passed: transformed.events,
        ..Staged::default()
    };
    for (event, outcome) in events.into_iter().zip(transformed.outcomes) {
        match outcome {
            Outcome::Made(_) => {}
            Outcome::Dropped(_) => staged.dropped += 1,
            Outcome::Rejected(reason) => staged.rejected.push((event, reason)),
        }
    }
    staged
}
