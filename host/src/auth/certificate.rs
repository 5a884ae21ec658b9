//! Certificates and their keys, from the files in which people keep them.
//!
//! PEM with the key beside it or in the same file (PKCS#1, PKCS#8, PKCS#8 under a passphrase), or
//! one PKCS#12 file (`.pfx`, `.p12`), told apart by content and not by name. The key has to be the
//! certificate's own. Errors name the file and what was found there, never what stands in it.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::Pkcs12Archive;
use pkcs8::EncryptedPrivateKeyInfoRef;
use ring::digest;
use ring::signature::RsaKeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _, SectionKind};

use crate::config::auth::Certificate;
use crate::error::Error;
use crate::secret::{Secret, SecretRef, plain};

/// Larger files hold something else: a certificate with a long chain has some 20 kilobytes.
const MOST_BYTES: u64 = 1 << 20;
const CONVERT: &str = "convert it: `openssl pkcs8 -topk8 -in OLD.key -out NEW.key`";
const SIZES: &str = "use a certificate with an RSA key of 2048 to 4096 bits";

/// What the files of a certificate hold at one moment, as they are.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Option<Secret>,
    passphrase: Option<Secret>,
}

impl Files {
    /// Reads all of them.
    pub(super) fn read(certificate: &Certificate) -> Result<Self, Error> {
        let resolve =
            |secret: &Option<SecretRef>| secret.as_ref().map(SecretRef::resolve).transpose();
        Ok(Self {
            certificate: read(certificate)?,
            key: resolve(&certificate.key)?,
            passphrase: resolve(&certificate.passphrase)?,
        })
    }

    /// The passphrase, so that it can be kept out of the log.
    pub(super) fn passphrase(&self) -> Option<&Secret> {
        self.passphrase.as_ref()
    }

    /// Tells one content of the files from another.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let key = self.key.as_ref().map_or("", Secret::expose);
        let passphrase = self.passphrase.as_ref().map_or("", Secret::expose);
        for part in [&*self.certificate, key.as_bytes(), passphrase.as_bytes()] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut found = [0; 32];
        found.copy_from_slice(context.finish().as_ref());
        found
    }
}

fn read(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    let path = &certificate.file;
    let cannot = |error: std::io::Error| {
        let shown = path.display();
        let what = format!("cannot read certificate file `{shown}`: {}", plain(&error));
        certificate
            .place
            .error(what)
            .help("check the path and that the process may read it")
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > MOST_BYTES {
        let what = format!("certificate file `{}` has {length} bytes", path.display());
        let help = "a certificate has a few kilobytes; is this the right file?";
        return Err(certificate.place.error(what).help(help));
    }
    std::fs::read(path).map_err(cannot)
}

/// A certificate, its chain, and the key that belongs to it.
pub(super) struct Identity {
    /// The client's own certificate first; at least one.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: RsaKeyPair,
    pub(super) validity: Validity,
}

/// From when until when a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first millisecond.
    pub from_ms: i64,
    /// Its last millisecond.
    pub until_ms: i64,
}

impl Identity {
    /// Makes sense of the files.
    pub(super) fn of(certificate: &Certificate, files: &Files) -> Result<Self, Error> {
        let (mut chain, key) = if begins_as_der(&files.certificate) {
            from_pkcs12(certificate, files)?
        } else {
            (
                from_pem(certificate, &files.certificate)?,
                key(certificate, files)?,
            )
        };
        let own = chain.iter().position(|one| belongs(one, &key));
        let Some(own) = own else {
            let path = certificate.file.display();
            let what = match &certificate.key {
                Some(key) => {
                    format!(
                        "the key in {} does not belong to certificate `{path}`",
                        key.origin
                    )
                }
                None => format!("the key in `{path}` belongs to none of its certificates"),
            };
            let place = certificate
                .key
                .as_ref()
                .map_or(&certificate.place, |key| &key.place);
            let help = "name the key that the certificate was made with";
            return Err(place.error(what).help(help));
        };
        // Servers expect the client's own first; the order of the others says nothing to them.
        chain[..=own].rotate_right(1);
        let validity = validity(certificate, &chain[0])?;
        Ok(Self {
            chain,
            key,
            validity,
        })
    }

    /// The thumbprints as the portal and `openssl x509 -fingerprint` show them: SHA-1, SHA-256.
    pub(super) fn thumbprints(&self) -> (String, String) {
        let of = |kind| {
            let mut text = String::new();
            for byte in digest::digest(kind, &self.chain[0]).as_ref() {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02X}");
            }
            text
        };
        (of(&digest::SHA1_FOR_LEGACY_USE_ONLY), of(&digest::SHA256))
    }
}

/// PKCS#12 is DER: a sequence longer than 127 bytes. PEM is text, which has no such second byte.
fn begins_as_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|second| *second >= 0x80)
}

fn from_pkcs12(
    certificate: &Certificate,
    files: &Files,
) -> Result<(Vec<CertificateDer<'static>>, RsaKeyPair), Error> {
    let path = certificate.file.display();
    let refuse = |what: String, help: &str| certificate.place.error(what).help(help);
    if x509_parser::parse_x509_certificate(&files.certificate).is_ok() {
        let what = format!("file `{path}` is a certificate in DER form, without its key");
        let help = "convert it: `openssl x509 -inform der -in OLD.cer -out NEW.pem`, and name its \
            key under `key`";
        return Err(refuse(what, help));
    }
    let passphrase = files.passphrase.as_ref().map_or("", Secret::expose);
    let archive = Pkcs12Archive::from_pkcs12(&files.certificate, passphrase).map_err(|error| {
        use p12_keystore::error::Error as Found;
        match error {
            Found::MacError(_) | Found::Pkcs5Error(_) => refuse(
                format!("file `{path}` does not open with this passphrase"),
                "put the passphrase that the PKCS#12 file was exported with where `passphrase` \
                 points",
            ),
            _ => refuse(
                format!("file `{path}` is neither PEM nor a PKCS#12 file that can be read"),
                "export the certificate with its key as PFX (AES-256 or TripleDES), or as PEM",
            ),
        }
    })?;
    let chain: Vec<_> = archive
        .certs
        .iter()
        .map(|bag| CertificateDer::from(bag.cert.as_der().to_vec()))
        .collect();
    if chain.is_empty() {
        let what = format!("file `{path}` holds no certificate");
        return Err(refuse(what, "export the certificate together with its key"));
    }
    let own_key = archive
        .keys
        .iter()
        .filter_map(|bag| RsaKeyPair::from_pkcs8(bag.key.as_der()).ok())
        .find(|key| chain.iter().any(|one| belongs(one, key)));
    match (own_key, archive.keys.is_empty()) {
        (Some(key), _) => Ok((chain, key)),
        (None, true) => {
            let help = "export the certificate together with its private key";
            Err(refuse(format!("file `{path}` holds no private key"), help))
        }
        (None, false) => {
            let what = format!("file `{path}` holds no RSA key of one of its certificates");
            Err(refuse(what, SIZES))
        }
    }
}

/// The certificates of a PEM file.
fn from_pem(certificate: &Certificate, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => {
            let path = certificate.file.display();
            let what = format!("file `{path}` holds no certificate, neither as PEM nor as PKCS#12");
            let help =
                "name a PEM or PFX file with the certificate registered with the application";
            Err(certificate.place.error(what).help(help))
        }
    }
}

/// The private key in PEM form, of its own file or of the certificate's; errors say which kind was
/// found.
fn key(certificate: &Certificate, files: &Files) -> Result<RsaKeyPair, Error> {
    let (shown, place) = match &certificate.key {
        Some(key) => (key.origin.to_string(), &key.place),
        None => (file(&certificate.file), &certificate.place),
    };
    let refuse =
        |what: &str, help: &str| place.error(format!("the key in {shown} {what}")).help(help);
    let beside = String::from_utf8_lossy(&files.certificate);
    let text = files.key.as_ref().map_or(&*beside, Secret::expose);
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(refuse("is encrypted in the old form of OpenSSL", CONVERT));
    }
    let pair = if let Some(der) = section(text, "ENCRYPTED PRIVATE KEY") {
        let Some(passphrase) = &files.passphrase else {
            let help = "add `passphrase: { file: PATH }` or `{ env: NAME }` to the certificate";
            return Err(refuse("is encrypted, and no passphrase is given", help));
        };
        let info = EncryptedPrivateKeyInfoRef::try_from(&*der)
            .map_err(|_| refuse("is not an encrypted PKCS#8 key", CONVERT))?;
        let open = info.decrypt(passphrase.expose()).map_err(|_| {
            let help = "put the passphrase of the key where `passphrase` points; a key that was \
                encrypted with DES or RC2 has to be converted";
            refuse("does not open with this passphrase", help)
        })?;
        RsaKeyPair::from_pkcs8(open.as_bytes())
    } else {
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
        let mut sections = sections.filter_map(Result::ok);
        let key = sections.find(|(kind, _)| *kind != SectionKind::Certificate);
        match key {
            Some((SectionKind::PrivateKey, der)) => RsaKeyPair::from_pkcs8(&der),
            Some((SectionKind::RsaPrivateKey, der)) => RsaKeyPair::from_der(&der),
            Some(_) => return Err(refuse("is not an RSA private key", SIZES)),
            None if certificate.key.is_none() => {
                let what = format!("{shown} holds no private key beside the certificate");
                let help = "name the key's own file: `key: { file: PATH }`";
                return Err(place.error(what).help(help));
            }
            None => return Err(refuse("is not a private key in PEM form", CONVERT)),
        }
    };
    pair.map_err(|error| match error.to_string().as_str() {
        "WrongAlgorithm" => refuse("is not an RSA key", SIZES),
        why => refuse(&format!("cannot be used ({why})"), SIZES),
    })
}

fn file(path: &Path) -> String {
    format!("file `{}`", path.display())
}

/// The bytes of a PEM section that `rustls-pki-types` does not know.
fn section(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let letters: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(letters).ok()
}

/// A certificate holds its public key as it is, so the pair can be checked without taking it apart.
fn belongs(certificate: &CertificateDer<'_>, key: &RsaKeyPair) -> bool {
    let public: &[u8] = key.public().as_ref();
    certificate
        .windows(public.len())
        .any(|window| window == public)
}

fn validity(certificate: &Certificate, own: &CertificateDer<'_>) -> Result<Validity, Error> {
    match x509_parser::parse_x509_certificate(own) {
        Ok((_, read)) => Ok(Validity {
            from_ms: read.validity().not_before.timestamp().saturating_mul(1_000),
            until_ms: read.validity().not_after.timestamp().saturating_mul(1_000),
        }),
        Err(_) => {
            let what = format!(
                "file `{}` holds a damaged certificate",
                certificate.file.display()
            );
            Err(certificate.place.error(what).help("export it again"))
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
