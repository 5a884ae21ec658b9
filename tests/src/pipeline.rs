//! Writes the pipeline file of a test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Simulated, Sluicegate};

/// A pipeline for the tenants of a simulated office, or for a plugin of the test's own.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: String,
    plugin: String,
    config: String,
    tenants: Vec<String>,
    directory: Option<String>,
    secrets: Vec<(String, String)>,
    grants: String,
    limits: String,
    stages: String,
    sinks: String,
    sections: String,
}

impl Pipeline {
    /// All tenants of an office through the built-in plugin, to `NAME.ndjson`.
    pub fn o365(name: &str, office: &Simulated) -> Self {
        let (login, resource) = (&office.server().login_url, &office.server().resource_url);
        let mut secrets = Vec::new();
        let tenants = office.tenants(|tenant| {
            let variable = format!("SECRET_{}_{}", name.to_uppercase(), secrets.len());
            secrets.push((variable.clone(), tenant.client_secret.clone()));
            format!(
                "    - id: {}\n      auth:\n        microsoft:\n          cloud: custom\n          \
                 login_url: {login}\n          resource_url: {resource}\n          \
                 directory_id: {}\n          client_id: {}\n          \
                 client_secret: {{ env: {variable} }}\n",
                tenant.name, tenant.directory_id, tenant.client_id
            )
        });
        let config = "content_types: [Audit.AzureActiveDirectory, Audit.Exchange, \
                      Audit.SharePoint, Audit.General, DLP.All]";
        Self {
            tenants,
            secrets,
            limits: "requests_per_minute: 1000000, in_flight: 16".into(),
            ..Self::plugin(name, "o365").config(config)
        }
    }

    /// A plugin of the test's own with one tenant called like the pipeline, to `NAME.ndjson`.
    pub fn plugin(name: &str, plugin: &str) -> Self {
        Self {
            name: name.into(),
            plugin: plugin.into(),
            config: String::new(),
            tenants: vec![format!("    - id: {name}\n")],
            directory: None,
            secrets: Vec::new(),
            grants: String::new(),
            limits: String::new(),
            stages: String::new(),
            sections: String::new(),
            sinks: format!("  - file: {{ path: {name}.ndjson }}\n"),
        }
    }

    /// The same tenants through another plugin, a component file.
    #[must_use]
    pub fn through(mut self, plugin: &Path) -> Self {
        self.plugin = plugin.to_string_lossy().into_owned();
        self
    }

    /// The tenants of a directory instead of a list; see [`Self::tenant`].
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Only the first tenants; the secrets of all are still handed over.
    #[must_use]
    pub fn first(mut self, tenants: usize) -> Self {
        self.tenants.truncate(tenants);
        self
    }

    /// One more key of a tenant, as YAML.
    #[must_use]
    pub fn also(mut self, tenant: usize, key: &str) -> Self {
        let _ = writeln!(self.tenants[tenant], "      {key}");
        self
    }

    /// A tenant as the text of a file of its own.
    pub fn tenant(&self, index: usize) -> String {
        let lines = self.tenants[index].lines();
        let lines = lines.map(|line| line.get(6..).unwrap_or_default().to_owned() + "\n");
        lines.collect()
    }

    /// The plugin's config, as the inside of a YAML flow map.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        self.config = config.into();
        self
    }

    /// Limits, as the inside of a YAML flow map.
    #[must_use]
    pub fn limits(mut self, limits: &str) -> Self {
        self.limits = limits.into();
        self
    }

    /// Grants, as the inside of a YAML flow map.
    #[must_use]
    pub fn grants(mut self, grants: &str) -> Self {
        self.grants = grants.into();
        self
    }

    /// One more stage, as YAML.
    #[must_use]
    pub fn stage(mut self, stage: &str) -> Self {
        let _ = writeln!(self.stages, "  - {stage}");
        self
    }

    /// One more sink, as YAML.
    #[must_use]
    pub fn sink(mut self, sink: &str) -> Self {
        let _ = writeln!(self.sinks, "  - {sink}");
        self
    }

    /// One sink in place of the file, as YAML.
    #[must_use]
    pub fn only(mut self, sink: &str) -> Self {
        self.sinks.clear();
        self.sink(sink)
    }

    /// One more section, as YAML.
    #[must_use]
    pub fn section(mut self, section: &str) -> Self {
        let _ = writeln!(self.sections, "{section}");
        self
    }

    /// Another secret for one tenant.
    #[must_use]
    pub fn secret(mut self, tenant: usize, secret: &str) -> Self {
        self.secrets[tenant].1 = secret.into();
        self
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let Self {
            plugin,
            config,
            limits,
            grants,
            tenants,
            directory,
            stages,
            sinks,
            sections,
            name,
            ..
        } = self;
        let mut text = format!(
            "source:\n  plugin: {plugin}\n  config: {{ {config} }}\n  limits: {{ {limits} }}\n  \
             grants: {{ {grants} }}\n  tenants:"
        );
        let _ = match directory {
            Some(path) => writeln!(text, " {{ directory: {path} }}"),
            None => write!(text, "\n{}", tenants.concat()),
        };
        if !stages.is_empty() {
            let _ = write!(text, "stages:\n{stages}");
        }
        let _ = write!(
            text,
            "sinks:\n{sinks}state: {{ path: state/{name} }}\n{sections}"
        );
        text
    }

    /// Writes the file into a folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.yaml", self.name));
        std::fs::write(&path, self.text()).expect("a test may write into its own folder");
        path
    }

    /// Writes the file where the command runs, hands the secrets over, and names the file last on its command
    /// line.
    #[must_use]
    pub fn give(&self, mut command: Sluicegate) -> Sluicegate {
        self.write(command.folder());
        for (variable, secret) in &self.secrets {
            command = command.env(variable, secret);
        }
        command.arg(format!("{}.yaml", self.name))
    }
}
