//! `host:port`: where a sink finds a server that does not speak HTTP.

use std::fmt;

use crate::config::check::Scope;
use crate::config::report::Path;

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// Reads `host:port`; without a port it is `port`, where there is a usual one.
    pub(super) fn check(
        scope: &Scope<'_, '_>,
        at: &Path,
        text: &str,
        port: Option<u16>,
    ) -> Option<Self> {
        let found = parse(text, port);
        if found.is_none() {
            let what = format!("`{}` is not a host with its port", text.escape_debug());
            let example = port.unwrap_or(514);
            let help =
                format!("write it like `logs.example.com:{example}` or `[2001:db8::1]:{example}`");
            scope.report.add(at, what, help);
        }
        found
    }

    /// Reads a list of at least one.
    pub(super) fn check_all(
        scope: &Scope<'_, '_>,
        at: &Path,
        written: &[String],
        port: Option<u16>,
    ) -> Vec<Self> {
        if written.is_empty() {
            let example = port.unwrap_or(514);
            let help = format!("name at least one, for example `logs.example.com:{example}`");
            scope.report.add(at, "the list of endpoints is empty", help);
        }
        let all = written.iter().enumerate();
        all.filter_map(|(index, text)| Self::check(scope, &at.index(index), text, port))
            .collect()
    }
}

fn parse(text: &str, usual: Option<u16>) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
    if host.is_empty() || !host.chars().all(fine) {
        return None;
    }
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
        None => usual?,
    };
    (port > 0).then(|| Address {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_read_as_written() {
        for (text, usual, shown) in [
            ("logs.example.com:6514", None, "logs.example.com:6514"),
            ("192.0.2.1", Some(5044), "192.0.2.1:5044"),
            ("[2001:db8::1]:514", None, "[2001:db8::1]:514"),
            ("[2001:db8::1]", Some(514), "[2001:db8::1]:514"),
        ] {
            let found = parse(text, usual).map(|address| address.to_string());
            assert_eq!(found.as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "logs.example.com",
            ":514",
            "a:0",
            "a:65536",
            "a:+5",
            "a:b:1",
            "2001:db8::1",
            "[a]:1",
            "[::1]x",
            "tcp://a:1",
            "a b:1",
            "me@a:1",
        ] {
            assert_eq!(parse(text, None), None, "{text}");
        }
    }
}
