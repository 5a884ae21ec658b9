//! Checks that several sections share: names, addresses, identifiers, paths and secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use url::Url;

use super::report::{Path, Report};
use crate::http::Origin;
use crate::secret::{SecretOrigin, SecretRef};

/// What every check needs: where to report, and where relative paths begin.
#[derive(Debug)]
pub(super) struct Scope<'a, 'n> {
    pub(super) report: &'a Report<'n>,
    /// The folder of the pipeline file.
    pub(super) folder: PathBuf,
}

impl Scope<'_, '_> {
    /// A path written in the file, seen from the file's folder.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Like [`Self::beside`], with a complaint about an empty path.
    pub(super) fn path(&self, at: &Path, path: &str) -> PathBuf {
        if path.trim().is_empty() {
            self.report.add(at, "the path is empty", "name a file");
        }
        self.beside(path)
    }

    /// An absolute http or https address without user, query and fragment; its path ends without a
    /// slash.
    pub(super) fn url(&self, at: &Path, text: &str) -> Option<Url> {
        self.address(at, parse_url(text))
    }

    /// Like [`Self::url`], but as it is written, and it may have a query.
    pub(super) fn url_with_query(&self, at: &Path, text: &str) -> Option<Url> {
        self.address(at, parse_any_url(text))
    }

    /// The address of a server that speaks no HTTP: one of these schemes, a host, and nothing else but a port.
    pub(super) fn server(&self, at: &Path, text: &str, schemes: &[&str]) -> Option<Url> {
        match parse_server(text, schemes) {
            Ok(url) => Some(url),
            Err(why) => {
                let help = format!("write it like `{}://host.example.com`", schemes[0]);
                // A password may stand in it, so it is not repeated.
                self.report
                    .add(at, format!("not a usable address: {why}"), help);
                None
            }
        }
    }

    fn address(&self, at: &Path, parsed: Result<Url, String>) -> Option<Url> {
        match parsed {
            Ok(url) => Some(url),
            Err(why) => {
                let help = "write it like `https://host.example.com` or `http://127.0.0.1:8080`";
                // A password may stand in it, so it is not repeated.
                self.report
                    .add(at, format!("not a usable address: {why}"), help);
                None
            }
        }
    }

    /// The scheme, host and port of an address that has nothing else.
    pub(super) fn origin(&self, at: &Path, text: &str) -> Option<Origin> {
        let url = self.url(at, text)?;
        if url.path() != "/" {
            let what = format!("`{text}` has a path; a grant is scheme, host and port only");
            let origin = Origin::of(&url)
                .map(|origin| origin.to_string())
                .unwrap_or_default();
            self.report.add(at, what, format!("write `{origin}`"));
            return None;
        }
        Origin::of(&url)
    }

    /// A GUID, in lower case.
    pub(super) fn guid(&self, at: &Path, text: &str, which: &str) -> String {
        if !is_guid(text) {
            let help = format!("it looks like 11111111-2222-3333-4444-555555555555; {which}");
            self.report.add(at, format!("`{text}` is not a GUID"), help);
        }
        text.to_ascii_lowercase()
    }

    /// A reference to a secret.
    pub(super) fn secret(&self, at: &Path, section: &SecretSection) -> Option<SecretRef> {
        let help = "write `{ env: NAME }` or `{ file: PATH }`";
        let origin = match (&section.env, &section.file) {
            (Some(name), None) if is_env_name(name) => SecretOrigin::Env(name.clone()),
            (Some(_), None) => {
                // What stands here may be the secret itself.
                let what =
                    "`env` takes the name of an environment variable: letters, digits and `_`";
                self.report.add(
                    &at.key("env"),
                    what,
                    "name the variable that holds the secret",
                );
                return None;
            }
            (None, Some(file)) => SecretOrigin::File(self.path(&at.key("file"), file)),
            (None, None) => {
                self.report.add(at, "the secret has no source", help);
                return None;
            }
            (Some(_), Some(_)) => {
                self.report
                    .add(at, "`env` and `file` exclude each other", help);
                return None;
            }
        };
        Some(SecretRef {
            origin,
            place: self.report.place(at),
        })
    }

    /// A name that can stand in file names, metrics and logs.
    pub(super) fn name(&self, at: &Path, text: &str, most: usize) -> bool {
        let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let begins = text.starts_with(|letter: char| letter.is_ascii_alphanumeric());
        let good = begins && text.len() <= most && text.chars().all(fine);
        if !good {
            let help = format!(
                "use 1 to {most} of a-z, A-Z, 0-9, `-`, `_`, `.`; begin with a letter or digit"
            );
            self.report.add(
                at,
                format!("`{}` cannot be a name", text.escape_debug()),
                help,
            );
        }
        good
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let mut url = parse_any_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn parse_server(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url = parse_plain_url(text)?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!(
            "`{}` is not {}",
            url.scheme(),
            schemes.join(" or ")
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("it has more than a host and a port".to_owned());
    }
    Ok(url)
}

fn parse_any_url(text: &str) -> Result<Url, String> {
    let url = parse_plain_url(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is neither http nor https", url.scheme()));
    }
    Ok(url)
}

fn parse_plain_url(text: &str) -> Result<Url, String> {
    if text.contains(['\\', ' ']) || text.chars().any(char::is_control) {
        return Err("it has a blank, a backslash or a control character".to_owned());
    }
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => "it has no scheme".to_owned(),
        other => other.to_string(),
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or password".to_owned());
    }
    Ok(url)
}

/// Whether this is a GUID in its usual form.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where a secret comes from: `{ env: NAME }` or `{ file: PATH }`. Never the secret itself.
#[derive(Clone, Debug, Default)]
pub struct SecretSection {
    env: Option<String>,
    file: Option<String>,
}

impl<'de> Deserialize<'de> for SecretSection {
    /// By hand, because serde's own errors would repeat a secret that stands here by mistake.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;

        const LITERAL: &str = "a secret must not stand in this file\n\
            put it into an environment variable or a file and write `{ env: NAME }` or \
            `{ file: PATH }`";

        impl<'de> Visitor<'de> for SecretVisitor {
            type Value = SecretSection;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`{ env: NAME }` or `{ file: PATH }`")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<SecretSection, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<SecretSection, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<SecretSection, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<SecretSection, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSection, A::Error> {
                let mut section = SecretSection::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "env" => section.env = Some(map.next_value()?),
                        "file" => section.file = Some(map.next_value()?),
                        _ => {
                            let what = "a secret comes from `env` or `file`, nothing else is known";
                            let help = "write `{ env: NAME }` or `{ file: PATH }`";
                            return Err(A::Error::custom(format!("{what}\n{help}")));
                        }
                    }
                }
                Ok(section)
            }
        }
        deserializer.deserialize_any(SecretVisitor)
    }
}

impl JsonSchema for SecretSection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "x-kind": "secret",
            "properties": { "env": { "type": "string" }, "file": { "type": "string" } },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}
