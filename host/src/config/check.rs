//! Checks that several sections share: names, addresses, identifiers and paths.

use std::path::PathBuf;

use url::Url;

use super::report::{Path, Report};
pub use super::secret::SecretSection;
use crate::http::Origin;

/// What every check needs: where to report, and where relative paths begin.
#[derive(Debug)]
pub(super) struct Scope<'a, 'n> {
    pub(super) report: &'a Report<'n>,
    /// The folder of the pipeline file.
    pub(super) folder: PathBuf,
    /// The text of the file, to find places within a value.
    pub(super) text: &'a str,
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
