//! What a plugin may touch: what it asks for, what is granted, what gets linked.
//!
//! The import list of a component is its permission list. An import is linked when the plugin asks for it and the
//! pipeline grants it; any other import makes loading fail, by name. Every interface of our world is small and
//! has its own file below.

pub mod clock;
pub mod http;
pub mod log;
pub mod output;
pub mod state;

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};

use crate::error::Error;
use crate::sandbox::Call;

/// Bindings to the source world.
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated from wit/, which holds the documentation"
)]
pub mod source_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "source-plugin",
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        },
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// Bindings to the transform world.
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated from wit/, which holds the documentation"
)]
pub mod transform_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "transform-plugin",
        with: {
            "sluicegate:plugin/types": super::source_world::sluicegate::plugin::types,
            "sluicegate:plugin/log": super::source_world::sluicegate::plugin::log,
        },
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// What a pipeline lets a plugin import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `wasi:http`: there is at least one origin that the plugin may talk to.
    pub http: bool,
    /// The rest of `wasi:*` against an inert context: no files, no environment, no arguments, no sockets.
    /// For components built for wasip2, whose standard library imports it.
    pub wasi: bool,
}

/// Interfaces by what grants them. The first match decides.
const INTERFACES: [(&str, Granted); 10] = [
    ("sluicegate:plugin/types@0.1.", Granted::Always),
    ("sluicegate:plugin/state@0.1.", Granted::Always),
    ("sluicegate:plugin/output@0.1.", Granted::Always),
    ("sluicegate:plugin/log@0.1.", Granted::Always),
    ("wasi:io/error@0.2.", Granted::Always),
    ("wasi:io/poll@0.2.", Granted::Always),
    ("wasi:io/streams@0.2.", Granted::Always),
    ("wasi:clocks/", Granted::Always),
    ("wasi:http/types@0.2.", Granted::Http),
    ("wasi:http/outgoing-handler@0.2.", Granted::Http),
];

/// Prefixes of what the `wasi` grant adds.
const INERT: [&str; 4] = [
    "wasi:cli/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:random/",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Granted {
    Always,
    Http,
}

/// The interfaces that a component imports, sorted.
pub fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    names(
        component
            .component_type()
            .imports(engine)
            .map(|(name, item)| (name, item.ty)),
    )
}

/// The interfaces that a component exports, sorted.
pub fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    names(
        component
            .component_type()
            .exports(engine)
            .map(|(name, item)| (name, item.ty)),
    )
}

fn names<'a>(items: impl Iterator<Item = (&'a str, ComponentItem)>) -> Vec<String> {
    let mut names: Vec<_> = items.map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names
}

/// Checks a component's imports against the grants; the error names the first that is not covered.
pub fn check(plugin: &str, imports: &[String], grants: Grants) -> Result<(), Error> {
    for import in imports {
        let known = INTERFACES
            .iter()
            .find(|(prefix, _)| import.starts_with(prefix));
        let inert = INERT.iter().any(|prefix| import.starts_with(prefix));
        let help = match known {
            Some((_, Granted::Always)) => continue,
            Some((_, Granted::Http)) if grants.http => continue,
            Some((_, Granted::Http)) => {
                "name the origins it may talk to in `source.grants.http`".to_owned()
            }
            None if inert && grants.wasi => continue,
            None if inert => {
                "it was built for a target whose standard library imports this; build \
                it for wasm32-unknown-unknown, or set `source.grants.wasi: true` to give it an \
                inert one (no files, no environment, no network)"
                    .to_owned()
            }
            None => "this host has no such interface; `sluicegate inspect` lists what the plugin \
                asks for"
                .to_owned(),
        };
        return Err(Error::config(format!(
            "plugin `{plugin}` imports `{import}`, which this pipeline does not grant"
        ))
        .help(help));
    }
    Ok(())
}

/// Projects a call to its resource table.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(call: &mut Call) -> &mut ResourceTable {
    call.ctx().table
}

/// Links what is granted, and nothing else.
pub fn link(engine: &Engine, grants: Grants) -> wasmtime::Result<Linker<Call>> {
    use source_world::sluicegate::plugin;
    let mut linker = Linker::<Call>::new(engine);
    if grants.wasi {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    } else {
        use wasmtime_wasi::p2::bindings::{clocks, io};
        io::error::add_to_linker::<Call, HasTable>(&mut linker, table)?;
        io::poll::add_to_linker::<Call, HasTable>(&mut linker, table)?;
        io::streams::add_to_linker::<Call, HasTable>(&mut linker, table)?;
        clocks::wall_clock::add_to_linker::<Call, WasiClocks>(&mut linker, Call::clocks)?;
        clocks::monotonic_clock::add_to_linker::<Call, WasiClocks>(&mut linker, Call::clocks)?;
    }
    if grants.http {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    }
    plugin::types::add_to_linker::<Call, HasSelf<Call>>(&mut linker, |call| call)?;
    plugin::state::add_to_linker::<Call, HasSelf<Call>>(&mut linker, |call| call)?;
    plugin::output::add_to_linker::<Call, HasSelf<Call>>(&mut linker, |call| call)?;
    plugin::log::add_to_linker::<Call, HasSelf<Call>>(&mut linker, |call| call)?;
    Ok(linker)
}

impl source_world::sluicegate::plugin::types::Host for Call {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(import: &str, grants: Grants) -> String {
        check("x", &[import.to_owned()], grants)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn only_what_is_granted_passes() {
        let http = Grants {
            http: true,
            wasi: false,
        };
        let wasi = Grants {
            http: false,
            wasi: true,
        };
        check(
            "x",
            &["sluicegate:plugin/state@0.1.0".into()],
            Grants::default(),
        )
        .unwrap();
        check("x", &["wasi:http/outgoing-handler@0.2.12".into()], http).unwrap();
        check("x", &["wasi:cli/environment@0.2.6".into()], wasi).unwrap();
        assert!(refused("wasi:http/types@0.2.12", Grants::default()).contains("grants.http"));
        assert!(refused("wasi:cli/environment@0.2.6", http).contains("grants.wasi"));
        assert!(refused("wasi:http/incoming-handler@0.2.12", http).contains("no such interface"));
        assert!(refused("acme:disk/format@1.0.0", wasi).contains("no such interface"));
        assert!(refused("sluicegate:plugin/state@0.2.0", http).contains("no such interface"));
    }
}
