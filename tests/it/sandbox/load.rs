//! What is refused before it runs: imports that are not granted, components that are none, calls that never end.

use sluicegate_tests::{Ended, Pipeline};

use crate::{folder, guest, sluicegate};

/// Validates a pipeline with this source plugin.
fn validate(plugin: &std::path::Path, config: &str, grants: &str) -> Ended {
    let folder = folder();
    let pipeline = Pipeline::plugin("suspect", &plugin.to_string_lossy());
    pipeline
        .config(config)
        .grants(grants)
        .give(sluicegate(&folder).args("validate"))
        .run()
}

/// Validates a pipeline with this component's bytes.
pub fn validate_bytes(bytes: &[u8]) -> Ended {
    let folder = folder();
    let path = folder.path().join("suspect.wasm");
    std::fs::write(&path, bytes).unwrap();
    validate(&path, "", "")
}

#[test]
pub fn ask_too_much() {
    let guest = guest("ask_too_much");
    let staged = |grants: &str| {
        let folder = folder();
        let stage = format!(
            "wasm: {{ plugin: {}, grants: {{ {grants} }} }}",
            guest.display()
        );
        let pipeline = Pipeline::plugin("greedy", &crate::guest("calm").to_string_lossy());
        pipeline
            .stage(&stage)
            .give(sluicegate(&folder).args("run --once"))
            .run()
            .expect(78)
    };
    // What the host does not know is never granted; what it knows, only when asked for.
    let both = [
        "plugin `ask_too_much` imports `acme:greedy/disk`",
        "imports `wasi:cli/environment@0.2.12`",
    ];
    let ended = staged("");
    assert!(
        both.iter().any(|words| ended.stderr.contains(words)),
        "{}",
        ended.stderr
    );
    ended.says(&["does not grant", "greedy.yaml:", "help: "]);
    staged("wasi: true").says(&[both[0], "this host has no such interface"]);
    // Looking at it needs no grant, and shows what it would ask for.
    let folder = folder();
    let ended = sluicegate(&folder)
        .args("inspect")
        .arg(&guest)
        .run()
        .expect(0);
    for word in [
        "acme:greedy/disk",
        "wasi:cli/environment@0.2.12",
        "not a plugin of this host",
    ] {
        assert!(ended.text().contains(word), "{word}: {}", ended.text());
    }
}

#[test]
pub fn spin_early() {
    let ended = validate(&guest("spin_early"), "", "").expect(78);
    ended.says(&[
        "plugin `spin_early` was stopped in `check-config`",
        "computed for 5 s",
    ]);
    let folder = folder();
    let ended = sluicegate(&folder)
        .args("inspect")
        .arg(guest("spin_early"))
        .run()
        .expect(0);
    assert!(
        ended.text().contains("was stopped in `describe`"),
        "{}",
        ended.text()
    );
}

#[test]
fn a_check_that_sleeps_is_ended() {
    let ended = validate(&guest("nap"), "mode: early", "").expect(78);
    ended.says(&[
        "plugin `nap` was stopped in `check-config`",
        "it took longer than",
    ]);
}

#[test]
fn what_is_no_component_is_refused() {
    let whole = std::fs::read(guest("calm")).unwrap();
    let core = b"\0asm\x01\0\0\0".to_vec();
    let wrong = [
        ("nothing", Vec::new()),
        ("text", b"source: {}\n".to_vec()),
        ("a module of the old kind", core),
        ("half of one", whole[..whole.len() / 2].to_vec()),
        (
            "one with a tail",
            [whole.as_slice(), b"tail".as_slice()].concat(),
        ),
        (
            "one that claims to be huge",
            [&whole[..8], b"\x01\xff\xff\xff\xff\x0f".as_slice()].concat(),
        ),
    ];
    for (what, bytes) in wrong {
        let ended = validate_bytes(&bytes);
        assert_eq!(ended.code, Some(78), "{what}: {}", ended.stderr);
        ended.says(&[
            "plugin `suspect` is not a component that can be loaded",
            "help: ",
        ]);
    }
}

#[test]
fn a_component_over_the_size_is_not_read() {
    let folder = folder();
    let path = folder.path().join("suspect.wasm");
    // A hole on the disk, and 32 MiB and a byte to whoever reads it.
    std::fs::File::create(&path)
        .unwrap()
        .set_len((32 << 20) + 1)
        .unwrap();
    let ended = validate(&path, "", "").expect(78);
    ended.says(&["has 33554433 bytes", "at most 33554432 bytes"]);
}

#[test]
fn no_flipped_bit_brings_the_host_down() {
    let whole = std::fs::read(guest("calm")).unwrap();
    let mut random = fastrand::Rng::with_seed(61);
    for _ in 0..15 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        let ended = validate_bytes(&bytes);
        // Some bits mean nothing; what is refused is refused with a sentence.
        let fine = ended.code == Some(0)
            || ended.code == Some(78) && ended.stderr.contains("plugin `suspect`");
        assert!(fine, "bit at byte {at}: {:?} {}", ended.code, ended.stderr);
    }
}

/// A component with one name replaced by another of the same length.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let whole = std::fs::read(guest("flood")).unwrap();
    let (mut bytes, mut at, mut found) = (Vec::new(), 0, 0);
    while at < whole.len() {
        if whole[at..].starts_with(from.as_bytes()) {
            bytes.extend_from_slice(to.as_bytes());
            at += from.len();
            found += 1;
        } else {
            bytes.push(whole[at]);
            at += 1;
        }
    }
    assert!(found > 0, "`{from}` is not in the component");
    bytes
}

#[test]
fn another_version_of_the_interface_is_named() {
    let ended = validate_bytes(&renamed("plugin/state@0.1.0", "plugin/state@7.1.0")).expect(78);
    ended.says(&[
        "plugin `suspect` imports `sluicegate:plugin/state@7.1.0`",
        "no such interface",
    ]);
    let folder = folder();
    let path = folder.path().join("suspect.wasm");
    std::fs::write(&path, renamed("plugin/source@0.1.0", "plugin/source@0.9.0")).unwrap();
    let grants = "http: [\"http://127.0.0.1:9\"]";
    let ended = validate(&path, "", grants).expect(78);
    ended.says(&[
        "exports neither `source` nor `transform`",
        "sluicegate:plugin@0.1",
    ]);
}
