//! `sluicegate test`: the tests of the shipped pipelines pass, and what is said of tests that fail.

use std::path::Path;

use sluicegate_tests::Ended;

use crate::{folder, root, sluicegate};

/// Runs the tests of a file or folder; nothing but the file is there: no secret, no network.
fn run(path: &Path) -> Ended {
    sluicegate(&folder()).args("test").arg(path).run()
}

fn fixture(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures/test").join(name)
}

#[test]
fn every_shipped_pipeline_has_tests_and_they_pass() {
    let ended = run(&root().join("pipelines")).expect(0);
    let said = ended.text();
    let summary = said.lines().last().unwrap_or_default();
    assert!(summary.ends_with(" passed, 0 failed"), "{said}");
    let mut untested: Vec<&str> = said
        .lines()
        .filter(|line| line.ends_with(": no tests"))
        .collect();
    // What Fluent Bit reads is no pipeline of ours.
    untested.retain(|line| !line.ends_with("/fluent-bit.yaml: no tests"));
    assert_eq!(untested, [""; 0]);
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let pipeline = path.extension().is_some_and(|end| end == "yaml");
        assert!(
            !pipeline || said.contains(&*name),
            "{name} is not in {said}"
        );
    }
}

#[test]
fn a_test_that_fails_says_what_is_different() {
    let path = fixture("failing.yaml");
    let ended = run(&path).expect(1);
    let said = ended
        .text()
        .replace(&path.display().to_string(), "failing.yaml");
    let golden = fixture("failing.out");
    if std::env::var_os("SLUICEGATE_GOLDEN").is_some() {
        std::fs::write(&golden, &said).unwrap();
    }
    assert_eq!(said, std::fs::read_to_string(golden).unwrap_or_default());
}

#[test]
fn a_salt_that_is_not_there_and_databases_that_are_not_there_are_no_hindrance() {
    let folder = folder();
    let path = folder.path().join("salted.yaml");
    let pipeline = "\
source: { plugin: o365, config: { content_types: [Audit.General] }, tenants: [{ id: contoso }] }
stages:
  - geoip: { city: nowhere.mmdb }
  - redact: { fields: [user.name], with: hash, salt: { file: nowhere } }
sinks:
  - elasticsearch: { endpoints: ['https://nowhere.example'], auth: { strategy: api_key, api_key: { env: NOWHERE } } }
tests:
  - name: hidden
    inputs: [{ event: { user: { name: alex } } }]
    outputs: [{ conditions: ['length(string!(.user.name)) == 32'], sinks: [elasticsearch] }]
";
    std::fs::write(&path, pipeline).unwrap();
    let ended = run(&path).expect(0);
    assert!(
        ended.text().ends_with("1 passed, 0 failed\n"),
        "{}",
        ended.text()
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is written: {left:?}");
}

#[test]
fn wrong_tests_and_files_without_tests_are_refused() {
    let ended = run(&root().join("tests/fixtures/config/pipeline_tests.yaml")).expect(78);
    ended.says(&["test name `twice` is used twice", "pipeline_tests.yaml:"]);
    assert!(ended.text().is_empty());

    let folder = folder();
    let path = folder.path().join("empty.yaml");
    let pipeline = "source: { plugin: o365, tenants: [{ id: a }] }\nsinks: [{ stdout: {} }]\n";
    std::fs::write(&path, pipeline).unwrap();
    for path in [&path, folder.path()] {
        let ended = run(path).expect(78);
        ended.says(&["there is no test", "help: "]);
        assert!(
            ended.text().ends_with("empty.yaml: no tests\n"),
            "{}",
            ended.text()
        );
    }
    run(Path::new("nowhere.yaml"))
        .expect(78)
        .says(&["nowhere.yaml"]);
    std::fs::write(folder.path().join("broken.yaml"), "tests: [").unwrap();
    run(folder.path()).expect(78).says(&["broken.yaml:1"]);
}

#[test]
fn a_record_needs_a_plugin_that_maps() {
    let folder = folder();
    let path = folder.path().join("calm.yaml");
    let plugin = crate::guest("calm");
    let pipeline = |input: &str| {
        format!(
            "source: {{ plugin: {}, tenants: [{{ id: a }}] }}\nsinks: [{{ stdout: {{}} }}]\ntests:\n  \
             - name: one\n    inputs: [{{ {input}: {{ a: 1 }} }}]\n    outputs: [{{ event: {{ a: 1 }} }}]\n",
            plugin.display()
        )
    };
    std::fs::write(&path, pipeline("record")).unwrap();
    run(&path)
        .expect(78)
        .says(&["exports no `transform`", "calm.yaml:1"]);
    std::fs::write(&path, pipeline("event")).unwrap();
    let _ = run(&path).expect(0);
}
