//! Signing in to a forward server: both sides prove that they know the shared key, and a user shows its password.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha512};

use super::answers::Answers;
use super::msgpack::{self, Value};
use crate::config::sink::fluent::FluentLogin;
use crate::error::Error;
use crate::secret::{Redactor, Secret, SecretRef};
use crate::sink::peers::Stream;

/// Who we are to a server.
pub(super) struct Login {
    config: FluentLogin,
    secrets: RwLock<Secrets>,
    redactor: Arc<Redactor>,
}

#[derive(Clone)]
struct Secrets {
    shared_key: Secret,
    password: Secret,
}

impl Login {
    /// Reads the secrets.
    pub fn new(config: &FluentLogin, redactor: &Arc<Redactor>) -> Result<Self, Error> {
        let password = config.user.as_ref().map(|(_, password)| password);
        for warning in [config.shared_key.as_ref(), password]
            .into_iter()
            .flatten()
            .filter_map(SecretRef::warning)
        {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            secrets: RwLock::new(secrets(config, redactor)?),
            config: config.clone(),
            redactor: redactor.clone(),
        })
    }

    /// Signs in on a new connection.
    pub async fn sign_in(&self, stream: &mut Stream, answers: &mut Answers) -> io::Result<()> {
        let hello = answers.next(stream).await?;
        let (nonce, auth) = greeting(&hello).ok_or_else(|| {
            invalid("it does not begin with HELO: it wants no shared key, or is no forward server")
        })?;
        let secrets = self.secrets();
        let key = secrets.shared_key.expose();
        let salt: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        let hostname = &self.config.hostname;
        let digest = hex(&[&salt, hostname.as_bytes(), &nonce, key.as_bytes()]);
        let user = self.config.user.as_ref().filter(|_| !auth.is_empty());
        let (name, password) = user.map_or((String::new(), String::new()), |(name, _)| {
            let password = secrets.password.expose();
            (
                name.clone(),
                hex(&[&auth, name.as_bytes(), password.as_bytes()]),
            )
        });
        let mut ping = Vec::new();
        msgpack::list(&mut ping, 6);
        msgpack::text(&mut ping, "PING");
        msgpack::text(&mut ping, hostname);
        msgpack::binary(&mut ping, &salt);
        for word in [&digest, &name, &password] {
            msgpack::text(&mut ping, word);
        }
        stream.send(&ping, answers.patience()).await?;
        let pong = answers.next(stream).await;
        let pong = pong.inspect_err(|_| self.renew())?;
        let known = |server: &[u8]| hex(&[&salt, server, &nonce, key.as_bytes()]);
        judge(&pong, known).map_err(|reason| {
            self.renew();
            let what = format!("signing in failed: {reason}");
            io::Error::new(io::ErrorKind::PermissionDenied, what)
        })
    }

    fn secrets(&self) -> Secrets {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.clone()
    }

    /// Reads the secrets again, which the server has refused. Those that cannot be read now stay.
    fn renew(&self) {
        match secrets(&self.config, &self.redactor) {
            Ok(new) => *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::warn!(%error, "the credential cannot be read again"),
        }
    }
}

fn secrets(config: &FluentLogin, redactor: &Redactor) -> Result<Secrets, Error> {
    let read = |reference: Option<&SecretRef>| match reference {
        Some(reference) => {
            let secret = reference.resolve()?;
            redactor.learn(&secret);
            Ok(secret)
        }
        None => Ok(Secret::new("")),
    };
    Ok(Secrets {
        shared_key: read(config.shared_key.as_ref())?,
        password: read(config.user.as_ref().map(|(_, password)| password))?,
    })
}

/// The nonce, and the salt for passwords, which is empty where no user is wanted.
fn greeting(hello: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
    let Value::List(parts) = hello else {
        return None;
    };
    let [word, options] = &parts[..] else {
        return None;
    };
    if word.bytes() != Some(b"HELO") {
        return None;
    }
    let auth = options
        .get("auth")
        .and_then(Value::bytes)
        .unwrap_or_default();
    Some((options.get("nonce")?.bytes()?.to_vec(), auth.to_vec()))
}

/// Whether the server took us, and knows the key itself.
fn judge(pong: &Value, known: impl Fn(&[u8]) -> String) -> Result<(), String> {
    let Value::List(parts) = pong else {
        return Err("the answer is no PONG".to_owned());
    };
    match &parts[..] {
        [word, Value::Bool(true), _, server, digest] if word.bytes() == Some(b"PONG") => {
            let server = server.bytes().unwrap_or_default();
            if digest.bytes() == Some(known(server).as_bytes()) {
                return Ok(());
            }
            Err("the server does not know the shared key itself".to_owned())
        }
        [word, Value::Bool(false), reason, ..] if word.bytes() == Some(b"PONG") => {
            let reason = reason.bytes().unwrap_or_default();
            Err(crate::sink::service::excerpt(reason)
                .trim_start_matches(": ")
                .to_owned())
        }
        _ => Err("the answer is no PONG".to_owned()),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The SHA-512 of all parts, in hexadecimal.
fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    let mut hex = String::with_capacity(128);
    for byte in hash.finalize() {
        // Writing to memory does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
