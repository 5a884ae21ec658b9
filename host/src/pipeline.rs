//! A checked [`Config`] becomes something that runs: plugins loaded, tenants signed in, sinks and stages built.
//!
//! `prepare` does all that can fail without touching state or network, so `validate` and `run` refuse the same
//! pipelines in the same words.

pub mod offline;
mod reload;
pub mod replay;
mod source;
mod stages;
mod tenants;
mod unresolved;
pub mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::api::Settings;
use crate::capability::http::{GLOBAL_IN_FLIGHT, first_request};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, ApiConfig, Config, PluginRef, SinkKind};
use crate::dead_letter::DeadLetters;
use crate::engine::{Engine, Outcome};
use crate::error::Error;
use crate::health::Watch;
use crate::ledger::Ledger;
use crate::ledger::sqlite::SqliteLedger;
use crate::limiter::GlobalLimiter;
use crate::line::{Line, Parts};
use crate::plugin::{self, PluginSource};
use crate::sandbox::{Limits, Sandbox};
use crate::secret::{Redactor, SecretRef};
use crate::sink::azure_logs_ingestion::AzureLogsIngestionSink;
use crate::sink::elasticsearch::ElasticsearchSink;
use crate::sink::file::FileSink;
use crate::sink::files::FilesSink;
use crate::sink::fluent::FluentSink;
use crate::sink::http::HttpSink;
use crate::sink::logstash::LogstashSink;
use crate::sink::loki::LokiSink;
use crate::sink::nats::NatsSink;
use crate::sink::otlp::OtlpSink;
use crate::sink::redis::RedisSink;
use crate::sink::socket::SocketSink;
use crate::sink::splunk_hec::SplunkHecSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{Outlet, Way};
use crate::stage::Stage;
use crate::stage::condition::Condition;
use crate::telemetry::{Teller, Telling};
use reload::Reloader;
use source::{Findings, SourceMaker};
use stages::{Salts, make_stages};
use tenants::Tenants;
use tenants::tally::Tally;
pub use unresolved::check_offline;
use view::{About, View, Views};

/// What all pipelines of a process share.
#[derive(Clone)]
pub struct Runtime {
    /// The WASM engine.
    pub sandbox: Sandbox,
    /// The time.
    pub clock: SharedClock,
    /// Knows every secret in use, to keep them out of the log.
    pub redactor: Arc<Redactor>,
    /// Requests in flight of all tenants together.
    pub global: Arc<GlobalLimiter>,
    /// What of the running pipelines can be looked at.
    pub views: Arc<Views>,
    /// How often the pipelines were asked to read their files again.
    asked: Arc<watch::Sender<u64>>,
}

impl Runtime {
    /// The runtime of this process.
    pub fn new(redactor: Arc<Redactor>) -> Result<Self, Error> {
        let clock: SharedClock = Arc::new(SystemClock);
        Ok(Self {
            sandbox: Sandbox::new()?,
            views: Arc::new(Views::new(clock.clone())),
            clock,
            redactor,
            global: Arc::new(GlobalLimiter::new(GLOBAL_IN_FLIGHT)),
            asked: Arc::new(watch::channel(0).0),
        })
    }

    /// Has every pipeline that runs read its file again, and take over what differs.
    pub fn reload(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Changes when a pipeline is to read its file again.
    fn reloads(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }
}

/// A pipeline whose config, plugins, grants and secrets are in order.
pub struct Prepared {
    config: Config,
    runtime: Runtime,
    maker: SourceMaker,
    sources: Vec<Arc<PluginSource>>,
    stages: Vec<Box<dyn Stage>>,
    health: Arc<Watch>,
    sinks: Vec<Outlet>,
    api: Option<Settings>,
    teller: Option<Teller>,
    asked: watch::Receiver<u64>,
    /// What the plugins would rather have different.
    pub warnings: Vec<Error>,
}

/// How a run of a pipeline ended.
#[derive(Debug)]
pub struct Report {
    /// The pipeline's name.
    pub name: String,
    /// How many tenants it has.
    pub tenants: usize,
    /// What was found, lost and left.
    pub outcome: Outcome,
    /// How the events fared.
    pub counts: crate::ledger::Counts,
    /// Splits delivered.
    pub splits: u64,
    /// Bytes of delivered events.
    pub bytes: u64,
    /// Events that sinks without acknowledgements had no room for.
    pub dropped_by_sinks: u64,
    /// Requests sent.
    pub requests: u64,
    /// Wall time of the run.
    pub elapsed: Duration,
    /// From the start of the process to its first request.
    pub first_request: Option<Duration>,
    /// Where the state is kept.
    pub state_dir: std::path::PathBuf,
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self {
            memory_bytes: limits.memory,
            wall: limits.call_timeout,
            cpu: limits.cpu_timeout,
            batch_bytes: limits.batch_bytes,
            batch_events: limits.batch_events,
            event_bytes: limits.event_bytes,
            output_bytes: limits.output_bytes,
            splits: limits.splits_per_call,
            state_bytes: usize::try_from(limits.state_bytes).unwrap_or(usize::MAX),
            log_lines: limits.log_lines_per_second,
            requests: limits.requests_per_call,
            response_bytes: limits.response_bytes,
            ..Self::default()
        }
    }
}

pub(crate) fn read_plugin(plugin: &PluginRef) -> Result<(String, Vec<u8>), Error> {
    match plugin {
        PluginRef::BuiltIn(name) => Ok(((*name).to_owned(), plugin::read(name, Path::new(""))?)),
        PluginRef::File(path) => {
            let name = path
                .file_stem()
                .map_or_else(String::new, |n| n.to_string_lossy().into());
            Ok((name, plugin::read(&path.to_string_lossy(), Path::new(""))?))
        }
    }
}

/// Loads plugins, checks configs and grants, resolves secrets. Says all that is wrong.
pub async fn prepare(config: Config, runtime: &Runtime) -> Result<Prepared, Vec<Error>> {
    // Whoever asks from now on asks for more than this config.
    let asked = runtime.reloads();
    let maker = SourceMaker::new(&config, runtime)
        .await
        .map_err(|error| vec![error])?;
    let (
        sources,
        Findings {
            mut errors,
            mut warnings,
        },
    ) = maker.sources(&config).await;
    if let (Some(directory), true) = (&config.source.directory, config.source.tenants.is_empty()) {
        let what = "the directory holds no tenant yet; nothing is fetched until it does";
        warnings.push(directory.place.error(what));
    }
    let stages = make_stages(&config, runtime, Salts::Read, &mut errors).await;
    let mut sinks = Vec::new();
    for sink in &config.sinks {
        match make_sink(sink, &config.http, runtime) {
            Ok(sink) => sinks.push(sink),
            Err(error) => errors.push(error.at(&sink.place)),
        }
    }
    let api = config.api.as_ref().map(|api| settings(api, runtime));
    let api = api.transpose().unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let teller = config
        .telemetry
        .as_ref()
        .map(|telemetry| Teller::new(telemetry, &config.http, &runtime.redactor, &runtime.clock));
    let teller = teller.transpose().unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    if errors.is_empty() {
        Ok(Prepared {
            asked,
            api,
            teller,
            health: Arc::new(Watch::new(config.health.clone())),
            config,
            runtime: runtime.clone(),
            maker,
            sources,
            stages,
            sinks,
            warnings,
        })
    } else {
        Err(errors)
    }
}

fn settings(api: &ApiConfig, runtime: &Runtime) -> Result<Settings, Error> {
    let token = api.token.as_ref().map(SecretRef::resolve).transpose()?;
    if let Some(token) = &token {
        runtime.redactor.learn(token);
    }
    Ok(Settings {
        address: api.address,
        token,
        place: api.place.clone(),
    })
}

/// A sink whose client is not in this build.
#[cfg(not(all(feature = "kafka", feature = "s3")))]
fn left_out(kind: &str, feature: &str) -> Error {
    Error::config(format!("this build has no sink `{kind}`")).help(format!(
        "use a release, or build with `--features {feature}`"
    ))
}

#[allow(clippy::too_many_lines, reason = "a table: one arm for each sink")]
fn make_sink(
    sink: &config::Sink,
    http: &config::HttpConfig,
    runtime: &Runtime,
) -> Result<Outlet, Error> {
    let Runtime {
        redactor, clock, ..
    } = runtime;
    let way = match &sink.kind {
        SinkKind::Stdout => Way::Ordered(Box::new(StdoutSink::new(&sink.name))),
        SinkKind::File { path } => Way::Ordered(Box::new(FileSink::new(&sink.name, path))),
        SinkKind::Files(config) => {
            Way::Ordered(Box::new(FilesSink::new(&sink.name, config, clock)))
        }
        #[cfg(feature = "s3")]
        SinkKind::AzureBlob(_) | SinkKind::GcpCloudStorage(_) | SinkKind::S3(_) => {
            let made = crate::sink::objects::ObjectSink::new(sink, http, redactor, clock)?;
            Way::Ordered(Box::new(made))
        }
        #[cfg(not(feature = "s3"))]
        SinkKind::AzureBlob(_) | SinkKind::GcpCloudStorage(_) | SinkKind::S3(_) => {
            return Err(left_out(sink.kind.key(), "s3"));
        }
        SinkKind::AzureLogsIngestion(config) => {
            let made = AzureLogsIngestionSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Elasticsearch(config) => {
            let made = ElasticsearchSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Http(config) => {
            let made = HttpSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(config) => {
            let made = crate::sink::kafka::KafkaSink::new(&sink.name, config, redactor)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        #[cfg(not(feature = "kafka"))]
        SinkKind::Kafka(_) => return Err(left_out("kafka", "kafka")),
        SinkKind::Loki(config) => {
            let made = LokiSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Nats(config) => {
            let made = NatsSink::new(&sink.name, config, http, redactor)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Otlp(config) => {
            let made = OtlpSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Redis(config) => {
            let made = RedisSink::new(&sink.name, config, http, redactor)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::SplunkHec(config) => {
            let made = SplunkHecSink::new(&sink.name, config, http, redactor, clock)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Socket(config) => {
            let made = SocketSink::new(&sink.name, config, http)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Fluent(config) => {
            let made = FluentSink::new(&sink.name, config, http, redactor)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
        SinkKind::Logstash(config) => {
            let made = LogstashSink::new(&sink.name, config, http)?;
            Way::Requests(Arc::new(made), config.delivery.policy.clone())
        }
    };
    let when = sink.when.as_ref().map(Condition::of).transpose()?;
    Ok(Outlet { way, when })
}

impl Prepared {
    /// Where the pipeline keeps its state.
    pub fn state_dir(&self) -> &Path {
        &self.config.state_dir
    }

    /// The pipeline's file.
    pub fn file(&self) -> &str {
        &self.config.file
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether a sink of it prints events.
    pub fn prints_events(&self) -> bool {
        let mut sinks = self.config.sinks.iter();
        sinks.any(|sink| sink.kind == SinkKind::Stdout)
    }

    /// Where it can be asked how it is, if anywhere.
    pub fn api(&self) -> Option<&Settings> {
        self.api.as_ref()
    }

    /// The same as its file says it.
    pub fn api_config(&self) -> Option<&ApiConfig> {
        self.config.api.as_ref()
    }

    /// How its streams are, once it runs.
    pub fn health(&self) -> &Arc<Watch> {
        &self.health
    }

    /// Its tenants, each with its source.
    pub fn tenants(&self) -> impl Iterator<Item = (&config::Tenant, &Arc<PluginSource>)> {
        self.config.source.tenants.iter().zip(&self.sources)
    }

    /// Runs the pipeline until `stop` is cancelled, or with `once` until everything available is delivered.
    pub async fn run(self, once: bool, stop: CancellationToken) -> Result<Report, Error> {
        let Self {
            config,
            runtime,
            maker,
            sources,
            stages,
            health,
            sinks,
            asked,
            teller,
            ..
        } = self;
        let started = Instant::now();
        let ledger = open_ledger(&config).await?;
        let parts = Parts {
            ledger: ledger.clone(),
            stages,
            sinks,
            dead_letter: dead_letters(&config, &runtime),
            clock: runtime.clock.clone(),
        };
        let (line, committer) = Line::start(parts).await?;
        let taps = runtime.views.taps().clone();
        line.window().open(&config.name, taps);
        let about = About::new(&config, once, maker.plugin());
        let watched = (Arc::downgrade(&ledger), Arc::downgrade(&line));
        let looked_at = (health.clone(), watched.0, watched.1);
        let engine = Engine {
            ledger,
            line: line.clone(),
            clock: runtime.clock.clone(),
            health,
            once,
            stop: stop.clone(),
            drain_timeout: config.drain_timeout,
        };
        let config = Arc::new(config);
        // A few changes under way; more wait where they come from.
        let (sender, changes) = mpsc::channel(16);
        let (tenants, first) = Tenants::new(config.clone(), maker, sources, sender);
        let tally = tenants.tally();
        let view = Arc::new(View::new(about, looked_at, tally.clone()));
        let shown = runtime.views.show(view.clone());
        let telling = teller.map(|teller| teller.start(&config.name, &line, &runtime.views));
        // A single pass takes everything as it was at its start, and who could still change something would keep it
        // from its end.
        let changing = (!once).then(|| {
            let reloader = Reloader {
                runtime: runtime.clone(),
                first: config.clone(),
                config: config.clone(),
                tenants: Arc::new(Mutex::new(tenants)),
                line: Arc::downgrade(&line),
                asked,
                view,
            };
            reloader.start(&stop)
        });
        let ended = drained(engine.run(first, changes), &stop, config.drain_timeout).await;
        let mut outcome = ended.unwrap_or_default();
        drop(changing);
        if once && stop.is_cancelled() {
            let sentence = "it was stopped before all was delivered";
            outcome.incomplete.insert(sentence.into());
        }
        let mut report = Report::of(&config, &line, &tally, outcome);
        Telling::finish(telling).await;
        drop((line, shown));
        // What is not committed by now is read again by the next run.
        let _ = tokio::time::timeout(config.drain_timeout, committer).await;
        report.elapsed = started.elapsed();
        Ok(report)
    }
}

impl Report {
    /// What a run came to; how long it took is not known before its end.
    fn of(config: &Config, line: &Line, tally: &Tally, outcome: Outcome) -> Self {
        let totals = line.totals();
        let (tenants, requests) = tally.sums();
        Self {
            name: config.name.clone(),
            tenants,
            outcome,
            counts: totals.counts(),
            splits: totals.splits(),
            bytes: totals.bytes(),
            dropped_by_sinks: totals.dropped_by_sinks(),
            requests,
            elapsed: Duration::ZERO,
            first_request: first_request(),
            state_dir: config.state_dir.clone(),
        }
    }
}

/// Waits for the run; once it has been asked to stop, no longer than `patience`.
async fn drained<T>(
    running: impl Future<Output = T>,
    stop: &CancellationToken,
    patience: Duration,
) -> Option<T> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        ended = running => Some(ended),
        () = late => {
            tracing::warn!("not everything under way was finished in time; it will be read again");
            None
        }
    }
}

fn dead_letters(config: &Config, runtime: &Runtime) -> DeadLetters {
    let clock = runtime.clock.clone();
    let letters = DeadLetters::new(&config.dead_letter_dir, &config.name, clock);
    letters.at_most(config.dead_letter_bytes)
}

async fn open_ledger(config: &Config) -> Result<Arc<dyn Ledger>, Error> {
    let (folder, horizon) = (config.state_dir.clone(), config.identity_horizon);
    let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&folder, horizon)).await;
    let ledger = opened.map_err(|error| Error::internal(format!("opening state: {error}")))??;
    if let Some(alarm) = ledger.recovered_from() {
        tracing::error!(alarm = "state_rewound", "{alarm}");
    }
    Ok(Arc::new(ledger))
}
