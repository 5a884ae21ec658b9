//! Section `source`: a plugin, what it may do, and the tenants it works for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::auth::{Auth, AuthSection};
use super::check::Scope;
use super::decode::Part;
use super::limits::{Limits, LimitsSection};
use super::report::{Path, Place};
use crate::http::Origin;

/// The plugins that are part of the program.
pub const BUILT_IN: &[&str] = &["o365"];

/// Where records come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "source")]
pub struct SourceSection {
    /// The plugin: `o365`, which is built in, or the path of a component (`./my.wasm`), seen from
    /// the pipeline's folder.
    #[schemars(extend("examples" = ["o365", "./my.wasm"]))]
    pub plugin: String,
    /// The plugin's own settings; `sluicegate inspect PLUGIN` shows what it knows. Never put a
    /// secret here: the plugin reads all of it.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// For whom the plugin works, each with credentials, state, limits and failures of its own.
    pub tenants: Vec<Part<TenantSection>>,
    /// What each tenant may use.
    #[serde(default)]
    pub limits: Part<LimitsSection>,
    /// What the plugin may reach beside the tenant's own resource.
    #[serde(default)]
    pub grants: Part<GrantsSection>,
}

/// One tenant of the source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "tenant")]
pub struct TenantSection {
    /// Its name in state, logs and metrics. Its progress is kept under this name: a changed name
    /// starts anew.
    #[schemars(extend("examples" = ["contoso"]))]
    pub id: String,
    /// How to sign in for it. Without it requests go out as the plugin wrote them.
    pub auth: Option<AuthSection>,
    /// Settings of the plugin that differ for this tenant: merged over `source.config`, key by key.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Limits that differ for this tenant.
    #[serde(default)]
    pub limits: Part<LimitsSection>,
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
    /// The tenants, in the order of the file; at least one, each with a different id.
    pub tenants: Vec<Tenant>,
}

/// One tenant, checked.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub id: Arc<str>,
    /// How to sign in.
    pub auth: Auth,
    /// What the plugin gets as its config: one JSON object, with the tenant's public facts under
    /// `tenant`.
    pub config: Value,
    /// What it may use.
    pub limits: Limits,
    /// Every origin its requests may go to: the grants, and its own resource.
    pub origins: Vec<Origin>,
    /// Where it stands in the file.
    pub place: Place,
}

impl Tenant {
    /// The same tenant under another id and sign-in, such as a simulated one.
    #[must_use]
    pub fn standing_for(&self, id: &str, auth: Auth, grants: &Grants) -> Self {
        let mut config = self.config.as_object().cloned().unwrap_or_default();
        config.insert("tenant".into(), facts(id, &auth).into());
        Self {
            id: id.into(),
            origins: origins(&auth, grants),
            auth,
            config: config.into(),
            ..self.clone()
        }
    }
}

/// What a plugin may know of a tenant.
fn facts(id: &str, auth: &Auth) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("id".into(), id.into());
    facts.extend(auth.public_facts());
    facts
}

/// Where a tenant's requests may go.
fn origins(auth: &Auth, grants: &Grants) -> Vec<Origin> {
    let mut origins = grants.http.clone();
    origins.extend(auth.origin().filter(|own| !grants.http.contains(own)));
    origins
}

impl SourceSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Source {
        let plugin = check_plugin(scope, &at.key("plugin"), &self.plugin);
        let grants = check_grants(scope, &at.key("grants"), &self.grants);
        check_settings(scope, &at.key("config"), &self.config);
        let limits = check_limits(scope, at, &Limits::default(), &self.limits);
        let list = at.key("tenants");
        if self.tenants.is_empty() {
            scope
                .report
                .add(&list, "there is no tenant", "add one: `- id: NAME`");
        }
        let mut seen: HashMap<String, Place> = HashMap::new();
        let mut tenants = Vec::new();
        for (index, part) in self.tenants.iter().enumerate() {
            let Some(section) = &part.0 else { continue };
            let at = list.index(index);
            let named = scope.name(&at.key("id"), &section.id, 64);
            let place = scope.report.place(&at.key("id"));
            // Some file systems and people do not tell `Contoso` from `contoso`.
            match seen.get(&section.id.to_lowercase()) {
                Some(first) if named => {
                    let what = format!("tenant id `{}` is used twice", section.id);
                    let line = first.at.line;
                    let help = format!("it stands in line {line} as well; give each its own id");
                    scope.report.add(&at.key("id"), what, help);
                }
                _ => drop(seen.insert(section.id.to_lowercase(), place)),
            }
            tenants.extend(self.tenant(scope, &at, section, &grants, &limits));
        }
        let place = scope.report.place(&at.key("plugin"));
        Source {
            plugin,
            place,
            grants,
            tenants,
        }
    }

    fn tenant(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
        section: &TenantSection,
        grants: &Grants,
        limits: &Limits,
    ) -> Option<Tenant> {
        let auth = match &section.auth {
            Some(auth) => auth.check(scope, &at.key("auth")),
            None => Some(Auth::None),
        };
        check_settings(scope, &at.key("config"), &section.config);
        let limits = check_limits(scope, at, limits, &section.limits);
        let auth = auth?;
        let mut config = self.config.clone();
        merge(&mut config, &section.config);
        config.insert("tenant".into(), facts(&section.id, &auth).into());
        Some(Tenant {
            id: section.id.as_str().into(),
            origins: origins(&auth, grants),
            auth,
            config: config.into(),
            limits,
            place: scope.report.place(&at.key("id")),
        })
    }
}

/// Lays settings over others: maps key by key, everything else replaced.
fn merge(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

fn check_settings(scope: &Scope<'_, '_>, at: &Path, config: &Map<String, Value>) {
    if config.contains_key("tenant") {
        let what = "key `tenant` is taken: the host puts the tenant's public facts there";
        scope.report.add_key(&at.key("tenant"), what, "remove it");
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
