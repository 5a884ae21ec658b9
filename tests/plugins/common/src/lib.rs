//! What the fault guests share: the bindings, and a source that behaves until a guest says otherwise.
//!
//! A guest implements [`Plugin`] and overrides what it does wrong. `mode` in its config picks one of several
//! faults, so that a fault costs a few lines and not a crate.

#[allow(
    missing_docs,
    reason = "generated from wit/, which holds the documentation"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "sluicegate:plugin/source-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "sluicegate_fault::bindings",
    });
}

pub use bindings::exports::sluicegate::plugin::source::{Discovery, Gap, Next, Split, Stream};
pub use bindings::sluicegate::plugin::types::{
    Batch, Descriptor, Diagnostic, Entry, Failure, Limits, Retry, Scope,
};
pub use bindings::sluicegate::plugin::{log, output, state};

use bindings::exports::sluicegate::plugin::source::Guest;

/// A source with one stream, one split and one event; each guest overrides its fault.
pub trait Plugin {
    /// What it calls itself.
    const NAME: &'static str;

    /// See `source.describe`.
    fn describe() -> Descriptor {
        Descriptor {
            name: Self::NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: "{}".into(),
        }
    }

    /// See `source.check-config`.
    fn check_config(_config: &str) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// See `source.streams`.
    fn streams(_config: &str) -> Result<Vec<Stream>, Failure> {
        Ok(vec![stream("feed")])
    }

    /// See `source.discover`.
    fn discover(_config: &str, _limits: Limits) -> Result<Discovery, Failure> {
        Ok(found(vec![split("one")]))
    }

    /// See `source.read`.
    fn read(_config: &str, _split: Split, _limits: Limits) -> Result<(), Failure> {
        emit(&events(&["one"])).map_err(|why| Failure::Internal(why))
    }
}

impl<T: Plugin> Guest for T {
    fn describe() -> Descriptor {
        <T as Plugin>::describe()
    }

    fn check_config(config: String) -> Vec<Diagnostic> {
        <T as Plugin>::check_config(&config)
    }

    fn streams(config: String) -> Result<Vec<Stream>, Failure> {
        <T as Plugin>::streams(&config)
    }

    fn discover(config: String, _stream: String, limits: Limits) -> Result<Discovery, Failure> {
        <T as Plugin>::discover(&config, limits)
    }

    fn read(config: String, _stream: String, split: Split, limits: Limits) -> Result<(), Failure> {
        <T as Plugin>::read(&config, split, limits)
    }
}

/// Text under a key of the config, which the host writes as compact JSON.
pub fn text<'a>(config: &'a str, key: &str) -> &'a str {
    let start = format!("\"{key}\":\"");
    let Some(at) = config.find(&start) else {
        return "";
    };
    let rest = &config[at + start.len()..];
    &rest[..rest.find('"').unwrap_or(rest.len())]
}

/// Which of its faults the guest is to commit.
pub fn mode(config: &str) -> &str {
    text(config, "mode")
}

/// A stream with a quota of its own.
pub fn stream(name: &str) -> Stream {
    Stream {
        name: name.into(),
        quota_key: name.into(),
    }
}

/// A split that never expires.
pub fn split(id: &str) -> Split {
    Split {
        id: id.into(),
        payload: Vec::new(),
        created: 0,
        expires: None,
        weight: 1,
    }
}

/// All that there is, and nothing more for a long time.
pub fn found(splits: Vec<Split>) -> Discovery {
    Discovery {
        splits,
        next: Next::At(i64::MAX),
        watermark: None,
        gaps: Vec::new(),
    }
}

/// A well-formed batch with one small event for each id.
pub fn events(ids: &[&str]) -> Batch {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    for id in ids {
        let body = format!("{{\"event\":{{\"id\":\"{id}\"}}}}");
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        entries.push(entry(id.len(), body.len()));
    }
    Batch { bytes, entries }
}

/// An entry of these lengths.
pub fn entry(id: usize, body: usize) -> Entry {
    Entry {
        id_length: id as u32,
        body_length: body as u32,
        fingerprint: 1,
        time: 0,
    }
}

/// Hands a batch over; the host's words when it refuses.
pub fn emit(batch: &Batch) -> Result<(), String> {
    output::emit(batch).map_err(|refusal| format!("{refusal:?}"))
}
