//! A secret that goes in comes out nowhere: not in the log at its loudest, not in what is kept, not in what is
//! delivered.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::{Ended, Pipeline, Simulated};

use crate::{folder, sluicegate};

/// A secret with bytes that a URL and JSON spell in other ways.
const CANARY: &str = "canary~7Q/+p=&%\"8kZ.w1_uT-v0Yx2";

/// Every spelling in which a secret could be found.
fn spellings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_owned(),
        form.to_lowercase(),
        form,
        json.trim_matches('"').to_owned(),
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex,
    ]
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

/// Looks for the secrets in everything that a run left behind.
fn search(secrets: &[String], ended: &Ended, folder: &Path) {
    let mut places = vec![
        ("standard output".to_owned(), ended.stdout.clone()),
        (
            "standard error".to_owned(),
            ended.stderr.clone().into_bytes(),
        ),
    ];
    for path in files(folder) {
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    assert!(
        places.len() > 3,
        "there is a ledger and a file sink to look into"
    );
    for secret in secrets {
        for spelling in spellings(secret) {
            for (place, bytes) in &places {
                let found = bytes
                    .windows(spelling.len())
                    .any(|part| part == spelling.as_bytes());
                assert!(!found, "a secret stands in {place}, spelt `{spelling}`");
            }
        }
    }
}

#[test]
fn the_loudest_log_of_a_troubled_run_holds_no_secret() {
    let faults = Faults::none()
        .with(Fault::ServerError, 0.1)
        .with(Fault::Unauthorized, 0.1)
        .with(Fault::BadToken, 0.1)
        .with(Fault::HtmlBody, 0.05);
    let builder = Office::builder(41)
        .tenants(2)
        .blobs(30)
        .events_per_blob(3)
        .faults(faults);
    let office = Simulated::start(builder);
    office.change(|office| office.tenant_mut(0).client_secret = CANARY.into());
    let mut secrets = office.tenants(|tenant| tenant.client_secret.clone());
    secrets.push("wrong-canary-5d1b".into());
    for format in ["text", "json"] {
        let folder = folder();
        let pipeline = Pipeline::o365("quiet", &office).secret(1, "wrong-canary-5d1b");
        let command = sluicegate(&folder)
            .args("-vv run --once --log-format")
            .arg(format);
        let ended = pipeline.give(command).run().expect(75);
        assert!(ended.stderr.contains("TRACE"), "the log is at its loudest");
        search(&secrets, &ended, folder.path());
        // Tokens are made by the office; what it calls one must not be seen either.
        for word in ["Bearer ", "access_token", "client_secret="] {
            assert!(!ended.stderr.contains(word), "`{word}` stands in the log");
        }
    }
}

#[test]
fn a_refused_config_does_not_repeat_a_secret_that_was_written_into_it() {
    let office = Simulated::start(Office::builder(42).blobs(1));
    let folder = folder();
    let pipeline = Pipeline::o365("literal", &office);
    let text = pipeline
        .text()
        .replace("{ env: SECRET_LITERAL_0 }", "swordfish-in-the-file");
    std::fs::write(folder.path().join("literal.yaml"), text).unwrap();
    let ended = sluicegate(&folder)
        .args("-vv validate literal.yaml")
        .run()
        .expect(78);
    ended.says(&["client_secret"]);
    assert!(!ended.stderr.contains("swordfish"), "{}", ended.stderr);
}
