//! The tenants of a running pipeline, as their files come and go.
//!
//! What a file says is checked in full before anything is touched; then exactly what differs is told to the engine. A
//! file that cannot be used is reported once, and its tenant goes on as the last good one said. A secret that is
//! missing may come later than the file that names it, so it is looked for again.

mod claims;
pub(super) mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::source::SourceMaker;
use crate::config::{Config, Directory, Tenant, tenants as section};
use crate::directory::{self, Content, Watch};
use crate::engine;
use crate::error::Error;
use crate::plugin::PluginSource;
use claims::{Choice, Claim};
use tally::Tally;

/// How often the directory is looked at. A change is taken when two looks agree about it, so within twice that.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After so many looks a secret that was missing is looked for again.
const RETRY_LOOKS: u32 = 5;

/// Tenants by their ids.
type ById = BTreeMap<Arc<str>, Tenant>;

/// Who runs, and what the files of the directory say.
pub(super) struct Tenants {
    config: Arc<Config>,
    maker: SourceMaker,
    files: BTreeMap<String, File>,
    running: ById,
    changes: mpsc::Sender<engine::Change>,
    tally: Arc<Tally>,
}

/// A file of the directory.
#[derive(Default)]
struct File {
    /// The tenant that runs as this file said last, or says.
    good: Option<Tenant>,
    /// What the file says now, where that is something else and can be used.
    next: Option<Next>,
    /// What was said of it last and still holds.
    said: String,
}

/// A version of a tenant that has yet to run.
enum Next {
    /// It can run.
    Ready(Box<Tenant>, Arc<PluginSource>),
    /// It lacks a secret.
    Waiting(Box<Tenant>),
}

/// How two sets of tenants differ, by ids.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    Removed(Arc<str>),
    Added(Arc<str>),
    Changed(Arc<str>),
}

fn differences(old: &ById, new: &ById) -> Vec<Difference> {
    let removed = old.keys().filter(|id| !new.contains_key(*id));
    let removed = removed.map(|id| Difference::Removed(id.clone()));
    let put = new.iter().filter_map(|(id, tenant)| match old.get(id) {
        None => Some(Difference::Added(id.clone())),
        Some(before) if !before.is_same(tenant) => Some(Difference::Changed(id.clone())),
        Some(_) => None,
    });
    removed.chain(put).collect()
}

impl Tenants {
    /// The tenants of a config and their sources, and what the engine starts with.
    pub fn new(
        config: Arc<Config>,
        maker: SourceMaker,
        sources: Vec<Arc<PluginSource>>,
        changes: mpsc::Sender<engine::Change>,
    ) -> (Self, Vec<engine::Tenant>) {
        let tally = Arc::new(Tally::default());
        let (mut files, mut running, mut first) = (BTreeMap::new(), ById::new(), Vec::new());
        for (tenant, source) in config.source.tenants.iter().zip(sources) {
            running.insert(tenant.id.clone(), tenant.clone());
            if let Some(name) = &tenant.file {
                let good = Some(tenant.clone());
                let file = File {
                    good,
                    ..File::default()
                };
                files.insert(name.to_string(), file);
            }
            tally.add(&source);
            first.push(of_engine(tenant, source));
        }
        tally.run(running.keys().cloned());
        let tenants = Self {
            config,
            maker,
            files,
            running,
            changes,
            tally,
        };
        (tenants, first)
    }

    /// What is counted over all tenants, those that are gone included.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Watches the directory, if there is one, until stopped or dropped. With `once` it was read at the start, and
    /// who could still change something would keep the run from its end.
    pub fn watch(self, once: bool, stop: CancellationToken) -> Option<AbortOnDropHandle<()>> {
        let directory = self.config.source.directory.clone().filter(|_| !once)?;
        let watching = async move {
            let changing = self.follow(directory);
            tokio::select! {
                () = changing => {}
                () = stop.cancelled() => {}
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(watching)))
    }

    async fn follow(mut self, directory: Directory) {
        let mut watch = Watch::new(&directory.path, &directory.files);
        let mut said = String::new();
        for look in 1_u32.. {
            tokio::time::sleep(LOOK_EVERY).await;
            // Network file systems may let a look wait for long.
            let looked = tokio::task::spawn_blocking(move || {
                let looked = watch.look();
                (watch, looked)
            });
            let looked = match looked.await {
                Ok((back, looked)) => {
                    watch = back;
                    looked
                }
                Err(error) => {
                    tracing::error!(%error, "a defect has ended the watch of the directory");
                    return;
                }
            };
            match looked {
                Ok(changes) => {
                    said.clear();
                    let retry = look.is_multiple_of(RETRY_LOOKS);
                    self.take(&directory, changes, retry).await;
                }
                Err(why) => {
                    if said != why {
                        let place = &directory.place;
                        let what = format!(
                            "cannot read directory `{}`: {why}",
                            directory.path.display()
                        );
                        let help = "its tenants go on as they are";
                        tracing::error!("{}", place.error(what).help(help));
                    }
                    said = why;
                }
            }
        }
    }

    /// Takes what has changed, and has the engine do what follows from it.
    async fn take(&mut self, directory: &Directory, changes: Vec<directory::Change>, retry: bool) {
        let mut news = !changes.is_empty();
        for change in changes {
            match change {
                directory::Change::Put(name, content) => {
                    self.read(directory, &name, &content).await;
                }
                directory::Change::Gone(name) => {
                    self.files.remove(&name);
                }
            }
        }
        if retry {
            for (name, tenant) in self.waiting() {
                self.consider(directory, &name, tenant).await;
                news = true;
            }
        }
        if news {
            self.settle(directory).await;
        }
    }

    /// What lacks a secret.
    fn waiting(&self) -> Vec<(String, Tenant)> {
        let waiting = self
            .files
            .iter()
            .filter_map(|(name, file)| match &file.next {
                Some(Next::Waiting(tenant)) => Some((name.clone(), (**tenant).clone())),
                _ => None,
            });
        waiting.collect()
    }

    async fn read(&mut self, directory: &Directory, name: &str, content: &Content) {
        match directory.tenant(name, content) {
            Ok(tenant) => self.consider(directory, name, tenant).await,
            Err(errors) => {
                let file = self.files.entry(name.to_owned()).or_default();
                file.next = None;
                file.say(directory, name, &errors);
            }
        }
    }

    /// Makes what a file says ready to run, if it says something new.
    async fn consider(&mut self, directory: &Directory, name: &str, tenant: Tenant) {
        let file = self.files.entry(name.to_owned()).or_default();
        file.next = None;
        if file.good.as_ref().is_some_and(|good| good.is_same(&tenant)) {
            file.good = Some(tenant);
            file.well(directory, name);
            return;
        }
        match self.maker.source(&tenant) {
            Ok(source) => {
                let found = self.maker.check(&self.config, &tenant, &source).await;
                if found.errors.is_empty() {
                    file.said.clear();
                    for warning in found.warnings {
                        tracing::warn!("{warning}");
                    }
                    file.next = Some(Next::Ready(Box::new(tenant), source));
                } else {
                    file.say(directory, name, &found.errors);
                }
            }
            Err(error) => {
                file.say(directory, name, &[error]);
                file.next = Some(Next::Waiting(Box::new(tenant)));
            }
        }
    }

    /// Settles which file has which tenant, and tells the engine what differs from what runs.
    async fn settle(&mut self, directory: &Directory) {
        let choices = self
            .files
            .iter()
            .map(|(name, file)| (name.clone(), file.choice()));
        let claims = claims::settle(&choices.collect());
        let (mut wanted, mut sources) = (ById::new(), BTreeMap::new());
        for (name, file) in &mut self.files {
            if let (Some(by), Some(Next::Ready(tenant, _))) = (claims.refused.get(name), &file.next)
            {
                let error = section::taken(tenant, by);
                file.say(directory, name, &[error]);
            }
            match claims.held.get(name) {
                Some(Claim::Next) => {
                    if let Some(Next::Ready(tenant, source)) = file.next.take() {
                        sources.insert(tenant.id.clone(), source);
                        file.good = Some(*tenant);
                        file.said.clear();
                    }
                }
                Some(Claim::Good) => {}
                None => file.good = None,
            }
            if let Some(tenant) = &file.good {
                wanted.insert(tenant.id.clone(), tenant.clone());
            }
        }
        for difference in differences(&self.running, &wanted) {
            self.tell(&difference, &wanted, &mut sources).await;
        }
        if wanted.is_empty() && !self.running.is_empty() {
            tracing::warn!(directory = %directory.path.display(), "the directory holds no tenant any more");
        }
        self.tally.run(wanted.keys().cloned());
        self.running = wanted;
    }

    async fn tell(
        &self,
        difference: &Difference,
        wanted: &ById,
        sources: &mut BTreeMap<Arc<str>, Arc<PluginSource>>,
    ) {
        let change = match difference {
            Difference::Removed(id) => {
                tracing::info!(tenant = %id, "the tenant is removed; its progress is kept");
                engine::Change::Remove(id.clone())
            }
            Difference::Added(id) | Difference::Changed(id) => {
                let (Some(tenant), Some(source)) = (wanted.get(id), sources.remove(id)) else {
                    tracing::error!(tenant = %id, "a defect: the tenant has no source");
                    return;
                };
                match difference {
                    Difference::Added(_) => tracing::info!(tenant = %id, "the tenant is added"),
                    _ => tracing::info!(tenant = %id, "the tenant is changed and starts anew"),
                }
                self.tally.add(&source);
                engine::Change::Put(of_engine(tenant, source))
            }
        };
        // The engine is gone only when the run is over.
        let _ = self.changes.send(change).await;
    }
}

impl File {
    fn choice(&self) -> Choice {
        let next = match &self.next {
            Some(Next::Ready(tenant, _)) => Some(section::key(&tenant.id)),
            _ => None,
        };
        Choice {
            good: self.good.as_ref().map(|tenant| section::key(&tenant.id)),
            next,
        }
    }

    /// Says what is wrong with the file, once for as long as it holds.
    fn say(&mut self, directory: &Directory, name: &str, errors: &[Error]) {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let sentences = sentences.join("\n");
        if self.said == sentences {
            return;
        }
        let file = directory.path.join(name);
        let (file, rest) = match &self.good {
            Some(_) => (
                file.display(),
                "the tenant goes on as its last good version said",
            ),
            None => (file.display(), "there is no version that could run"),
        };
        tracing::error!(%file, "a tenant's file cannot be used; {rest}: {sentences}");
        self.said = sentences;
    }

    /// Says that what was wrong has been put right, where nothing else says so.
    fn well(&mut self, directory: &Directory, name: &str) {
        if !self.said.is_empty() {
            let file = directory.path.join(name);
            tracing::info!(file = %file.display(), "the tenant's file is good again, and as it was");
            self.said.clear();
        }
    }
}

fn of_engine(tenant: &Tenant, source: Arc<PluginSource>) -> engine::Tenant {
    engine::Tenant {
        id: tenant.id.clone(),
        source,
        reads: tenant.limits.in_flight + tenant.limits.in_flight / 4,
    }
}

#[cfg(test)]
mod tests;
