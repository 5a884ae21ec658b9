//! Azure Blob Storage: with an account's key, a shared access signature, or as an application of Entra ID.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::azure::{AzureCredential, MicrosoftAzureBuilder};
use object_store::{CredentialProvider, ObjectStore};
use url::form_urlencoded;

use super::client::Connector;
use super::{Service, no_retries, unusable};
use crate::auth::{Credentials, Token};
use crate::clock::SharedClock;
use crate::config::HttpConfig;
use crate::config::sink::azure_blob::{AzureBlob, AzureBlobAuth};
use crate::error::Error;
use crate::secret::{Redactor, SecretRef};
use crate::sink::service::sign_in;

/// A container of an account.
#[derive(Debug)]
pub(super) struct Blobs {
    config: AzureBlob,
    /// Where it signs in as an application.
    application: Option<Arc<Application>>,
}

/// The bearer tokens of an application, for the client.
#[derive(Debug)]
struct Application {
    credentials: Arc<dyn Credentials>,
    /// The one that was given out last.
    last: Mutex<Option<Token>>,
}

impl Blobs {
    /// A container as the config wants it; reads what proves the application.
    pub fn new(
        config: &AzureBlob,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
        clock: &SharedClock,
    ) -> Result<Self, Error> {
        let application = match &config.auth {
            Some(AzureBlobAuth::Application(auth)) => {
                let credentials = sign_in(auth, http, clock, redactor)?;
                let last = Mutex::default();
                Some(Arc::new(Application { credentials, last }))
            }
            _ => None,
        };
        Ok(Self {
            config: config.clone(),
            application,
        })
    }
}

impl Service for Blobs {
    fn client(
        &self,
        connector: &Connector,
        redactor: &Redactor,
    ) -> Result<Arc<dyn ObjectStore>, Error> {
        let builder = match (&self.config.auth, &self.application) {
            (None, _) => MicrosoftAzureBuilder::from_env(),
            (Some(AzureBlobAuth::AccountKey(key)), _) => {
                let key = super::read(key, redactor)?;
                MicrosoftAzureBuilder::new().with_access_key(key.expose())
            }
            (Some(AzureBlobAuth::SasToken(token)), _) => {
                let token = super::read(token, redactor)?;
                let pairs = token.expose().trim_start_matches('?').as_bytes();
                let pairs: Vec<_> = form_urlencoded::parse(pairs).into_owned().collect();
                MicrosoftAzureBuilder::new().with_sas_authorization(pairs)
            }
            (Some(AzureBlobAuth::Application(_)), application) => {
                let application = application.clone();
                let application = application
                    .ok_or_else(|| Error::internal("the application has no credentials"))?;
                MicrosoftAzureBuilder::new().with_credentials(application)
            }
        };
        let url = &self.config.endpoint;
        let built = builder
            .with_account(&self.config.account_name)
            .with_container_name(&self.config.container_name)
            .with_endpoint(url.as_str().trim_end_matches('/').to_owned())
            .with_allow_http(url.scheme() == "http")
            .with_retry(no_retries())
            .with_http_connector(connector.clone())
            .build();
        Ok(Arc::new(built.map_err(|error| unusable(&error))?))
    }

    fn secrets(&self) -> Vec<&SecretRef> {
        match &self.config.auth {
            Some(AzureBlobAuth::AccountKey(secret) | AzureBlobAuth::SasToken(secret)) => {
                vec![secret]
            }
            // An application's are read again where it signs in.
            Some(AzureBlobAuth::Application(_)) | None => Vec::new(),
        }
    }

    fn refused(&self) {
        if let Some(application) = &self.application
            && let Some(token) = application.last().take()
        {
            application.credentials.invalidate(&token);
        }
    }

    fn help(&self) -> (&'static str, &'static str) {
        (
            "check `auth`: an application needs the role Storage Blob Data Contributor on the container, a shared \
             access signature the permissions to create and write; secrets are read again for each try",
            "check `account_name`, `container_name` and `endpoint`: the container is not there",
        )
    }
}

impl Application {
    fn last(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        // What it holds is whole at every step.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CredentialProvider for Application {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let token = self.credentials.bearer().await.map_err(|error| {
            let path = "the login host".to_owned();
            let source = error.into();
            object_store::Error::Unauthenticated { path, source }
        })?;
        let bearer = token.secret().expose().to_owned();
        *self.last() = Some(token);
        Ok(Arc::new(AzureCredential::BearerToken(bearer)))
    }
}

#[cfg(test)]
mod tests;
