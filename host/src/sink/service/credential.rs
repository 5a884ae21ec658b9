//! Who we are to a service: a header made from a secret, made again when the service refuses it.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::config::sink::request::Login;
use crate::error::Error;
use crate::secret::{Redactor, Secret, SecretRef};

/// The credential of a sink.
#[derive(Debug)]
pub(super) struct Credential {
    login: Login,
    header: RwLock<HeaderValue>,
    redactor: Arc<Redactor>,
}

impl Credential {
    pub(super) fn new(login: Login, redactor: &Arc<Redactor>) -> Result<Self, Error> {
        if let Some(warning) = secret_of(&login).warning() {
            tracing::warn!("{warning}");
        }
        let header = RwLock::new(header(&login, redactor)?);
        Ok(Self {
            login,
            header,
            redactor: redactor.clone(),
        })
    }

    /// The value of `Authorization`; marked so that no log shows it.
    pub(super) fn header(&self) -> HeaderValue {
        let header = self.header.read().unwrap_or_else(PoisonError::into_inner);
        header.clone()
    }

    /// Reads the secret again. One that cannot be read now leaves the old one.
    pub(super) fn renew(&self) {
        match header(&self.login, &self.redactor) {
            Ok(new) => *self.header.write().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::warn!(%error, "the credential cannot be read again"),
        }
    }
}

fn secret_of(login: &Login) -> &SecretRef {
    match login {
        Login::Basic(_, secret) | Login::Scheme(_, secret) | Login::ApiKey(secret) => secret,
    }
}

fn header(login: &Login, redactor: &Redactor) -> Result<HeaderValue, Error> {
    let reference = secret_of(login);
    let secret = reference.resolve()?;
    redactor.learn(&secret);
    let (scheme, word) = match login {
        Login::Basic(user, _) => {
            let pair = format!("{user}:{}", secret.expose());
            ("Basic", STANDARD.encode(pair))
        }
        Login::Scheme(scheme, _) => (*scheme, secret.expose().to_owned()),
        // As the API returns it, or encoded as Kibana shows it; base64 has no colon.
        Login::ApiKey(_) if secret.expose().contains(':') => {
            ("ApiKey", STANDARD.encode(secret.expose()))
        }
        Login::ApiKey(_) => ("ApiKey", secret.expose().to_owned()),
    };
    redactor.learn(&Secret::new(word.clone()));
    let mut value = HeaderValue::try_from(format!("{scheme} {word}")).map_err(|_| {
        let what = format!(
            "{} holds no token: it has a line break or another control character",
            reference.origin
        );
        reference.place.error(what).help("put the bare token there")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
