//! A component as machine code: looked at, taken from the cache, or compiled within limits and kept.

use std::sync::Arc;

use wasmtime::component::Component;

use super::cache::{self, Cache};
use super::shape;
use crate::error::Error;
use crate::sandbox::Sandbox;
use crate::sandbox::compiler::Failure;

/// The machine code of a plugin's component.
pub(super) async fn component(
    sandbox: &Sandbox,
    plugin: &str,
    digest: &str,
    bytes: &[u8],
) -> Result<Component, Error> {
    let bytes: Arc<[u8]> = bytes.into();
    let look = Look {
        sandbox: sandbox.clone(),
        plugin: plugin.to_owned(),
        digest: digest.to_owned(),
    };
    let looked_at = bytes.clone();
    let kept = aside(&look, move |look| {
        shape::check(&looked_at).map_err(Failure::Malformed)?;
        Ok(look.kept())
    });
    if let Some(component) = kept.await? {
        return Ok(component);
    }
    let _turn = sandbox.compile_turn().await;
    // Whoever had the turn before may have compiled the same component.
    if let Some(component) = aside(&look, |look| Ok(look.kept())).await? {
        return Ok(component);
    }
    let code = sandbox.compile(bytes).await;
    let code = code.map_err(|failure| refused(plugin, failure))?;
    aside(&look, move |look| {
        let engine = look.sandbox.engine();
        let component = cache::machine_code(engine, &code).map_err(|error| {
            Failure::Broken(format!("what the compiler made does not load: {error:#}"))
        })?;
        if let Some(cache) = Cache::open() {
            cache.store(engine, &look.digest, &code);
        }
        Ok(component)
    })
    .await
}

/// Which component is looked for.
#[derive(Clone)]
struct Look {
    sandbox: Sandbox,
    plugin: String,
    digest: String,
}

impl Look {
    fn kept(&self) -> Option<Component> {
        Cache::open()?.load(self.sandbox.engine(), &self.plugin, &self.digest)
    }
}

/// Works on a thread that may be held up: files are read and hashed.
async fn aside<T: Send + 'static>(
    look: &Look,
    work: impl FnOnce(&Look) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Error> {
    let mine = look.clone();
    let worked = tokio::task::spawn_blocking(move || work(&mine)).await;
    worked
        .map_err(|error| Error::internal(format!("loading a plugin panicked: {error}")))?
        .map_err(|failure| refused(&look.plugin, failure))
}

/// What happened, and what to do about it.
fn refused(plugin: &str, failure: Failure) -> Error {
    match failure {
        Failure::Malformed(why) => {
            let what = format!("plugin `{plugin}` is not a component that can be loaded: {why}");
            Error::config(what)
                .help("build it as a component (wasm32-unknown-unknown, then encoded; or wasip2)")
        }
        Failure::Limit(why) => Error::config(format!("plugin `{plugin}` is not loaded: {why}"))
            .help("build it with optimisation, or as several plugins of smaller functions"),
        Failure::Broken(why) => Error::config(format!("plugin `{plugin}` is not loaded: {why}"))
            .help("try again with memory to spare; if it stays so, the compiler cannot take it"),
        Failure::Unavailable(why) => Error::unavailable(format!(
            "plugin `{plugin}` cannot be compiled: {why}"
        ))
        .help("this program starts itself to compile: it has to be allowed to, and needs `/proc`"),
    }
}
