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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let found = Url::parse(text).ok();
        let found = found.as_ref().map(|url| (url.origin(), url.path.clone()));
        let expected = expected.map(|(origin, path)| (origin.to_owned(), path.to_owned()));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn only_what_is_plain_is_taken() {
        check("https://A.example", Some(("https://a.example", "/")));
        check(
            "HTTPS://a.example:443/x?y=$1",
            Some(("https://a.example", "/x?y=$1")),
        );
        check(
            "http://127.0.0.1:8080?x",
            Some(("http://127.0.0.1:8080", "/?x")),
        );
        check("http://[::1]:80/", Some(("http://[::1]", "/")));
        for refused in [
            "",
            "a.example/x",
            "//a.example/",
            "ftp://a.example/",
            "https://",
            "https:///x",
            "https://u@a.example/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example\\@b.example/",
            "https://a.example/ x",
            "https://a.example/\r\nX: y",
            "https://ä.example/",
            "https://a.example./",
            "https://:443/",
            "https://a.example/\0",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn origins_compare_whole() {
        let url = |text| Url::parse(text).expect("plain");
        let origin = url("https://manage.example.com");
        assert!(origin.same_origin(&url("https://MANAGE.example.com:443/x")));
        for other in [
            "http://manage.example.com",
            "https://manage.example.com:8443",
            "https://manage.example.com.attacker.example",
            "https://example.com",
        ] {
            assert!(!origin.same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn parameters_are_added_once() {
        let add = |text| {
            Url::parse(text)
                .expect("plain")
                .with_parameter("PublisherIdentifier", "g")
                .path
        };
        assert_eq!(add("https://a.example/x$y"), "/x$y?PublisherIdentifier=g");
        assert_eq!(add("https://a.example/x?"), "/x?PublisherIdentifier=g");
        assert_eq!(
            add("https://a.example/x?a=1&"),
            "/x?a=1&PublisherIdentifier=g"
        );
        assert_eq!(
            add("https://a.example/x?publisheridentifier=h"),
            "/x?publisheridentifier=h"
        );
    }

    #[test]
    fn relative_urls_stay_at_home() {
        let base = Url::parse("https://a.example:8443/x").expect("plain");
        assert_eq!(
            base.join("/y?z").map(|url| url.to_string()),
            Ok("https://a.example:8443/y?z".into())
        );
        assert!(base.join("//b.example/").is_err());
        assert!(base.join("y").is_err());
    }
}
