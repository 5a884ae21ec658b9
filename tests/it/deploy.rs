//! What `pipelines/deploy` ships fits together: its files can be read, its pipelines are valid, and what one file says
//! of another (ports, paths, secrets, commands, times) is so.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::{folder, root, sluicegate};

/// A systemd unit's worst score that we live with, times ten; see `pipelines/deploy/README.md`.
const MOST_EXPOSED: u32 = 11;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(root().join("pipelines/deploy").join(name)).unwrap()
}

/// The objects of the Kubernetes manifests, by their kind.
struct Manifests(Vec<Value>);

impl Manifests {
    fn read() -> Self {
        Self(serde_saphyr::from_multiple(&shipped("kubernetes.yaml")).unwrap())
    }

    #[track_caller]
    fn of(&self, kind: &str) -> &Value {
        let found: Vec<_> = self.0.iter().filter(|one| one["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        found[0]
    }

    fn pod(&self) -> &Value {
        &self.of("StatefulSet")["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The values of a key in a unit, in order.
fn of_unit<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let lines = unit.lines();
    let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.collect()
}

/// Every `file:` that a pipeline refers to.
fn files(pipeline: &str) -> BTreeSet<String> {
    let parts = pipeline.split("{ file: ").skip(1);
    parts
        .filter_map(|part| Some(part.split_once(" }")?.0.to_owned()))
        .collect()
}

/// The pipeline passes `validate --no-environment`, and says when a stop gives up.
#[track_caller]
fn checked(pipeline: &str) -> Value {
    let folder = folder();
    std::fs::write(folder.path().join("shipped.yaml"), pipeline).unwrap();
    let check = sluicegate(&folder).args("validate --no-environment --deny-warnings shipped.yaml");
    let _ = check.run().expect(0);
    serde_saphyr::from_str(pipeline).unwrap()
}

#[track_caller]
fn seconds(time: &str) -> u64 {
    time.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .expect("seconds")
}

/// What runs must be a command of the program, with the pipeline's file.
#[track_caller]
fn runs(arguments: &[&str], pipeline: &str) {
    assert_eq!(arguments[..2], ["run", pipeline]);
    let folder = folder();
    let ended = sluicegate(&folder).args("run --help").run().expect(0);
    let options = arguments[2..]
        .iter()
        .filter(|argument| argument.starts_with("--"));
    for option in options {
        assert!(ended.text().contains(option), "{option}");
    }
}

#[test]
fn the_unit_hands_over_the_secrets_that_its_pipeline_asks_for() {
    let (unit, text) = (shipped("sluicegate.service"), shipped("pipeline.yaml"));
    let pipeline = checked(&text);
    let start: Vec<&str> = of_unit(&unit, "ExecStart")[0].split(' ').collect();
    assert_eq!(start[0], "/usr/bin/sluicegate");
    runs(&start[1..], "/etc/sluicegate/pipeline.yaml");
    let handed = of_unit(&unit, "LoadCredential").into_iter();
    let handed = handed.map(|pair| pair.split_once(':').unwrap().0);
    let handed = handed.map(|name| format!("/run/credentials/sluicegate.service/{name}"));
    assert_eq!(handed.collect::<BTreeSet<_>>(), files(&text));
    let drain = seconds(pipeline["drain_timeout"].as_str().unwrap());
    assert!(seconds(of_unit(&unit, "TimeoutStopSec")[0]) > 2 * drain);
    assert_eq!(of_unit(&unit, "StateDirectory"), ["sluicegate"]);
    assert!(
        pipeline.get("state").is_none(),
        "systemd says where the state is"
    );
}

#[test]
fn the_unit_is_as_closed_as_the_page_says() {
    let unit = root().join("pipelines/deploy/sluicegate.service");
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze")
            .args(arguments)
            .arg(&unit)
            .env("LC_ALL", "C")
            .output()
    };
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let Ok(score) = analyze(&["security", "--offline=true", "--no-pager", &threshold]) else {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    };
    let told = String::from_utf8_lossy(&score.stdout);
    let complaint = String::from_utf8_lossy(&score.stderr);
    if complaint.contains("unrecognized option") {
        eprintln!("skipped: this systemd-analyze cannot look at a file offline");
        return;
    }
    assert!(
        score.status.success(),
        "{complaint}\n{}",
        told.lines().last().unwrap_or_default()
    );
    let page = shipped("README.md");
    let said = format!("**{}.{} OK**", MOST_EXPOSED / 10, MOST_EXPOSED % 10);
    assert!(page.contains(&said), "the page says another score");
    let verified = analyze(&["verify", "--man=no"]).unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    // The program is installed by the package, not here.
    let unknown = complaints
        .lines()
        .filter(|line| !line.contains("is not executable"));
    let ours: Vec<_> = unknown.filter(|line| line.contains("sluicegate")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn the_pod_runs_a_valid_pipeline_with_its_secrets_state_and_ports() {
    let manifests = Manifests::read();
    let config = text(&manifests.of("ConfigMap")["data"]["pipeline.yaml"]);
    let pipeline = checked(config);
    let container = manifests.container();
    let arguments: Vec<&str> = list(&container["args"]).iter().map(text).collect();
    runs(&arguments, "/etc/sluicegate/pipeline.yaml");
    let mounts: Vec<_> = list(&container["volumeMounts"]).iter().collect();
    let mounted = |path: &str| mounts.iter().any(|one| one["mountPath"] == path);
    assert!(mounted("/etc/sluicegate/pipeline.yaml") && mounted("/var/lib/sluicegate"));
    assert!(text(&pipeline["state"]["path"]).starts_with("/var/lib/sluicegate/"));
    let secrets = manifests.of("Secret")["stringData"].as_object().unwrap();
    let held: BTreeSet<_> = secrets
        .keys()
        .map(|key| format!("/etc/sluicegate/secrets/{key}"))
        .collect();
    assert_eq!(held, files(config));
    assert!(mounted("/etc/sluicegate/secrets"));
    // Every mount has a volume or a claim.
    let claims = list(&manifests.of("StatefulSet")["spec"]["volumeClaimTemplates"]).iter();
    let claims = claims.map(|claim| &claim["metadata"]["name"]);
    let volumes = list(&manifests.pod()["volumes"])
        .iter()
        .map(|volume| &volume["name"]);
    let volumes: Vec<_> = volumes.chain(claims).collect();
    assert!(
        mounts.iter().all(|mount| volumes.contains(&&mount["name"])),
        "{volumes:?}"
    );
    let drain = seconds(text(&pipeline["drain_timeout"]));
    assert!(
        manifests.pod()["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap()
            > 2 * drain
    );
    assert_eq!(
        manifests.of("StatefulSet")["spec"]["replicas"],
        1,
        "a ledger belongs to one process"
    );
}

#[test]
fn probes_service_and_policy_name_the_port_of_the_api() {
    let manifests = Manifests::read();
    let config = text(&manifests.of("ConfigMap")["data"]["pipeline.yaml"]);
    let pipeline: Value = serde_saphyr::from_str(config).unwrap();
    let (address, port) = text(&pipeline["api"]["address"]).rsplit_once(':').unwrap();
    assert_eq!(address, "0.0.0.0", "probes come from outside the pod");
    let port: u64 = port.parse().unwrap();
    let container = manifests.container();
    let named = &container["ports"][0];
    assert_eq!(
        (&named["name"], &named["containerPort"]),
        (&"api".into(), &port.into())
    );
    let probes = [
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ];
    for (probe, path) in probes {
        let get = &container[probe]["httpGet"];
        assert_eq!(
            (&get["path"], &get["port"]),
            (&path.into(), &"api".into()),
            "{probe}"
        );
    }
    assert_eq!(
        manifests.of("Service")["spec"]["ports"][0]["targetPort"],
        "api"
    );
    let allowed = &manifests.of("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"];
    assert_eq!(allowed, &Value::from(port));
    let dockerfile = shipped("Dockerfile");
    assert!(
        dockerfile
            .lines()
            .any(|line| line == format!("EXPOSE {port}"))
    );
    let page = shipped("pipeline.yaml");
    assert!(
        page.contains(&format!("http://127.0.0.1:{port}:")),
        "the default port"
    );
}

#[test]
fn nothing_runs_as_root() {
    let manifests = Manifests::read();
    let pod = &manifests.pod()["securityContext"];
    assert_eq!(
        (&pod["runAsNonRoot"], &pod["runAsUser"]),
        (&true.into(), &65_532.into())
    );
    let own = &manifests.container()["securityContext"];
    assert_eq!(
        (
            &own["readOnlyRootFilesystem"],
            &own["allowPrivilegeEscalation"]
        ),
        (&true.into(), &false.into())
    );
    assert_eq!(own["capabilities"]["drop"][0], "ALL");
    let dockerfile = shipped("Dockerfile");
    let last = dockerfile
        .lines()
        .rfind(|line| line.starts_with("FROM "))
        .unwrap();
    assert!(
        last.contains("distroless") && last.ends_with(":nonroot"),
        "{last}"
    );
    assert!(dockerfile.lines().any(|line| line == "USER 65532:65532"));
    let command = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("CMD "))
        .unwrap();
    let command: Vec<&str> = serde_json::from_str(command).unwrap();
    runs(&command, "/etc/sluicegate/pipeline.yaml");
    let unit = shipped("sluicegate.service");
    assert_eq!(of_unit(&unit, "DynamicUser"), ["yes"]);
}

/// Image and package have the sinks that are heavy to build.
#[test]
fn what_is_shipped_has_every_feature() {
    let manifest = std::fs::read_to_string(root().join("host/Cargo.toml")).unwrap();
    let features = manifest.split("[features]").nth(1).unwrap();
    let features = features.split("\n[").next().unwrap().lines();
    let features: Vec<&str> = features
        .filter_map(|line| Some(line.split_once(" = [")?.0))
        .filter(|name| *name != "mutants")
        .collect();
    assert!(features.contains(&"kafka"), "{features:?}");
    for file in ["Dockerfile", "README.md"] {
        let page = shipped(file);
        let build = page.lines().find(|line| line.contains("cargo build"));
        let build = build.unwrap_or_default();
        for feature in &features {
            assert!(build.contains(feature), "{file}: {build}: {feature}");
        }
    }
}

/// What the Debian package takes along is there, or made by the commands that the page names.
#[test]
fn the_package_has_what_it_lists() {
    let host = root().join("host");
    let manifest = std::fs::read_to_string(host.join("Cargo.toml")).unwrap();
    let section = manifest
        .split("[package.metadata.deb]")
        .nth(1)
        .expect("there is metadata");
    let page = shipped("README.md");
    let mut assets = 0;
    for line in section
        .lines()
        .filter(|line| line.trim_start().starts_with("[\""))
    {
        let source = line.split('"').nth(1).unwrap();
        assets += 1;
        if let Some(made) = source.strip_prefix("../target/package/") {
            let folder = made.split('/').next().unwrap();
            assert!(
                page.contains(&format!("target/package/{folder}")),
                "{source} is made by nobody"
            );
        } else if source != "target/release/sluicegate" {
            let path = host.join(source.trim_end_matches("*.yaml"));
            assert!(path.exists(), "{source} is not there");
        }
    }
    assert!(assets >= 6, "{assets}");
    for words in [
        "/usr/bin/",
        "/etc/sluicegate/pipeline.yaml",
        "unit-scripts = \"../pipelines/deploy\"",
    ] {
        assert!(section.contains(words.trim_start_matches('/')), "{words}");
    }
}
