//! Error texts as golden files, and what a good file becomes.
//!
//! `tests/fixtures/config/<case>.yaml` gives exactly `<case>.err`; `SLUICEGATE_GOLDEN=1` writes what comes out now.

use super::*;

fn root() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden() -> bool {
    std::env::var_os("SLUICEGATE_GOLDEN").is_some()
}

fn good(text: &str) -> Config {
    Config::parse(FilePath::new("pipelines/contoso.yaml"), text, None).unwrap_or_else(|errors| {
        panic!(
            "{}",
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })
}

/// The example of the design, as written there.
const EXAMPLE: &str = "\
source:
  plugin: o365                      # built in; or ./my.wasm
  config:
    content_types: [Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General]
  tenants:
    - id: contoso
      auth:
        microsoft:                  # login and resource hosts follow from `cloud`
          cloud: commercial         # gcc | gcc-high | dod | china | custom
          directory_id: 11111111-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret: { env: CONTOSO_SECRET }
stages:
  - user_agent: {}
sinks:
  - stdout: {}
";

#[test]
fn the_example_of_the_design_reads_as_written() {
    let config = good(EXAMPLE);
    assert_eq!(config.name, "contoso");
    assert_eq!(config.source.plugin, PluginRef::BuiltIn("o365"));
    assert_eq!(config.state_dir, FilePath::new("sluicegate-state/contoso"));
    assert_eq!(
        config.dead_letter_dir,
        FilePath::new("sluicegate-state/contoso/dead-letters")
    );
    assert_eq!(config.identity_horizon, Duration::from_hours(192));
    assert!(matches!(config.stages[0].kind, StageKind::UserAgent));
    assert_eq!(config.sinks[0].name, "stdout");
    let tenant = &config.source.tenants[0];
    assert_eq!(tenant.limits, Limits::default());
    assert_eq!(
        tenant.config,
        serde_json::json!({
            "content_types": [
                "Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General",
            ],
            "tenant": {
                "id": "contoso",
                "directory_id": "11111111-2222-3333-4444-555555555555",
                "resource_url": "https://manage.office.com",
            },
        })
    );
    assert_eq!(tenant.origins[0].to_string(), "https://manage.office.com");
    let place = config.config_place(0, "/content_types/1");
    assert_eq!(
        place.to_string(),
        "pipelines/contoso.yaml:4:49, key `source.config.content_types[1]`"
    );
}

#[test]
fn every_fixture_is_refused_with_its_text() {
    let folder = root().join("tests/fixtures/config");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "only {} cases", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        // The name as an operator would type it, so that the text is the same on every machine.
        let errors = Config::parse(FilePath::new(name), &text, None)
            .err()
            .unwrap_or_default();
        let found: Vec<_> = errors
            .iter()
            .map(|error| format!("error: {error}\n"))
            .collect();
        let found = found.concat();
        assert!(
            !found.contains("hunter2"),
            "{name} repeats a secret:\n{found}"
        );
        let expected = path.with_extension("err");
        if golden() {
            std::fs::write(&expected, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted || found.is_empty() {
            wrong.push(format!("{name}:\n--- wanted\n{wanted}--- found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_shipped_pipeline_is_good() {
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let errors = Config::parse(&path, &text, None).err();
            assert!(errors.is_none(), "{errors:?}");
        }
    }
}
