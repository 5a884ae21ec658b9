//! The process under test: the real component, engine, line and ledger, on the simulated world.

use std::sync::Arc;
use std::time::Duration;

use sluicegate::auth;
use sluicegate::auth::microsoft::Cloud;
use sluicegate::capability::Grants;
use sluicegate::capability::http::{Bound, Egress, GLOBAL_IN_FLIGHT};
use sluicegate::clock::SharedClock;
use sluicegate::config::Auth;
use sluicegate::config::auth::{Credential, Microsoft, TokenEndpoint};
use sluicegate::dead_letter::DeadLetters;
use sluicegate::engine::{Engine, Tenant};
use sluicegate::error::Error;
use sluicegate::http::{Client, Origin};
use sluicegate::ledger::Ledger;
use sluicegate::limiter::GlobalLimiter;
use sluicegate::line::{Line, Parts};
use sluicegate::plugin::{self, Plugin, PluginSource, TenantContext};
use sluicegate::sandbox::{Limits, Sandbox};
use sluicegate::secret::{Redactor, SecretOrigin, SecretRef};
use sluicegate::sink::file::FileSink;
use sluicegate::sink::{Outlet, Way};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::disk::File;
use crate::ledger::Watched;
use crate::network::Network;
use crate::store::{Documents, policy};
use crate::world::{World, kinds};

/// How long a stop may take to hand over what is under way.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The component, compiled once for all runs.
#[derive(Clone)]
pub struct Machine {
    plugin: Arc<Plugin>,
}

impl Machine {
    /// Compiles the component that the host embeds.
    pub fn new() -> Result<Self, Error> {
        Self::with(plugin::O365)
    }

    /// Compiles another one.
    pub fn with(component: &[u8]) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| Error::unavailable(error.to_string()))?;
        let sandbox = Sandbox::without_ticks()?;
        let grants = Grants {
            http: true,
            wasi: false,
        };
        let plugin = runtime.block_on(Plugin::load(&sandbox, "o365", component, grants))?;
        Ok(Self { plugin })
    }
}

/// A process that has started.
pub struct Collector {
    /// Its ledger.
    pub ledger: Arc<dyn Ledger>,
    world: Arc<World>,
    line: Arc<Line>,
    committer: JoinHandle<()>,
    engine: Engine,
    tenants: Vec<Tenant>,
    stop: CancellationToken,
}

/// Makes what a tenant's config says into what the engine runs.
fn source(
    world: &Arc<World>,
    machine: &Machine,
    index: usize,
    global: &Arc<GlobalLimiter>,
) -> Result<Tenant, Error> {
    let clock: SharedClock = world.clock.clone();
    let client = Client::carried(Arc::new(Network(world.clone())));
    let (id, directory, application, login, resource) = {
        let office = world.office();
        let tenant = &office.tenants()[index];
        (
            Arc::<str>::from(tenant.name.as_str()),
            tenant.directory_id.clone(),
            tenant.client_id.clone(),
            office.login_url().to_owned(),
            office.resource_url().to_owned(),
        )
    };
    let url = |text: &str| Url::parse(text).map_err(|error| Error::config(error.to_string()));
    let resource_url = url(&resource)?;
    let microsoft = Microsoft {
        cloud: Cloud::Custom,
        directory_id: directory.clone(),
        client_id: application,
        credential: Credential::ClientSecret(SecretRef {
            origin: SecretOrigin::File(world.folder.path().join(&*id)),
            place: sluicegate::config::Place::default(),
        }),
        token_endpoint: TokenEndpoint::V2,
        login_url: url(&login)?,
        resource_url: resource_url.clone(),
    };
    let redactor = Arc::new(Redactor::new());
    let credentials = auth::credentials(&Auth::Microsoft(microsoft), &client, &clock, &redactor)?;
    let bound = credentials.map(|credentials| Bound {
        paths: vec!["/api/".into(), format!("/{directory}/activity/feed/")],
        credentials,
    });
    let plan = &world.plan;
    let egress = Egress::new(
        client,
        Origin::of(&resource_url).into_iter().collect(),
        bound,
        (plan.budget, plan.in_flight),
        global.clone(),
        clock.clone(),
    );
    let types: Vec<_> = kinds(plan.streams).iter().map(|kind| kind.name()).collect();
    let mut config = serde_json::json!({
        "content_types": types,
        "interval": format!("{}s", plan.interval_s),
        "window": "1h", "settle": "5m", "relist": ["30m", "2h"],
        "lookback": format!("{}m", plan.lookback_minutes()),
        "tenant": { "id": &*id, "directory_id": directory, "resource_url": resource },
    });
    if let Some(mutant) = plan.mutant {
        config["mutant"] = mutant.into();
    }
    let context = TenantContext {
        tenant: id.clone(),
        config: config.as_object().cloned().unwrap_or_default(),
        egress: Arc::new(egress),
        clock,
        limits: Limits::default(),
    };
    Ok(Tenant {
        id,
        source: Arc::new(PluginSource::new(machine.plugin.clone(), context)),
        reads: plan.in_flight + plan.in_flight / 4,
    })
}

impl Collector {
    /// Starts a process: what a restart does to files and ledger is done, and nothing fetched yet.
    pub async fn start(world: &Arc<World>, machine: &Machine) -> Result<Self, Error> {
        let clock: SharedClock = world.clock.clone();
        let opened = world.open_ledger()?;
        let ledger: Arc<dyn Ledger> = Arc::new(Watched::new(world.clone(), opened));
        let events = File::task(world, "sink `file`", &world.events_file());
        let mut sinks = vec![Outlet::ordered(FileSink::on("file", events))];
        if world.plan.documents {
            sinks.push(Outlet {
                way: Way::Requests(Arc::new(Documents(world.clone())), policy()),
                when: None,
            });
        }
        let letters = world.letters_file();
        let kept = File::task(world, "dead letters", &letters);
        let parts = Parts {
            ledger: ledger.clone(),
            stages: Vec::new(),
            sinks,
            dead_letter: DeadLetters::on(letters, kept, clock.clone()),
            clock: clock.clone(),
        };
        let (line, committer) = Line::start(parts).await?;
        let global = Arc::new(GlobalLimiter::new(GLOBAL_IN_FLIGHT));
        let tenants: Result<_, Error> = (0..usize::from(world.plan.tenants))
            .map(|index| source(world, machine, index, &global))
            .collect();
        let stop = CancellationToken::new();
        let engine = Engine {
            ledger: ledger.clone(),
            line: line.clone(),
            clock,
            health: Arc::default(),
            once: false,
            stop: stop.clone(),
            drain_timeout: DRAIN,
        };
        Ok(Self {
            ledger,
            world: world.clone(),
            line,
            committer,
            engine,
            tenants: tenants?,
            stop,
        })
    }

    /// What cancels it gracefully.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs until it has been stopped: drains as the command does.
    pub async fn run(self) {
        let (_sender, changes) = mpsc::channel(1);
        let late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let running = self.engine.run(self.tenants, changes);
        tokio::select! {
            biased;
            // All that was taken is committed now, so what is exported has to say the same.
            _ = running => self.world.witness.check_totals(self.line.totals().counts()),
            () = late => {}
        }
        drop(self.line);
        // What is not committed by now is read again by the next run.
        let _ = tokio::time::timeout(DRAIN, self.committer).await;
    }
}
