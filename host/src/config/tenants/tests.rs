//! What files of a directory become, and what is wrong with those that cannot be used.

use std::path::Path as FilePath;

use tempfile::TempDir;

use super::*;
use crate::config::{Config, Credential};
use crate::secret::SecretOrigin;

const PIPELINE: &str = "\
source:
  plugin: o365
  config: { content_types: [Audit.General], profile: newer }
  limits: { in_flight: 8 }
  tenants: { directory: tenants.d }
sinks:
  - stdout: {}
";

const AUTH: &str = "\
auth:
  microsoft:
    directory_id: 11111111-2222-3333-4444-555555555555
    client_id: 66666666-7777-8888-9999-000000000000
    client_secret: { file: contoso.secret }
";

/// A pipeline with these files in its directory.
struct Case(TempDir);

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("tenants.d").join(name), text).unwrap();
        }
        Self(folder)
    }

    fn read(&self) -> Config {
        let file = self.0.path().join("many.yaml");
        Config::parse(&file, PIPELINE, None).unwrap()
    }

    /// What is wrong, with names as they would be in the working directory.
    fn wrong(&self) -> String {
        let errors = self.read().source.broken;
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let folder = format!("{}/", self.0.path().display());
        text.join("\n").replace(&folder, "")
    }
}

#[track_caller]
fn refused(name: &str, text: &str, wanted: &str) {
    assert_eq!(Case::new(&[(name, text)]).wrong(), wanted);
}

#[test]
fn a_file_is_a_tenant_called_as_it_says_or_as_the_file() {
    let own =
        format!("id: fabrikam\nlimits: {{ in_flight: 2 }}\nconfig: {{ profile: raw }}\n{AUTH}");
    let case = Case::new(&[
        ("contoso.yaml", AUTH),
        ("other.yml", &own),
        ("notes.txt", ""),
    ]);
    let config = case.read();
    assert!(
        config.source.broken.is_empty(),
        "{:?}",
        config.source.broken
    );
    let [contoso, fabrikam] = &config.source.tenants[..] else {
        panic!("{:?}", config.source.tenants)
    };
    assert_eq!((&*contoso.id, contoso.limits.in_flight), ("contoso", 8));
    assert_eq!((&*fabrikam.id, fabrikam.limits.in_flight), ("fabrikam", 2));
    assert_eq!(contoso.config["tenant"]["id"], "contoso");
    assert_eq!(
        (&contoso.config["profile"], &fabrikam.config["profile"]),
        (&"newer".into(), &"raw".into())
    );
    assert_eq!(fabrikam.file.as_deref(), Some("other.yml"));
    // Paths are seen from the directory, and findings of the plugin lead to where it is written.
    let shown = format!("{:?}", contoso.auth);
    assert!(shown.contains("tenants.d/contoso.secret"), "{shown}");
    let place = |tenant, pointer| config.config_place(tenant, pointer).to_string();
    let found = place(fabrikam, "/profile");
    assert!(
        found.ends_with("tenants.d/other.yml:3:20, tenant `fabrikam`, key `config.profile`"),
        "{found}"
    );
    let found = place(contoso, "/profile");
    assert!(
        found.ends_with("many.yaml:3:54, key `source.config.profile`"),
        "{found}"
    );
}

#[test]
fn an_empty_directory_is_good_and_a_missing_one_is_not() {
    let case = Case::new(&[]);
    assert!(case.read().source.tenants.is_empty());
    std::fs::remove_dir(case.0.path().join("tenants.d")).unwrap();
    let file = FilePath::new("many.yaml");
    let errors = Config::parse(file, PIPELINE, None).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "cannot read directory `tenants.d`: no such file or directory\n  \
         where: many.yaml:5:25, key `source.tenants.directory`\n  \
         help: make it, or check the path: it is seen from the folder of the pipeline file"
    );
}

#[test]
fn what_is_wrong_with_a_file_names_file_line_and_tenant() {
    refused(
        "contoso.yaml",
        &AUTH.replace("client_id", "clientid"),
        "unknown key `clientid`\n  \
         where: tenants.d/contoso.yaml:4:5, tenant `contoso`, key `auth.microsoft.clientid`\n  \
         help: did you mean `client_id`?",
    );
    refused(
        "contoso.yaml",
        "auth: {",
        "this is not YAML: unclosed bracket '{'\n  \
         where: tenants.d/contoso.yaml:1:7, tenant `contoso`\n  \
         help: indent with blanks, and close what is opened",
    );
}

#[test]
fn what_is_cut_short_is_no_tenant() {
    for (text, at) in [("", "1:1"), ("# contoso\n", "2:1")] {
        let place = format!("tenants.d/contoso.yaml:{at}, tenant `contoso`");
        let help = "write the tenant's `auth` here";
        let wanted = format!("the file is empty\n  where: {place}\n  help: {help}");
        refused("contoso.yaml", text, &wanted);
    }
}

#[test]
fn a_file_is_not_a_list() {
    refused(
        "contoso.yaml",
        "- id: contoso\n- id: fabrikam\n",
        "a file of a directory is one tenant, not a list\n  \
         where: tenants.d/contoso.yaml:1:1, tenant `contoso`\n  \
         help: write the keys of one tenant at the top of the file, and each other tenant into a \
         file of its own",
    );
}

#[test]
fn a_files_name_must_do_as_an_id_where_there_is_no_other() {
    refused(
        "con toso.yaml",
        AUTH,
        "`con toso` cannot be a name\n  \
         where: tenants.d/con toso.yaml:1:1, tenant `con toso`, key `id`\n  \
         help: use 1 to 64 of a-z, A-Z, 0-9, `-`, `_`, `.`; begin with a letter or digit",
    );
    let named = format!("id: contoso\n{AUTH}");
    assert_eq!(Case::new(&[("con toso.yaml", &named)]).wrong(), "");
}

#[test]
fn two_files_cannot_be_one_tenant() {
    let case = Case::new(&[
        ("a.yaml", &format!("id: b\n{AUTH}")),
        ("b.yaml", &format!("id: B\n{AUTH}")),
    ]);
    assert_eq!(case.read().source.tenants.len(), 1);
    assert_eq!(
        case.wrong(),
        "tenant id `B` is used twice\n  where: tenants.d/b.yaml:1:5, tenant `B`, key `id`\n  \
         help: file `a.yaml` has it as well; give each its own id"
    );
}

#[test]
fn one_broken_file_leaves_the_others_good() {
    let case = Case::new(&[("a.yaml", AUTH), ("b.yaml", "id: ["), ("c.yaml", AUTH)]);
    let config = case.read();
    let ids: Vec<&str> = config
        .source
        .tenants
        .iter()
        .map(|tenant| &*tenant.id)
        .collect();
    assert_eq!((ids, config.source.broken.len()), (vec!["a", "c"], 1));
}

#[test]
fn a_tenant_is_the_same_wherever_it_is_written() {
    let one = |files: &[(&str, &str)]| {
        let mut tenant = Case::new(files).read().source.tenants.remove(0);
        // Each case has a folder of its own, and with it another secret.
        if let Auth::Microsoft(auth) = &mut tenant.auth
            && let Credential::ClientSecret(secret) = &mut auth.credential
        {
            secret.origin = SecretOrigin::File("contoso.secret".into());
        }
        tenant
    };
    let plain = one(&[("contoso.yaml", AUTH)]);
    let commented = format!("# Contoso Ltd.\n\nid: contoso\n{AUTH}config: {{}}\n");
    assert!(plain.is_same(&one(&[("other.yaml", &commented)])));
    for other in [
        AUTH.replace("6666", "7777"),
        format!("{AUTH}limits: {{ in_flight: 9 }}\n"),
        format!("{AUTH}config: {{ profile: raw }}\n"),
        format!("id: Contoso\n{AUTH}"),
        "config: {}".to_owned(),
    ] {
        assert!(!plain.is_same(&one(&[("contoso.yaml", &other)])), "{other}");
    }
}
