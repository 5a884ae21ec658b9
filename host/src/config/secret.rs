//! Where a secret is found: a reference in place of the secret, in any section.
//!
//! What stands here by mistake may be the secret itself, so nothing of it is ever repeated.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::check::Scope;
use super::limits::in_range;
use super::report::Path;
use super::unit::Period;
use crate::secret::{SecretOrigin, SecretRef};

/// How a reference is written.
const FORMS: &str =
    "write `{ env: NAME }` or `{ file: PATH }`; pipelines/REFERENCE.md has the other forms";

/// What a literal secret is answered with.
const LITERAL: &str = "a secret must not stand in this file\n\
    put it into an environment variable or a file and write `{ env: NAME }` or `{ file: PATH }`";

/// How long a command may take, unless `timeout` says otherwise.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a secret comes from. Never the secret itself.
#[derive(Clone, Debug, Default)]
pub struct SecretSection {
    env: Option<String>,
    file: Option<String>,
    directory: Option<String>,
    name: Option<String>,
    credential: Option<String>,
    exec: Option<Vec<String>>,
    timeout: Option<Period>,
}

impl Scope<'_, '_> {
    /// A reference to a secret.
    pub(super) fn secret(&self, at: &Path, section: &SecretSection) -> Option<SecretRef> {
        let SecretSection {
            env,
            file,
            directory,
            name,
            credential,
            exec,
            timeout,
        } = section;
        let sources = [
            ("env", env.is_some()),
            ("file", file.is_some()),
            ("directory", directory.is_some()),
            ("credential", credential.is_some()),
            ("exec", exec.is_some()),
        ];
        let written = sources.iter().filter(|(_, written)| *written);
        let written: Vec<&str> = written.map(|(key, _)| *key).collect();
        match written[..] {
            [_] => {}
            [] => {
                self.report.add(at, "the secret has no source", FORMS);
                return None;
            }
            [one, other, ..] => {
                let what = format!("`{one}` and `{other}` exclude each other");
                self.report.add(at, what, FORMS);
                return None;
            }
        }
        for (key, stray, of) in [
            ("name", name.is_some() && directory.is_none(), "directory"),
            ("timeout", timeout.is_some() && exec.is_none(), "exec"),
        ] {
            if stray {
                let what = format!("`{key}` goes only with `{of}`");
                self.report.add_key(&at.key(key), what, "remove it");
            }
        }
        let origin = if let Some(name) = env {
            self.env(at, name)?
        } else if let Some(file) = file {
            SecretOrigin::File(self.path(&at.key("file"), file))
        } else if let Some(directory) = directory {
            let folder = self.path(&at.key("directory"), directory);
            let Some(name) = name else {
                let help = "add `name: NAME`, the file in it";
                self.report.add(at, "`directory` needs a `name`", help);
                return None;
            };
            SecretOrigin::File(folder.join(self.plain_name(&at.key("name"), name)?))
        } else if let Some(name) = credential {
            SecretOrigin::Credential(self.plain_name(&at.key("credential"), name)?)
        } else {
            self.command(at, exec.as_deref().unwrap_or_default(), *timeout)?
        };
        Some(SecretRef {
            origin,
            place: self.report.place(at),
        })
    }

    fn env(&self, at: &Path, name: &str) -> Option<SecretOrigin> {
        if is_env_name(name) {
            return Some(SecretOrigin::Env(name.to_owned()));
        }
        let what = "`env` takes the name of an environment variable: letters, digits and `_`";
        let help = "name the variable that holds the secret";
        self.report.add(&at.key("env"), what, help);
        None
    }

    /// The name of a file, without a way out of its folder.
    fn plain_name(&self, at: &Path, name: &str) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
        let good = !name.is_empty() && name.len() <= 255 && !name.starts_with('.');
        if good && name.bytes().all(plain) {
            return Some(name.to_owned());
        }
        let what = "this is the name of a file: letters, digits and `-_.@:`, no leading dot";
        let help = "name the file that holds the secret";
        self.report.add(at, what, help);
        None
    }

    fn command(
        &self,
        at: &Path,
        words: &[String],
        timeout: Option<Period>,
    ) -> Option<SecretOrigin> {
        let at_exec = at.key("exec");
        let program = words.first().filter(|program| !program.trim().is_empty());
        let Some(program) = program else {
            let help = "write `exec: [COMMAND, ARGUMENT]`; no shell reads it";
            self.report.add(&at_exec, "`exec` names no command", help);
            return None;
        };
        let mut command = words.to_vec();
        if program.contains('/') {
            command[0] = self.beside(program).to_string_lossy().into_owned();
        }
        let print = |time| Period(time).to_string();
        let bounds = (Duration::from_millis(100), Duration::from_mins(1));
        let timeout = timeout.map(|period| period.0);
        let at_timeout = at.key("timeout");
        let timeout = in_range(
            self.report,
            &at_timeout,
            timeout,
            EXEC_TIMEOUT,
            bounds,
            print,
        );
        Some(SecretOrigin::Exec { command, timeout })
    }
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl<'de> Deserialize<'de> for SecretSection {
    /// By hand, because serde's own errors would repeat a secret that stands here by mistake.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;

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
                        "directory" => section.directory = Some(map.next_value()?),
                        "name" => section.name = Some(map.next_value()?),
                        "credential" => section.credential = Some(map.next_value()?),
                        "exec" => section.exec = Some(map.next_value()?),
                        "timeout" => section.timeout = Some(map.next_value()?),
                        _ => {
                            let what = "a secret comes from `env`, `file`, `directory`, `credential` or `exec`, \
                                nothing else is known";
                            return Err(A::Error::custom(format!("{what}\n{FORMS}")));
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
        let text = || json_schema!({ "type": "string" });
        json_schema!({
            "type": "object",
            "x-kind": "secret",
            "properties": {
                "env": text(),
                "file": text(),
                "directory": text(),
                "name": text(),
                "credential": text(),
                "exec": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                "timeout": text(),
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 2,
        })
    }
}
