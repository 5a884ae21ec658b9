//! A component as one tenant's [`Source`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::WasiHttpCtx;

use super::{Export, Plugin, found, incompatible, wit};
use crate::capability::clock::{MonotonicClock, WallClock};
use crate::capability::http::{Egress, HttpHooks, Trouble};
use crate::capability::log::{GuestLog, REASON_BYTES, escape};
use crate::capability::output::CallOutput;
use crate::capability::source_world::SourcePlugin;
use crate::capability::source_world::exports::sluicegate::plugin::source as exports;
use crate::capability::state::StagedState;
use crate::capability::transform_world::TransformPlugin;
use crate::clock::{SharedClock, SystemClock, millis};
use crate::engine::rfc3339;
use crate::error::Error;
use crate::event::StreamKey;
use crate::ledger::Split;
use crate::limiter::Priority;
use crate::metrics;
use crate::sandbox::{Call, CpuBudget, Limits, MemoryBudget, WallBudget, explain};
use crate::source::{Discovery, Failure, Output, Scope, Source, Stream};

/// How long a hand-over may wait for the first listing, such as for a subscription: as long as services keep content.
const HAND_OVER_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// What the calls of one tenant have in common.
pub struct TenantContext {
    /// The tenant's id in the pipeline.
    pub tenant: Arc<str>,
    /// The plugin's config with the tenant's public facts under `tenant`.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The way out.
    pub egress: Arc<Egress>,
    /// The time that the plugin sees.
    pub clock: SharedClock,
    /// Limits of each call.
    pub limits: Limits,
}

/// A plugin run for one tenant.
pub struct PluginSource {
    plugin: Arc<Plugin>,
    context: TenantContext,
    config: String,
}

/// What differs from call to call.
struct Setting<'a> {
    function: &'static str,
    stream: Option<&'a Stream>,
    priority: Priority,
    state: StagedState,
    output: Option<Arc<dyn Output>>,
}

/// An instance ready to be called.
struct Started {
    world: SourcePlugin,
    store: Store<Call>,
    wall: WallBudget,
    cpu: CpuBudget,
    trouble: Trouble,
    function: &'static str,
}

impl PluginSource {
    /// Runs a plugin for a tenant.
    pub fn new(plugin: Arc<Plugin>, context: TenantContext) -> Self {
        let config = serde_json::Value::Object(context.config.clone()).to_string();
        Self {
            plugin,
            context,
            config,
        }
    }

    /// The tenant's id in the pipeline.
    pub fn tenant(&self) -> &Arc<str> {
        &self.context.tenant
    }

    /// The tenant's way out, for its counters.
    pub fn egress(&self) -> &Arc<Egress> {
        &self.context.egress
    }

    /// Asks the plugin whether it can work with this tenant's config.
    pub async fn check_config(&self) -> Result<Vec<super::Diagnostic>, Error> {
        self.plugin.check_config(Export::Source, &self.config).await
    }

    async fn start(&self, setting: Setting<'_>) -> Result<Started, Failure> {
        let Setting {
            function,
            stream,
            priority,
            state,
            output,
        } = setting;
        let Some(pre) = &self.plugin.source else {
            let reason = format!("plugin `{}` exports no `source`", self.plugin.name);
            return Err(Failure::Misconfigured(reason));
        };
        let limits = &self.context.limits;
        let wall = WallBudget::start(limits.wall);
        let cpu = CpuBudget::default();
        let trouble = Trouble::default();
        let (name, tenant) = (&self.plugin.name, &self.context.tenant);
        let place = match stream {
            Some(stream) => StreamKey::new(tenant, &stream.name).to_string(),
            None => format!("tenant `{tenant}`"),
        };
        let hooks = HttpHooks {
            place: format!("plugin `{name}`, {place}"),
            egress: Some(self.context.egress.clone()),
            quota_key: stream
                .map(|stream| stream.quota_key.clone())
                .unwrap_or_default(),
            priority,
            requests_left: limits.requests,
            response_bytes: limits.response_bytes,
            trouble: trouble.clone(),
        };
        let output = output.map(|output| CallOutput {
            tenant: tenant.clone(),
            output,
            limits: limits.clone(),
            bytes_left: limits.output_bytes,
            wall: wall.clone(),
            cpu: cpu.clone(),
        });
        let log = GuestLog::new(name, place, limits.log_lines);
        let clock = &self.context.clock;
        let call = Call {
            hooks,
            output,
            log,
            state,
            cpu: cpu.clone(),
            ..bare(clock)
        };
        let mut store = self.plugin.sandbox.store(call, limits);
        match bounded(&wall, &cpu, pre.instantiate_async(&mut store)).await {
            Some(Ok(world)) => Ok(Started {
                world,
                store,
                wall,
                cpu,
                trouble,
                function,
            }),
            ended => Err(self.fault(function, ended.map(Result::err), &store)),
        }
    }

    /// The sentence for a call that the sandbox ended. `None`: its time was up.
    fn fault(
        &self,
        function: &str,
        ended: Option<Option<wasmtime::Error>>,
        store: &Store<Call>,
    ) -> Failure {
        let why = match ended {
            None | Some(None) => {
                metrics::count_fault(&self.plugin.name, TIME);
                let seconds = self.context.limits.wall.as_secs_f64();
                format!("it took longer than {seconds} s (`limits.call_timeout`)")
            }
            Some(Some(error)) => explain(&error, store.data(), &self.context.limits),
        };
        let (plugin, tenant) = (&self.plugin.name, &self.context.tenant);
        Failure::Fault(format!(
            "plugin `{plugin}` was stopped in `{function}` for tenant `{tenant}`: {why}"
        ))
    }

    /// What a call came to. A reason that the host noted says more than what the plugin made of it.
    fn answer<T>(
        &self,
        started: &Started,
        answer: Option<wasmtime::Result<Result<T, wit::Failure>>>,
    ) -> Result<T, Failure> {
        let failure = match answer {
            Some(Ok(Ok(value))) => return Ok(value),
            Some(Ok(Err(failure))) => Failure::from(failure),
            Some(Err(error)) => {
                return Err(self.fault(started.function, Some(Some(error)), &started.store));
            }
            None => return Err(self.fault(started.function, None, &started.store)),
        };
        let noted = started
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Err(match (failure, noted) {
            (Failure::Cancelled, _) => Failure::Cancelled,
            // The plugin's own sentence names what it was doing; only a stronger reason replaces it. Which host could
            // not be reached, and why, only the host knows.
            (
                Failure::Retry {
                    after,
                    affects,
                    reason,
                },
                Some(Failure::Retry {
                    affects: Scope::Split,
                    reason: noted,
                    ..
                }),
            ) => Failure::Retry {
                after,
                affects,
                reason: format!("{reason} ({noted})"),
            },
            (_, Some(noted)) => noted,
            (own, None) => own,
        })
    }

    fn limits(&self) -> wit::Limits {
        wit_limits(&self.context.limits, &self.context.clock)
    }

    /// The config for a listing: where another collector stood is where the first one starts.
    ///
    /// A plugin that has lost its own state later starts as its config says: by then the hand-over is long past, and
    /// what lies before it was never this collector's to lose.
    fn config_for_start(&self, stream: &Stream, first: bool) -> Cow<'_, str> {
        let recent = |since_ms: &i64| self.context.clock.now_ms() - since_ms < HAND_OVER_MS;
        let Some(since_ms) = stream.since_ms.filter(|since_ms| first || recent(since_ms)) else {
            return Cow::Borrowed(&self.config);
        };
        let mut config = self.context.config.clone();
        config.insert("since".into(), rfc3339(since_ms).into());
        Cow::Owned(serde_json::Value::Object(config).to_string())
    }

    /// The config for a read that has failed before: the plugin may then try harder.
    fn config_for_attempt(&self, attempt: u32) -> String {
        if attempt == 0 {
            return self.config.clone();
        }
        let mut config = self.context.config.clone();
        config.insert("attempt".into(), attempt.into());
        serde_json::Value::Object(config).to_string()
    }
}

/// The limits as a plugin is told them.
pub(super) fn wit_limits(limits: &Limits, clock: &SharedClock) -> wit::Limits {
    wit::Limits {
        batch_bytes: limits.batch_bytes,
        batch_events: limits.batch_events,
        event_bytes: limits.event_bytes,
        splits: limits.splits,
        deadline: clock.now_ms().saturating_add(millis(limits.wall)),
    }
}

/// Bytes of randomness in one answer to a plugin that is granted `wasi`.
const RANDOM_BYTES: u64 = 4 << 10;

/// A call that may touch nothing but the clock.
pub(super) fn bare(clock: &SharedClock) -> Call {
    let hooks = HttpHooks {
        place: String::new(),
        egress: None,
        quota_key: String::new(),
        priority: Priority::Normal,
        requests_left: 0,
        response_bytes: 0,
        trouble: Arc::new(Mutex::new(None)),
    };
    let wasi = WasiCtx::builder()
        .wall_clock(WallClock(clock.clone()))
        .monotonic_clock(MonotonicClock(Instant::now()))
        .max_random_size(RANDOM_BYTES)
        .build();
    Call {
        table: ResourceTable::new(),
        wasi,
        http: WasiHttpCtx::new(),
        hooks,
        memory: MemoryBudget::default(),
        state: StagedState::default(),
        output: None,
        log: GuestLog::default(),
        cpu: CpuBudget::default(),
    }
}

/// Runs a call until it ends or its time is up; `None` is the latter. The store is unusable then.
pub(super) async fn bounded<T>(
    wall: &WallBudget,
    cpu: &CpuBudget,
    call: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        answer = cpu.measure(call) => Some(answer),
        () = wall.spent() => None,
    }
}

#[async_trait]
impl Source for PluginSource {
    async fn renewed(&self) {
        match &self.context.egress.bound {
            Some(bound) => bound.credentials.renewed().await,
            None => std::future::pending().await,
        }
    }

    async fn streams(&self) -> Result<Vec<Stream>, Failure> {
        let _slot = self.plugin.sandbox.slot().await;
        let setting = Setting {
            function: "streams",
            stream: None,
            priority: Priority::High,
            state: StagedState::default(),
            output: None,
        };
        let mut started = self.start(setting).await?;
        let source = started.world.sluicegate_plugin_source();
        let call = source.call_streams(&mut started.store, &self.config);
        let answer = bounded(&started.wall, &started.cpu, call).await;
        let found = self.answer(&started, answer)?;
        found::streams(found)
    }

    async fn discover(
        &self,
        stream: &Stream,
        state: BTreeMap<String, Vec<u8>>,
    ) -> Result<Discovery, Failure> {
        let _slot = self.plugin.sandbox.slot().await;
        let limits = &self.context.limits;
        let config = self.config_for_start(stream, state.is_empty());
        let setting = Setting {
            function: "discover",
            stream: Some(stream),
            priority: Priority::High,
            state: StagedState::writable(state, limits.state_bytes, limits.state_keys),
            output: None,
        };
        let mut started = self.start(setting).await?;
        let source = started.world.sluicegate_plugin_source();
        let call = source.call_discover(&mut started.store, &config, &stream.name, self.limits());
        let answer = bounded(&started.wall, &started.cpu, call).await;
        let found = self.answer(&started, answer)?;
        let changes = std::mem::take(&mut started.store.data_mut().state).into_changes();
        let key = StreamKey::new(&self.context.tenant, &stream.name);
        let now_ms = self.context.clock.now_ms();
        found::discovery(&key, found, changes, limits.splits, now_ms)
    }

    async fn read(
        &self,
        stream: &Stream,
        split: &Split,
        attempt: u32,
        output: Arc<dyn Output>,
    ) -> Result<(), Failure> {
        let _slot = self.plugin.sandbox.slot().await;
        let setting = Setting {
            function: "read",
            stream: Some(stream),
            priority: Priority::Normal,
            state: StagedState::default(),
            output: Some(output),
        };
        let mut started = self.start(setting).await?;
        let config = self.config_for_attempt(attempt);
        let split = exports::Split {
            id: split.id.clone(),
            payload: split.payload.clone(),
            created: split.created_ms,
            expires: split.expires_ms,
            weight: split.weight,
        };
        let source = started.world.sluicegate_plugin_source();
        let call = source.call_read(
            &mut started.store,
            &config,
            &stream.name,
            &split,
            self.limits(),
        );
        let answer = bounded(&started.wall, &started.cpu, call).await;
        self.answer(&started, answer)
    }
}

impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        let sentence = |text: String| escape(&text, REASON_BYTES);
        match failure {
            wit::Failure::Retry(wit::Retry {
                after_ms,
                affects,
                reason,
            }) => Self::Retry {
                after: after_ms.map(Duration::from_millis),
                affects: match affects {
                    wit::Scope::Split => Scope::Split,
                    wit::Scope::Stream => Scope::Stream,
                    wit::Scope::Tenant => Scope::Tenant,
                },
                reason: sentence(reason),
            },
            wit::Failure::SplitLost(reason) => Self::SplitLost(sentence(reason)),
            wit::Failure::Unauthorised(reason) => Self::Unauthorised(sentence(reason)),
            wit::Failure::Misconfigured(reason) => Self::Misconfigured(sentence(reason)),
            wit::Failure::Cancelled => Self::Cancelled,
            wit::Failure::Internal(reason) => Self::Internal(sentence(reason)),
        }
    }
}

/// Longest time that a call without tenant may take. Such calls are pure and answer at once; before them nothing
/// starts, so one that waits must not hold everything up.
const BARE_WALL: Duration = Duration::from_secs(10);

/// Whichever world a plugin has, for the calls that both have.
pub(super) enum World {
    Source(SourcePlugin),
    Transform(TransformPlugin),
}

/// A call without tenant, network or output.
pub(super) struct Bare {
    pub world: World,
    pub store: Store<Call>,
    pub wall: WallBudget,
    pub cpu: CpuBudget,
}

impl Bare {
    pub async fn start(plugin: &Plugin, export: Export, limits: &Limits) -> Result<Self, Error> {
        let clock: SharedClock = Arc::new(SystemClock);
        let log = GuestLog::new(&plugin.name, String::new(), limits.log_lines);
        let call = Call {
            log,
            ..bare(&clock)
        };
        let mut store = plugin.sandbox.store(call, limits);
        let (wall, cpu) = (WallBudget::start(BARE_WALL), store.data().cpu.clone());
        let world = match (export, &plugin.source, &plugin.transform) {
            (Export::Source, Some(pre), _) => {
                bounded(&wall, &cpu, pre.instantiate_async(&mut store))
                    .await
                    .map(|made| made.map(World::Source))
            }
            (Export::Transform, _, Some(pre)) => {
                bounded(&wall, &cpu, pre.instantiate_async(&mut store))
                    .await
                    .map(|made| made.map(World::Transform))
            }
            _ => {
                return Err(incompatible(
                    &plugin.name,
                    "it does not export what is asked of it",
                ));
            }
        };
        let why = match world {
            Some(Ok(world)) => {
                return Ok(Self {
                    world,
                    store,
                    wall,
                    cpu,
                });
            }
            Some(Err(error)) => explain(&error, store.data(), limits),
            None => too_long(&plugin.name),
        };
        Err(Error::config(format!(
            "plugin `{}` does not start: {why}",
            plugin.name
        )))
    }

    /// The answer of a call, or what ended it.
    pub fn answer<T>(
        &self,
        plugin: &str,
        function: &str,
        answer: Option<wasmtime::Result<T>>,
        limits: &Limits,
    ) -> Result<T, Error> {
        let why = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => explain(&error, self.store.data(), limits),
            None => too_long(plugin),
        };
        Err(Error::config(format!(
            "plugin `{plugin}` was stopped in `{function}`: {why}"
        )))
    }
}

/// What a call that took too long is counted as.
pub(super) const TIME: &str = "time";

fn too_long(plugin: &str) -> String {
    metrics::count_fault(plugin, TIME);
    format!("it took longer than {} s", BARE_WALL.as_secs())
}
