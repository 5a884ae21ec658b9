//! Client assertions (RFC 7523): a JWT that proves, by a certificate's key, who the client is.
//!
//! Made anew for every sign-in from the files as they are then, so a certificate that was replaced
//! is used at once.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, pem};
use serde_json::json;

use crate::config::auth::{Algorithm, Certificate};
use crate::error::Error;
use crate::secret::{Secret, plain};

/// How long an assertion can be used: enough for a slow server, short because a captured one could
/// be replayed.
const LIFETIME_S: i64 = 300;
/// How far our clock may be ahead of the server's.
const SKEW_S: i64 = 60;

/// A signed assertion by `client_id` for the token endpoint `audience`.
pub(super) fn sign(
    certificate: &Certificate,
    audience: &str,
    client_id: &str,
    now_ms: i64,
) -> Result<Secret, Error> {
    let chain = chain(certificate)?;
    let key = key(certificate)?;
    belongs(certificate, &chain[0], &key)?;
    let random = SystemRandom::new();
    let broken = |_| Error::temporary("the system gives no random numbers");
    let mut id = [0; 16];
    random.fill(&mut id).map_err(broken)?;
    let now = now_ms.div_euclid(1000);
    let claims = json!({
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": guid(id),
        "nbf": now - SKEW_S,
        "iat": now,
        "exp": now + LIFETIME_S,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = header(certificate.algorithm, &chain);
    let mut token = format!("{}.{}", part(&header), part(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    let encoding: &dyn RsaEncoding = match certificate.algorithm {
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::RS256 => &RSA_PKCS1_SHA256,
    };
    key.sign(encoding, &random, token.as_bytes(), &mut signature)
        .map_err(broken)?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(Secret::new(token))
}

fn header(algorithm: Algorithm, chain: &[CertificateDer<'_>]) -> serde_json::Value {
    let thumbprint = |kind| URL_SAFE_NO_PAD.encode(digest::digest(kind, &chain[0]));
    let mut header = match algorithm {
        Algorithm::PS256 => {
            json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint(&digest::SHA256) })
        }
        Algorithm::RS256 => {
            let sha1 = thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY);
            json!({ "alg": "RS256", "typ": "JWT", "x5t": sha1 })
        }
    };
    // Needed where the server trusts a subject and issuer instead of one certificate; a lone
    // certificate needs none.
    if chain.len() > 1 {
        let chain: Vec<String> = chain.iter().map(|one| STANDARD.encode(one)).collect();
        header["x5c"] = json!(chain);
    }
    header
}

/// The certificates of the file, the client's own first; at least one.
fn chain(certificate: &Certificate) -> Result<Vec<CertificateDer<'static>>, Error> {
    let path = certificate.file.display();
    let refuse = |what: String| {
        let help =
            "name a PEM file that begins with the certificate registered with the application";
        certificate.place.error(what).help(help)
    };
    let text = std::fs::read(&certificate.file).map_err(|error| {
        refuse(format!(
            "cannot read certificate file `{path}`: {}",
            plain(&error)
        ))
    })?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(refuse(format!(
            "file `{path}` holds no certificate in PEM form"
        ))),
    }
}

/// The private key; its errors say which kind was found.
fn key(certificate: &Certificate) -> Result<RsaKeyPair, Error> {
    let origin = &certificate.key.origin;
    let refuse = |what: &str, help: &str| {
        certificate
            .key
            .place
            .error(format!("the key in {origin} {what}"))
            .help(help)
    };
    let convert = "convert it: `openssl pkcs8 -topk8 -nocrypt -in OLD.key -out NEW.key`";
    let secret = certificate.key.resolve()?;
    let text = secret.expose();
    if text.contains("ENCRYPTED") {
        return Err(refuse("is encrypted", convert));
    }
    let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes())
        .map_err(|_| refuse("is not in PEM form", convert))?;
    let pair = match kind {
        SectionKind::PrivateKey => RsaKeyPair::from_pkcs8(&der),
        SectionKind::RsaPrivateKey => RsaKeyPair::from_der(&der),
        _ => {
            return Err(refuse(
                "is not an RSA private key",
                "name the certificate's RSA key",
            ));
        }
    };
    pair.map_err(|error| match error.to_string().as_str() {
        "WrongAlgorithm" => {
            let help = "use a certificate with an RSA key of 2048 to 4096 bits";
            refuse("is not an RSA key", help)
        }
        why => refuse(
            &format!("cannot be used ({why})"),
            "use an RSA key of 2048 to 4096 bits in PKCS#8 form",
        ),
    })
}

/// A certificate holds its public key as it is, so the pair can be checked without taking it apart.
fn belongs(
    certificate: &Certificate,
    leaf: &CertificateDer<'_>,
    key: &RsaKeyPair,
) -> Result<(), Error> {
    let public: &[u8] = key.public().as_ref();
    if leaf.windows(public.len()).any(|window| window == public) {
        return Ok(());
    }
    let path = certificate.file.display();
    let what = format!(
        "the key in {} does not belong to certificate `{path}`",
        certificate.key.origin
    );
    Err(certificate
        .key
        .place
        .error(what)
        .help("name the key that the certificate was made with"))
}

/// A random GUID (version 4).
fn guid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ring::signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    };

    use super::*;
    use crate::config::Place;
    use crate::secret::{SecretOrigin, SecretRef};

    fn fixture(file: &str, key: &str, algorithm: Algorithm) -> Certificate {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/auth");
        let place = Place {
            file: "contoso.yaml".into(),
            ..Place::default()
        };
        let key = SecretRef {
            origin: SecretOrigin::File(folder.join(key)),
            place: place.clone(),
        };
        Certificate {
            file: folder.join(file),
            key,
            algorithm,
            place,
        }
    }

    #[test]
    fn an_assertion_verifies_and_says_what_entra_wants() {
        for (algorithm, key) in [
            (Algorithm::PS256, "client.key"),
            (Algorithm::RS256, "client-pkcs1.key"),
        ] {
            let certificate = fixture("client.pem", key, algorithm);
            let now_ms = 1_767_225_600_999;
            let token = sign(&certificate, "https://login.example.com/t", "app", now_ms).unwrap();
            let parts: Vec<&str> = token.expose().split('.').collect();
            let signed = format!("{}.{}", parts[0], parts[1]);
            let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
            let pair = super::key(&certificate).unwrap();
            let public: &[u8] = pair.public().as_ref();
            let read = |part: &str| -> serde_json::Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            };
            let header = read(parts[0]);
            // Thumbprints as openssl computes them.
            if algorithm == Algorithm::PS256 {
                let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public);
                key.verify(signed.as_bytes(), &signature).unwrap();
                assert_eq!(
                    header["x5t#S256"],
                    "GibioeLPhFMqz1MlMe8Gllj_q7BlHSjf5n-m83VR-no"
                );
            } else {
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
                key.verify(signed.as_bytes(), &signature).unwrap();
                assert_eq!(header["x5t"], "poZXMMG-lsY6mHGfjexaVry03Pk");
            }
            assert!(header.get("x5c").is_none());
            let mut claims = read(parts[1]);
            let id = claims["jti"].take();
            assert!(crate::config::is_guid(id.as_str().unwrap()), "{id}");
            let wanted = json!({
                "aud": "https://login.example.com/t", "iss": "app", "sub": "app", "jti": null,
                "nbf": 1_767_225_540, "iat": 1_767_225_600, "exp": 1_767_225_900,
            });
            assert_eq!(claims, wanted);
            let again = sign(&certificate, "https://login.example.com/t", "app", now_ms).unwrap();
            assert_ne!(read(again.expose().split('.').nth(1).unwrap())["jti"], id);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_says_why() {
        for (file, key, what) in [
            ("client.pem", "ec.key", "is not an RSA key"),
            ("client.pem", "encrypted.key", "is encrypted"),
            ("client.pem", "client.pem", "is not an RSA private key"),
            ("client.pem", "missing.key", "cannot read secret file"),
            ("ec.pem", "client.key", "does not belong to certificate"),
            ("client.key", "client.key", "holds no certificate"),
            ("missing.pem", "client.key", "cannot read certificate file"),
        ] {
            let certificate = fixture(file, key, Algorithm::PS256);
            let error = sign(&certificate, "a", "b", 0).unwrap_err();
            assert!(error.what.contains(what), "{file} {key}: {error}");
            assert!(!error.help.is_empty());
            assert!(!error.to_string().contains("BEGIN"));
        }
    }
}
