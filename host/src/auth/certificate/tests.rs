//! Every form in which a certificate and its key are kept, and what is said of the others.

use super::*;
use crate::config::Place;
use crate::config::auth::Algorithm;
use crate::secret::SecretOrigin;

/// Of every encrypted fixture.
pub(in crate::auth) const PASSPHRASE: &str = "pass~phrase+1 &=%";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/auth")
}

/// A passphrase in a file that is gone when the test ends.
pub(in crate::auth) fn passphrase(text: &str) -> (tempfile::NamedTempFile, SecretRef) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let origin = SecretOrigin::File(file.path().to_path_buf());
    let place = Place::default();
    (file, SecretRef { origin, place })
}

pub(in crate::auth) fn fixture(
    file: &str,
    key: Option<&str>,
    passphrase: Option<SecretRef>,
) -> Certificate {
    let place = Place {
        file: "contoso.yaml".into(),
        ..Place::default()
    };
    let key = key.map(|key| SecretRef {
        origin: SecretOrigin::File(folder().join(key)),
        place: place.clone(),
    });
    Certificate {
        file: folder().join(file),
        key,
        passphrase,
        algorithm: Algorithm::PS256,
        place,
    }
}

pub(in crate::auth) fn identity(certificate: &Certificate) -> Result<Identity, Error> {
    Identity::of(certificate, &Files::read(certificate)?)
}

#[test]
fn every_usual_form_gives_the_same_certificate_and_key() {
    let (_file, secret) = passphrase(PASSPHRASE);
    let plain = identity(&fixture("client.pem", Some("client.key"), None)).unwrap();
    assert_eq!(
        plain.thumbprints().0,
        "A6865730C1BE96C63A98719F8DEC5A56BCB4DCF9"
    );
    // 2126-10-28T00:19:38Z, as openssl shows it.
    assert_eq!(plain.validity.until_ms, 4_948_820_378_000);
    for (file, key) in [
        ("client.pem", Some("client-pkcs1.key")),
        ("client.pem", Some("client-encrypted.key")),
        ("client.pem", Some("client-encrypted-3des.key")),
        ("client.pem", Some("client-encrypted-scrypt.key")),
        ("client-both.pem", None),
        ("client.pfx", None),
        // As Windows writes them: RC2 and TripleDES, with the chain, which is another's here.
        ("client-legacy.pfx", None),
    ] {
        let found = identity(&fixture(file, key, Some(secret.clone())));
        let found = found.unwrap_or_else(|error| panic!("{file} {key:?}: {error}"));
        assert_eq!(found.thumbprints(), plain.thumbprints(), "{file} {key:?}");
        assert_eq!(found.key.public().as_ref(), plain.key.public().as_ref());
        assert_eq!(found.validity, plain.validity);
        assert_eq!(
            found.chain.len(),
            1 + usize::from(file == "client-legacy.pfx")
        );
    }
}

/// One way to get it wrong: certificate and key, the passphrase if any, and what is said.
#[track_caller]
fn refused(file: &str, key: Option<&str>, with: Option<&str>, what: &str) {
    let given = with.map(passphrase);
    let secret = given.as_ref().map(|(_, secret)| secret.clone());
    let error = identity(&fixture(file, key, secret)).err();
    let error = error.unwrap_or_else(|| panic!("{file} {key:?} is accepted"));
    let text = error.to_string();
    assert!(error.what.contains(what), "{file} {key:?}: {text}");
    assert!(!error.help.is_empty(), "{text}");
    assert!(!text.contains("BEGIN"), "{text}");
    assert!(!with.is_some_and(|with| text.contains(with)), "{text}");
}

#[test]
fn what_does_not_fit_is_refused_and_says_why() {
    let right = Some(PASSPHRASE);
    let wrong = Some("canary-passphrase");
    let pem = "client.pem";
    refused(pem, Some("ec.key"), None, "is not an RSA key");
    refused(pem, Some("encrypted.key"), None, "no passphrase is given");
    refused(
        pem,
        Some("client-encrypted.key"),
        wrong,
        "does not open with",
    );
    refused(pem, Some("client-old.key"), right, "old form of OpenSSL");
    refused(pem, Some(pem), None, "is not a private key");
    refused(pem, Some("missing.key"), None, "cannot read secret file");
    refused(pem, None, None, "holds no private key beside");
    let key = Some("client.key");
    refused("ec.pem", key, None, "does not belong to certificate");
    refused("client.key", key, None, "holds no certificate");
    refused("missing.pem", key, None, "cannot read certificate file");
    refused("client.cer", None, None, "in DER form, without its key");
    for with in [wrong, None] {
        refused(
            "client.pfx",
            None,
            with,
            "does not open with this passphrase",
        );
    }
    refused("client-nokey.pfx", None, right, "holds no private key");
    refused("ec.pfx", None, right, "holds no RSA key");
}

#[test]
fn damaged_files_are_refused_without_a_panic() {
    let (_file, secret) = passphrase(PASSPHRASE);
    let whole = std::fs::read(folder().join("client.pfx")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let certificate = Certificate {
        file: file.path().to_path_buf(),
        ..fixture("client.pfx", None, Some(secret))
    };
    for length in [0, 1, 2, 30, whole.len() / 2, whole.len() - 1] {
        std::fs::write(file.path(), &whole[..length]).unwrap();
        let error = identity(&certificate).err();
        assert!(
            error.is_some_and(|error| !error.help.is_empty()),
            "{length}"
        );
    }
    std::fs::write(file.path(), vec![0x30; 2 << 20]).unwrap();
    let error = identity(&certificate).err().unwrap();
    assert!(error.what.contains("2097152 bytes"), "{error}");
}
