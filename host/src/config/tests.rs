//! Error texts as golden files, and what a good file becomes.
//!
//! `tests/fixtures/config/<case>.yaml` gives exactly `<case>.err`; `SLUICEGATE_GOLDEN=1` writes
//! what comes out now.

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
    let place = config.config_place(&config.source.tenants[0], "/content_types/1");
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
        // One of them is Fluent Bit's.
        if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("fluent-bit.yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let errors = Config::parse(&path, &text, None).err();
            assert!(errors.is_none(), "{errors:?}");
        }
    }
}

/// Everything that the example leaves out.
const FULL: &str = "\
source:
  plugin: o365
  config: { content_types: [Audit.General], ecs: { version: '8', raw: false } }
  limits: { requests_per_minute: 1000, in_flight: 8, memory: 128MiB }
  grants: { http: ['https://API.example.com:443', 'http://127.0.0.1:8080'], wasi: true }
  tenants:
    - id: contoso
      auth:
        microsoft:
          cloud: custom
          login_url: http://127.0.0.1:8080/login/
          resource_url: http://127.0.0.1:8080
          directory_id: AAAAAAAA-2222-3333-4444-555555555555
          client_id: 66666666-7777-8888-9999-000000000000
          client_secret: { env: SLUICEGATE_TEST_THAT_IS_NEVER_SET }
      config: { ecs: { raw: true } }
      limits: { in_flight: 50, batch_bytes: 65536 }
    - id: fabrikam
      auth:
        oauth2:
          token_url: https://login.example.com/token
          client_id: client
          certificate: { file: c.pem, key: { file: /run/c.key }, algorithm: RS256 }
          scope: read
          resource_url: https://manage.example.com/base/
    - id: local
stages:
  - filter: { keep: { event.action: [a, b], event.severity: 3 } }
  - wasm: { plugin: o365, config: { x: 1 } }
sinks:
  - stdout:
  - file: { name: archive, path: out/events.ndjson }
state: { path: /var/lib/x }
dead_letter: { path: letters }
identity_horizon: 2d
drain_timeout: 0s
http: { proxy: { url: 'http://proxy.example.com:3128', username: me }, no_proxy: [.Example.org] }
";

#[test]
fn tenants_override_the_source_and_share_nothing_else() {
    let config = good(FULL);
    let [contoso, fabrikam, local] = &config.source.tenants[..] else {
        panic!("three tenants")
    };
    assert_eq!(
        (contoso.limits.in_flight, fabrikam.limits.in_flight),
        (50, 8)
    );
    assert_eq!(
        (contoso.limits.requests_per_minute, contoso.limits.memory),
        (1000, 128 << 20)
    );
    assert_eq!(
        (contoso.limits.batch_bytes, local.limits.batch_bytes),
        (65_536, 1 << 20)
    );
    assert_eq!(
        contoso.config,
        serde_json::json!({
            "content_types": ["Audit.General"],
            "ecs": { "version": "8", "raw": true },
            "tenant": {
                "id": "contoso",
                "directory_id": "aaaaaaaa-2222-3333-4444-555555555555",
                "resource_url": "http://127.0.0.1:8080",
            },
        })
    );
    assert_eq!(local.config["ecs"]["raw"], false);
    assert_eq!(local.config["tenant"], serde_json::json!({ "id": "local" }));
    let origins = |tenant: &Tenant| -> Vec<String> {
        tenant.origins.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        origins(contoso),
        ["https://api.example.com", "http://127.0.0.1:8080"]
    );
    assert_eq!(origins(fabrikam)[2], "https://manage.example.com");
    assert_eq!(
        fabrikam.config["tenant"]["resource_url"],
        "https://manage.example.com/base"
    );
    assert!(matches!(local.auth, Auth::None) && local.auth.origin().is_none());
    let Auth::OAuth2(auth) = &fabrikam.auth else {
        panic!("oauth2")
    };
    let Credential::Certificate(certificate) = &auth.credential else {
        panic!("certificate")
    };
    assert_eq!(certificate.file, FilePath::new("pipelines/c.pem"));
    assert_eq!(certificate.algorithm, auth::Algorithm::RS256);
    // What a plugin complains about is found where it was written.
    let place = |tenant, pointer| config.config_place(tenant, pointer);
    assert_eq!(place(contoso, "/ecs/raw").at.line, 16);
    assert_eq!(place(contoso, "/ecs/version").at.line, 3);
    assert_eq!(place(local, "/nowhere").tenant.as_deref(), Some("local"));
}

#[test]
fn a_missing_secret_names_tenant_key_and_line() {
    let config = good(FULL);
    let Auth::Microsoft(auth) = &config.source.tenants[0].auth else {
        panic!("microsoft")
    };
    let Credential::ClientSecret(secret) = &auth.credential else {
        panic!("secret")
    };
    assert_eq!(
        secret.resolve().unwrap_err().to_string(),
        "environment variable `SLUICEGATE_TEST_THAT_IS_NEVER_SET` is not set\n  \
         where: pipelines/contoso.yaml:15:26, tenant `contoso`, key `auth.microsoft.client_secret`\n  \
         help: set it for the process, or refer to a file with `{ file: PATH }`"
    );
}

#[test]
fn the_rest_of_a_full_file_is_read() {
    let config = good(FULL);
    let StageKind::Filter(filter) = &config.stages[0].kind else {
        panic!("filter")
    };
    let fields = vec![
        ("event.action".to_owned(), vec!["a".into(), "b".into()]),
        ("event.severity".to_owned(), vec![3.into()]),
    ];
    assert_eq!(*filter, Filter { keep: true, fields });
    assert!(matches!(&config.stages[1].kind, StageKind::Wasm(wasm) if wasm.config["x"] == 1));
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["stdout", "archive"]);
    assert_eq!(config.state_dir, FilePath::new("/var/lib/x"));
    assert_eq!(config.dead_letter_dir, FilePath::new("letters"));
    assert_eq!(config.identity_horizon, Duration::from_hours(48));
    assert_eq!(config.drain_timeout, Duration::ZERO);
    assert_eq!(config.http.no_proxy, [".example.org"]);
    assert!(config.http.proxy.is_some());
    let root = FilePath::new("/var/lib/sluicegate");
    let config = Config::parse(FilePath::new("a/b.yaml"), EXAMPLE, Some(root)).unwrap();
    assert_eq!(config.state_dir, FilePath::new("/var/lib/sluicegate/b"));
}

#[test]
fn a_file_that_cannot_be_read_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let refused = |what: &str| {
        let errors = Config::load(&path).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].what.contains(what),
            "{errors:?}"
        );
        assert_eq!(errors[0].places, [path.display().to_string()]);
    };
    refused("cannot read the pipeline file: no such file or directory");
    std::fs::write(&path, b"source: \xff").unwrap();
    refused("not UTF-8");
    std::fs::write(&path, "#".repeat(9 << 20)).unwrap();
    refused("9437184 bytes");
    std::fs::write(&path, EXAMPLE).unwrap();
    assert_eq!(Config::load(&path).unwrap().name, "a");
}

/// Damage at every place of a file: never a panic, and whatever is refused is said where.
#[test]
fn damaged_files_are_refused_in_words() {
    const DAMAGE: [&str; 7] = ["", "\n", ":", "[", "\u{0}", "- ", "&a *a "];
    let mut refused = 0;
    for (start, put) in (0..FULL.len()).zip(DAMAGE.iter().cycle()) {
        let text = format!("{}{put}{}", &FULL[..start], &FULL[start + 1..]);
        for text in [text.as_str(), &FULL[..start]]
            .into_iter()
            .take(1 + start % 2)
        {
            let Err(errors) = Config::parse(FilePath::new("a.yaml"), text, None) else {
                continue;
            };
            refused += 1;
            for error in errors {
                assert_eq!(error.kind, crate::error::Kind::Config, "{text}\n{error}");
                assert!(error.places[0].starts_with("a.yaml"), "{text}\n{error}");
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}
