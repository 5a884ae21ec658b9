//! `doctor` finds, names and explains what keeps a tenant from being read, and changes nothing.
//!
//! Each trouble is put into the simulated tenant, or into the way to it, and has to come out under
//! its name at the step where it stands, with what to do about it.

use std::net::{Ipv4Addr, TcpListener};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sluicegate_office::{Application, Clock, ContentType, HOUR_MS, Office};
use sluicegate_tests::{Pipeline, Simulated};

use crate::identity::{Case, ending, fixture, register};
use crate::{folder, guest, sluicegate};

/// What the doctor said.
struct Said {
    code: i32,
    report: Value,
    text: String,
}

impl Said {
    fn steps(&self) -> Vec<&Value> {
        let tenants = self.report["tenants"].as_array().unwrap();
        tenants
            .iter()
            .flat_map(|one| one["steps"].as_array().unwrap())
            .collect()
    }

    fn step(&self, name: &str) -> &Value {
        let found = self.steps().into_iter().find(|step| step["step"] == name);
        found.unwrap_or_else(|| panic!("no step `{name}` in {:#}", self.report))
    }

    /// This step fails with this cause, and these words tell people what was found and what to do.
    #[track_caller]
    fn fails(&self, code: i32, step: &str, cause: &str, words: &[&str]) {
        let found = self.step(step);
        let at = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (at("status"), at("cause")),
            ("fail".into(), cause.into()),
            "{:#}",
            self.report
        );
        let said = format!("{} {}", at("found"), at("fix"));
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
            assert!(
                self.text.contains(word),
                "people do not read `{word}`:\n{}",
                self.text
            );
        }
        assert!(!at("fix").is_empty(), "nothing to do about it: {said}");
        assert_eq!(self.code, code, "{:#}", self.report);
    }
}

/// A tenant that all is well with, before something is changed.
fn office() -> Simulated {
    Simulated::start(
        Office::builder(61)
            .blobs(20)
            .events_per_blob(2)
            .subscribed(),
    )
}

/// Examines with changes to the pipeline's text.
fn examine_with(office: &Simulated, arguments: &str, change: impl Fn(String) -> String) -> Said {
    let folder = folder();
    let pipeline = Pipeline::o365("ill", office);
    let before = office.stats().start_requests;
    let run = |arguments: &str| {
        let command = pipeline.give(sluicegate(&folder).args(arguments));
        std::fs::write(folder.path().join("ill.yaml"), change(pipeline.text())).unwrap();
        command.run()
    };
    let ended = run(&format!("doctor --json {arguments}"));
    let report = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|_| panic!("{}{}", ended.text(), ended.stderr));
    let code = ended.code.unwrap();
    let human = run(&format!("doctor {arguments}"));
    assert_eq!(human.code, Some(code), "both forms end alike");
    if !arguments.contains("--start") {
        assert_eq!(
            office.stats().start_requests,
            before,
            "the doctor changed something"
        );
    }
    let state = folder.path().join("state");
    assert!(!state.exists(), "the doctor wrote state");
    Said {
        code,
        report,
        text: human.text().to_owned(),
    }
}

fn examine(office: &Simulated, arguments: &str) -> Said {
    examine_with(office, arguments, |text| text)
}

#[test]
fn a_healthy_tenant_is_found_healthy_step_by_step() {
    let office = office();
    let said = examine(&office, "");
    assert_eq!(
        (said.code, &said.report["ok"]),
        (0, &Value::Bool(true)),
        "{:#}",
        said.report
    );
    for step in said.steps() {
        let fine = step["status"] == "ok";
        assert!(fine, "{step:#}");
    }
    for name in [
        "config",
        "credential",
        "dns",
        "login host",
        "resource host",
        "clock",
        "directory",
        "token",
        "roles",
        "subscription",
        "listing",
    ] {
        said.step(name);
    }
    let kinds = |name: &str| {
        said.steps()
            .iter()
            .filter(|step| step["step"] == name)
            .count()
    };
    assert_eq!((kinds("subscription"), kinds("listing")), (5, 5));
    assert!(said.text.ends_with("all is well\n"), "{}", said.text);
}

/// What an administrator, or nobody, did to the application.
type Change = fn(&mut sluicegate_office::Tenant);

/// Each trouble of an application: how it comes about, the step where it shows, its name, and words
/// of what is said.
const TROUBLES: &[(Change, &str, &str, &[&str])] = &[
    (
        |tenant| tenant.client_secret = "another".into(),
        "token",
        "wrong-secret",
        &[
            "AADSTS7000215",
            "the client secret is wrong",
            "its value (not its id)",
        ],
    ),
    (
        |tenant| tenant.application = Application::SecretExpired,
        "token",
        "expired-secret",
        &["AADSTS7000222", "has expired", "Certificates & secrets"],
    ),
    (
        |tenant| tenant.application = Application::Absent,
        "token",
        "wrong-application",
        &["AADSTS700016", "client_id"],
    ),
    (
        |tenant| tenant.application = Application::NotConsented,
        "token",
        "missing-consent",
        &["AADSTS7000229", "no consent", "grant admin consent"],
    ),
    (
        |tenant| tenant.application = Application::OtherCloud,
        "token",
        "wrong-cloud",
        &["AADSTS900382", "another cloud", "check `cloud`"],
    ),
    (
        |tenant| tenant.roles.clear(),
        "roles",
        "missing-consent",
        &[
            "no role at all",
            "ActivityFeed.Read and ActivityFeed.ReadDlp",
            "Grant admin consent",
        ],
    ),
    (
        |tenant| tenant.roles = vec!["ServiceHealth.Read".into()],
        "roles",
        "missing-role",
        &[
            "ServiceHealth.Read, but not ActivityFeed.Read",
            "API permissions",
        ],
    ),
    (
        |tenant| tenant.roles = vec!["ActivityFeed.Read".into()],
        "roles",
        "missing-role",
        &["but not ActivityFeed.ReadDlp", "API permissions"],
    ),
    (
        |tenant| tenant.denied = vec![ContentType::Exchange],
        "listing",
        "missing-role",
        &["AF10001", "lacks the permission", "API permissions"],
    ),
];

#[test]
fn what_is_wrong_with_the_application_is_named() {
    for (change, step, cause, words) in TROUBLES {
        let office = office();
        // As the pipeline is written before the change, it holds what was right then.
        let pipeline = Pipeline::o365("ill", &office);
        office.change(|office| change(office.tenant_mut(0)));
        let folder = folder();
        let run = |arguments: &str| pipeline.give(sluicegate(&folder).args(arguments)).run();
        let ended = run("doctor --json");
        let mut report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        if *step == "listing" {
            // Only one type is denied; the others are listed.
            let steps = report["tenants"][0]["steps"].as_array_mut().unwrap();
            let listed = steps
                .iter()
                .filter(|s| s["step"] == *step && s["status"] == "ok");
            assert_eq!(listed.count(), 4);
            steps.retain(|s| s["step"] != *step || s["status"] == "fail");
        }
        let said = Said {
            code: ended.code.unwrap(),
            report,
            text: run("doctor").text().to_owned(),
        };
        said.fails(78, step, cause, words);
    }
}

#[test]
fn a_wrong_directory_and_a_wrong_cloud_are_named() {
    let office = office();
    let own = office
        .tenants(|tenant| tenant.directory_id.clone())
        .remove(0);
    let said = examine_with(&office, "", |text| {
        text.replace(&own, "11111111-2222-3333-4444-555555555555")
    });
    said.fails(
        78,
        "directory",
        "wrong-tenant",
        &["knows no directory", "Tenant ID"],
    );
    said.fails(
        78,
        "token",
        "wrong-tenant",
        &["AADSTS90002", "directory_id"],
    );
    // What stands on the token is not tried, and says so.
    for step in ["roles", "subscriptions", "listing"] {
        assert_eq!(said.step(step)["status"], "skipped");
    }

    // Signed in at one cloud, asking for another one's resource.
    let foreign = office.server().foreign_url.clone();
    let said = examine_with(&office, "", |text| {
        let own = format!("resource_url: {}", office.server().resource_url);
        text.replace(&own, &format!("resource_url: {foreign}"))
    });
    said.fails(
        78,
        "token",
        "wrong-cloud",
        &["AADSTS500011", "check `cloud`"],
    );
    assert_eq!(office.stats().leaked_tokens, 0);
}

#[test]
fn auditing_that_is_off_is_found_by_a_start_and_suspected_without() {
    let office = Simulated::start(Office::builder(61).blobs(5).events_per_blob(2));
    office.change(|office| office.tenant_mut(0).auditing_from_ms = i64::MAX);
    let said = examine(&office, "");
    assert_eq!(said.code, 0, "{:#}", said.report);
    let step = said.step("auditing");
    assert_eq!(
        (&step["status"], &step["cause"]),
        (&"warn".into(), &"auditing-off".into())
    );
    assert!(
        step["fix"]
            .as_str()
            .unwrap()
            .contains("Microsoft Purview portal")
    );
    assert!(said.text.contains("auditing is off"), "{}", said.text);

    let said = examine(&office, "--start");
    said.fails(
        78,
        "auditing",
        "auditing-off",
        &["auditing is off", "Purview portal under Audit"],
    );

    // Where it is on, a start says so.
    office.change(|office| office.tenant_mut(0).auditing_from_ms = i64::MIN);
    let said = examine(&office, "--start");
    assert_eq!(said.step("auditing")["status"], "ok", "{:#}", said.report);
}

#[test]
fn a_disabled_subscription_is_a_warning_for_its_type_alone() {
    let office = office();
    office.change(|office| office.tenant_mut(0).disable(ContentType::Exchange));
    let said = examine(&office, "");
    let warned: Vec<_> = said
        .steps()
        .into_iter()
        .filter(|s| s["status"] == "warn")
        .collect();
    assert_eq!(warned.len(), 1, "{:#}", said.report);
    assert_eq!(warned[0]["about"], "Audit.Exchange");
    assert_eq!(said.code, 0);
}

#[test]
fn a_clock_that_is_an_hour_off_is_found_whatever_the_credential() {
    let clock = Clock::system();
    clock.advance(HOUR_MS);
    let builder = Office::builder(61).blobs(5).events_per_blob(2).subscribed();
    let office = Simulated::start_with(builder, clock);
    let said = examine(&office, "");
    said.fails(78, "clock", "clock-off", &["s behind", "NTP"]);
    let found = said.step("clock")["found"].as_str().unwrap().to_owned();
    assert!(found.contains("3600") || found.contains("3599"), "{found}");
}

/// An address where nothing listens.
fn closed() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn every_way_to_be_cut_off_is_told_from_the_others() {
    let office = office();
    let here = office.server().login_url.clone();
    let host = here.trim_start_matches("http://").to_owned();
    let port_closed = format!("http://{}", closed());
    // No label of a name may have more than 63 letters, so no name server is asked.
    let nameless = format!("http://{}.example.com", "x".repeat(64));
    let tls = format!("https://{host}");
    let proxied = format!("http:\n  proxy: {{ url: 'http://{}' }}\n", closed());
    // The office answers a proxy's request as it would answer a host's: by 404, with no tunnel.
    let no_proxy = format!("http:\n  proxy: {{ url: '{here}' }}\n");
    for (change, cause, words) in [
        (Some(&port_closed), "connection-refused", "firewall"),
        (Some(&nameless), "dns-failed", "name servers"),
        (Some(&tls), "tls-failed", "http.ca_file"),
    ] {
        let change = change.unwrap();
        for (key, step) in [
            ("login_url", "login host"),
            ("resource_url", "resource host"),
        ] {
            let said = examine_with(&office, "", |text| {
                text.replace(&format!("{key}: {here}"), &format!("{key}: {change}"))
            });
            let step = if cause == "dns-failed" { "dns" } else { step };
            let failed = said.steps().into_iter().find(|s| s["status"] == "fail");
            assert_eq!(failed.unwrap()["cause"], cause, "{key}: {:#}", said.report);
            assert_eq!(failed.unwrap()["step"], step, "{key}: {:#}", said.report);
            assert!(said.text.contains(words), "{}", said.text);
            // Without the login host nothing else is wrong; without the resource host a token for
            // it cannot be had either.
            if key == "login_url" {
                assert_eq!(said.code, 69, "{:#}", said.report);
                assert_eq!(said.step("token")["status"], "skipped");
                assert_eq!(said.step("resource host")["status"], "ok");
            }
        }
    }
    let said = examine_with(&office, "", |text| text + &proxied);
    said.fails(
        69,
        "login host",
        "proxy-failed",
        &["by proxy", "http.proxy"],
    );
    let said = examine_with(&office, "", |text| {
        text.replace(&here, "https://login.example.com") + &no_proxy
    });
    said.fails(
        69,
        "login host",
        "proxy-failed",
        &["the proxy does not connect", "http.proxy"],
    );
    assert_eq!(
        said.step("dns")["status"],
        "skipped",
        "the proxy resolves names"
    );
}

#[test]
fn a_credential_is_looked_at_before_it_is_used() {
    let examine = |case: &Case, credential: &str| {
        let json = case.command("doctor --json", credential).run();
        Said {
            code: json.code.unwrap(),
            report: serde_json::from_slice(&json.stdout).unwrap(),
            text: case.command("doctor", credential).run().text().to_owned(),
        }
    };
    let case = Case::new();
    let said = examine(&case, "client_secret: { file: missing }");
    said.fails(
        78,
        "credential",
        "credential-unreadable",
        &["cannot read secret file"],
    );
    assert_eq!(said.step("token")["status"], "skipped");

    let day = 24 * HOUR_MS;
    let key = fixture("client.key");
    let credential = format!(
        "certificate: {{ file: client.pem, key: {{ file: '{}' }} }}",
        key.display()
    );
    for (after, status, words) in [
        (40 * day + HOUR_MS, "ok", "40 day(s) left"),
        (13 * day + HOUR_MS, "warn", "expires in 13 day(s)"),
        (-day, "fail", "the certificate has expired"),
    ] {
        let der = ending(after);
        register(&case.office, &der);
        let body = STANDARD.encode(&der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        case.file("client.pem", pem);
        let said = examine(&case, &credential);
        let step = said.step("credential");
        // The key of the fixture can be read by all, which is a lesser warning.
        let status = if status == "ok" { "warn" } else { status };
        assert_eq!(step["status"], status, "{step:#}");
        assert!(said.text.contains(words), "{}", said.text);
        assert_eq!(
            said.step("token")["status"],
            "ok",
            "the office does not mind"
        );
    }
    let said = examine(
        &case,
        &format!(
            "certificate: {{ file: '{}' }}",
            fixture("client.pfx").display()
        ),
    );
    said.fails(
        78,
        "credential",
        "credential-unreadable",
        &["does not open with this passphrase"],
    );
}

#[test]
fn one_tenant_can_be_asked_for_and_an_unknown_one_is_a_usage_error() {
    let office = Simulated::start(Office::builder(62).tenants(3).blobs(3).subscribed());
    let said = examine(&office, "--tenant tenant-01");
    let tenants = said.report["tenants"].as_array().unwrap();
    assert_eq!(
        (tenants.len(), &tenants[0]["tenant"]),
        (1, &"tenant-01".into())
    );
    let folder = folder();
    let pipeline = Pipeline::o365("ill", &office);
    let command = pipeline.give(sluicegate(&folder).args("doctor --tenant nobody"));
    command
        .run()
        .expect(64)
        .says(&["no tenant `nobody`", "tenant-00, tenant-01"]);
}

#[test]
fn a_tenant_without_sign_in_is_a_warning_and_nothing_is_asked() {
    let folder = folder();
    let plugin = guest("calm");
    let pipeline = Pipeline::plugin("calm", &plugin.to_string_lossy());
    let ended = pipeline
        .give(sluicegate(&folder).args("doctor --json"))
        .run()
        .expect(0);
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let steps = report["tenants"][0]["steps"].as_array().unwrap();
    let found: Vec<_> = steps
        .iter()
        .map(|step| (&step["step"], &step["status"]))
        .collect();
    assert_eq!(found, [(&"config".into(), &"warn".into())], "{report:#}");
}

#[test]
fn a_file_that_is_no_pipeline_is_said_in_both_forms() {
    let folder = folder();
    std::fs::write(folder.path().join("x.yaml"), "source: 1\n").unwrap();
    let _ = sluicegate(&folder).args("doctor x.yaml").run().expect(78);
    let ended = sluicegate(&folder)
        .args("doctor --json x.yaml")
        .run()
        .expect(78);
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["tenants"][0]["steps"][0]["cause"], "config");
}
