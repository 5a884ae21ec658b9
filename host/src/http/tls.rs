//! Whom we trust over TLS, and who we are: the system's roots and the config's, a certificate of our own.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::HttpConfig;
use crate::config::sink::request::Tls;
use crate::error::Error;

type Verified<T> = Result<T, rustls::Error>;

/// What a client of this config does over TLS; `own` is what one sink wants different.
pub(crate) fn client_config(
    config: &HttpConfig,
    own: Option<&Tls>,
) -> Result<rustls::ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!("some of the system's certificates cannot be read: {error}");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = &config.ca_file {
        trust(&mut roots, path, "http.ca_file")?;
    }
    if let Some(path) = own.and_then(|own| own.ca_file.as_ref()) {
        trust(&mut roots, path, "tls.ca_file")?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?;
    let Some(own) = own else {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let builder = if own.verify_certificate && own.verify_hostname {
        builder.with_root_certificates(roots)
    } else {
        let verifier = Lenient::new(own, roots, provider)?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    };
    let Some((certificate, key)) = &own.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate, "tls.crt_file")?;
    let key = private_key(key)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let what = format!("the certificate and its key cannot be used: {error}");
        Error::config(what)
            .at("keys `tls.crt_file` and `tls.key_file`")
            .help("name the key that the certificate was made with")
    })
}

fn trust(roots: &mut RootCertStore, path: &Path, key: &str) -> Result<(), Error> {
    for (number, certificate) in certificates(path, key)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| refuse(path, key, &format!("certificate {}: {error}", number + 1)))?;
    }
    Ok(())
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path, key)?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let number = found.len() + 1;
        found.push(
            certificate
                .map_err(|error| refuse(path, key, &format!("certificate {number}: {error}")))?,
        );
    }
    if found.is_empty() {
        return Err(refuse(path, key, "the file holds no certificate"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    const KEY: &str = "tls.key_file";
    let text = read(path, KEY)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        Error::config("the file holds no private key that is not encrypted")
            .at(format!("`{}`, key `{KEY}`", path.display()))
            .help("name a PEM file; decrypt it with `openssl pkcs8 -topk8 -nocrypt`")
    })
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        let why = crate::secret::plain(&error);
        let what = format!("cannot read file `{}`: {why}", path.display());
        refuse(path, key, &what)
    })
}

fn refuse(path: &Path, key: &str, what: &str) -> Error {
    Error::config(what)
        .at(format!("`{}`, key `{key}`", path.display()))
        .help("name a PEM file with one or more certificates")
}

/// Checks less than it should, because the config says so.
#[derive(Debug)]
struct Lenient {
    /// `None`: the certificate is not looked at.
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Lenient {
    fn new(
        own: &Tls,
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let build = || WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let strict = own.verify_certificate.then(build).transpose();
        let strict = strict.map_err(|error| {
            let what = format!("the server's certificate cannot be checked: {error}");
            own.place.error(what).help("name a `ca_file`")
        })?;
        Ok(Self { strict, provider })
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Verified<ServerCertVerified> {
        let Some(strict) = &self.strict else {
            return Ok(ServerCertVerified::assertion());
        };
        let found =
            strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match found {
            // The name is checked last, so everything else is in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
