//! A component as a source and as a stage: load it, check what it asks for, call it.
//!
//! A component's bytes are read once, hashed, and compiled from memory. Machine code is kept under a name made of
//! that hash and everything the compiler depends on; nothing but what our own compiler made is ever loaded as code.

mod cache;
mod call;
mod compiled;
mod found;
mod shape;
mod transform;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

use call::bounded;
pub use call::{PluginSource, TenantContext};
pub use transform::{Outcome, PluginTransform, TransformStage, Transformed};

use crate::capability::log::{REASON_BYTES, escape};
use crate::capability::source_world::SourcePluginPre;
use crate::capability::source_world::sluicegate::plugin::types as wit;
use crate::capability::transform_world::TransformPluginPre;
use crate::capability::{self, Grants};
use crate::error::Error;
use crate::sandbox::{Call, Limits, Sandbox};

/// The Office 365 component, built with the host.
pub static O365: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/o365.wasm"));

/// Largest component that is loaded.
pub(crate) const COMPONENT_BYTES: u64 = 32 << 20;

/// Longest name and version that a plugin gives itself, after escaping.
const NAME_BYTES: usize = 128;

/// Findings about one config that are shown; whoever has mended so many sees the rest.
const DIAGNOSTICS: usize = 100;

/// A loaded component.
pub struct Plugin {
    /// What the pipeline calls it.
    pub name: String,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// Bytes of the component.
    pub size: usize,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// Interfaces it exports.
    pub exports: Vec<String>,
    sandbox: Sandbox,
    source: Option<SourcePluginPre<Call>>,
    transform: Option<TransformPluginPre<Call>>,
}

/// One of the interfaces that a plugin may export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// `sluicegate:plugin/source`.
    Source,
    /// `sluicegate:plugin/transform`.
    Transform,
}

/// What a plugin says of itself.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// JSON Schema of its config.
    pub config_schema: String,
}

/// A finding about a config.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Whether the pipeline must not start.
    pub fatal: bool,
    /// JSON Pointer into the config.
    pub pointer: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// The bytes of a plugin: built in under `o365`, or a file.
pub fn read(plugin: &str, base: &Path) -> Result<Vec<u8>, Error> {
    if plugin == "o365" {
        return Ok(O365.to_vec());
    }
    let path = base.join(plugin);
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        Error::config(format!("cannot read plugin `{plugin}`: {error}"))
            .at(&shown)
            .help("`o365` is built in; any other plugin is the path of a component file")
    };
    let size = std::fs::metadata(&path).map_err(cannot)?.len();
    if size > COMPONENT_BYTES {
        return Err(Error::config(format!("plugin `{plugin}` has {size} bytes"))
            .at(shown)
            .help(format!("a component has at most {COMPONENT_BYTES} bytes")));
    }
    std::fs::read(&path).map_err(cannot)
}

impl Plugin {
    /// Compiles a component, checks its imports against the grants and links it.
    pub async fn load(
        sandbox: &Sandbox,
        name: &str,
        bytes: &[u8],
        grants: Grants,
    ) -> Result<Arc<Self>, Error> {
        let plugin = Self::compile(sandbox, name, bytes).await?;
        let (component, mut plugin) = plugin;
        capability::check(name, &plugin.imports, grants)?;
        let linker = capability::link(sandbox.engine(), grants)
            .map_err(|error| Error::internal(format!("cannot link capabilities: {error:#}")))?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| incompatible(name, &format!("{error:#}")))?;
        plugin.bind(&pre)?;
        Ok(Arc::new(plugin))
    }

    /// Compiles a component and reads what it imports and exports, without granting anything.
    pub async fn look(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::compile(sandbox, name, bytes).await?.1)
    }

    async fn compile(
        sandbox: &Sandbox,
        name: &str,
        bytes: &[u8],
    ) -> Result<(Component, Self), Error> {
        let digest = hex(&Sha256::digest(bytes));
        // On the heap: what is kept while it compiles is large, and everybody who loads a plugin would carry it.
        let compiled = Box::pin(compiled::component(sandbox, name, &digest, bytes));
        let component = compiled.await?;
        let plugin = Self {
            name: name.to_owned(),
            digest,
            size: bytes.len(),
            imports: capability::imports(sandbox.engine(), &component),
            exports: capability::exports(sandbox.engine(), &component),
            sandbox: sandbox.clone(),
            source: None,
            transform: None,
        };
        Ok((component, plugin))
    }

    fn bind(&mut self, pre: &InstancePre<Call>) -> Result<(), Error> {
        let exports = |name: &str| self.exports.iter().any(|export| export.starts_with(name));
        let wrong = |error: wasmtime::Error| incompatible(&self.name, &format!("{error:#}"));
        if exports("sluicegate:plugin/source@0.1.") {
            self.source = Some(SourcePluginPre::new(pre.clone()).map_err(wrong)?);
        }
        if exports("sluicegate:plugin/transform@0.1.") {
            self.transform = Some(TransformPluginPre::new(pre.clone()).map_err(wrong)?);
        }
        if self.source.is_none() && self.transform.is_none() {
            return Err(incompatible(
                &self.name,
                "it exports neither `source` nor `transform`",
            ));
        }
        Ok(())
    }

    /// Whether it can be a source.
    pub fn is_source(&self) -> bool {
        self.source.is_some()
    }

    /// Whether it can be a transform.
    pub fn is_transform(&self) -> bool {
        self.transform.is_some()
    }

    /// Asks the plugin what it is.
    pub async fn describe(&self) -> Result<Descriptor, Error> {
        let limits = Limits::default();
        let export = if self.is_source() {
            Export::Source
        } else {
            Export::Transform
        };
        let mut call = call::Bare::start(self, export, &limits).await?;
        let described = match &mut call.world {
            call::World::Source(source) => {
                let source = source.sluicegate_plugin_source();
                bounded(&call.wall, &call.cpu, source.call_describe(&mut call.store)).await
            }
            call::World::Transform(transform) => {
                let transform = transform.sluicegate_plugin_transform();
                bounded(
                    &call.wall,
                    &call.cpu,
                    transform.call_describe(&mut call.store),
                )
                .await
            }
        };
        let wit::Descriptor {
            name,
            version,
            config_schema,
        } = call.answer(&self.name, "describe", described, &limits)?;
        Ok(Descriptor {
            name: escape(&name, NAME_BYTES),
            version: escape(&version, NAME_BYTES),
            config_schema,
        })
    }

    /// Asks the plugin whether one of its exports can work with a config.
    pub async fn check_config(
        &self,
        export: Export,
        config: &str,
    ) -> Result<Vec<Diagnostic>, Error> {
        let limits = Limits::default();
        let mut call = call::Bare::start(self, export, &limits).await?;
        let checked = match &mut call.world {
            call::World::Source(source) => {
                let source = source.sluicegate_plugin_source();
                bounded(
                    &call.wall,
                    &call.cpu,
                    source.call_check_config(&mut call.store, config),
                )
                .await
            }
            call::World::Transform(transform) => {
                let transform = transform.sluicegate_plugin_transform();
                bounded(
                    &call.wall,
                    &call.cpu,
                    transform.call_check_config(&mut call.store, config),
                )
                .await
            }
        };
        let found = call.answer(&self.name, "check-config", checked, &limits)?;
        Ok(found
            .into_iter()
            .take(DIAGNOSTICS)
            .map(Diagnostic::from)
            .collect())
    }
}

impl From<wit::Diagnostic> for Diagnostic {
    fn from(found: wit::Diagnostic) -> Self {
        let wit::Diagnostic {
            severity,
            pointer,
            what,
            help,
        } = found;
        Self {
            fatal: severity == wit::Severity::Error,
            pointer: escape(&pointer, REASON_BYTES),
            what: escape(&what, REASON_BYTES),
            help: escape(&help, REASON_BYTES),
        }
    }
}

fn incompatible(name: &str, why: &str) -> Error {
    Error::config(format!("plugin `{name}` does not fit this host: {why}")).help(
        "this host runs plugins of `sluicegate:plugin@0.1`; `sluicegate inspect` shows what it has",
    )
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
