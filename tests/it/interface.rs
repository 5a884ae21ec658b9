//! The plugin interface: what the WIT files allow is what the built component has, and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;
use wit_parser::{Resolve, WorldItem, WorldKey};

use crate::{folder, guest, root, sluicegate};

/// All that a source may import. Whatever is added here is a permission: it needs a reason in `wit/world.wit`.
const PROMISED: [&str; 11] = [
    "sluicegate:plugin/log@0.1.0",
    "sluicegate:plugin/output@0.1.0",
    "sluicegate:plugin/state@0.1.0",
    "sluicegate:plugin/types@0.1.0",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:http/outgoing-handler@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
];

const EXPORTED: [&str; 2] = [
    "sluicegate:plugin/source@0.1.0",
    "sluicegate:plugin/transform@0.1.0",
];

/// The names that a world imports or exports.
fn world(name: &str, exports: bool) -> BTreeSet<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(root().join("wit"))
        .expect("wit/ is well-formed");
    let world = resolve
        .select_world(&[package], Some(name))
        .expect("the world is there");
    let world = &resolve.worlds[world];
    let items = if exports {
        &world.exports
    } else {
        &world.imports
    };
    let name = |(key, item): (&WorldKey, &WorldItem)| match item {
        WorldItem::Interface { .. } => resolve.name_world_key(key),
        other => panic!("{key:?} is no interface: {other:?}"),
    };
    items.iter().map(name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn inspect(plugin: &str) -> Value {
    let folder = folder();
    let ended = sluicegate(&folder)
        .args("inspect --json")
        .arg(plugin)
        .run()
        .expect(0);
    serde_json::from_slice(&ended.stdout).expect("`--json` prints one JSON value")
}

fn names(report: &Value, member: &str) -> BTreeSet<String> {
    let list = report[member].as_array().expect("a list of names");
    list.iter()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn the_worlds_allow_what_is_promised() {
    // The clocks' instants are durations of `wasi:clocks`; no world takes more of WASI than this.
    assert_eq!(world("source-plugin", false), set(&PROMISED));
    assert_eq!(world("source-plugin", true), set(&EXPORTED[..1]));
    let pure = [
        "sluicegate:plugin/log@0.1.0",
        "sluicegate:plugin/types@0.1.0",
    ];
    assert_eq!(world("transform-plugin", false), set(&pure));
    assert_eq!(world("transform-plugin", true), set(&EXPORTED[1..]));
}

#[test]
fn the_built_in_component_imports_and_exports_exactly_that() {
    let report = inspect("o365");
    assert_eq!(names(&report, "imports"), set(&PROMISED));
    assert_eq!(names(&report, "exports"), set(&EXPORTED));
    assert_eq!(report["name"], "o365");
    assert!(
        report["version"].is_string() && report["config_schema"].is_object(),
        "{report}"
    );
    assert_eq!(report["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn inspect_for_people_lists_the_same() {
    let folder = folder();
    let ended = sluicegate(&folder).args("inspect o365").run().expect(0);
    for name in PROMISED.iter().chain(&EXPORTED) {
        assert!(ended.text().contains(name), "{name}: {}", ended.text());
    }
    for word in ["wasi:cli", "wasi:filesystem", "wasi:sockets", "wasi:random"] {
        assert!(!ended.text().contains(word), "{word}: {}", ended.text());
    }
}

#[test]
fn a_plugin_that_imports_less_is_a_plugin_as_well() {
    let report = inspect(&guest("calm").to_string_lossy());
    assert!(
        names(&report, "imports").is_subset(&set(&PROMISED)),
        "{report}"
    );
    assert_eq!(names(&report, "exports"), set(&EXPORTED[..1]));
    assert_eq!(report["name"], "calm");
}
