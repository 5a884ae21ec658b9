//! Absolute URLs, as far as this API needs them: origin and path, both exactly as given.
//!
//! Strict on purpose: what could be read in two ways (user information, backslashes, control
//! bytes, fragments, bytes outside of ASCII) is refused, because the bearer token goes where the
//! origin says. Nothing is decoded, so a page key comes back to the service as it left it.

use std::fmt;

/// An absolute http or https URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `https`.
    pub secure: bool,
    /// Host and port, in lower case; the scheme's own port is left out.
    pub authority: String,
    /// Path and query, beginning with a slash.
    pub path: String,
}

impl Url {
    /// Reads an absolute URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it contains blanks, control bytes or bytes outside of ASCII");
        }
        let (scheme, rest) = text.split_once("://").ok_or("it is not absolute")?;
        let secure = if scheme.eq_ignore_ascii_case("https") {
            true
        } else if scheme.eq_ignore_ascii_case("http") {
            false
        } else {
            return Err("its scheme is neither http nor https");
        };
        if text.contains(['\\', '#']) {
            return Err("it contains a backslash or a fragment");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it contains user information");
        }
        let authority = authority.to_ascii_lowercase();
        let port = if secure { ":443" } else { ":80" };
        let authority = authority
            .strip_suffix(port)
            .unwrap_or(&authority)
            .to_owned();
        let host = authority
            .rsplit_once(':')
            .map_or(&*authority, |(host, _)| host);
        if host.is_empty() || host.ends_with('.') {
            return Err("its host is empty or ends with a dot");
        }
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            secure,
            authority,
            path,
        })
    }

    /// Reads what the service sent: absolute, or a path on the same origin.
    pub fn join(&self, text: &str) -> Result<Self, &'static str> {
        if text.starts_with('/') && !text.starts_with("//") {
            let scheme = if self.secure { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{}{text}", self.authority));
        }
        Self::parse(text)
    }

    /// Whether scheme, host and port are the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!(
            "{}://{}",
            if self.secure { "https" } else { "http" },
            self.authority
        )
    }

    /// Whether the query has a parameter of this name, in any case.
    pub fn has_parameter(&self, name: &str) -> bool {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| {
            pair.split_once('=')
                .map_or(pair, |(found, _)| found)
                .eq_ignore_ascii_case(name)
        })
    }

    /// Adds a parameter unless it is there. The value must need no escaping.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        if !self.has_parameter(name) {
            let mark = match self.path.split_once('?') {
                None => "?",
                Some((_, "")) => "",
                Some((_, query)) if query.ends_with('&') => "",
                Some(_) => "&",
            };
            self.path.push_str(mark);
            self.path.push_str(name);
            self.path.push('=');
            self.path.push_str(value);
        }
        self
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}
