//! A secret that goes in comes out nowhere: not in the log at its loudest, not in what is kept, not in what is
//! delivered.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sluicegate_office::{Fault, Faults, Office};
use sluicegate_tests::{Ended, Pipeline, Simulated};

use crate::identity::{Case, PASSPHRASE, fixture, register, verify};
use crate::{folder, sluicegate};

/// A secret with bytes that a URL and JSON spell in other ways.
const CANARY: &str = "canary~7Q/+p=&%\"8kZ.w1_uT-v0Yx2";

/// Every spelling in which a secret could be found.
fn spellings(secret: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap();
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap();
    let hex: String = secret
        .bytes()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect();
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
            found.extend(files(&path));
        } else {
            found.push(path);
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
    let places: Vec<_> = places
        .iter()
        .map(|(place, bytes)| (place, String::from_utf8_lossy(bytes)))
        .collect();
    for secret in secrets {
        for spelling in spellings(secret) {
            for (place, text) in &places {
                let found = text.contains(&spelling);
                assert!(!found, "a secret stands in {place}, spelt `{spelling}`");
            }
        }
    }
}

/// A token or assertion, and the parts of it that would do harm alone.
fn parts(token: &str) -> Vec<String> {
    let parts = token.split('.').skip(1).filter(|part| part.len() > 16);
    parts.map(str::to_owned).chain([token.to_owned()]).collect()
}

#[test]
fn no_form_of_credential_and_nothing_made_from_it_is_seen() {
    let federated = folder();
    let file = federated.path().join("token");
    // Claims of no meaning: {"iss":"https://issuer.example.com","exp":4102444800}.
    let claims = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsImV4cCI6NDEwMjQ0NDgwMH0";
    let foreign = format!("eyJhbGciOiJSUzI1NiJ9.{claims}.canary-signature-of-another-issuer");
    std::fs::write(&file, &foreign).unwrap();
    let key = std::fs::read_to_string(fixture("client.key")).unwrap();
    let path = |name: &str| fixture(name).display().to_string();
    let passphrase = "passphrase: { env: PASSPHRASE }";
    let (pem, pfx) = (path("client.pem"), path("client.pfx"));
    let locked = path("client-encrypted.key");
    for credential in [
        format!("certificate: {{ file: '{pem}', key: {{ file: '{locked}' }}, {passphrase} }}"),
        format!("certificate: {{ file: '{pfx}', {passphrase} }}"),
        format!("federated_token_file: '{}'", file.display()),
    ] {
        let case = Case::new();
        let certificate = std::fs::read(fixture("client.cer")).unwrap();
        register(&case.office, &certificate);
        let signed = verify(&case.office);
        case.office.change(|office| {
            office.tenant_mut(0).federated_tokens.push(foreign.clone());
            let faults = office.faults_mut();
            faults.set(Fault::Unauthorized, 0.1);
            faults.set(Fault::BadToken, 0.3);
        });
        let mut runs = vec![case.command("-vv run --once", &credential).run()];
        // What is refused is said, and the saying holds nothing either.
        case.office.change(|office| {
            office.faults_mut().set(Fault::BadToken, 0.0);
            office.revoke_tokens(0);
        });
        runs.push(case.command("-vv doctor", &credential).run());
        runs.push(case.command("-vv doctor --json", &credential).run());
        case.office.change(|office| {
            let tenant = office.tenant_mut(0);
            tenant.thumbprints.clear();
            tenant.federated_tokens.clear();
        });
        runs.push(case.command("-vv run --once", &credential).run());
        runs.push(case.command("-vv doctor", &credential).run());
        let mut secrets = vec![PASSPHRASE.to_owned(), "canary-signature".to_owned()];
        secrets.extend(
            key.lines()
                .filter(|line| line.len() > 40)
                .map(str::to_owned),
        );
        let tokens = case.office.change(|office| office.issued_tokens());
        assert!(!tokens.is_empty(), "somebody signed in with {credential}");
        secrets.extend(tokens.iter().flat_map(|token| parts(token)));
        let signed = signed.lock().unwrap();
        assert_eq!(
            signed.is_empty(),
            credential.starts_with("federated"),
            "{credential}"
        );
        secrets.extend(signed.iter().flat_map(|(_, assertion)| parts(assertion)));
        for ended in &runs {
            assert!(ended.stderr.contains("TRACE"), "the log is at its loudest");
            search(&secrets, ended, case.folder.path());
        }
    }
}

#[test]
fn a_secret_from_a_directory_systemd_or_a_command_signs_in_and_is_not_seen() {
    let kept = folder();
    let path = kept.path().display();
    std::fs::write(kept.path().join("contoso"), format!("{CANARY}\n")).unwrap();
    for (source, told) in [
        (
            format!("{{ directory: '{path}', name: contoso }}"),
            "file `",
        ),
        ("{ credential: contoso }".to_owned(), "credential `contoso`"),
        (
            format!("{{ exec: [cat, '{path}/contoso'], timeout: 30s }}"),
            "command `cat`",
        ),
    ] {
        let case = Case::new();
        case.office
            .change(|office| office.tenant_mut(0).client_secret = CANARY.into());
        let credential = format!("client_secret: {source}");
        let run = |arguments: &str| {
            let command = case
                .command(arguments, &credential)
                .env("PATH", "/usr/bin:/bin");
            command
                .env("CREDENTIALS_DIRECTORY", &path.to_string())
                .run()
        };
        let doctor = run("-vv doctor").expect(0);
        assert!(doctor.text().contains(told), "{}", doctor.text());
        let ended = run("-vv run --once").expect(0);
        ended.says(&["8 event(s) delivered"]);
        // Everybody may read the file that the first two name.
        let warned = ended.stderr.contains("every user of this machine can read");
        assert_eq!(warned, !source.contains("exec"), "{}", ended.stderr);
        // What is refused is said, and the saying holds nothing either.
        case.office
            .change(|office| office.tenant_mut(0).client_secret = "another".into());
        std::fs::remove_dir_all(case.folder.path().join("state")).unwrap();
        let refused = run("-vv run --once").expect(75);
        for ended in [doctor, ended, refused] {
            search(&[CANARY.to_owned()], &ended, case.folder.path());
        }
    }
    let case = Case::new();
    for (source, told) in [
        (
            "{ credential: contoso }",
            "systemd has given this process none",
        ),
        (
            "{ exec: [\"false\"] }",
            "command `false` failed: exit status: 1",
        ),
    ] {
        let command = case.command("validate", &format!("client_secret: {source}"));
        let ended = command.env("PATH", "/usr/bin:/bin").run().expect(78);
        ended.says(&[told, "client_secret"]);
    }
}

#[test]
fn a_passphrase_that_does_not_fit_is_not_repeated() {
    let case = Case::new();
    let credential = format!(
        "certificate: {{ file: '{}', passphrase: {{ env: PASSPHRASE }} }}",
        fixture("client.pfx").display()
    );
    for arguments in [
        "-vv run --once",
        "-vv validate",
        "-vv doctor",
        "-vv doctor --json",
    ] {
        let command = case.command(arguments, &credential);
        let ended = command.env("PASSPHRASE", CANARY).run().expect(78);
        let said = format!("{}{}", ended.text(), ended.stderr);
        assert!(
            said.contains("does not open with this passphrase"),
            "{said}"
        );
        for spelling in spellings(CANARY) {
            assert!(!said.contains(&spelling), "{said}");
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
