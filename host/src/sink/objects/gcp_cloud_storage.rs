//! Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use serde_json::Value;

use super::client::Connector;
use super::{Service, no_retries, unusable};
use crate::config::sink::gcp_cloud_storage::GcpCloudStorage;
use crate::error::Error;
use crate::secret::{Redactor, Secret, SecretRef};

impl Service for GcpCloudStorage {
    fn client(
        &self,
        connector: &Connector,
        redactor: &Redactor,
    ) -> Result<Arc<dyn ObjectStore>, Error> {
        let builder = match &self.credentials {
            None => GoogleCloudStorageBuilder::from_env(),
            Some(credentials) => {
                let key = super::read(credentials, redactor)?;
                let parsed: Value = serde_json::from_str(key.expose()).unwrap_or_default();
                let Some(private_key) = parsed["private_key"].as_str() else {
                    let what = format!("{} holds no key of a service account", credentials.origin);
                    let help = "put the JSON file there that the Google Cloud console gives for it: IAM, Service \
                                accounts, Keys";
                    return Err(credentials.place.error(what).help(help));
                };
                redactor.learn(&Secret::new(private_key.to_owned()));
                GoogleCloudStorageBuilder::new().with_service_account_key(key.expose())
            }
        };
        // Wherever a key or the environment points, the token goes to this address only.
        let built = builder
            .with_base_url(self.endpoint.as_str().trim_end_matches('/'))
            .with_bucket_name(&self.bucket)
            .with_retry(no_retries())
            .with_http_connector(connector.clone())
            .build();
        Ok(Arc::new(built.map_err(|error| unusable(&error))?))
    }

    fn secrets(&self) -> Vec<&SecretRef> {
        self.credentials.iter().collect()
    }

    fn help(&self) -> (&'static str, &'static str) {
        (
            "check `credentials`, and that the service account has the role Storage Object User on the bucket, since \
             what is written again replaces what is there; the key is read again for each try",
            "check `bucket`: it is not there",
        )
    }
}
