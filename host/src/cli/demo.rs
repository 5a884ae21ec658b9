//! `sluicegate demo`: the main job against simulated tenants on loopback, with real HTTP, sign-in and paging.
//!
//! Nothing is faked on our side: it is `pipelines/demo.yaml` with its tenant replaced by the simulated ones.

use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sluicegate_office::{Office, Pool, Server};
use url::Url;

use super::Done;
use super::run::{finish, run_all, stop_on_signal};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Auth, Config, Credential, Tenant};
use crate::error::Error;
use crate::pipeline::prepare;
use crate::secret::{Redactor, SecretOrigin};

/// The pipeline that is run.
const PIPELINE: &str = include_str!("../../../pipelines/demo.yaml");

/// Run simulated tenants on this machine and deliver their audit trail to standard output.
#[derive(Args)]
pub(super) struct Demo {
    /// How many tenants: 2, or 1 with `--records`.
    #[arg(long)]
    tenants: Option<u16>,
    /// Content blobs of each tenant, spread over its content types.
    #[arg(long, default_value_t = 50)]
    blobs: u32,
    /// Events in each blob.
    #[arg(long, default_value_t = 20)]
    events: u32,
    /// Files of real audit records (NDJSON) to serve instead of invented ones; each comes out once.
    #[arg(long, num_args = 1..)]
    records: Vec<PathBuf>,
    /// Everything about the tenants follows from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on until stopped, as `run` does.
    #[arg(long)]
    keep_running: bool,
}

impl Demo {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let office = self.office().map_err(wrong)?;
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let server = Server::start(office, address).await.map_err(|error| {
            wrong(Error::unavailable(format!(
                "cannot listen on 127.0.0.1: {error}"
            )))
        })?;
        let folder = folder().map_err(wrong)?;
        let mut config = Config::parse(Path::new("pipelines/demo.yaml"), PIPELINE, Some(&folder))?;
        config.source.tenants = self.tenants(&config, &server, &folder).map_err(wrong)?;
        let runtime = super::runtime(redactor).map_err(wrong)?;
        let prepared = prepare(config, &runtime).await?;
        let stop = stop_on_signal().map_err(wrong)?;
        let reports = run_all(vec![prepared], !self.keep_running, &stop).await?;
        Ok(finish(&reports, !self.keep_running))
    }

    fn office(&self) -> Result<Office, Error> {
        // The same record in two tenants is two events, so given records go to one unless asked otherwise.
        let tenants = self
            .tenants
            .unwrap_or(if self.records.is_empty() { 2 } else { 1 });
        let mut builder = Office::builder(self.seed)
            .tenants(tenants)
            .blobs(self.blobs)
            .events_per_blob(self.events)
            .span(Duration::from_hours(6 * 24));
        let mut pool: Option<Pool> = None;
        for path in &self.records {
            let shown = path.display();
            let bytes = std::fs::read(path)
                .map_err(|error| Error::unavailable(format!("cannot read `{shown}`: {error}")))?;
            let read = Pool::from_ndjson(&bytes).map_err(|reason| {
                Error::config(format!(
                    "`{shown}` holds something else than records: {reason}"
                ))
                .help("one audit record (a JSON object with an `Id`) a line")
            })?;
            pool = Some(match pool {
                Some(pool) => pool.and(read),
                None => read,
            });
        }
        if let Some(pool) = pool {
            builder = builder.records(pool);
        }
        Ok(builder.build(SystemClock.now_ms()))
    }

    /// The pipeline's tenant, once for each simulated one.
    fn tenants(
        &self,
        config: &Config,
        server: &Server,
        folder: &Path,
    ) -> Result<Vec<Tenant>, Error> {
        let Some(template) = config.source.tenants.first() else {
            return Err(Error::internal("pipelines/demo.yaml has no tenant"));
        };
        let login = parse(&server.login_url)?;
        let resource = parse(&server.resource_url)?;
        let simulated = server.office(|office, _| {
            let of = |tenant: &sluicegate_office::Tenant| {
                let secret = tenant.client_secret.clone();
                (
                    tenant.name.clone(),
                    tenant.directory_id.clone(),
                    tenant.client_id.clone(),
                    secret,
                )
            };
            office.tenants().iter().map(of).collect::<Vec<_>>()
        });
        let mut tenants = Vec::new();
        for (name, directory_id, client_id, secret) in simulated {
            let path = folder.join(format!("{name}.secret"));
            write_secret(&path, &secret)?;
            let mut auth = template.auth.clone();
            if let Auth::Microsoft(microsoft) = &mut auth {
                microsoft.directory_id = directory_id;
                microsoft.client_id = client_id;
                microsoft.login_url = login.clone();
                microsoft.resource_url = resource.clone();
                if let Credential::ClientSecret(secret) = &mut microsoft.credential {
                    secret.origin = SecretOrigin::File(path);
                }
            }
            tenants.push(template.standing_for(&name, auth, &config.source.grants));
        }
        Ok(tenants)
    }
}

fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::internal(format!("`{url}` is not a URL: {error}")))
}

/// A folder of this run's own for state and secrets; it stays, so that it can be looked at.
fn folder() -> Result<PathBuf, Error> {
    let made = tempfile::Builder::new()
        .prefix("sluicegate-demo-")
        .tempdir();
    made.map(tempfile::TempDir::keep)
        .map_err(|error| Error::unavailable(format!("cannot make a temporary folder: {error}")))
}

fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    opened
        .and_then(|mut file| std::io::Write::write_all(&mut file, secret.as_bytes()))
        .map_err(|error| Error::unavailable(format!("cannot write `{}`: {error}", path.display())))
}
