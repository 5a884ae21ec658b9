//! Makes a tenant's source: the plugin with the tenant's credentials, limits and way out.
//!
//! Everything that tenants have in common is made once; a tenant can be added at any time, with the checks that those
//! at the start went through. Nothing of one tenant (connections, limiter, tokens) is shared with another.

use std::sync::Arc;

use super::{Runtime, read_plugin};
use crate::auth;
use crate::capability::Grants;
use crate::capability::http::{Bound, Egress};
use crate::config::{Auth, Config, Tenant};
use crate::error::{At as _, Error};
use crate::http::Client;
use crate::plugin::{Diagnostic, Plugin, PluginSource, TenantContext};
use crate::sandbox::Limits;

/// What all tenants' sources have in common.
pub(super) struct SourceMaker {
    plugin: Arc<Plugin>,
    /// Whether the plugin may send requests.
    http: bool,
    client: Client,
    runtime: Runtime,
}

/// What a plugin has to say of a tenant's config.
#[derive(Default)]
pub(super) struct Findings {
    /// Why it cannot run.
    pub errors: Vec<Error>,
    /// What it would rather have different.
    pub warnings: Vec<Error>,
}

impl SourceMaker {
    /// Loads the plugin of a pipeline's source.
    pub async fn new(config: &Config, runtime: &Runtime) -> Result<Self, Error> {
        Ok(Self {
            plugin: load(config, runtime).await?,
            http: may_reach(config),
            client: Client::new(&config.http).at(&config.http.place)?,
            runtime: runtime.clone(),
        })
    }

    /// What all of them run.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Whether the plugin may send requests.
    pub fn may_reach(&self) -> bool {
        self.http
    }

    /// A tenant's source. Its credential is read, so that what is missing is found now.
    pub fn source(&self, tenant: &Tenant) -> Result<Arc<PluginSource>, Error> {
        let runtime = &self.runtime;
        // A pool of connections for each tenant: two tenants never share one.
        let client = self.client.separate();
        let credentials =
            auth::credentials(&tenant.auth, &client, &runtime.clock, &runtime.redactor)?;
        let bound = credentials.map(|credentials| Bound {
            paths: paths(&tenant.auth),
            credentials,
        });
        let egress = Arc::new(Egress::new(
            client,
            tenant.origins.clone(),
            bound,
            (tenant.limits.requests_per_minute, tenant.limits.in_flight),
            runtime.global.clone(),
            runtime.clock.clone(),
        ));
        let context = TenantContext {
            tenant: tenant.id.clone(),
            config: tenant.config.as_object().cloned().unwrap_or_default(),
            egress,
            clock: runtime.clock.clone(),
            limits: Limits::from(&tenant.limits),
        };
        Ok(Arc::new(PluginSource::new(self.plugin.clone(), context)))
    }

    /// The sources of all tenants that can have one, and what is wrong with or said about any of them.
    pub async fn sources(&self, config: &Config) -> (Vec<Arc<PluginSource>>, Findings) {
        let mut sources = Vec::new();
        let mut all = Findings {
            errors: config.source.broken.clone(),
            warnings: Vec::new(),
        };
        for tenant in &config.source.tenants {
            match self.source(tenant) {
                Ok(source) => {
                    let found = self.check(config, tenant, &source).await;
                    add(&mut all.errors, found.errors);
                    add(&mut all.warnings, found.warnings);
                    sources.push(source);
                }
                Err(error) => all.errors.push(error),
            }
        }
        (sources, all)
    }

    /// Asks the plugin whether it can work with a tenant's config.
    pub async fn check(&self, config: &Config, tenant: &Tenant, source: &PluginSource) -> Findings {
        let mut findings = Findings::default();
        match source.check_config().await {
            Ok(found) => {
                for Diagnostic {
                    fatal,
                    pointer,
                    what,
                    help,
                } in found
                {
                    let place = config.config_place(tenant, &pointer);
                    let list = if fatal {
                        &mut findings.errors
                    } else {
                        &mut findings.warnings
                    };
                    list.push(place.error(what).help(help));
                }
            }
            Err(error) => findings.errors.push(error.at(&tenant.place)),
        }
        findings
    }
}

/// What stands in `source.config` is wrong for every tenant; saying it once is enough.
fn add(list: &mut Vec<Error>, found: Vec<Error>) {
    for error in found {
        if !list.contains(&error) {
            list.push(error);
        }
    }
}

fn may_reach(config: &Config) -> bool {
    let source = &config.source;
    // The tenants of a directory bring their origins with them, each its own; one without any can reach nothing.
    source.directory.is_some() || source.tenants.iter().any(|t| !t.origins.is_empty())
}

/// The plugin of a pipeline\'s source.
pub(super) async fn load(config: &Config, runtime: &Runtime) -> Result<Arc<Plugin>, Error> {
    let source = &config.source;
    let (name, bytes) = read_plugin(&source.plugin).at(&source.place)?;
    let grants = Grants {
        http: may_reach(config),
        wasi: source.grants.wasi,
    };
    let plugin = Plugin::load(&runtime.sandbox, &name, &bytes, grants)
        .await
        .at(&source.place)?;
    if plugin.is_source() {
        return Ok(plugin);
    }
    Err(Error::config(format!("plugin `{name}` is not a source"))
        .at(&source.place)
        .help("it is a transform: use it as a stage, `- wasm: { plugin: ... }`"))
}

/// The parts that a path must have for the tenant's token to be sent along: at its own origin, the token still
/// goes only to the tenant's own feed.
fn paths(auth: &Auth) -> Vec<String> {
    match auth {
        Auth::Microsoft(microsoft) => {
            vec![
                "/api/".into(),
                format!("/{}/activity/feed/", microsoft.directory_id),
            ]
        }
        Auth::OAuth2(oauth2) => vec![oauth2.resource_url.path().to_owned()],
        Auth::None => Vec::new(),
    }
}
