//! Dead letters of a pipeline through its stages and sinks once more.
//!
//! A letter that a sink refused goes to that sink alone, since the others have it. What a stage refused goes through
//! that stage and those behind it, a record that the source could not map through all of it; then to the sinks whose
//! conditions hold. A letter is taken out when it is delivered, and not before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stages::{Salts, make_stages};
use super::{Runtime, make_sink, open_ledger, read_plugin};
use crate::capability::Grants;
use crate::config::Config;
use crate::dead_letter::letter::Letter;
use crate::dead_letter::store::{Replaying, Store};
use crate::error::{At as _, Error, Kind};
use crate::event::{Batch, Identity};
use crate::ledger::{Commit, Ledger};
use crate::line::replay::{Fate, Passenger, Replay};
use crate::plugin::{Plugin, PluginTransform, TransformStage};
use crate::sandbox::Limits;
use crate::sink::{Outlet, Way};
use crate::stage::{Stage, Staged};

/// Letters sent at a time, and their bytes: what a kill may send twice.
const BATCH: (usize, usize) = (500, 4 << 20);

/// Why a letter waits for which nothing was made ready.
const LATER: &str = "it came while others were replayed; replay again";

/// How letters are replayed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What a sink refused goes through all stages first.
    pub through_stages: bool,
    /// This sink gets them, whoever refused them.
    pub sink: Option<String>,
}

/// Where a letter is to go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Through the source's mapping first.
    pub mapped: bool,
    /// Through the stages from this one on.
    pub from_stage: Option<usize>,
    /// To this sink; `None` for those whose conditions hold.
    pub sink: Option<String>,
}

/// What became of a letter.
pub enum Outcome {
    /// As its sinks and stages said.
    Sent(Fate),
    /// It was not sent, for this reason.
    Skipped(String),
}

/// Replays the letters of one pipeline.
pub struct Replayer {
    config: Config,
    runtime: Runtime,
    options: Options,
    stages: Vec<Arc<dyn Stage>>,
    store: Store,
}

/// Sinks that are ready, and why others are not.
struct Open {
    replay: Replay,
    names: Vec<String>,
    /// Those that the running collector holds.
    held: Vec<String>,
    /// Whether all sinks are open, but for those.
    every: bool,
    ledger: Option<Arc<dyn Ledger>>,
}

impl Replayer {
    /// Makes the stages of a pipeline.
    pub async fn new(
        config: Config,
        runtime: &Runtime,
        options: Options,
    ) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let stages = make_stages(&config, runtime, Salts::Read, &mut errors).await;
        let stages: Vec<Arc<dyn Stage>> = stages.into_iter().map(Arc::from).collect();
        let named = options.sink.as_ref();
        if let Some(name) = named.filter(|name| !config.sinks.iter().any(|s| s.name == **name)) {
            let what = format!("the pipeline has no sink `{name}`");
            let names: Vec<_> = config.sinks.iter().map(|sink| &*sink.name).collect();
            let help = format!("its sinks are {}", names.join(", "));
            errors.push(Error::new(Kind::Usage, what).at(&config.file).help(help));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            store: Store::new(&config.dead_letter_dir, &config.name),
            runtime: runtime.clone(),
            config,
            options,
            stages,
        })
    }

    /// The letters.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where a letter is to go, or why it cannot go anywhere.
    pub fn target(&self, letter: &Letter) -> Result<Target, String> {
        let by = &*letter.refused.by;
        let (mapped, from_stage, sink) = if let Some(name) = by.strip_prefix("sink ") {
            (false, self.options.through_stages.then_some(0), Some(name))
        } else if by == "source" {
            (true, Some(0), None)
        } else if let Some((number, kind)) = stage_of(by) {
            let same = self
                .stages
                .get(number)
                .is_some_and(|stage| stage.name() == kind);
            (false, Some(if same { number } else { 0 }), None)
        } else {
            (false, self.options.through_stages.then_some(0), None)
        };
        let sink = self.options.sink.clone().or(sink.map(str::to_owned));
        let here = |name: &String| self.config.sinks.iter().any(|sink| sink.name == *name);
        if let Some(gone) = sink.as_ref().filter(|name| !here(name)) {
            return Err(format!(
                "the pipeline has no sink `{gone}` any more; `--sink NAME` sends it to another"
            ));
        }
        let tenant = &letter.refused.stream.tenant;
        if mapped
            && !self
                .config
                .source
                .tenants
                .iter()
                .any(|known| known.id == *tenant)
        {
            return Err(format!(
                "the pipeline has no tenant `{tenant}` any more, whose settings map its records"
            ));
        }
        Ok(Target {
            mapped,
            from_stage,
            sink,
        })
    }

    /// Sends all letters that are meant, and tells what becomes of each. Ends early, with false, when stopped.
    pub async fn run(
        &self,
        meant: impl Fn(&Letter) -> bool + Clone + Send + 'static,
        stop: &CancellationToken,
        mut tell: impl FnMut(Letter, Outcome),
    ) -> Result<bool, Vec<Error>> {
        let mut replaying = self.store.replay().map_err(|error| vec![error])?;
        let mut targets = BTreeSet::new();
        let mut tenants = BTreeSet::new();
        let look = |letter: Letter| {
            if let (true, Ok(target)) = (meant(&letter), self.target(&letter)) {
                if target.mapped {
                    tenants.insert(letter.refused.stream.tenant.clone());
                }
                targets.insert(target);
            }
            Ok(true)
        };
        self.store.each(look).map_err(|error| vec![error])?;
        let mappings = self.mappings(tenants).await.map_err(|error| vec![error])?;
        let open = self.open(&targets).await?;
        let mut letters = self.letters(meant);
        let mut whole = true;
        loop {
            let batch = tokio::select! {
                batch = take(&mut letters) => batch,
                () = stop.cancelled() => { whole = false; break }
            };
            let batch = batch.map_err(|error| vec![error])?;
            if batch.is_empty() {
                break;
            }
            let mut sendable = Vec::new();
            for letter in batch {
                let target = self.target(&letter).and_then(|target| {
                    let tenant = &letter.refused.stream.tenant;
                    if target.mapped && !mappings.contains_key(tenant) {
                        return Err(LATER.to_owned());
                    }
                    open.reachable(target)
                });
                match target {
                    Ok(target) => sendable.push((letter, target)),
                    Err(why) => tell(letter, Outcome::Skipped(why)),
                }
            }
            let passengers = sendable
                .iter()
                .map(|(letter, target)| self.passenger(letter, target, &mappings, &open.names));
            let sending = open.replay.send(passengers.collect());
            let sent = tokio::select! {
                sent = sending => sent,
                () = stop.cancelled() => { whole = false; break }
            };
            let sent = sent.map_err(|why| vec![Error::internal(why)])?;
            let letters = sendable.into_iter().map(|(letter, _)| letter);
            let told = self.settle(&mut replaying, &open, letters, sent);
            for (letter, fate) in told.await.map_err(|error| vec![error])? {
                tell(letter, Outcome::Sent(fate));
            }
        }
        replaying.finish().map_err(|error| vec![error])?;
        if whole {
            open.replay.end().await;
        }
        Ok(whole)
    }

    /// Takes out what was delivered: the sinks' positions first, so that no restart cuts it off again.
    async fn settle(
        &self,
        replaying: &mut Replaying,
        open: &Open,
        letters: impl Iterator<Item = Letter>,
        (fates, positions): (Vec<Fate>, crate::sink::Positions),
    ) -> Result<Vec<(Letter, Fate)>, Error> {
        if let (Some(ledger), false) = (&open.ledger, positions.is_empty()) {
            let commit = Commit {
                positions,
                ..Commit::default()
            };
            ledger.commit(commit, self.runtime.clock.now_ms()).await?;
        }
        let told: Vec<_> = letters.zip(fates).collect();
        let gone = told
            .iter()
            .filter(|(_, fate)| !matches!(fate, Fate::Refused { .. }));
        let gone: Vec<_> = gone.map(|(letter, _)| letter.name).collect();
        if !gone.is_empty() {
            replaying.remove(&gone)?;
        }
        Ok(told)
    }

    /// The letters that are meant, as they are read; at most two batches ahead.
    fn letters(
        &self,
        meant: impl Fn(&Letter) -> bool + Send + 'static,
    ) -> mpsc::Receiver<Result<Letter, Error>> {
        let (sender, letters) = mpsc::channel(8);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let read = store.each(|letter| {
                let wanted = meant(&letter);
                Ok(!wanted || sender.blocking_send(Ok(letter)).is_ok())
            });
            if let Err(error) = read {
                // Who is gone needs no answer.
                let _ = sender.blocking_send(Err(error));
            }
        });
        letters
    }

    fn passenger(
        &self,
        letter: &Letter,
        target: &Target,
        mappings: &BTreeMap<Arc<str>, Arc<dyn Stage>>,
        names: &[String],
    ) -> Passenger {
        let stream = letter.refused.stream.clone();
        let mapping = target
            .mapped
            .then(|| mappings.get(&stream.tenant))
            .flatten();
        let from = target.from_stage.unwrap_or(self.stages.len());
        let stages = self.stages.get(from..).unwrap_or_default();
        let sink = target.sink.as_ref();
        Passenger {
            event: letter.event(),
            stages: mapping.into_iter().chain(stages).cloned().collect(),
            sink: sink.and_then(|name| names.iter().position(|own| own == name)),
            stream,
        }
    }

    /// For each tenant, what makes events of its records.
    async fn mappings(
        &self,
        tenants: BTreeSet<Arc<str>>,
    ) -> Result<BTreeMap<Arc<str>, Arc<dyn Stage>>, Error> {
        let mut mappings = BTreeMap::<_, Arc<dyn Stage>>::new();
        if tenants.is_empty() {
            return Ok(mappings);
        }
        let source = &self.config.source;
        let (name, bytes) = read_plugin(&source.plugin).at(&source.place)?;
        let grants = Grants {
            http: true,
            wasi: source.grants.wasi,
        };
        let plugin = Plugin::load(&self.runtime.sandbox, &name, &bytes, grants).await?;
        if !plugin.is_transform() {
            let what = format!("plugin `{name}` cannot map single records that it refused before");
            return Err(Error::config(what).at(&source.place).help(
                "take the record with `dead-letter show`, or leave those out: `--by`, `--stream`",
            ));
        }
        for tenant in source
            .tenants
            .iter()
            .filter(|tenant| tenants.contains(&tenant.id))
        {
            let (config, limits) = (tenant.config.to_string(), Limits::from(&tenant.limits));
            let clock = self.runtime.clock.clone();
            let transform = PluginTransform::new(plugin.clone(), config, limits, clock)?;
            let mapping = Mapping(TransformStage(transform));
            mappings.insert(tenant.id.clone(), Arc::new(mapping));
        }
        Ok(mappings)
    }

    /// Opens the sinks that are needed. One whose output is committed by the running collector is left to it.
    async fn open(&self, targets: &BTreeSet<Target>) -> Result<Open, Vec<Error>> {
        let every = targets.iter().any(|target| target.sink.is_none());
        let needed = |name: &str| {
            every
                || targets
                    .iter()
                    .any(|target| target.sink.as_deref() == Some(name))
        };
        let (mut sinks, mut errors) = (Vec::new(), Vec::new());
        for sink in self.config.sinks.iter().filter(|sink| needed(&sink.name)) {
            match make_sink(sink, &self.config.http, &self.runtime) {
                Ok(outlet) => sinks.push((sink.name.clone(), outlet)),
                Err(error) => errors.push(error.at(&sink.place)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (mut ledger, mut held) = (None, Vec::new());
        if sinks.iter().any(|(_, outlet)| keeps_positions(outlet)) {
            match open_ledger(&self.config).await {
                Ok(opened) => ledger = Some(opened),
                Err(error) if error.kind == Kind::Temporary => {
                    let names = sinks.iter().filter(|(_, outlet)| keeps_positions(outlet));
                    held = names.map(|(name, _)| name.clone()).collect();
                    sinks.retain(|(_, outlet)| !keeps_positions(outlet));
                }
                Err(error) => return Err(vec![error]),
            }
        }
        if let Some(ledger) = &ledger {
            let outlets = sinks.iter_mut().map(|(_, outlet)| outlet);
            self.recover(ledger.as_ref(), outlets)
                .await
                .map_err(|error| vec![error])?;
        }
        let (names, outlets): (Vec<_>, Vec<_>) = sinks.into_iter().unzip();
        Ok(Open {
            replay: Replay::start(outlets),
            names,
            held,
            every,
            ledger,
        })
    }

    async fn recover(
        &self,
        ledger: &dyn Ledger,
        outlets: impl Iterator<Item = &mut Outlet>,
    ) -> Result<(), Error> {
        let mut positions = crate::sink::Positions::new();
        for outlet in outlets {
            if let Way::Ordered(sink) = &mut outlet.way {
                let committed = crate::line::committed(ledger, sink.position_names()).await?;
                positions.extend(sink.recover(&committed).await?);
            }
        }
        let commit = Commit {
            positions,
            ..Commit::default()
        };
        ledger.commit(commit, self.runtime.clock.now_ms()).await
    }
}

impl Open {
    fn reachable(&self, target: Target) -> Result<Target, String> {
        let held = match &target.sink {
            Some(name) => self.held.iter().find(|held| *held == name),
            None => self.held.first(),
        };
        let open = match &target.sink {
            Some(name) => self.names.contains(name),
            None => self.every,
        };
        match held {
            None if open => Ok(target),
            None => Err(LATER.to_owned()),
            Some(name) => Err(format!(
                "sink `{name}` writes where the running collector writes, which counts its bytes: stop the collector \
                 first, or name another with `--sink`"
            )),
        }
    }
}

fn keeps_positions(outlet: &Outlet) -> bool {
    match &outlet.way {
        Way::Ordered(sink) => !sink.position_names().is_empty(),
        Way::Requests(..) => false,
    }
}

/// The index and the kind of a stage, from `stage 2 (wasm)`.
fn stage_of(by: &str) -> Option<(usize, &str)> {
    let (number, kind) = by.strip_prefix("stage ")?.split_once(" (")?;
    let number: usize = number.parse().ok()?;
    Some((number.checked_sub(1)?, kind.strip_suffix(')')?))
}

/// Waits for a letter, and takes those that are there already.
async fn take(letters: &mut mpsc::Receiver<Result<Letter, Error>>) -> Result<Vec<Letter>, Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH.0 && bytes < BATCH.1 {
        let Some(letter) = letters.recv().await else {
            break;
        };
        let letter = letter?;
        bytes += letter.refused.body.len();
        batch.push(letter);
    }
    Ok(batch)
}

/// Makes events of records, with the identities that they would have had.
struct Mapping(TransformStage);

#[async_trait]
impl Stage for Mapping {
    fn name(&self) -> &'static str {
        "source"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let tenant = batch.stream.tenant.clone();
        let mut staged = self.0.apply(batch).await;
        for event in staged
            .passed
            .iter_mut()
            .filter(|event| !event.id.is_empty())
        {
            event.identity = Identity::of(&tenant, &event.id, event.fingerprint);
        }
        staged
    }
}
