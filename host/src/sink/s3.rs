//! Events as objects of a store that speaks S3, each once.
//!
//! An object holds what the source handed over together, and is named after that: its split, and a digest of all its
//! events, whether they were new or not. Read again after a crash, the same part either is known as a whole (it is
//! committed in one piece), or is written again under its old name, over what may stand there. So nothing stands there
//! twice, and nothing that was acknowledged is ever replaced by less.

mod client;
mod object;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use object_store::aws::AmazonS3Builder;
use object_store::{Attribute, Attributes, ObjectStore, PutOptions, RetryConfig};

use super::{Sink, Written};
use crate::config::HttpConfig;
use crate::config::sink::s3::S3;
use crate::error::Error;
use crate::event::Batch;
use crate::secret::Redactor;
use client::Connector;
use object::Object;

/// Delivers to object storage.
#[derive(Debug)]
pub struct S3Sink {
    name: String,
    config: S3,
    connector: Connector,
    redactor: Arc<Redactor>,
    store: Arc<dyn ObjectStore>,
    /// What of a write that failed is there already.
    written: HashSet<String>,
}

impl S3Sink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &S3,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
        let connector = Connector::new(http, config.tls.as_ref(), config.timeout)?;
        for secret in config
            .login
            .iter()
            .flat_map(|(_, key, token)| token.iter().chain([key]))
        {
            if let Some(warning) = secret.warning() {
                tracing::warn!("{warning}");
            }
        }
        Ok(Self {
            store: store(name, config, &connector, redactor)?,
            name: name.to_owned(),
            config: config.clone(),
            connector,
            redactor: redactor.clone(),
            written: HashSet::new(),
        })
    }

    fn fails(&self, object: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Trouble;
        let help = match error {
            Trouble::Unauthenticated { .. } | Trouble::PermissionDenied { .. } => {
                "check `auth`, and that it may write (s3:PutObject) to the bucket; secrets are read again for each try"
            }
            Trouble::NotFound { .. } => "check `bucket`, `region` and `endpoint`",
            _ => "check `endpoint` and `region`, and that the service is up",
        };
        let error = super::service::excerpt(error.to_string().as_bytes());
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

fn store(
    name: &str,
    config: &S3,
    connector: &Connector,
    redactor: &Redactor,
) -> Result<Arc<dyn ObjectStore>, Error> {
    let builder = match &config.login {
        None => AmazonS3Builder::from_env(),
        Some((id, key, token)) => {
            let key = key.resolve()?;
            redactor.learn(&key);
            let mut builder = AmazonS3Builder::new()
                .with_access_key_id(id)
                .with_secret_access_key(key.expose());
            if let Some(token) = token {
                let token = token.resolve()?;
                redactor.learn(&token);
                builder = builder.with_token(token.expose());
            }
            builder
        }
    };
    let builder = match &config.endpoint {
        None => builder,
        Some(url) => builder
            .with_endpoint(url.as_str().trim_end_matches('/'))
            .with_allow_http(url.scheme() == "http"),
    };
    let retry = RetryConfig {
        // The line tries again, for as long as it takes.
        max_retries: 0,
        ..RetryConfig::default()
    };
    let built = builder
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.force_path_style)
        .with_retry(retry)
        .with_http_connector(connector.clone())
        .build();
    let store = built.map_err(|error| {
        Error::config(format!("object storage cannot be set up: {error}"))
            .at(format!("sink `{name}`"))
    })?;
    Ok(Arc::new(store))
}

#[async_trait]
impl Sink for S3Sink {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        16 << 20
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let (prefix, compression) = (&self.config.key_prefix, self.config.compression);
        let packed = object::pack(prefix, compression, batches).await?;
        let missing = packed
            .into_iter()
            .filter(|object| !self.written.contains(&object.name));
        let puts: Vec<_> = missing.map(|object| self.put(object)).collect();
        let mut puts = stream::iter(puts).buffer_unordered(self.config.concurrency);
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
        if self.config.login.is_some() {
            // The secrets may have been replaced. Those that cannot be read now leave the old ones.
            match store(&self.name, &self.config, &self.connector, &self.redactor) {
                Ok(store) => self.store = store,
                Err(error) => tracing::warn!(%error, "the credential cannot be read again"),
            }
        }
        Err(failure)
    }
}
