//! Whatever proves who we are signs in, is replaced while we run, and says when it ends.
//!
//! The office verifies assertions for real, signature included, with the certificate's public key.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use sluicegate_office::{Application, Clock, HOUR_MS, Office};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated, Sluicegate};
use tempfile::TempDir;

use crate::{folder, root, sluicegate};

/// Of every encrypted fixture.
pub const PASSPHRASE: &str = "pass~phrase+1 &=%";
const HOUR: i64 = HOUR_MS;

pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/auth").join(name)
}

pub fn pem(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let letters: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(letters).unwrap()
}

/// The fixture certificate as another one whose life ends so many milliseconds after now; its name
/// stays, its own signature does not matter to anybody.
pub fn ending(after_ms: i64) -> Vec<u8> {
    let mut der = pem(&fixture("client.pem"));
    // Ends in 2126, which X.509 writes with four digits, behind a beginning with two.
    let end = der
        .windows(3)
        .position(|part| part == [0x18, 0x0f, b'2'])
        .unwrap();
    let ends = Clock::system().now_ms() + after_ms;
    let days = ends.div_euclid(24 * HOUR);
    // Gregorian days from the epoch to a date, by counting: the test needs no calendar of its own.
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (mut year, mut left) = (1970, days);
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let months = [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    let second = ends.div_euclid(1_000).rem_euclid(86_400);
    let text = format!(
        "{year:04}{:02}{:02}{:02}{:02}{:02}Z",
        month + 1,
        left + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    der[end + 2..end + 17].copy_from_slice(text.as_bytes());
    der
}

/// Registers a certificate with the first tenant's application.
pub fn register(office: &Simulated, der: &[u8]) {
    register_for(office, 0, der);
}

/// Registers a certificate with a tenant's application.
pub fn register_for(office: &Simulated, tenant: usize, der: &[u8]) {
    office.change(|office| {
        let thumbprints = &mut office.tenant_mut(tenant).thumbprints;
        for kind in [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA256] {
            thumbprints.push(URL_SAFE_NO_PAD.encode(digest::digest(kind, der)));
        }
    });
}

/// What was signed, and with which algorithm.
type Signed = Arc<Mutex<Vec<(String, String)>>>;

/// Has the office check signatures with the fixture's key, and keeps every assertion.
pub fn verify(office: &Simulated) -> Signed {
    let signed = Signed::default();
    let key = RsaKeyPair::from_pkcs8(&pem(&fixture("client.key"))).unwrap();
    let public = key.public().as_ref().to_vec();
    let seen = Arc::clone(&signed);
    office.change(|office| {
        office.check_assertions(move |assertion| {
            let text = format!(
                "{}.{}",
                assertion.signed,
                URL_SAFE_NO_PAD.encode(&assertion.signature)
            );
            seen.lock()
                .unwrap()
                .push((assertion.algorithm.clone(), text));
            let algorithm: &dyn VerificationAlgorithm = match &*assertion.algorithm {
                "PS256" => &RSA_PSS_2048_8192_SHA256,
                _ => &RSA_PKCS1_2048_8192_SHA256,
            };
            let key = UnparsedPublicKey::new(algorithm, &public);
            key.verify(assertion.signed.as_bytes(), &assertion.signature)
                .is_ok()
        });
    });
    signed
}

/// A small office whose only tenant is asked for with another credential, as YAML.
pub struct Case {
    pub office: Simulated,
    pub folder: TempDir,
}

impl Case {
    pub fn new() -> Self {
        Self::under(Clock::system())
    }

    fn under(clock: Clock) -> Self {
        let builder = Office::builder(51).blobs(4).events_per_blob(2);
        Self {
            office: Simulated::start_with(builder, clock),
            folder: folder(),
        }
    }

    /// A file beside the pipeline.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        // Written aside and moved, as everything that replaces secrets does.
        let (new, path) = (
            self.folder.path().join("new"),
            self.folder.path().join(name),
        );
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// The command with the pipeline's file named last.
    pub fn command(&self, arguments: &str, credential: &str) -> Sluicegate {
        let pipeline = Pipeline::o365("case", &self.office);
        let text = pipeline
            .text()
            .replace("client_secret: { env: SECRET_CASE_0 }", credential);
        assert!(text.contains(credential), "{text}");
        std::fs::write(self.folder.path().join("case.yaml"), text).unwrap();
        sluicegate(&self.folder)
            .args(arguments)
            .arg("case.yaml")
            .env("PASSPHRASE", PASSPHRASE)
    }

    fn once(&self, credential: &str, code: i32) -> Ended {
        self.command("run --once", credential).run().expect(code)
    }

    fn is_delivered(&self) -> bool {
        let delivered = Delivered::so_far(&self.folder.path().join("case.ndjson"));
        let verdict = self.office.judge(&delivered);
        verdict.owed > 0 && verdict.is_clean()
    }
}

fn certificate(file: &str, more: &str) -> String {
    format!(
        "certificate: {{ file: '{}'{more} }}",
        fixture(file).display()
    )
}

#[test]
fn every_form_of_certificate_signs_in_with_what_entra_wants() {
    let passphrase = ", passphrase: { env: PASSPHRASE }";
    let key = |name: &str| format!(", key: {{ file: '{}' }}", fixture(name).display());
    for (file, more, algorithm) in [
        ("client.pem", key("client.key"), "PS256"),
        (
            "client.pem",
            key("client-pkcs1.key") + ", algorithm: RS256",
            "RS256",
        ),
        (
            "client.pem",
            key("client-encrypted.key") + passphrase,
            "PS256",
        ),
        ("client.pfx", passphrase.into(), "PS256"),
    ] {
        let case = Case::new();
        register(&case.office, &pem(&fixture("client.pem")));
        let signed = verify(&case.office);
        case.once(&certificate(file, &more), 0);
        assert!(case.is_delivered(), "{file}{more}");
        let signed = signed.lock().unwrap();
        assert_eq!(signed.len(), 1, "one sign-in for all streams");
        assert_eq!(signed[0].0, algorithm);
    }
}

#[test]
fn a_refused_signature_is_not_tried_in_the_older_form() {
    let case = Case::new();
    let signed = verify(&case.office);
    let more = format!(", key: {{ file: '{}' }}", fixture("client.key").display());
    let ended = case.once(&certificate("client.pem", &more), 75);
    // Named, with what the portal shows.
    ended.says(&[
        "AADSTS700027",
        "A6865730C1BE96C63A98719F8DEC5A56BCB4DCF9",
        "Certificates & secrets",
    ]);
    let signed = signed.lock().unwrap();
    assert_eq!((signed.len(), &*signed[0].0), (1, "PS256"));
    assert_eq!(case.office.stats().token_requests, 1);
}

#[test]
fn the_first_token_endpoint_works_where_it_is_chosen() {
    let case = Case::new();
    register(&case.office, &pem(&fixture("client.pem")));
    verify(&case.office);
    let more = format!(", key: {{ file: '{}' }}", fixture("client.key").display());
    let credential = certificate("client.pem", &more) + "\n          token_endpoint: v1";
    case.once(&credential, 0);
    assert!(case.is_delivered());
    let asked: Vec<String> = case.office.change(|office| office.recent().collect());
    assert!(
        asked.iter().any(|line| line.contains("/oauth2/token?")),
        "{asked:#?}"
    );
    assert!(!asked.iter().any(|line| line.contains("/v2.0/token")));
}

#[test]
fn a_secret_that_is_put_right_heals_a_running_pipeline() {
    let case = Case::new();
    let secret = case
        .office
        .tenants(|tenant| tenant.client_secret.clone())
        .remove(0);
    case.file("secret", "yesterday's secret");
    let running = case
        .command("run", "client_secret: { file: secret }")
        .start();
    let _ = running.until_said("AADSTS7000215");
    case.file("secret", secret);
    running.until("delivered", || case.is_delivered());
    running.signal("TERM");
    let ended = running.end().expect(0);
    ended.says(&["AADSTS7000215", "the client secret is wrong"]);
    // One refusal and one success; a call that ends while it asks leaves the asking to the next.
    let asked = case.office.stats().token_requests;
    assert!((2..=4).contains(&asked), "asked {asked} times");
}

#[test]
fn a_secret_that_is_rotated_under_a_running_pipeline_is_followed() {
    let case = Case::new();
    let secret = case
        .office
        .tenants(|tenant| tenant.client_secret.clone())
        .remove(0);
    case.file("secret", secret);
    // Writes the file; here it is changed before it is run.
    let _ = case.command("run", "client_secret: { file: secret }");
    // Listed every second, so that the end of the token is noticed soon.
    let file = case.folder.path().join("case.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("config: { ", "config: { interval: 1s, "),
    )
    .unwrap();
    let running = sluicegate(&case.folder).args("run case.yaml").start();
    running.until("delivered", || case.is_delivered());
    // First the service has the new one; the file follows later, as it does in practice.
    let asked = case.office.stats().token_requests;
    case.office.change(|office| {
        office.tenant_mut(0).client_secret = "tomorrow~s+secret".into();
        office.revoke_tokens(0);
    });
    let _ = running.until_said("AADSTS7000215");
    case.file("secret", "tomorrow~s+secret");
    let listed = case.office.stats().list_requests;
    let lists = || case.office.stats().list_requests > listed + 5;
    running.until("listing again", lists);
    running.signal("TERM");
    running.end().expect(0).says(&["AADSTS7000215"]);
    let asked = case.office.stats().token_requests - asked;
    assert!((2..=4).contains(&asked), "asked {asked} times");
}

#[test]
fn a_certificate_and_a_federated_token_are_replaced_while_running() {
    let case = Case::new();
    register(&case.office, &pem(&fixture("client.pem")));
    verify(&case.office);
    // The key does not belong to the certificate's file any more when only one was replaced, so
    // both are in one file.
    let both = |der: &[u8]| {
        let body = STANDARD.encode(der);
        let key = std::fs::read_to_string(fixture("client.key")).unwrap();
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n{key}")
    };
    case.file("client.pem", both(&ending(40 * 24 * HOUR)));
    let running = case
        .command("run", "certificate: { file: client.pem }")
        .start();
    let _ = running.until_said("AADSTS700027");
    case.file("client.pem", both(&pem(&fixture("client.pem"))));
    running.until("delivered", || case.is_delivered());
    running.signal("TERM");
    running.end().expect(0).says(&["AADSTS700027"]);

    let case = Case::new();
    case.office.change(|office| {
        office
            .tenant_mut(0)
            .federated_tokens
            .push("today.s.token".into());
    });
    case.file("token", "yesterday.s.token\n");
    let running = case.command("run", "federated_token_file: token").start();
    let _ = running.until_said("AADSTS");
    case.file("token", "today.s.token\n");
    running.until("delivered", || case.is_delivered());
    running.signal("TERM");
    let _ = running.end().expect(0);
}

#[test]
fn an_expired_secret_is_a_loud_failure_with_a_name() {
    let case = Case::new();
    case.office.change(|office| {
        office.tenant_mut(0).application = Application::SecretExpired;
    });
    let secret = case
        .office
        .tenants(|tenant| tenant.client_secret.clone())
        .remove(0);
    case.file("secret", secret);
    let ended = case.once("client_secret: { file: secret }", 75);
    ended.says(&[
        "ERROR",
        "AADSTS7000222",
        "the client secret has expired",
        "client secret",
    ]);
}

#[test]
fn a_clock_that_is_an_hour_off_is_corrected_for_assertions_and_said() {
    let clock = Clock::system();
    clock.advance(HOUR);
    let case = Case::under(clock);
    register(&case.office, &pem(&fixture("client.pem")));
    verify(&case.office);
    let more = format!(", key: {{ file: '{}' }}", fixture("client.key").display());
    let ended = case
        .command("run --once", &certificate("client.pem", &more))
        .run();
    ended.says(&[
        "this machine's clock is -3",
        "assertions carry the server's time",
    ]);
    assert_eq!(
        case.office.stats().token_requests,
        2,
        "once more, not again and again"
    );
    assert!(
        !ended.stderr.contains("refused to sign in"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_end_of_a_certificate_is_announced_and_then_said() {
    for (days, words) in [
        (40, None),
        (29, Some("WARN")),
        (13, Some("WARN")),
        (2, Some("WARN")),
        (-1, Some("ERROR")),
    ] {
        let case = Case::new();
        let der = ending(days * 24 * HOUR + HOUR);
        register(&case.office, &der);
        let body = STANDARD.encode(&der);
        case.file(
            "client.pem",
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"),
        );
        let key = fixture("client.key");
        let credential = format!(
            "certificate: {{ file: client.pem, key: {{ file: '{}' }} }}",
            key.display()
        );
        let ended = case.once(&credential, 0);
        let line = ended
            .stderr
            .lines()
            .find(|line| line.contains("the certificate "));
        assert_eq!(line.is_some(), words.is_some(), "{days}: {}", ended.stderr);
        if let (Some(line), Some(words)) = (line, words) {
            assert!(line.contains(words), "{days}: {line}");
        }
    }
}
