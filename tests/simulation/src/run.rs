//! One run from its seed to its verdict: lives that end in crashes or stops, then calm, then the judgement.

use std::sync::Arc;
use std::time::Duration;

use sluicegate::error::Error;
use tracing::Level;

use crate::chance::{Concern, Stream};
use crate::collector::{Collector, Machine};
use crate::coverage::Coverage;
use crate::director::{Director, Ending};
use crate::effects::{Kind, Moment};
use crate::judge;
use crate::logs::Logs;
use crate::plan::Plan;
use crate::time::START_MS;
use crate::world::World;

/// How soon a process that could not start is started again.
const START_AGAIN_MS: i64 = 5_000;

/// What is under way gets its time to drain, and so does the last commit.
const STOP_WITHIN: Duration = Duration::from_secs(25);

/// More lives than this means that it never gets anywhere.
const MOST_LIVES: u32 = 400;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Which invariants it broke, each with a sentence.
    pub violations: Vec<String>,
    /// A hash over every effect: equal for equal runs.
    pub hash: u64,
    /// Effects.
    pub effects: u64,
    /// Where the process died.
    pub crashes: Vec<(u64, Moment, Kind)>,
    /// What came up.
    pub coverage: Arc<Coverage>,
    /// Virtual time that passed.
    pub virtual_ms: i64,
    /// A line for each effect, where the plan keeps them.
    pub log: Vec<String>,
    /// The process's own log.
    pub words: String,
}

/// How a life ended.
enum Life {
    Crashed,
    Ended(Ending),
    NotStarted(Error),
}

/// Runs a plan. Everything in it happens on this thread and follows from the plan alone.
pub fn run(machine: &Machine, plan: Plan) -> Outcome {
    // The jitter of the code under test comes from here.
    fastrand::seed(Stream::new(plan.seed, Concern::Jitter).bits());
    let level = if plan.log || plan.seed.is_multiple_of(8) {
        Level::TRACE
    } else {
        Level::WARN
    };
    let logs = Logs::new(level);
    let seed = plan.seed;
    let world = match World::new(plan) {
        Ok(world) => Arc::new(world),
        Err(error) => return Outcome::impossible(seed, &error.to_string()),
    };
    tracing::subscriber::with_default(logs.clone(), || lives(&world, machine, &logs));
    Outcome {
        seed,
        violations: world.witness.violations(),
        hash: world.effects.hash(),
        effects: world.effects.count(),
        crashes: world.effects.crashes(),
        coverage: world.coverage.clone(),
        virtual_ms: world.clock.true_ms() - START_MS,
        log: world.effects.log(),
        words: if level == Level::TRACE {
            logs.text()
        } else {
            String::new()
        },
    }
}

fn lives(world: &Arc<World>, machine: &Machine, logs: &Logs) {
    let mut director = Director::new(&world.plan);
    let mut last = None;
    while world.life() < MOST_LIVES {
        match live(world, machine, &mut director, logs) {
            Life::Ended(Ending::Stopped(away_ms)) => world.clock.pass(away_ms),
            Life::Ended(ending) => {
                last = Some(ending);
                break;
            }
            Life::Crashed => {
                let away = world.draw(Concern::Crash, |chance| {
                    chance.pick(&[0, 10, 2_000, 60_000])
                });
                world.clock.pass(away);
            }
            Life::NotStarted(error) => {
                tracing::error!(%error, "the process does not start");
                world.clock.pass(START_AGAIN_MS);
            }
        }
        if let Err(error) = world.keep_ledger() {
            return world.witness.broken("simulation", error);
        }
        world.next_life();
    }
    match last {
        Some(Ending::Drained) => {}
        Some(_) => world
            .witness
            .broken("I13", "not everything has arrived in time"),
        None => world.witness.broken("I13", "it starts again and again"),
    }
}

/// One life of the process, in a runtime of its own: dropping that is the crash.
fn live(world: &Arc<World>, machine: &Machine, director: &mut Director, logs: &Logs) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Life::NotStarted(Error::unavailable(error.to_string())),
    };
    world.effects.restart();
    world.witness.born();
    runtime.block_on(async {
        world.clock.begin();
        let life = tokio::select! {
            biased;
            () = world.effects.crashed() => Life::Crashed,
            life = process(world, machine, director, logs) => life,
        };
        world.clock.end();
        life
    })
}

async fn process(
    world: &Arc<World>,
    machine: &Machine,
    director: &mut Director,
    logs: &Logs,
) -> Life {
    let collector = match Collector::start(world, machine).await {
        Ok(collector) => collector,
        Err(error) => return Life::NotStarted(error),
    };
    let (stop, ledger) = (collector.stop(), collector.ledger.clone());
    let running = collector.run();
    let directing = director.direct(world, &ledger, &stop);
    let stopping = stop.clone();
    let running = async {
        let late = async {
            stopping.cancelled().await;
            tokio::time::sleep(STOP_WITHIN).await;
        };
        tokio::select! {
            biased;
            () = running => {}
            () = late => world.witness.broken("I14", "a stop does not end"),
        }
    };
    let ((), ending) = tokio::join!(biased; running, directing);
    if !matches!(ending, Ending::Stopped(_)) {
        judge::judge(world, ledger.as_ref(), &logs.text()).await;
    }
    Life::Ended(ending)
}

impl Outcome {
    fn impossible(seed: u64, why: &str) -> Self {
        Self {
            seed,
            violations: vec![format!("simulation: the run could not be set up: {why}")],
            hash: 0,
            effects: 0,
            crashes: Vec::new(),
            coverage: Arc::default(),
            virtual_ms: 0,
            log: Vec::new(),
            words: String::new(),
        }
    }
}
