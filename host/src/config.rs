//! A pipeline file, from YAML to a checked [`Config`].
//!
//! One struct per section; their doc comments are `pipelines/REFERENCE.md`. A file is read once:
//! the sections are decoded, checked together, and what comes out has no text left that could still
//! be wrong. All that can be found without a network is found here, each with its line, so that a
//! bad file fails before anything runs. Secrets are only referred to; [`crate::secret`] fetches
//! them.

pub mod api;
pub mod auth;
pub mod catalog;
mod check;
pub mod dead_letter;
mod decode;
pub mod health;
pub mod http;
pub mod limits;
pub mod pipeline_test;
pub mod reference;
pub mod report;
mod secret;
pub mod sink;
pub mod source;
pub mod stage;
pub mod telemetry;
pub mod tenants;
pub mod unit;
mod written;
mod yaml;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub use api::ApiConfig;
pub use auth::{Auth, Credential};
#[cfg(test)]
pub(crate) use check::is_guid;
pub use http::HttpConfig;
pub use limits::Limits;
pub use pipeline_test::{Test, TestInput, TestOutput};
pub use report::Place;
pub use sink::{Sink, SinkKind};
pub use source::{Grants, PluginRef, Source};
pub use stage::{Condition, Filter, Redact, RedactWith, Remap, Sample, Stage, StageKind};
pub use telemetry::Telemetry;
pub use tenants::{Directory, Tenant};

use check::Scope;
use decode::Part;
use report::{Path, Report};
use unit::Period;
use yaml::Node;

use crate::error::Error;
use crate::health::Thresholds;

/// One pipeline: a source, stages and sinks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "pipeline")]
pub struct PipelineSection {
    /// Where records come from.
    pub source: Part<source::SourceSection>,
    /// What happens to events on the way, in this order.
    #[serde(default)]
    pub stages: Vec<Part<stage::StageSection>>,
    /// Where every event goes; one or more.
    pub sinks: Vec<Part<sink::SinkSection>>,
    /// What is remembered across restarts.
    #[serde(default)]
    pub state: Part<StateSection>,
    /// What no retry can deliver.
    #[serde(default)]
    pub dead_letter: Part<dead_letter::DeadLetterSection>,
    /// When a stream counts as unhealthy.
    #[serde(default)]
    pub health: Part<health::HealthSection>,
    /// How the host reaches the network.
    #[serde(default)]
    pub http: Part<http::HttpSection>,
    /// Where a running collector can be asked how it is.
    pub api: Option<Part<api::ApiSection>>,
    /// What the host tells of itself to an OpenTelemetry collector.
    pub telemetry: Option<Part<telemetry::TelemetrySection>>,
    /// How long delivered events are remembered, so that one that comes again is not delivered
    /// again. Microsoft repeats events for up to five days.
    #[schemars(extend("default" = "8d"))]
    pub identity_horizon: Option<Part<Period>>,
    /// How long a stop waits for what is under way.
    #[schemars(extend("default" = "30s"))]
    pub drain_timeout: Option<Part<Period>>,
    /// What should become of events, for `sluicegate test`; looked at by nothing else.
    #[serde(default)]
    pub tests: Vec<Part<pipeline_test::TestSection>>,
}

/// What is remembered across restarts: what was found, what was delivered.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "state")]
pub struct StateSection {
    /// The folder, seen from the working directory; made when missing. Default:
    /// `sluicegate-state/NAME`, where NAME is the pipeline file's name without its ending; under
    /// systemd with `StateDirectory=`, `NAME` in that directory.
    pub path: Option<String>,
}

/// One pipeline, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The file's name without its ending.
    pub name: String,
    /// Where records come from.
    pub source: Source,
    /// What happens on the way, in order.
    pub stages: Vec<Stage>,
    /// Where events go; at least one.
    pub sinks: Vec<Sink>,
    /// The folder for what is remembered across restarts.
    pub state_dir: PathBuf,
    /// The folder for what no retry can deliver.
    pub dead_letter_dir: PathBuf,
    /// Most bytes of what is kept there.
    pub dead_letter_bytes: u64,
    /// When a stream counts as unhealthy.
    pub health: Thresholds,
    /// How the host reaches the network.
    pub http: HttpConfig,
    /// Where it can be asked how it is, if anywhere.
    pub api: Option<ApiConfig>,
    /// Whom it tells of itself, if anybody.
    pub telemetry: Option<Box<Telemetry>>,
    /// How long delivered events are remembered.
    pub identity_horizon: Duration,
    /// How long a stop waits for what is under way.
    pub drain_timeout: Duration,
    /// What should become of events.
    pub tests: Vec<Test>,
    tree: Arc<Node>,
}

/// A pipeline file is written by people; a larger one is something else.
const MOST_BYTES: u64 = 8 << 20;

impl Config {
    /// Reads and checks a pipeline file, and says all that is wrong with it.
    pub fn load(path: &FilePath) -> Result<Self, Vec<Error>> {
        let text = read(path)?;
        // systemd names several with colons; the first is the unit's own.
        let named = std::env::var("STATE_DIRECTORY").ok();
        let first = named.as_deref().and_then(|names| names.split(':').next());
        let state_root = first.filter(|name| !name.is_empty()).map(PathBuf::from);
        Self::parse(path, &text, state_root.as_deref())
    }

    /// Checks the text of a pipeline file; `state_root` is where state goes unless the file says
    /// otherwise.
    pub fn parse(
        path: &FilePath,
        text: &str,
        state_root: Option<&FilePath>,
    ) -> Result<Self, Vec<Error>> {
        let file = path.display().to_string();
        let tree = Arc::new(tree(&file, text, None)?);
        let report = Report::new(&file, &tree);
        let config = decode::decode::<PipelineSection>(&tree, &report)
            .and_then(|section| section.check(path, text, &report, &tree, state_root));
        let errors = report.finish();
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ if errors.is_empty() => {
                Err(vec![Error::internal("a config was refused for no reason")])
            }
            _ => Err(errors),
        }
    }

    /// Whether a section says the same in both; also when it is missing in both.
    pub fn is_same(&self, other: &Self, section: &str) -> bool {
        match (self.tree.get(section), other.tree.get(section)) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// Whether the sink of a name is written alike in both.
    pub fn is_same_sink(&self, other: &Self, name: &str) -> bool {
        let written = |config: &Self| {
            let index = config.sinks.iter().position(|sink| sink.name == name)?;
            config.tree.get("sinks")?.item(index).cloned()
        };
        match (written(self), written(other)) {
            (Some(one), Some(other)) => one.is_same(&other),
            _ => false,
        }
    }

    /// Where the part of a tenant's plugin config stands that a JSON Pointer names: what a plugin
    /// complains about.
    pub fn config_place(&self, tenant: &Tenant, pointer: &str) -> Place {
        let common = || {
            let report = Report::new(&self.file, &self.tree);
            report.pointed(&Path::default().key("source").key("config"), pointer)
        };
        let own = tenant.pointed(pointer).or_else(common);
        own.unwrap_or_else(|| tenant.place.clone())
    }
}

/// The text of a pipeline file.
fn read(path: &FilePath) -> Result<String, Vec<Error>> {
    let file = path.display().to_string();
    let refuse = |what: String, help: &str| {
        let place = Place {
            file: file.as_str().into(),
            ..Place::default()
        };
        vec![place.error(what).help(help)]
    };
    let cannot = |error: std::io::Error| {
        let what = format!(
            "cannot read the pipeline file: {}",
            crate::secret::plain(&error)
        );
        refuse(what, "check the path")
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > MOST_BYTES {
        let what = format!("the file has {length} bytes");
        return Err(refuse(
            what,
            "a pipeline file has at most 8MiB; is this the right file?",
        ));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    String::from_utf8(bytes)
        .map_err(|_| refuse("the file is not UTF-8 text".to_owned(), "save it as UTF-8"))
}

/// Whether a YAML file has tests, be it a pipeline otherwise or not.
pub fn has_tests(path: &FilePath) -> Result<bool, Vec<Error>> {
    let tree = tree(&path.display().to_string(), &read(path)?, None)?;
    Ok(tree.get("tests").is_some())
}

/// The tree of a file's text; about one tenant, where the file is.
fn tree(file: &str, text: &str, tenant: Option<&str>) -> Result<Node, Vec<Error>> {
    yaml::parse(text).map_err(|error| {
        let place = Place {
            file: file.into(),
            at: error.at,
            tenant: tenant.map(str::to_owned),
            ..Place::default()
        };
        vec![place.error(error.what).help(error.help)]
    })
}

impl PipelineSection {
    fn check(
        &self,
        path: &FilePath,
        text: &str,
        report: &Report<'_>,
        tree: &Arc<Node>,
        state_root: Option<&FilePath>,
    ) -> Option<Config> {
        let root = Path::default();
        let folder = path.parent().map(FilePath::to_path_buf).unwrap_or_default();
        let scope = Scope {
            report,
            folder,
            text,
        };
        let name = path
            .file_stem()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let source = self
            .source
            .0
            .as_ref()
            .map(|part| part.check(&scope, &root.key("source"), tree));
        let at = root.key("stages");
        let stages = self.stages.iter().enumerate().filter_map(|(index, part)| {
            part.0
                .as_ref()
                .and_then(|stage| stage.check(&scope, &at.index(index)))
        });
        let stages = stages.collect();
        let sinks = sink::check_all(&scope, &root.key("sinks"), &self.sinks);
        let tests = pipeline_test::check_all(&scope, &self.tests, source.as_ref(), &sinks);
        let http = self.http.0.as_ref();
        let http = http.map(|part| part.check(&scope, &root.key("http")));
        let health = self.health.0.as_ref();
        let health = health.map(|part| part.check(&scope, &root.key("health")));
        let api = self.api.as_ref().and_then(|part| part.0.as_ref());
        let api = api.and_then(|part| part.check(&scope, &root.key("api")));
        let telemetry = self.telemetry.as_ref().and_then(|part| part.0.as_ref());
        let telemetry = telemetry.and_then(|part| part.check(&scope, &root.key("telemetry")));
        let (state_dir, dead_letter_dir) = self.folders(&scope, &name, state_root);
        let dead_letters = self.dead_letter.0.clone().unwrap_or_default();
        let dead_letter_bytes = dead_letters.max_bytes(report, &root.key("dead_letter"));
        let period = |key: &str, part: &Option<Part<Period>>, default, bounds| {
            let written = part.as_ref().and_then(|part| part.0).map(|period| period.0);
            let print = |time| Period(time).to_string();
            limits::in_range(report, &root.key(key), written, default, bounds, print)
        };
        let horizon = (Duration::from_hours(1), Duration::from_hours(400 * 24));
        let drain = (Duration::ZERO, Duration::from_hours(1));
        Some(Config {
            file: path.display().to_string().into(),
            name,
            source: source?,
            stages,
            sinks,
            state_dir,
            dead_letter_dir,
            dead_letter_bytes,
            health: health.unwrap_or_default(),
            http: http.unwrap_or_default(),
            api,
            telemetry,
            identity_horizon: period(
                "identity_horizon",
                &self.identity_horizon,
                Duration::from_hours(8 * 24),
                horizon,
            ),
            drain_timeout: period(
                "drain_timeout",
                &self.drain_timeout,
                Duration::from_secs(30),
                drain,
            ),
            tests,
            tree: Arc::clone(tree),
        })
    }

    /// Where state and dead letters are kept.
    fn folders(
        &self,
        scope: &Scope<'_, '_>,
        name: &str,
        state_root: Option<&FilePath>,
    ) -> (PathBuf, PathBuf) {
        let folder = |key: &str, written: Option<&String>, default: PathBuf| match written {
            Some(text) if text.trim().is_empty() => {
                let at = Path::default().key(key).key("path");
                scope.report.add(&at, "the path is empty", "name a folder");
                default
            }
            Some(text) => PathBuf::from(text),
            None => default,
        };
        let default = state_root
            .unwrap_or(FilePath::new("sluicegate-state"))
            .join(name);
        let written = self.state.0.as_ref().and_then(|state| state.path.as_ref());
        let state = folder("state", written, default);
        let written = self
            .dead_letter
            .0
            .as_ref()
            .and_then(|letters| letters.path.as_ref());
        let dead_letters = folder("dead_letter", written, state.join("dead-letters"));
        (state, dead_letters)
    }
}

#[cfg(test)]
mod tests;
