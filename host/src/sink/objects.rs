//! Events as objects of a store, each once: Amazon S3 and what speaks its protocol, Azure Blob Storage, Google Cloud
//! Storage.
//!
//! An object holds what the source handed over together, and is named after that: its split, and a digest of all its
//! events, whether they were new or not. Read again after a crash, the same part either is known as a whole (it is
//! committed in one piece), or is written again under its old name, over what may stand there. So nothing stands there
//! twice, and nothing that was acknowledged is ever replaced by less.

mod azure_blob;
mod client;
mod gcp_cloud_storage;
mod object;
#[cfg(feature = "parquet")]
mod parquet;
mod s3;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use object_store::{Attribute, Attributes, ObjectStore, PutOptions, RetryConfig};

use super::{Sink, Written};
use crate::clock::SharedClock;
use crate::config::sink::objects::{Form, Objects};
use crate::config::{self, HttpConfig, SinkKind};
use crate::error::Error;
use crate::event::Batch;
use crate::secret::{Redactor, Secret, SecretRef};
use azure_blob::Blobs;
use client::Connector;
use object::Object;

/// A service that keeps objects: where it is, and who we are to it.
trait Service: fmt::Debug + Send + Sync {
    /// A client with the secrets as they are now.
    fn client(
        &self,
        connector: &Connector,
        redactor: &Redactor,
    ) -> Result<Arc<dyn ObjectStore>, Error>;

    /// The secrets that a client is made with, which may be replaced.
    fn secrets(&self) -> Vec<&SecretRef>;

    /// Says that the service does not accept who we are.
    fn refused(&self) {}

    /// What to check when the service does not accept who we are or what we do, and when it does not know the place.
    fn help(&self) -> (&'static str, &'static str);
}

/// Delivers to object storage.
#[derive(Debug)]
pub struct ObjectSink {
    name: String,
    objects: Objects,
    service: Box<dyn Service>,
    connector: Connector,
    redactor: Arc<Redactor>,
    store: Arc<dyn ObjectStore>,
    /// What of a write that failed is there already.
    written: HashSet<String>,
}

impl ObjectSink {
    /// The sink that the config wants, of one of three kinds; reads secrets and certificates.
    pub fn new(
        sink: &config::Sink,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let (objects, service): (_, Box<dyn Service>) = match &sink.kind {
            SinkKind::S3(config) => (&config.objects, config.clone()),
            SinkKind::GcpCloudStorage(config) => (&config.objects, config.clone()),
            SinkKind::AzureBlob(config) => {
                let blobs = Blobs::new(config, http, redactor, clock)?;
                (&config.objects, Box::new(blobs))
            }
            other => {
                let what = format!("`{}` keeps no objects", other.key());
                return Err(Error::internal(what));
            }
        };
        if cfg!(not(feature = "parquet")) && matches!(objects.form, Form::Parquet(_)) {
            return Err(Error::config("this build writes no Parquet")
                .at(format!("sink `{}`", sink.name))
                .help("use a release, or build with `--features parquet`"));
        }
        for warning in service.secrets().into_iter().filter_map(SecretRef::warning) {
            tracing::warn!("{warning}");
        }
        let connector = Connector::new(http, objects.tls.as_ref(), objects.timeout)?;
        let at = |error: Error| error.at(format!("sink `{}`", sink.name));
        Ok(Self {
            store: service.client(&connector, redactor).map_err(at)?,
            name: sink.name.clone(),
            objects: objects.clone(),
            service,
            connector,
            redactor: redactor.clone(),
            written: HashSet::new(),
        })
    }

    fn fails(&self, object: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Trouble;
        let (who, place) = self.service.help();
        let help = match error {
            Trouble::Unauthenticated { .. } | Trouble::PermissionDenied { .. } => who,
            Trouble::NotFound { .. } => place,
            _ => "check the service's address, and that it is up",
        };
        // Before it stands the whole address, which says nothing that the object's name does not.
        let text = error.to_string();
        let said = text.split_once(" - ").map_or(&*text, |(_, said)| said);
        let error = super::service::excerpt(said.as_bytes());
        Error::unavailable(format!("cannot write object `{object}`{error}"))
            .at(format!("sink `{}`", self.name))
            .help(help)
    }

    async fn put(&self, object: Object) -> Result<String, (String, object_store::Error)> {
        let Object { name, kind, body } = object;
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, kind.into());
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let path = name.as_str().into();
        match self.store.put_opts(&path, body.into(), options).await {
            Ok(_) => Ok(name),
            Err(error) => Err((name, error)),
        }
    }
}

/// The line tries again, for as long as it takes.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// A secret as it is now; kept out of the log from then on.
fn read(reference: &SecretRef, redactor: &Redactor) -> Result<Secret, Error> {
    let secret = reference.resolve()?;
    redactor.learn(&secret);
    Ok(secret)
}

fn unusable(error: &object_store::Error) -> Error {
    let error = super::service::excerpt(error.to_string().as_bytes());
    Error::config(format!("object storage cannot be set up{error}"))
}

#[async_trait]
impl Sink for ObjectSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        16 << 20
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let packed = object::pack(&self.objects.prefix, self.objects.form, batches).await?;
        let missing = packed
            .into_iter()
            .filter(|object| !self.written.contains(&object.name));
        let puts: Vec<_> = missing.map(|object| self.put(object)).collect();
        let mut puts = stream::iter(puts).buffer_unordered(self.objects.concurrency);
        let (mut written, mut failed) = (Vec::new(), None);
        while let Some(put) = puts.next().await {
            match put {
                Ok(name) => written.push(name),
                Err(failure) => failed = Some(failure),
            }
        }
        drop(puts);
        let Some((object, error)) = failed else {
            self.written.clear();
            return Ok(Written::default());
        };
        self.written.extend(written);
        let failure = self.fails(&object, &error);
        if matches!(error, object_store::Error::Unauthenticated { .. }) {
            self.service.refused();
        }
        if !self.service.secrets().is_empty() {
            // The secrets may have been replaced. Those that cannot be read now leave the old ones.
            match self.service.client(&self.connector, &self.redactor) {
                Ok(store) => self.store = store,
                Err(error) => tracing::warn!(%error, "the credential cannot be read again"),
            }
        }
        Err(failure)
    }
}
