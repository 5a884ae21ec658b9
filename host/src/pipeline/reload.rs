//! A running pipeline whose file is read again: exactly what differs is exchanged.
//!
//! The new config is checked as `validate` would, and everything it needs is made, before anything is touched; one that
//! cannot be used is reported, and all goes on as it was. Tenants, stages and sinks that say the same as before are
//! left alone. What can only be had by a restart is named, and kept.

use std::path::Path;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::source::SourceMaker;
use super::stages::{Salts, make_stages};
use super::tenants::Tenants;
use super::view::{About, View};
use super::{Runtime, make_sink};
use crate::config::{Config, PluginRef, SinkKind, StageKind};
use crate::error::Error;
use crate::line::Line;
use crate::line::change::{Change, Seat};
use crate::stage::Stage;
use crate::stage::condition::Condition;

/// Sections that a running pipeline cannot take over.
const KEPT: [&str; 7] = [
    "state",
    "dead_letter",
    "api",
    "health",
    "telemetry",
    "identity_horizon",
    "drain_timeout",
];

/// Reads a pipeline's file again when it is asked to.
pub(super) struct Reloader {
    pub runtime: Runtime,
    /// As the pipeline was started.
    pub first: Arc<Config>,
    /// As it runs.
    pub config: Arc<Config>,
    pub tenants: Arc<Mutex<Tenants>>,
    /// Must not keep the line alive.
    pub line: Weak<Line>,
    pub view: Arc<View>,
    /// Changes when the file is to be read.
    pub asked: watch::Receiver<u64>,
}

/// Everything a new config needs.
struct Ready {
    config: Config,
    tenants: Option<NewTenants>,
    change: Option<Change>,
    /// What differs, in words.
    what: Vec<String>,
}

struct NewTenants {
    maker: Option<SourceMaker>,
    sources: std::collections::BTreeMap<Arc<str>, Arc<crate::plugin::PluginSource>>,
}

impl Reloader {
    /// Waits for requests, and watches the tenants' directory, until stopped or the answer is dropped.
    pub fn start(self, stop: &CancellationToken) -> [AbortOnDropHandle<()>; 2] {
        let watching = Tenants::watch(&self.tenants, stop.clone());
        [watching, self.wait(stop.clone())]
    }

    fn wait(mut self, stop: CancellationToken) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(())) = stop.run_until_cancelled(self.asked.changed()).await {
                // A reload that has begun is finished, unless the run is over.
                let _ = stop.run_until_cancelled(self.reload()).await;
            }
        }))
    }

    async fn reload(&mut self) {
        let pipeline = self.config.name.clone();
        let changed = match self.prepare().await {
            Ok(ready) => self.exchange(ready).await.map_err(|error| vec![error]),
            Err(errors) => Err(errors),
        };
        let trouble = changed.as_ref().err().and_then(|errors| errors.first());
        self.view.read_again(trouble.map(ToString::to_string));
        match changed {
            Ok(what) if what.is_empty() => {
                tracing::info!(%pipeline, "the file was read again; nothing of it has changed");
            }
            Ok(what) => {
                let what = what.join(", ");
                tracing::info!(%pipeline, "the file was read again; changed: {what}");
            }
            Err(errors) => {
                for error in &errors {
                    tracing::error!(%pipeline, alarm = "config", "{error}");
                }
                let count = errors.len();
                tracing::error!(%pipeline, alarm = "config", count,
                    "the new config cannot be used; the pipeline goes on as it was");
            }
        }
    }

    /// Reads the file and makes what it needs. Nothing is touched.
    async fn prepare(&self) -> Result<Ready, Vec<Error>> {
        let path = Path::new(&*self.config.file).to_owned();
        let read = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        let config = read.unwrap_or_else(|error| {
            let what = format!("reading the file ended early: {error}");
            Err(vec![Error::internal(what)])
        })?;
        let mut errors = Vec::new();
        let mut what = Vec::new();
        let tenants = match self.new_tenants(&config, &mut what).await {
            Ok(tenants) => tenants,
            Err(found) => {
                errors.extend(found);
                None
            }
        };
        let stages = match self.new_stages(&config).await {
            Ok(stages) => stages,
            Err(found) => {
                errors.extend(found);
                None
            }
        };
        let seats = self.seats(&config).unwrap_or_else(|found| {
            errors.extend(found);
            Vec::new()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        if stages.is_some() {
            what.push("the stages".into());
        }
        let news = seats.iter().filter(|seat| seat.way.is_some());
        what.extend(news.map(|seat| format!("sink `{}`", seat.name)));
        let names = |config: &Config| -> Vec<String> {
            config.sinks.iter().map(|sink| sink.name.clone()).collect()
        };
        let (before, after) = (names(&self.config), names(&config));
        let gone = before.iter().filter(|name| !after.contains(name));
        what.extend(gone.map(|name| format!("sink `{name}` is gone")));
        let differs =
            stages.is_some() || before != after || seats.iter().any(|seat| seat.way.is_some());
        Ok(Ready {
            change: differs.then_some(Change {
                stages,
                sinks: seats,
            }),
            tenants,
            config,
            what,
        })
    }

    /// What the source needs; `None` when it says the same as before.
    async fn new_tenants(
        &self,
        config: &Config,
        what: &mut Vec<String>,
    ) -> Result<Option<NewTenants>, Vec<Error>> {
        let tenants = self.tenants.lock().await;
        let maker = SourceMaker::new(config, &self.runtime).await;
        let maker = maker.map_err(|error| vec![error])?;
        let old = tenants.maker();
        let others = old.plugin().digest != maker.plugin().digest
            || self.config.source.plugin != config.source.plugin
            || self.config.source.grants.wasi != config.source.grants.wasi
            || !self.config.is_same(config, "http")
            || (!old.may_reach() && maker.may_reach());
        if !others && self.config.is_same(config, "source") {
            return Ok(None);
        }
        let maker = others.then_some(maker);
        let sources = tenants.prepare(config, maker.as_ref()).await?;
        what.push(if others {
            "the source, for all tenants".into()
        } else {
            "tenants".into()
        });
        Ok(Some(NewTenants { maker, sources }))
    }

    /// All stages, when one of them differs or may do so, since it is a file of its own.
    async fn new_stages(&self, config: &Config) -> Result<Option<Vec<Box<dyn Stage>>>, Vec<Error>> {
        let is_file = |stage: &crate::config::Stage| match &stage.kind {
            StageKind::Wasm(wasm) => matches!(wasm.plugin, PluginRef::File(_)),
            _ => false,
        };
        if self.config.is_same(config, "stages") && !config.stages.iter().any(is_file) {
            return Ok(None);
        }
        let mut errors = Vec::new();
        let stages = make_stages(config, &self.runtime, Salts::Read, &mut errors).await;
        if errors.is_empty() {
            Ok(Some(stages))
        } else {
            Err(errors)
        }
    }

    /// The sinks in their order, those anew that differ.
    fn seats(&self, config: &Config) -> Result<Vec<Seat>, Vec<Error>> {
        let same_http = self.config.is_same(config, "http");
        let (mut seats, mut errors) = (Vec::new(), Vec::new());
        for sink in &config.sinks {
            let local = matches!(sink.kind, SinkKind::Stdout | SinkKind::File { .. });
            let stays = self.config.is_same_sink(config, &sink.name) && (same_http || local);
            let name = sink.name.clone();
            let seat = if stays {
                let when = sink.when.as_ref().map(Condition::of).transpose();
                when.map(|when| Seat {
                    name,
                    when,
                    way: None,
                })
            } else {
                make_sink(sink, &config.http, &self.runtime).map(|outlet| Seat {
                    name,
                    when: outlet.when,
                    way: Some(outlet.way),
                })
            };
            match seat {
                Ok(seat) => seats.push(seat),
                Err(error) => errors.push(error.at(&sink.place)),
            }
        }
        if errors.is_empty() {
            Ok(seats)
        } else {
            Err(errors)
        }
    }

    /// Exchanges what differs. The sinks first, since only they can still refuse.
    async fn exchange(&mut self, ready: Ready) -> Result<Vec<String>, Error> {
        let Ready {
            config,
            tenants,
            change,
            what,
        } = ready;
        if let (Some(change), Some(line)) = (change, self.line.upgrade()) {
            line.change(change, self.first.drain_timeout).await?;
        }
        for section in KEPT {
            if !self.first.is_same(&config, section) {
                tracing::warn!(pipeline = %config.name,
                    "`{section}` has changed; that takes effect at the next start, and is kept as it was until then");
            }
        }
        let config = Arc::new(config);
        let mut running = self.tenants.lock().await;
        match tenants {
            Some(NewTenants { maker, sources }) => {
                running.change(config.clone(), maker, sources).await;
            }
            None => running.keep(config.clone()),
        }
        let about = About::new(&config, false, running.maker().plugin());
        drop(running);
        self.view.changed(about);
        self.config = config;
        Ok(what)
    }
}
