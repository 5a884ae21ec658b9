//! Client assertions (RFC 7523): a JWT that proves, by a certificate's key, who the client is.
//!
//! Made anew for every sign-in and good for minutes. PS256 with the SHA-256 thumbprint; RS256 with
//! the SHA-1 one only where the config asks for it, since a refused signature is refused in either
//! form: trying the older one would only hide what is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::certificate::Identity;
use crate::config::auth::Algorithm;
use crate::error::Error;
use crate::secret::Secret;

/// How long an assertion can be used: enough for a slow server, short because a captured one could
/// be replayed.
const LIFETIME_S: i64 = 300;
/// How far our clock may be ahead of the server's.
const SKEW_S: i64 = 60;

/// A signed assertion by `client_id` for the token endpoint `audience`.
pub(super) fn sign(
    identity: &Identity,
    algorithm: Algorithm,
    audience: &str,
    client_id: &str,
    now_ms: i64,
) -> Result<Secret, Error> {
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
    let header = header(algorithm, &identity.chain);
    let mut token = format!("{}.{}", part(&header), part(&claims));
    let mut signature = vec![0; identity.key.public().modulus_len()];
    let encoding: &dyn RsaEncoding = match algorithm {
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::RS256 => &RSA_PKCS1_SHA256,
    };
    identity
        .key
        .sign(encoding, &random, token.as_bytes(), &mut signature)
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
    use ring::signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    };

    use super::super::certificate::tests::{fixture, identity};
    use super::*;

    #[test]
    fn an_assertion_verifies_and_says_what_entra_wants() {
        for (algorithm, key) in [
            (Algorithm::PS256, "client.key"),
            (Algorithm::RS256, "client-pkcs1.key"),
        ] {
            let identity = identity(&fixture("client.pem", Some(key), None)).unwrap();
            let now_ms = 1_767_225_600_999;
            let make = || {
                let audience = "https://login.example.com/t";
                sign(&identity, algorithm, audience, "app", now_ms).unwrap()
            };
            let token = make();
            let parts: Vec<&str> = token.expose().split('.').collect();
            let signed = format!("{}.{}", parts[0], parts[1]);
            let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
            let public: &[u8] = identity.key.public().as_ref();
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
            let again = make();
            assert_ne!(read(again.expose().split('.').nth(1).unwrap())["jti"], id);
        }
    }
}
