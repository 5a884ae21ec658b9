//! Key `source.tenants`: for whom the plugin works; a list, or a directory with a file for each.
//!
//! What all tenants have in common comes from the section `source`; a tenant can be made from it at
//! any time, so a file that comes later is checked as strictly as what was there at the start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::auth::{Auth, AuthSection};
use super::check::Scope;
use super::decode::{Part, decode};
use super::limits::{Limits, LimitsSection};
use super::report::{Path, Place, Report};
use super::source::{Grants, check_limits};
use super::yaml::{self, Node};
use crate::directory::{self, Content, Look};
use crate::error::Error;
use crate::http::Origin;

/// One tenant of the source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "tenant")]
pub struct TenantSection {
    /// Its name in state, logs and metrics. Its progress is kept under this name: a changed name
    /// starts anew. In a file of a directory it may be left out: the file's name without its ending.
    #[schemars(required, extend("examples" = ["contoso"]))]
    pub id: Option<String>,
    /// How to sign in for it. Without it requests go out as the plugin wrote them.
    pub auth: Option<AuthSection>,
    /// Settings of the plugin that differ for this tenant: merged over `source.config`, key by key.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Limits that differ for this tenant.
    #[serde(default)]
    pub limits: Part<LimitsSection>,
}

/// A directory in which each file whose name ends in `.yaml` or `.yml` is one tenant, with the keys
/// of an item of the list. It is watched while the pipeline runs: a file that is added, changed or
/// removed starts, restarts or ends its tenant within seconds, and no other. A removed tenant's
/// progress is kept. A file that cannot be used is reported once, and the tenant goes on as its last
/// good file said; at the start it is refused as anything else would be. Names that begin with `.`
/// or `#` are not looked at. Paths in a file are seen from the directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "directory")]
pub struct DirectorySection {
    /// The directory, seen from the pipeline's folder.
    #[schemars(extend("examples" = ["./tenants.d"]))]
    pub directory: String,
}

/// One tenant, checked.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub id: Arc<str>,
    /// How to sign in.
    pub auth: Auth,
    /// What the plugin gets as its config: one JSON object, with the tenant's public facts under
    /// `tenant`.
    pub config: Value,
    /// What it may use.
    pub limits: Limits,
    /// Every origin its requests may go to: the grants, and its own resource.
    pub origins: Vec<Origin>,
    /// Where it stands in the file.
    pub place: Place,
    /// The name of its file in the directory, if it has one.
    pub file: Option<Arc<str>>,
    written: Written,
}

/// Where a tenant is written.
#[derive(Clone, Debug)]
struct Written {
    tree: Arc<Node>,
    at: Path,
}

impl Tenant {
    /// The same tenant under another id and sign-in, such as a simulated one.
    #[must_use]
    pub fn standing_for(&self, id: &str, auth: Auth, grants: &Grants) -> Self {
        let mut config = self.config.as_object().cloned().unwrap_or_default();
        config.insert("tenant".into(), facts(id, &auth).into());
        Self {
            id: id.into(),
            origins: origins(&auth, grants),
            auth,
            config: config.into(),
            ..self.clone()
        }
    }

    /// Whether nothing would change if the other ran in place of this one, wherever both are
    /// written.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            id,
            auth,
            config,
            limits,
            origins,
            place: _,
            file: _,
            written: _,
        } = self;
        *id == other.id
            && *auth == other.auth
            && *config == other.config
            && *limits == other.limits
            && *origins == other.origins
    }

    /// Where a JSON Pointer into its own plugin config leads, if it leads anywhere.
    pub(super) fn pointed(&self, pointer: &str) -> Option<Place> {
        let report = Report::new(&self.place.file, &self.written.tree);
        let place = report.pointed(&self.written.at.key("config"), pointer)?;
        Some(Place {
            tenant: self.place.tenant.clone(),
            ..place
        })
    }
}

/// What a plugin may know of a tenant.
fn facts(id: &str, auth: &Auth) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("id".into(), id.into());
    facts.extend(auth.public_facts());
    facts
}

/// Where a tenant's requests may go.
fn origins(auth: &Auth, grants: &Grants) -> Vec<Origin> {
    let mut origins = grants.http.clone();
    origins.extend(auth.origin().filter(|own| !grants.http.contains(own)));
    origins
}

/// What every tenant of a source starts from.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) config: Map<String, Value>,
    pub(super) grants: Grants,
    pub(super) limits: Limits,
}

impl Common {
    /// The tenants of a list.
    pub(super) fn list(
        &self,
        scope: &Scope<'_, '_>,
        list: &Path,
        parts: &[Part<TenantSection>],
        tree: &Arc<Node>,
    ) -> Vec<Tenant> {
        if parts.is_empty() {
            let help = "add one: `- id: NAME`";
            scope.report.add(list, "there is no tenant", help);
        }
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        let mut tenants = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let Some(section) = &part.0 else { continue };
            let at = list.index(index);
            let Some(id) = &section.id else {
                if !scope.report.explains(&at, "id") {
                    let help = "add `id: ...`";
                    scope.report.add(&at, "key `id` is missing", help);
                }
                continue;
            };
            let named = scope.name(&at.key("id"), id, 64);
            let place = scope.report.place(&at.key("id"));
            match seen.get(&key(id)) {
                Some(first) if named => {
                    let line = first.at.line;
                    let help = format!("it stands in line {line} as well; give each its own id");
                    scope.report.add(&at.key("id"), twice(id), help);
                }
                _ => drop(seen.insert(key(id), place)),
            }
            let written = Written {
                tree: Arc::clone(tree),
                at,
            };
            tenants.extend(self.tenant(scope, section, id, written));
        }
        tenants
    }

    fn tenant(
        &self,
        scope: &Scope<'_, '_>,
        section: &TenantSection,
        id: &str,
        written: Written,
    ) -> Option<Tenant> {
        let at = &written.at;
        let auth = match &section.auth {
            Some(auth) => auth.check(scope, &at.key("auth")),
            None => Some(Auth::None),
        };
        check_settings(scope, &at.key("config"), &section.config);
        let limits = check_limits(scope, at, &self.limits, &section.limits);
        let auth = auth?;
        let mut config = self.config.clone();
        merge(&mut config, &section.config);
        config.insert("tenant".into(), facts(id, &auth).into());
        Some(Tenant {
            id: id.into(),
            origins: origins(&auth, &self.grants),
            auth,
            config: config.into(),
            limits,
            place: scope.report.place(&at.key("id")),
            file: None,
            written,
        })
    }
}

/// By what ids are told apart: some file systems and people do not tell `Contoso` from `contoso`.
pub(crate) fn key(id: &str) -> String {
    id.to_lowercase()
}

fn twice(id: &str) -> String {
    format!("tenant id `{id}` is used twice")
}

/// The error of a tenant whose id the tenant of another file has.
pub(crate) fn taken(tenant: &Tenant, by: &str) -> Error {
    let help = format!("file `{by}` has it as well; give each its own id");
    tenant.place.error(twice(&tenant.id)).help(help)
}

/// Lays settings over others: maps key by key, everything else replaced.
fn merge(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

pub(super) fn check_settings(scope: &Scope<'_, '_>, at: &Path, config: &Map<String, Value>) {
    if config.contains_key("tenant") {
        let what = "key `tenant` is taken: the host puts the tenant's public facts there";
        scope.report.add_key(&at.key("tenant"), what, "remove it");
    }
}

/// A directory of tenants, as it was when the pipeline's file was read.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The directory.
    pub path: PathBuf,
    /// Where it is named.
    pub place: Place,
    /// Its files.
    pub files: Look,
    common: Common,
}

impl DirectorySection {
    pub(super) fn check(
        &self,
        scope: &Scope<'_, '_>,
        at: &Path,
        common: Common,
    ) -> Option<Directory> {
        let at = at.key("directory");
        if self.directory.trim().is_empty() {
            let help = "name a directory";
            scope.report.add(&at, "the path is empty", help);
            return None;
        }
        let path = scope.beside(&self.directory);
        match directory::look(&path, &Look::new()) {
            Ok(files) => Some(Directory {
                path,
                place: scope.report.place(&at),
                files,
                common,
            }),
            Err(why) => {
                let what = format!("cannot read directory `{}`: {why}", self.directory);
                let help = "make it, or check the path: it is seen from the folder of the pipeline \
                    file";
                scope.report.add(&at, what, help);
                None
            }
        }
    }
}

impl Directory {
    /// The tenants of the good files, and what is wrong with the others.
    pub(super) fn tenants(&self) -> (Vec<Tenant>, Vec<Error>) {
        let (mut tenants, mut wrong) = (Vec::<Tenant>::new(), Vec::new());
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, file) in &self.files {
            match self.tenant(name, &file.content) {
                Ok(tenant) => {
                    if let Some(first) = seen.get(&key(&tenant.id)) {
                        wrong.push(taken(&tenant, first));
                    } else {
                        seen.insert(key(&tenant.id), name);
                        tenants.push(tenant);
                    }
                }
                Err(errors) => wrong.extend(errors),
            }
        }
        (tenants, wrong)
    }

    /// The tenant that a file describes, or all that is wrong with it.
    pub fn tenant(&self, name: &str, content: &Content) -> Result<Tenant, Vec<Error>> {
        let file = self.path.join(name).display().to_string();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let refuse = |what: String, help: &str| {
            let place = Place {
                file: file.as_str().into(),
                tenant: Some(stem.to_owned()),
                ..Place::default()
            };
            Err(vec![place.error(what).help(help)])
        };
        let text = match content {
            Content::Text(text) => text,
            Content::Unreadable(why) => {
                let what = format!("cannot read the tenant's file: {why}");
                return refuse(what, "check that the process may read it");
            }
            Content::Odd(what) => return refuse(what.clone(), "is this the right file?"),
        };
        let tree = Arc::new(super::tree(&file, text, Some(stem))?);
        let id = match tree.get("id").map(|id| &id.value) {
            Some(yaml::Value::Text(id)) => id.as_str(),
            _ => stem,
        };
        let report = Report::new(&file, &tree).of_tenant(id);
        let root = Path::default();
        let tenant = match &tree.value {
            // What is cut short must not become a tenant that needs no sign-in.
            yaml::Value::Null => {
                report.add(&root, "the file is empty", "write the tenant's `auth` here");
                None
            }
            yaml::Value::List(_) => {
                let help = "write the keys of one tenant at the top of the file, and each other \
                    tenant into a file of its own";
                report.add(
                    &root,
                    "a file of a directory is one tenant, not a list",
                    help,
                );
                None
            }
            _ => decode::<TenantSection>(&tree, &report).and_then(|section| {
                let scope = Scope {
                    report: &report,
                    folder: self.path.clone(),
                    // No key of a tenant holds a program.
                    text: "",
                };
                scope.name(&root.key("id"), id, 64);
                let written = Written {
                    tree: Arc::clone(&tree),
                    at: root.clone(),
                };
                self.common.tenant(&scope, &section, id, written)
            }),
        };
        let errors = report.finish();
        match tenant {
            Some(tenant) if errors.is_empty() => Ok(Tenant {
                file: Some(name.into()),
                ..tenant
            }),
            _ if errors.is_empty() => {
                Err(vec![Error::internal("a tenant was refused for no reason")])
            }
            _ => Err(errors),
        }
    }
}

#[cfg(test)]
mod tests;
