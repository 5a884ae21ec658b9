//! Amazon S3, and services that speak its protocol.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;

use super::client::Connector;
use super::{Service, no_retries, unusable};
use crate::config::sink::s3::S3;
use crate::error::Error;
use crate::secret::{Redactor, SecretRef};

impl Service for S3 {
    fn client(
        &self,
        connector: &Connector,
        redactor: &Redactor,
    ) -> Result<Arc<dyn ObjectStore>, Error> {
        let builder = match &self.login {
            None => AmazonS3Builder::from_env(),
            Some((id, key, token)) => {
                let key = super::read(key, redactor)?;
                let mut builder = AmazonS3Builder::new()
                    .with_access_key_id(id)
                    .with_secret_access_key(key.expose());
                if let Some(token) = token {
                    builder = builder.with_token(super::read(token, redactor)?.expose());
                }
                builder
            }
        };
        let builder = match &self.endpoint {
            None => builder,
            Some(url) => builder
                .with_endpoint(url.as_str().trim_end_matches('/'))
                .with_allow_http(url.scheme() == "http"),
        };
        let built = builder
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(!self.force_path_style)
            .with_retry(no_retries())
            .with_http_connector(connector.clone())
            .build();
        Ok(Arc::new(built.map_err(|error| unusable(&error))?))
    }

    fn secrets(&self) -> Vec<&SecretRef> {
        let login = self.login.iter();
        let secrets = login.flat_map(|(_, key, token)| token.iter().chain([key]));
        secrets.collect()
    }

    fn help(&self) -> (&'static str, &'static str) {
        (
            "check `auth`, and that it may write (s3:PutObject) to the bucket; secrets are read again for each try",
            "check `bucket`, `region` and `endpoint`",
        )
    }
}
