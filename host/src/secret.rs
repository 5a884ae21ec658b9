//! Secrets: where they come from, and how they stay out of everything that is printed.
//!
//! A config never holds a secret, only a [`SecretRef`] that is resolved whenever it is needed anew. A
//! [`Secret`] cannot be printed, and a [`Redactor`] that knows the live ones takes them out of text
//! on its way to a log: a second fence for what came from elsewhere, such as a server that repeats
//! its request in an error page.

mod exec;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::Place;
use crate::error::Error;

/// A secret value. Prints as `[redacted]`, is wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a value over.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value itself. Whoever calls this must not let it out again.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable.
    Env(String),
    /// A file, whose last newline does not count.
    File(PathBuf),
    /// A credential that systemd has put where only this service can read it.
    Credential(String),
    /// What a command prints; its last newline does not count.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

/// A secret that a config refers to.
#[derive(Clone, Debug)]
pub struct SecretRef {
    /// Where it comes from.
    pub origin: SecretOrigin,
    /// Where the config refers to it.
    pub place: Place,
}

impl PartialEq for SecretRef {
    /// Two references to one secret are the same wherever they are written.
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

impl Eq for SecretRef {}

/// Longest secret read from a file: no password, token or key is larger.
const MOST_BYTES: u64 = 64 << 10;

impl SecretRef {
    /// Fetches the value; an error names the tenant, the key and the line.
    pub fn resolve(&self) -> Result<Secret, Error> {
        let value = match &self.origin {
            SecretOrigin::Env(name) => from_env(name),
            SecretOrigin::File(path) => from_file(path),
            SecretOrigin::Credential(name) => credential(name).and_then(|path| from_file(&path)),
            SecretOrigin::Exec { command, timeout } => exec::run(command, *timeout),
        };
        match value {
            Ok(value) if value.is_empty() => {
                Err((format!("{} is empty", self.origin), "put the secret there"))
            }
            Ok(value) => Ok(Secret::new(value)),
            Err(found) => Err(found),
        }
        .map_err(|(what, help)| self.place.error(what).help(help))
    }
}

impl SecretRef {
    /// A warning when every user of the machine can read the secret's file, or change its command.
    #[cfg(unix)]
    pub fn warning(&self) -> Option<Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode());
        let can_read = |path: &Path| {
            let what = format!("every user of this machine can read secret {}", self.origin);
            let open = mode(path)? & 0o004 != 0;
            open.then(|| self.place.error(what).help("`chmod o-r` it"))
        };
        match &self.origin {
            SecretOrigin::Env(_) => None,
            SecretOrigin::File(path) => can_read(path),
            SecretOrigin::Credential(name) => can_read(&credential(name).ok()?),
            SecretOrigin::Exec { command, .. } => {
                let path = Path::new(command.first()?);
                let open = mode(path)? & 0o002 != 0;
                let what = format!("every user of this machine can change {}", self.origin);
                open.then(|| self.place.error(what).help("`chmod o-w` it"))
            }
        }
    }

    /// A warning when every user of the machine can read the secret's file; unknown on this system.
    #[cfg(not(unix))]
    pub fn warning(&self) -> Option<Error> {
        None
    }
}

impl fmt::Display for SecretOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(formatter, "environment variable `{name}`"),
            Self::File(path) => write!(formatter, "file `{}`", path.display()),
            Self::Credential(name) => write!(formatter, "systemd credential `{name}`"),
            // Its arguments are nobody's business.
            Self::Exec { command, .. } => {
                let program = command.first().map_or("", String::as_str);
                write!(formatter, "command `{program}`")
            }
        }
    }
}

type Trouble = (String, &'static str);

fn from_env(name: &str) -> Result<String, Trouble> {
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err((
            format!("environment variable `{name}` is not set"),
            "set it for the process, or refer to a file with `{ file: PATH }`",
        )),
        Err(std::env::VarError::NotUnicode(_)) => Err((
            format!("environment variable `{name}` is not UTF-8 text"),
            "set it to the secret's text",
        )),
    }
}

/// Where systemd has put a credential.
fn credential(name: &str) -> Result<PathBuf, Trouble> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) if !directory.is_empty() => Ok(Path::new(&directory).join(name)),
        _ => Err((
            format!("there is no credential `{name}`: systemd has given this process none"),
            "add `LoadCredential=NAME:PATH` to the unit; by hand, name the folder in \
             `CREDENTIALS_DIRECTORY`",
        )),
    }
}

fn from_file(path: &Path) -> Result<String, Trouble> {
    let cannot = |error: std::io::Error| {
        (
            format!(
                "cannot read secret file `{}`: {}",
                path.display(),
                plain(&error)
            ),
            "check the path and that the process may read it",
        )
    };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > MOST_BYTES {
        let what = format!("secret file `{}` has {length} bytes", path.display());
        return Err((what, "a secret has at most 64KiB; is this the right file?"));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    text(bytes).ok_or_else(|| {
        let what = format!("secret file `{}` is not UTF-8 text", path.display());
        (what, "write the secret as plain text")
    })
}

/// The secret in what a file or a command holds; `None` when that is not UTF-8.
fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    // Editors end a file with a newline and some begin it with a mark; neither is part of a secret.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text
        .strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    Some(text.to_owned())
}

/// The system's words for an I/O error, without its number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Takes live secrets out of text.
#[derive(Default)]
pub struct Redactor {
    /// Every form of every secret, longest first, so that no form leaves a part of a longer one
    /// behind.
    needles: RwLock<Vec<Needle>>,
}

/// One form of a secret.
struct Needle {
    text: SecretString,
    /// How many have learned it and not forgotten it: tenants may share a secret.
    known_by: usize,
}

/// Shorter values are not looked for: they would blank out ordinary words.
const LEAST_BYTES: usize = 6;
/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns a secret in all forms that text may hold it in: raw, URL-encoded, JSON-escaped, hex
    /// and base64.
    pub fn learn(&self, secret: &Secret) {
        let value = secret.expose();
        if value.len() < LEAST_BYTES {
            return;
        }
        let mut needles = self
            .needles
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for form in distinct(value) {
            match needles.iter_mut().find(|needle| needle.is(&form)) {
                Some(known) => known.known_by += 1,
                None => needles.push(Needle {
                    text: SecretString::from(form),
                    known_by: 1,
                }),
            }
        }
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.text.expose_secret().len()));
    }

    /// Forgets a secret that is no longer live, such as an expired token, once for each time that it
    /// was learned.
    pub fn forget(&self, secret: &Secret) {
        let value = secret.expose();
        if value.len() < LEAST_BYTES {
            return;
        }
        let mut needles = self
            .needles
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for form in distinct(value) {
            if let Some(known) = needles.iter_mut().find(|needle| needle.is(&form)) {
                known.known_by -= 1;
            }
        }
        needles.retain(|needle| needle.known_by > 0);
    }

    /// How many texts are looked for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let needles = self.needles.read();
        needles
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .len()
    }

    /// The text without any secret known here.
    pub fn scrub<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let needles = self
            .needles
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut clean = std::borrow::Cow::Borrowed(text);
        for needle in needles.iter() {
            let needle = needle.text.expose_secret();
            if clean.contains(needle) {
                clean = clean.replace(needle, REDACTED).into();
            }
        }
        clean
    }
}

impl Needle {
    fn is(&self, text: &str) -> bool {
        self.text.expose_secret() == text
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redactor")
    }
}

/// The forms in which text may hold a value, each once.
fn distinct(value: &str) -> Vec<String> {
    let mut forms = forms(value);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// The forms in which text may hold a value.
fn forms(value: &str) -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let hex = hex(value.as_bytes());
    let json = serde_json::Value::from(value).to_string();
    let mut forms = vec![
        value.to_owned(),
        encoded.replace('+', "%20"),
        encoded,
        hex.to_uppercase(),
        hex,
        json[1..json.len() - 1].to_owned(),
    ];
    // A value inside a longer base64 text stands at one of three offsets; the letters that also
    // hold bits of its neighbours are left off.
    for shift in 0..3 {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(value.as_bytes());
        let start = (shift * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&bytes)[start..end].to_owned());
        }
    }
    forms.retain(|form| form.len() >= LEAST_BYTES);
    forms
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("hunter2-hunter2"))),
            "Some([redacted])"
        );
    }

    #[test]
    fn every_form_of_a_secret_is_taken_out() {
        let value = "p~Q+8/x=y&z%\"canary";
        let redactor = Redactor::new();
        let secret = Secret::new(value);
        redactor.learn(&secret);
        let form: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let base64 = base64::engine::general_purpose::STANDARD;
        let url64 = base64::engine::general_purpose::URL_SAFE;
        let mut texts = vec![
            format!("raw {value} end"),
            format!("client_secret={form}&x=1"),
            serde_json::json!({ "secret": value }).to_string(),
        ];
        for before in ["", "a", "ab", "abc:"] {
            texts.push(base64.encode(format!("{before}{value}:tail")));
            texts.push(url64.encode(format!("{before}{value}")));
        }
        for text in texts {
            let clean = redactor.scrub(&text);
            assert!(clean.contains(REDACTED), "{text} -> {clean}");
            assert!(!clean.contains("canary"), "{clean}");
        }
        assert_eq!(redactor.scrub("nothing here"), "nothing here");
        redactor.forget(&secret);
        assert_eq!(redactor.scrub(value), value);
    }

    #[test]
    fn a_secret_that_two_know_is_taken_out_until_both_forget_it() {
        let redactor = Redactor::new();
        // The second has the same text in several forms.
        for secret in [Secret::new("p~Q+8/x=y&z%"), Secret::new("123456789")] {
            redactor.learn(&secret);
            redactor.learn(&secret);
            redactor.forget(&secret);
            assert_eq!(redactor.scrub(secret.expose()), REDACTED);
            redactor.forget(&secret);
            assert_eq!(redactor.scrub(secret.expose()), secret.expose());
            assert_eq!(redactor.len(), 0);
            redactor.forget(&secret);
        }
    }

    #[test]
    fn a_file_gives_its_text_without_mark_and_last_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            from_file(&path)
        };
        assert_eq!(read(b"s3cret").unwrap(), "s3cret");
        assert_eq!(read(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(read(b"s3cret\n\n").unwrap(), "s3cret\n");
        assert_eq!(read("\u{feff}s3cret\r\n".as_bytes()).unwrap(), "s3cret");
        assert!(read(b"\xff\xfe").is_err());
        assert!(read(&vec![b'x'; 70_000]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_everybody_can_read_is_warned_about() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let origin = SecretOrigin::File(file.path().to_path_buf());
        let secret = SecretRef {
            origin,
            place: Place::default(),
        };
        for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            assert_eq!(secret.warning().is_some(), warned, "{mode:o}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_names_its_place() {
        let place = Place {
            file: "a.yaml".into(),
            tenant: Some("contoso".into()),
            ..Place::default()
        }
        .under("client_secret");
        let origin = SecretOrigin::Env("SLUICEGATE_TEST_THAT_IS_NEVER_SET".into());
        let error = SecretRef { origin, place }
            .resolve()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("SLUICEGATE_TEST_THAT_IS_NEVER_SET"),
            "{error}"
        );
        assert!(
            error.contains("tenant `contoso`, key `client_secret`"),
            "{error}"
        );
    }
}
