//! One call of a plugin: its own store, its own limits, thrown away after.
//!
//! A trap, a timeout or a memory bomb ends that call with a sentence naming the limit. Nothing of a call outlives it:
//! the next one starts from the component's first byte. Time that a call spends suspended in `emit` is ours, not
//! the plugin's, and does not count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use compiler::{CompileLimits, Compiler, Failure};
use cpu::{TICK, Tick, Turns};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    ResourceLimiter, Store, Trap, UpdateDeadline,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::capability::http::HttpHooks;
use crate::capability::log::GuestLog;
use crate::capability::output::CallOutput;
use crate::capability::state::StagedState;
use crate::error::Error;
use crate::metrics;

pub mod compiler;
mod cpu;

pub use cpu::CpuBudget;

/// Instances alive at once in one process. Only calls hold one, so a thousand idle tenants need none.
const INSTANCES: u32 = 512;

/// Components compiled at once: each may take [`CompileLimits::memory_bytes`], and the next one may be the same one.
const COMPILERS: usize = 1;

/// Core instances that one component may consist of; ours has four.
const CORE_INSTANCES: u32 = 16;

/// Largest linear memory that any plugin can be granted.
pub const MEMORY_CEILING_BYTES: usize = 1 << 30;

/// Stack of a guest call; the rest of the fiber's stack is for host functions (wasmtime asks for 1 MiB).
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 2 << 20;

/// Memory of a slot that a simulation keeps from one call to the next; a call writes to some 80 KB.
const SIMULATED_BYTES: usize = 1 << 20;

/// Resources (requests, bodies, streams, pollables) that a call may hold at once.
const HANDLES: usize = 1_000;

/// Bytes of a header block that a plugin may build.
const HEADER_BYTES: usize = 32 << 10;

/// What one call may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Linear memory of the instance.
    pub memory_bytes: usize,
    /// Running time from start to end, without the time suspended by backpressure.
    pub wall: Duration,
    /// Computing time between two hand-overs of events.
    pub cpu: Duration,
    /// Bytes of one batch.
    pub batch_bytes: u32,
    /// Events in one batch.
    pub batch_events: u32,
    /// Bytes of one event.
    pub event_bytes: u32,
    /// Bytes of all events that one call hands over.
    pub output_bytes: u64,
    /// Splits of one discovery.
    pub splits: u32,
    /// Bytes of a stream's state, keys and values.
    pub state_bytes: usize,
    /// Keys of a stream's state.
    pub state_keys: usize,
    /// Log lines of one call in a second.
    pub log_lines: u32,
    /// Requests of one call.
    pub requests: u32,
    /// Bytes of one response's body, decompressed.
    pub response_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 192 << 20,
            wall: Duration::from_secs(300),
            cpu: Duration::from_secs(5),
            batch_bytes: 1 << 20,
            batch_events: 4_096,
            event_bytes: 32 << 20,
            output_bytes: 4 << 30,
            splits: 50_000,
            state_bytes: 4 << 20,
            state_keys: 10_000,
            log_lines: 100,
            requests: 20_000,
            response_bytes: 1 << 30,
        }
    }
}

/// The process's one engine, with its ticking thread.
#[derive(Clone)]
pub struct Sandbox {
    engine: Engine,
    slots: Arc<Semaphore>,
    turns: Turns,
    compiling: Arc<Compiling>,
}

/// How components are compiled.
#[derive(Clone)]
struct Compiling {
    by: Compiler,
    within: CompileLimits,
    /// Whose turn it is.
    turns: Arc<Semaphore>,
}

impl Sandbox {
    /// Makes the engine. One for a process: its pool of memories is address space.
    pub fn new() -> Result<Self, Error> {
        let sandbox = Self::with(&config(pool()))?;
        let ticker = sandbox.engine.weak();
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || {
                while let Some(engine) = ticker.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    #[allow(
                        clippy::disallowed_methods,
                        reason = "the thread does nothing but tick; guests run on other threads"
                    )]
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|error| Error::unavailable(format!("cannot start a thread: {error}")))?;
        Ok(sandbox)
    }

    /// The engine alone: guests are never interrupted, so what they do depends on nothing but what they are given.
    /// For simulations; a guest that loops without end hangs there. Memory of a call is kept for the next one and
    /// cleaned by hand, since one process makes a million calls.
    pub fn without_ticks() -> Result<Self, Error> {
        let mut pool = pool();
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(SIMULATED_BYTES)
            .table_keep_resident(SIMULATED_BYTES);
        Self::with(&config(pool))
    }

    fn with(config: &Config) -> Result<Self, Error> {
        let engine = Engine::new(config).map_err(|error| {
            Error::unavailable(format!("cannot set up the WASM engine: {error:#}"))
                .help("the sandbox reserves address space; raise `ulimit -v` or `vm.overcommit`")
        })?;
        Ok(Self {
            engine,
            slots: Arc::new(Semaphore::new(INSTANCES as usize)),
            turns: Turns::new(),
            compiling: Arc::new(Compiling {
                by: Compiler::InProcess,
                within: CompileLimits::default(),
                turns: Arc::new(Semaphore::new(COMPILERS)),
            }),
        })
    }

    /// Has components compiled elsewhere than in this process.
    #[must_use]
    pub fn compiled_by(mut self, compiler: Compiler) -> Self {
        Arc::make_mut(&mut self.compiling).by = compiler;
        self
    }

    /// The same sandbox with other limits of compiling; turns are shared.
    #[must_use]
    pub fn compiling_within(mut self, limits: CompileLimits) -> Self {
        Arc::make_mut(&mut self.compiling).within = limits;
        self
    }

    /// Waits for a turn to compile.
    pub(crate) async fn compile_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.compiling.turns.acquire().await.ok()
    }

    /// Makes machine code of a component; for whoever has a turn.
    pub(crate) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Vec<u8>, Failure> {
        let Compiling { by, within, .. } = &*self.compiling;
        by.compile(&self.engine, bytes, *within).await
    }

    /// The engine that components are compiled for.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for room for one more instance.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    /// A fresh store for one call.
    pub(crate) fn store(&self, mut call: Call, limits: &Limits) -> Store<Call> {
        call.memory.limit = limits.memory_bytes;
        call.table.set_max_capacity(HANDLES);
        call.http.set_field_size_limit(HEADER_BYTES);
        let cpu = call.cpu.clone();
        let mut store = Store::new(&self.engine, call);
        store.limiter(|call| &mut call.memory);
        store.set_max_component_handles(HANDLES);
        self.rearm(&mut store, limits);
        let turns = self.turns.clone();
        store.epoch_deadline_callback(move |_| {
            Ok(match cpu.tick() {
                Tick::Yield => UpdateDeadline::Yield(1),
                Tick::Queue => {
                    let turn = cpu.clone().turn(turns.clone());
                    UpdateDeadline::YieldCustom(1, Box::pin(turn))
                }
                Tick::Stop => UpdateDeadline::Interrupt,
            })
        });
        store
    }

    /// Gives a store the budget of one more call.
    pub(crate) fn rearm(&self, store: &mut Store<Call>, limits: &Limits) {
        store.data().cpu.rearm(limits.cpu);
        // What a guest passes in one call is bounded by its largest event, the batch around it and the index.
        let largest = limits.event_bytes.max(limits.batch_bytes) as usize;
        store.set_hostcall_fuel(largest.saturating_mul(2).saturating_add(16 << 20));
        store.set_epoch_deadline(1);
    }
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 4)
        .total_memories(INSTANCES * 2)
        .total_tables(INSTANCES * 4)
        .total_stacks(INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(4)
        .max_tables_per_component(CORE_INSTANCES)
        .max_memory_size(MEMORY_CEILING_BYTES)
        .table_elements(20_000);
    pool
}

fn config(pool: PoolingAllocationConfig) -> Config {
    let mut config = compiling();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// What machine code depends on; that of a compiler fits every engine of ours.
fn compiling() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(false)
        .wasm_relaxed_simd(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES);
    config
}

/// Wall-clock time of a call, which stands still while the host holds the call back.
#[derive(Clone, Debug)]
pub struct WallBudget(Arc<Mutex<Wall>>);

#[derive(Debug)]
struct Wall {
    end: Instant,
    /// Since when the host holds the call back, if it does.
    held: Option<Instant>,
}

impl WallBudget {
    /// A budget that starts now.
    pub fn start(budget: Duration) -> Self {
        Self(Arc::new(Mutex::new(Wall {
            end: Instant::now() + budget,
            held: None,
        })))
    }

    /// The host holds the call back from here to the end of the guard.
    pub fn hold(&self) -> Held {
        self.with(|wall| wall.held = Some(Instant::now()));
        Held(self.clone())
    }

    /// Completes when the budget is used up.
    pub async fn spent(&self) {
        loop {
            let end = self.with(|wall| {
                wall.end
                    + wall
                        .held
                        .map_or(Duration::ZERO, |since| since.elapsed() + HELD_CHECK)
            });
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Wall) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How soon a held call's budget is looked at again.
const HELD_CHECK: Duration = Duration::from_secs(1);

/// While this lives, a call's wall-clock time stands still.
#[derive(Debug)]
pub struct Held(WallBudget);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.with(|wall| {
            if let Some(since) = wall.held.take() {
                wall.end += since.elapsed();
            }
        });
    }
}

/// Everything that one call can touch.
pub struct Call {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) hooks: HttpHooks,
    pub(crate) memory: MemoryBudget,
    pub(crate) state: StagedState,
    pub(crate) output: Option<CallOutput>,
    pub(crate) log: GuestLog,
    pub(crate) cpu: CpuBudget,
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Call {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

/// Refuses memory beyond the limit, and remembers that it did: the guest's own error says less.
#[derive(Debug, Default)]
pub struct MemoryBudget {
    limit: usize,
    used: usize,
    refused: bool,
}

/// Most bytes that any call has used, for the summary.
pub static PEAK_GUEST_BYTES: AtomicU64 = AtomicU64::new(0);

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used + desired.saturating_sub(current);
        if used > self.limit {
            self.refused = true;
            return Err(wasmtime::Error::msg("the memory limit was reached"));
        }
        self.used = used;
        PEAK_GUEST_BYTES.fetch_max(used as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        4
    }
}

/// Says which limit ended a call, or what the trap was, and counts it.
pub(crate) fn explain(error: &wasmtime::Error, call: &Call, limits: &Limits) -> String {
    let trap = error.downcast_ref::<Trap>();
    let what = match trap {
        _ if call.memory.refused => "memory",
        _ if call.cpu.spent() => "cpu",
        Some(Trap::StackOverflow) => "stack",
        Some(_) => "trap",
        None => "call",
    };
    metrics::count_fault(&call.log.plugin, what);
    if call.memory.refused {
        let mebibytes = limits.memory_bytes >> 20;
        return format!("it asked for more than its {mebibytes} MiB of memory (`limits.memory`)");
    }
    if call.cpu.spent() {
        let seconds = limits.cpu.as_secs_f64();
        return format!(
            "it computed for {seconds} s without handing anything over (`limits.cpu_timeout`)"
        );
    }
    match trap {
        Some(Trap::StackOverflow) => "it used up its call stack".into(),
        Some(Trap::UnreachableCodeReached) => match &call.log.panic {
            Some(panic) => format!("it panicked: {panic}"),
            None => {
                "it trapped: unreachable code (a panic, or memory that could not be had)".into()
            }
        },
        Some(trap) => format!("it trapped: {trap}"),
        // The outer error is a backtrace of many lines; the innermost says what was wrong.
        None => format!("the call failed: {}", error.root_cause()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_has_five_minutes_of_its_own_by_default() {
        let begun = Instant::now();
        let wall = WallBudget::start(Limits::default().wall);
        let held = wall.hold();
        let waiting = wall.clone();
        let ended = tokio::spawn(async move { waiting.spent().await });
        // An hour that the host holds the call back does not count.
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(!ended.is_finished());
        drop(held);
        ended.await.unwrap();
        let took = begun.elapsed().as_secs();
        assert!((3_900..=3_902).contains(&took), "{took} s");
    }
}
