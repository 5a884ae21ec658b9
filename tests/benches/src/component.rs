//! The mapping as it runs in production: the component, in the sandbox, called by the host.

use std::sync::Arc;

use sluicegate::capability::Grants;
use sluicegate::clock::SystemClock;
use sluicegate::event::Event;
use sluicegate::plugin::{self, Outcome, Plugin, PluginTransform};
use sluicegate::sandbox::{Limits, Sandbox};
use tokio::runtime::{Builder, Runtime};

/// The built-in component with its default config, on one thread.
pub struct Component {
    runtime: Runtime,
    transform: PluginTransform,
}

impl Component {
    /// Loads it as `sluicegate transform` does.
    ///
    /// # Errors
    ///
    /// When the sandbox or the component cannot be set up; in the host's words.
    pub fn load() -> Result<Self, String> {
        let words = |error: sluicegate::error::Error| error.to_string();
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let sandbox = Sandbox::new().map_err(words)?;
        let grants = Grants {
            http: true,
            wasi: false,
        };
        let plugin = Plugin::load(&sandbox, "o365", plugin::O365, grants);
        let plugin = runtime.block_on(plugin).map_err(words)?;
        let limits = Limits {
            memory_bytes: 256 << 20,
            ..Limits::default()
        };
        let clock = Arc::new(SystemClock);
        let transform = PluginTransform::new(plugin, "{}".into(), limits, clock).map_err(words)?;
        Ok(Self { runtime, transform })
    }

    /// One call.
    ///
    /// # Panics
    ///
    /// When the component fails or refuses a record: the records are known to be good.
    #[must_use]
    pub fn map(&self, records: &[Event]) -> Vec<Event> {
        let applied = self
            .runtime
            .block_on(self.transform.apply(&"bench".into(), records));
        let transformed = applied.expect("the component maps these records");
        let kept = |outcome| matches!(outcome, &Outcome::Made(1));
        assert!(
            transformed.outcomes.iter().all(kept),
            "each record becomes one event"
        );
        transformed.events
    }
}
