//! Section `source`: a plugin, what it may do, and the tenants it works for.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::Scope;
use super::decode::{ListOr, Part};
use super::limits::{Limits, LimitsSection};
use super::report::{Path, Place};
use super::tenants::{self, Common, Directory, DirectorySection, Tenant, TenantSection};
use super::yaml::Node;
use crate::error::Error;
use crate::http::Origin;

/// The plugins that are part of the program.
pub const BUILT_IN: &[&str] = &["o365"];

/// Where records come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "source")]
pub struct SourceSection {
    /// The plugin: `o365`, which is built in, or the path of a component (`./my.wasm`), seen from
    /// the pipeline's folder. It is compiled in a process of its own, with at most 512 MiB of memory,
    /// 30 s of computing and 5 minutes in all, and kept in `$XDG_CACHE_HOME/sluicegate`.
    #[schemars(extend("examples" = ["o365", "./my.wasm"]))]
    pub plugin: String,
    /// The plugin's own settings; `sluicegate inspect PLUGIN` shows what it knows. Never put a
    /// secret here: the plugin reads all of it.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// For whom the plugin works, each with credentials, state, limits and failures of its own: a
    /// list, or a directory with a file for each.
    pub tenants: ListOr<Part<TenantSection>, DirectorySection>,
    /// What each tenant may use.
    #[serde(default)]
    pub limits: Part<LimitsSection>,
    /// What the plugin may reach beside the tenant's own resource.
    #[serde(default)]
    pub grants: Part<GrantsSection>,
}

/// What a plugin may reach.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "grants")]
pub struct GrantsSection {
    /// Origins (scheme, host and port) that the plugin may send requests to. The origin of the
    /// tenant's own resource is granted by `auth`; a token goes to no other.
    #[serde(default)]
    #[schemars(extend("examples" = [["https://api.example.com"]]))]
    pub http: Vec<String>,
    /// Whether a component that was built for WASI is given an empty WASI: no files, no
    /// environment, no arguments.
    #[serde(default)]
    pub wasi: bool,
}

/// A plugin, checked as far as the config can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginRef {
    /// Part of the program.
    BuiltIn(&'static str),
    /// A component in a file.
    File(PathBuf),
}

/// What a plugin may reach, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Origins it may send requests to.
    pub http: Vec<Origin>,
    /// Whether it is given an empty WASI.
    pub wasi: bool,
}

/// Where records come from, checked.
#[derive(Clone, Debug)]
pub struct Source {
    /// The plugin.
    pub plugin: PluginRef,
    /// Where the plugin is named.
    pub place: Place,
    /// What the plugin may reach for every tenant; see also [`Tenant::origins`].
    pub grants: Grants,
    /// The tenants, each with a different id: those of the list, at least one, in its order; or
    /// those of the directory's good files, in the order of their names.
    pub tenants: Vec<Tenant>,
    /// Where tenants come and go while the pipeline runs, unless it lists them.
    pub directory: Option<Directory>,
    /// What is wrong with single files of the directory. A pipeline does not start with such, but
    /// what needs no tenant works.
    pub broken: Vec<Error>,
}

impl SourceSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path, tree: &Arc<Node>) -> Source {
        let plugin = check_plugin(scope, &at.key("plugin"), &self.plugin);
        let grants = check_grants(scope, &at.key("grants"), &self.grants);
        tenants::check_settings(scope, &at.key("config"), &self.config);
        let limits = check_limits(scope, at, &Limits::default(), &self.limits);
        let common = Common {
            config: self.config.clone(),
            grants: grants.clone(),
            limits,
        };
        let inside = at.key("tenants");
        let (mut tenants, mut directory, mut broken) = (Vec::new(), None, Vec::new());
        match &self.tenants {
            ListOr::List(list) => tenants = common.list(scope, &inside, list, tree),
            ListOr::Map(section) => {
                directory = section.check(scope, &inside, common);
                if let Some(directory) = &directory {
                    (tenants, broken) = directory.tenants();
                }
            }
        }
        Source {
            plugin,
            place: scope.report.place(&at.key("plugin")),
            grants,
            tenants,
            directory,
            broken,
        }
    }
}

pub(super) fn check_limits(
    scope: &Scope<'_, '_>,
    at: &Path,
    under: &Limits,
    section: &Part<LimitsSection>,
) -> Limits {
    match &section.0 {
        Some(section) => under.with(section, &at.key("limits"), scope.report),
        None => under.clone(),
    }
}

pub(super) fn check_grants(
    scope: &Scope<'_, '_>,
    at: &Path,
    section: &Part<GrantsSection>,
) -> Grants {
    let Some(section) = &section.0 else {
        return Grants::default();
    };
    let list = at.key("http");
    let http = section
        .http
        .iter()
        .enumerate()
        .filter_map(|(index, text)| scope.origin(&list.index(index), text))
        .collect();
    Grants {
        http,
        wasi: section.wasi,
    }
}

/// A built-in plugin by its name, or a file by its path; a file must be there.
pub(super) fn check_plugin(scope: &Scope<'_, '_>, at: &Path, text: &str) -> PluginRef {
    if let Some(name) = BUILT_IN.iter().find(|name| **name == text) {
        return PluginRef::BuiltIn(name);
    }
    let path = scope.beside(text);
    let is_wasm = std::path::Path::new(text)
        .extension()
        .is_some_and(|end| end == "wasm");
    if !is_wasm && !text.contains('/') {
        let known = match super::report::suggest(text, BUILT_IN) {
            question if question.ends_with('?') => question,
            known => format!("{known}."),
        };
        let help = format!("{known} A plugin of your own is named by its path: `./my.wasm`");
        scope
            .report
            .add(at, format!("there is no plugin `{text}`"), help);
    } else if !path.is_file() {
        let what = format!("there is no plugin file `{text}`");
        scope.report.add(
            at,
            what,
            "the path is seen from the folder of the pipeline file",
        );
    }
    PluginRef::File(path)
}
