//! `sluicegate doctor`: walks the live path of each tenant and says what to put right, and where.
//!
//! The same steps as a run takes, with the same client, credentials and proxy, but one at a time,
//! and each with a verdict. Nothing is changed: no subscription is started (unless `--start` says
//! so), no state is written. A token is read for its roles and never shown.

mod feed;
mod identity;
mod network;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;

use super::Done;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Auth, Config, PluginRef};
use crate::error::{Error, Kind};
use crate::http::Client;
use crate::secret::Redactor;
use network::Reached;
use report::{Cause, Report, Step, TenantReport};

/// Tenants that are examined side by side: most of the time is waiting.
const SIDE_BY_SIDE: usize = 8;

/// Walk the live path of each tenant step by step: credential, network, clock, token, roles,
/// subscriptions, listing. Changes nothing.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 nothing failed; 69 only what is out of our hands failed \
    (network, service); 78 something has to be changed in the configuration, on this machine or in \
    the portal; 64 wrong command line."
)]
pub(super) struct Doctor {
    /// The pipeline file.
    file: PathBuf,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Also start the subscriptions that are missing, as `run` does: the only way to learn before
    /// the first run whether auditing is switched on.
    #[arg(long)]
    start: bool,
}

impl Doctor {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let report = match Config::load(&self.file) {
            Ok(config) => self.examine(&config, &redactor).await?,
            Err(errors) if self.json => Report::of_config(&self.file, &errors),
            Err(errors) => return Err(errors),
        };
        let text = if self.json {
            report.json()
        } else {
            report.text()
        };
        // Nothing secret is put into a report; this is the second fence.
        println!("{}", redactor.scrub(&text));
        Ok(report.code())
    }

    async fn examine(
        &self,
        config: &Config,
        redactor: &Arc<Redactor>,
    ) -> Result<Report, Vec<Error>> {
        let wanted = |tenant: &&config::Tenant| {
            self.tenant
                .as_ref()
                .is_none_or(|wanted| *tenant.id == **wanted)
        };
        let tenants: Vec<_> = config.source.tenants.iter().filter(wanted).collect();
        let broken = &config.source.broken;
        if let (Some(name), true) = (&self.tenant, tenants.is_empty()) {
            if !broken.is_empty() {
                return Err(broken.clone());
            }
            let known: Vec<&str> = config.source.tenants.iter().map(|one| &*one.id).collect();
            let what = format!("there is no tenant `{name}` in `{}`", config.file);
            let help = format!("its tenants are {}", known.join(", "));
            return Err(vec![Error::new(Kind::Usage, what).help(help)]);
        }
        let client = Client::new(&config.http).map_err(|error| vec![error])?;
        let clock: SharedClock = Arc::new(SystemClock);
        let patients = tenants.into_iter().map(|tenant| {
            let patient = Patient {
                tenant,
                knows_feed: config.source.plugin == PluginRef::BuiltIn("o365"),
                start: self.start,
                client: client.separate().first_byte_timeout(network::PATIENCE),
                clock: clock.clone(),
                redactor: redactor.clone(),
            };
            async move { patient.examine().await }
        });
        let mut tenants: Vec<_> = futures::stream::iter(patients)
            .buffered(SIDE_BY_SIDE)
            .collect()
            .await;
        if self.tenant.is_none() && !broken.is_empty() {
            tenants.push(TenantReport::of_config(broken));
        }
        Ok(Report {
            file: config.file.to_string(),
            tenants,
        })
    }
}

/// One tenant under examination.
struct Patient<'a> {
    tenant: &'a config::Tenant,
    /// Whether the plugin is the one whose feed is known here.
    knows_feed: bool,
    start: bool,
    client: Client,
    clock: SharedClock,
    redactor: Arc<Redactor>,
}

impl Patient<'_> {
    /// The path, step by step. A step whose ground is missing is skipped and says why.
    async fn examine(&self) -> TenantReport {
        let mut steps = vec![self.config()];
        if let Some(login) = self.login_url() {
            let (step, usable) = self.credential();
            steps.push(step);
            let login = self.reach("login host", &login, &mut steps).await;
            let resource = self.reach_resource(&mut steps).await;
            steps.push(self.compare_clocks(&[&login, &resource]));
            steps.extend(self.directory(&login));
            let token = self.sign_in(usable, &login, &mut steps).await;
            steps.push(self.roles(token.as_ref().map(|(_, token)| token)));
            self.feed(token, &resource, &mut steps).await;
        } else {
            self.reach_resource(&mut steps).await;
        }
        TenantReport {
            tenant: self.tenant.id.to_string(),
            steps,
        }
    }

    fn config(&self) -> Step {
        let step = Step::new("config", "");
        match &self.tenant.auth {
            Auth::Microsoft(auth) => {
                let cloud = serde_json::to_value(auth.cloud).unwrap_or_default();
                step.ok(format!(
                    "cloud {}, directory {}, application {}",
                    cloud.as_str().unwrap_or_default(),
                    auth.directory_id,
                    auth.client_id
                ))
            }
            Auth::OAuth2(auth) => step.ok(format!("OAuth2 client {}", auth.client_id)),
            Auth::None => step.warn(
                Cause::Config,
                "the tenant has no `auth`: requests go out without a token".into(),
                "add `auth` to the tenant unless the plugin needs no sign-in".into(),
            ),
        }
    }

    fn login_url(&self) -> Option<url::Url> {
        match &self.tenant.auth {
            // Asked without a sign-in, it says which cloud the directory is in.
            Auth::Microsoft(auth) => {
                let mut url = auth.login_url.clone();
                let base = url.path().trim_end_matches('/').to_owned();
                let directory = &auth.directory_id;
                let document = "v2.0/.well-known/openid-configuration";
                url.set_path(&format!("{base}/{directory}/{document}"));
                Some(url)
            }
            Auth::OAuth2(auth) => Some(auth.token_url.clone()),
            Auth::None => None,
        }
    }

    async fn reach_resource(&self, steps: &mut Vec<Step>) -> Reached {
        match self.tenant.auth.resource_url() {
            Some(url) => self.reach("resource host", url, steps).await,
            None => Reached::Not,
        }
    }
}
