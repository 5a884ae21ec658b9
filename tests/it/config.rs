//! What is wrong with a pipeline is said before anything runs: exit code 78, what, where, help. The texts of errors
//! in a file are golden files of the host; here it is the command that has to say them.

use std::path::Path;

use sluicegate_tests::{Ended, Pipeline};

use crate::{folder, guest, root, sluicegate};

const GOOD: &str = "\
source:
  plugin: o365
  config: { content_types: [Audit.General] }
  tenants:
    - id: contoso
      auth:
        microsoft:
          directory_id: 11111111-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret: { env: CONTOSO_SECRET }
sinks:
  - stdout: {}
";

/// Runs both commands that read a pipeline; they must refuse it in the same words.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let folder = folder();
    std::fs::write(folder.path().join("contoso.yaml"), text).unwrap();
    let run = |command: &str| -> Ended {
        let command = sluicegate(&folder).args(command).arg("contoso.yaml");
        command.env("CONTOSO_SECRET", "known").run().expect(78)
    };
    let ended = run("validate");
    ended.says(words);
    ended.says(&["error: ", "\n  where: "]);
    // An expected type is its own help.
    assert!(ended.stderr.contains("\n  help: ") || ended.stderr.contains("error: expected "));
    assert_eq!(ended.stderr, run("run --once").stderr);
    assert!(ended.stdout.is_empty());
    assert!(
        !folder.path().join("sluicegate-state").exists(),
        "a refused pipeline leaves no state"
    );
}

#[test]
fn a_good_pipeline_is_good() {
    let folder = folder();
    std::fs::write(folder.path().join("contoso.yaml"), GOOD).unwrap();
    let command = sluicegate(&folder)
        .args("validate contoso.yaml")
        .env("CONTOSO_SECRET", "known");
    assert_eq!(command.run().expect(0).text(), "contoso.yaml: ok\n");
}

#[test]
fn a_misspelt_key_is_named_with_what_was_meant() {
    refused(
        &GOOD.replace("tenants:", "tennants:"),
        &["`tennants`", "contoso.yaml:4", "`tenants`"],
    );
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let text = GOOD.replace("config: {", "limits: { in_flight: many }\n  config: {");
    refused(
        &text,
        &["found text", "whole number", "contoso.yaml:3", "in_flight"],
    );
}

#[test]
fn an_unknown_plugin_is_named() {
    refused(
        &GOOD.replace("plugin: o365", "plugin: o356"),
        &["`o356`", "contoso.yaml:2", "o365"],
    );
}

#[test]
fn a_config_that_the_plugin_refuses_is_named_with_its_place() {
    let text = GOOD.replace("Audit.General", "Audit.Exchnage");
    refused(
        &text,
        &["`Audit.Exchnage`", "contoso.yaml:3", "`Audit.Exchange`"],
    );
}

#[test]
fn a_missing_secret_is_named_but_not_printed() {
    refused(
        &GOOD.replace("CONTOSO_SECRET", "NOWHERE"),
        &["NOWHERE", "contoso.yaml:10"],
    );
    let text = GOOD.replace("env: CONTOSO_SECRET", "file: nowhere.secret");
    refused(&text, &["nowhere.secret", "contoso.yaml:10"]);
}

#[test]
fn a_host_that_is_not_granted_is_refused_at_load() {
    let folder = folder();
    let plugin = guest("dial_out");
    Pipeline::plugin("dialler", &plugin.to_string_lossy()).write(folder.path());
    let ended = sluicegate(&folder)
        .args("validate dialler.yaml")
        .run()
        .expect(78);
    ended.says(&[
        "plugin `dial_out`",
        "wasi:http",
        "dialler.yaml:",
        "`source.grants.http`",
    ]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = folder();
    let ended = sluicegate(&folder).args("run nowhere.yaml").run();
    assert!(matches!(ended.code, Some(69 | 78)), "{ended:?}");
    ended.says(&["nowhere.yaml"]);
}

#[test]
fn two_pipelines_that_share_their_state_are_refused() {
    let folder = folder();
    for name in ["one.yaml", "two.yaml"] {
        let text = format!("{GOOD}state: {{ path: state }}\n");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let command = sluicegate(&folder).args("validate one.yaml two.yaml");
    let ended = command.env("CONTOSO_SECRET", "known").run().expect(78);
    ended.says(&["state", "one.yaml", "two.yaml"]);
}

#[test]
fn every_shipped_pipeline_is_valid() {
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        // That one is for Fluent Bit; `fluentbit.rs` looks after it.
        let ours = path
            .file_name()
            .is_some_and(|name| name != "fluent-bit.yaml");
        if ours && path.extension().is_some_and(|end| end == "yaml") {
            shipped(&path);
        }
    }
}

/// A shipped pipeline is valid as soon as the secrets are there that it refers to. A file cannot be put at an absolute
/// path by a test: what such a pipeline may still lack is that file.
fn shipped(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let folder = folder();
    let mut command = sluicegate(&folder).arg("validate").arg(path);
    for part in text.split("env: ").skip(1) {
        let name: String = part
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        command = command.env(&name, "known");
    }
    let ended = command.run();
    if ended.code == Some(0) {
        return;
    }
    let errors: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    // Nor has every build every sink.
    let only_files = errors
        .iter()
        .all(|error| error.contains("/etc/sluicegate/") || error.contains("this build has no"));
    assert!(
        only_files && !errors.is_empty(),
        "{}: {}",
        path.display(),
        ended.stderr
    );
}

#[test]
fn a_wrong_command_line_exits_64() {
    let folder = folder();
    for wrong in [
        "",
        "rnu",
        "run",
        "run --twice x.yaml",
        "transform --config",
        "-q -v demo",
    ] {
        let ended = sluicegate(&folder).args(wrong).run();
        assert_eq!(ended.code, Some(64), "`{wrong}`: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "`{wrong}` says nothing");
    }
    for right in ["--help", "--version", "run --help"] {
        let ended = sluicegate(&folder).args(right).run().expect(0);
        assert!(!ended.stdout.is_empty(), "`{right}` prints nothing");
    }
}
