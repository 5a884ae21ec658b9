//! What proves to a login host who the client is: a secret, a signed assertion, another's token.
//!
//! The sources are read again for every request, so rotation needs no restart; a key is taken apart
//! again only when its files have changed. Whether they have changed since a proof was made can be
//! asked at any time: that is how a refusal of yesterday's secret ends with today's. What is sent is
//! made known to the redactor before it leaves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest;

use super::assertion;
use super::certificate::{Files, Identity, Validity};
use super::expiry::Stage;
use crate::config::auth::{Certificate, Credential};
use crate::error::Error;
use crate::secret::{Redactor, Secret, SecretOrigin, SecretRef};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How many values that were sent are still kept out of the log: the current one and a few that
/// late lines may repeat.
const REMEMBERED: usize = 4;

/// Tells one content of a credential's sources from another.
pub(super) type Version = [u8; 32];

/// What one request carries.
pub(super) struct Proof {
    /// Form fields.
    pub(super) fields: Vec<(&'static str, Secret)>,
    /// Which content of the sources it was made from.
    pub(super) version: Version,
    /// SHA-1 and SHA-256 of the certificate, where there is one.
    pub(super) thumbprints: Option<(String, String)>,
}

/// Makes proofs from one credential.
pub(super) struct Prover {
    credential: Credential,
    redactor: Arc<Redactor>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The certificate as it was last taken apart, and the files' version then.
    identity: Option<(Version, Arc<Identity>)>,
    /// What people were told of its end.
    told: Stage,
    /// What was sent last, newest behind.
    sent: VecDeque<Secret>,
    /// What opened the certificate's key last.
    passphrase: Option<Secret>,
}

impl Prover {
    pub(super) fn new(credential: &Credential, redactor: &Arc<Redactor>) -> Self {
        Self {
            credential: credential.clone(),
            redactor: Arc::clone(redactor),
            known: Mutex::default(),
        }
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Whether proofs say at what time they are made.
    pub(super) fn is_dated(&self) -> bool {
        matches!(self.credential, Credential::Certificate(_))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held, and what it holds is whole at every step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A proof for the token endpoint `audience`, made now from the sources as they are.
    pub(super) fn prove(
        &self,
        audience: &str,
        client_id: &str,
        now_ms: i64,
    ) -> Result<Proof, Error> {
        let assertion = |value| {
            vec![
                ("client_assertion_type", Secret::new(ASSERTION_TYPE)),
                ("client_assertion", value),
            ]
        };
        match &self.credential {
            Credential::ClientSecret(secret) => {
                let secret = self.remember(secret.resolve()?);
                Ok(Proof {
                    version: version(&secret),
                    fields: vec![("client_secret", secret)],
                    thumbprints: None,
                })
            }
            Credential::Certificate(certificate) => {
                let (version, identity) = self.identity(certificate)?;
                self.tell(certificate, identity.validity, now_ms);
                let algorithm = certificate.algorithm;
                let signed = assertion::sign(&identity, algorithm, audience, client_id, now_ms)?;
                Ok(Proof {
                    fields: assertion(self.remember(signed)),
                    version,
                    thumbprints: Some(identity.thumbprints()),
                })
            }
            Credential::FederatedTokenFile(file) => {
                let token = self.remember(file.resolve()?);
                Ok(Proof {
                    version: version(&token),
                    fields: assertion(token),
                    thumbprints: None,
                })
            }
        }
    }

    /// Whether the sources hold something else than when a proof of this version was made. What
    /// cannot be read just now has not changed.
    pub(super) fn changed_since(&self, made: &Version) -> bool {
        let now = match &self.credential {
            Credential::ClientSecret(secret) | Credential::FederatedTokenFile(secret) => {
                secret.resolve().map(|value| version(&value))
            }
            Credential::Certificate(certificate) => {
                Files::read(certificate).map(|files| files.digest())
            }
        };
        now.is_ok_and(|now| now != *made)
    }

    /// Warnings about who else can read the secrets.
    pub(super) fn warnings(&self) -> Vec<Error> {
        secrets(&self.credential)
            .iter()
            .filter_map(SecretRef::warning)
            .collect()
    }

    fn identity(&self, certificate: &Certificate) -> Result<(Version, Arc<Identity>), Error> {
        let files = Files::read(certificate)?;
        let version = files.digest();
        let mut known = self.known();
        if let Some(passphrase) = files.passphrase() {
            let former = known.passphrase.replace(passphrase.clone());
            if former
                .as_ref()
                .is_none_or(|former| former.expose() != passphrase.expose())
            {
                self.redactor.learn(passphrase);
                former
                    .iter()
                    .for_each(|former| self.redactor.forget(former));
            }
        }
        if let Some((read, identity)) = &known.identity
            && *read == version
        {
            return Ok((version, Arc::clone(identity)));
        }
        let identity = Arc::new(Identity::of(certificate, &files)?);
        if known.identity.is_some() {
            let (sha1, _) = identity.thumbprints();
            tracing::info!("the certificate was replaced; from now on it is {sha1}");
        }
        known.identity = Some((version, Arc::clone(&identity)));
        known.told = Stage::Fine;
        Ok((version, identity))
    }

    /// Announces the end of a certificate: each warning once, its end at every sign-in.
    fn tell(&self, certificate: &Certificate, validity: Validity, now_ms: i64) {
        let Some(sentence) = validity.sentence(now_ms) else {
            return;
        };
        let stage = validity.stage(now_ms);
        let news = std::mem::replace(&mut self.known().told, stage) < stage;
        let path = certificate.file.display();
        let notice = certificate
            .place
            .error(format!("{sentence}: file `{path}`"))
            .help(if stage == Stage::Fine { EARLY } else { RENEW });
        match stage {
            Stage::Over => tracing::error!(alarm = "certificate_expired", "{notice}"),
            Stage::Soon(_) if news => tracing::warn!(alarm = "certificate_expires", "{notice}"),
            Stage::Soon(_) => {}
            Stage::Fine => tracing::warn!(alarm = "certificate_not_yet_valid", "{notice}"),
        }
    }

    /// Nothing more will be proven: nothing more needs to be kept out of the log.
    pub(super) fn retire(&self) {
        let mut known = self.known();
        let passphrase = known.passphrase.take();
        for secret in known.sent.drain(..).chain(passphrase) {
            self.redactor.forget(&secret);
        }
    }

    /// Keeps a value out of the log for as long as late lines may repeat it.
    fn remember(&self, value: Secret) -> Secret {
        let mut known = self.known();
        if known
            .sent
            .iter()
            .any(|sent| sent.expose() == value.expose())
        {
            return value;
        }
        self.redactor.learn(&value);
        known.sent.push_back(value.clone());
        if known.sent.len() > REMEMBERED
            && let Some(gone) = known.sent.pop_front()
        {
            self.redactor.forget(&gone);
        }
        value
    }
}

/// What to do about a certificate that has not begun.
const EARLY: &str = "check this machine's clock, or wait";
/// What to do about a certificate that ends.
pub(super) const RENEW: &str = "make a new certificate, upload it in the Entra admin center under \
    App registrations, the application, Certificates & secrets, Certificates, and put it in place \
    of the old one; no restart is needed";

/// What must stay secret of a credential.
fn secrets(credential: &Credential) -> Vec<SecretRef> {
    match credential {
        Credential::ClientSecret(secret) | Credential::FederatedTokenFile(secret) => {
            vec![secret.clone()]
        }
        Credential::Certificate(certificate) => {
            // Without a key of its own the certificate's file holds the key.
            let beside = || SecretRef {
                origin: SecretOrigin::File(certificate.file.clone()),
                place: certificate.place.clone(),
            };
            let key = certificate.key.clone().unwrap_or_else(beside);
            [key]
                .into_iter()
                .chain(certificate.passphrase.clone())
                .collect()
        }
    }
}

fn version(value: &Secret) -> Version {
    let mut found = [0; 32];
    let digest = digest::digest(&digest::SHA256, value.expose().as_bytes());
    found.copy_from_slice(digest.as_ref());
    found
}

/// What can be said of a credential without showing or using it.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A client secret, and where it is.
    ClientSecret(SecretOrigin),
    /// A certificate.
    Certificate {
        /// When it can be used.
        validity: Validity,
        /// Its thumbprints, SHA-1 and SHA-256, as the portal shows them.
        thumbprints: (String, String),
        /// `PS256` or `RS256`.
        algorithm: crate::config::auth::Algorithm,
    },
    /// The claims of another issuer's token, if it is a JWT.
    Federated(Option<serde_json::Value>),
}

/// Looks at a credential as a sign-in would, without signing in. Warnings come along.
pub fn look(credential: &Credential) -> Result<(Seen, Vec<Error>), Error> {
    let seen = match credential {
        Credential::ClientSecret(secret) => {
            secret.resolve()?;
            Seen::ClientSecret(secret.origin.clone())
        }
        Credential::Certificate(certificate) => {
            let identity = Identity::of(certificate, &Files::read(certificate)?)?;
            Seen::Certificate {
                validity: identity.validity,
                thumbprints: identity.thumbprints(),
                algorithm: certificate.algorithm,
            }
        }
        Credential::FederatedTokenFile(file) => Seen::Federated(super::claims(&file.resolve()?)),
    };
    let warnings = secrets(credential)
        .iter()
        .filter_map(SecretRef::warning)
        .collect();
    Ok((seen, warnings))
}
