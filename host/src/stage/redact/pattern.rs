//! What is looked for in texts: a regular expression, or one of those that everybody needs.
//!
//! Where in doubt these find too much: a version number of four parts is an IPv4 address to them.

use std::net::Ipv6Addr;
use std::ops::Range;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

/// What to look for in texts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "pattern", inline)]
pub enum Kind {
    /// E-mail addresses and user principal names.
    Email,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// GUIDs.
    Guid,
    /// Numbers of payment cards with a right check digit.
    CreditCard,
    /// Social security numbers of the United States.
    UsSocialSecurityNumber,
    /// What a regular expression of the crate `regex` finds.
    Regex(String),
}

/// What of a find is really one, where an expression cannot say it.
type Check = fn(&str, Range<usize>) -> Option<Range<usize>>;

/// A kind, ready to look.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    check: Check,
}

impl Pattern {
    /// Reads the expression. An error says what is wrong with it.
    pub fn new(kind: &Kind) -> Result<Self, String> {
        let (expression, check): (&str, Check) = match kind {
            Kind::Email => (
                r"[\p{L}\p{N}.!#$%&'*+=?^_`{|}~-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+",
                all,
            ),
            Kind::Ipv4 => (
                concat!(
                    r"(?-u:\b)(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\.){3}",
                    r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])(?-u:\b)"
                ),
                all,
            ),
            Kind::Ipv6 => (r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", address),
            Kind::Guid => (
                r"(?-u:\b)[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?-u:\b)",
                all,
            ),
            Kind::CreditCard => (r"(?-u:\b)[0-9](?:[ -]?[0-9]){12,18}(?-u:\b)", card),
            Kind::UsSocialSecurityNumber => (r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)", all),
            Kind::Regex(expression) => (expression, all),
        };
        let regex = Regex::new(expression).map_err(|error| match error {
            regex::Error::CompiledTooBig(most) => format!("it needs more than {most} bytes"),
            error => words(&error.to_string()),
        })?;
        if regex.is_match("") {
            return Err("it finds a text of no letters".to_owned());
        }
        Ok(Self { regex, check })
    }

    /// Where in a text it is found.
    pub(super) fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let found = self.regex.find_iter(text);
        found
            .filter_map(|found| (self.check)(text, found.range()))
            .filter(|at| !at.is_empty())
    }
}

/// The sentence of an error that draws a picture, too.
fn words(error: &str) -> String {
    let last = error.lines().last().unwrap_or(error);
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "a check among others, which do say no"
)]
fn all(_: &str, at: Range<usize>) -> Option<Range<usize>> {
    Some(at)
}

/// An IPv6 address, without the dot or colon that ends a sentence behind it.
fn address(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    if text[..at.start].ends_with(word) {
        return None;
    }
    let mut end = at.end;
    loop {
        let found = &text[at.start..end];
        if found.parse::<Ipv6Addr>().is_ok() && !text[end..].starts_with(word) {
            return Some(at.start..end);
        }
        if !found.ends_with(['.', ':']) {
            return None;
        }
        end -= 1;
    }
}

/// The number of a card: its digits, every second one doubled, add up to a multiple of ten.
fn card(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let digits = text[at.clone()]
        .chars()
        .rev()
        .filter_map(|letter| letter.to_digit(10));
    let sum: u32 = digits
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    sum.is_multiple_of(10).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &Kind, text: &str, expected: &[&str]) {
        let pattern = Pattern::new(kind).unwrap();
        let found: Vec<_> = pattern.find(text).map(|at| &text[at]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn finds_addresses_of_people() {
        check(
            &Kind::Email,
            "<alex@example.com>, b.c+d@sub.example.org; x_example.com#EXT#@contoso.example é@ü.example",
            &[
                "alex@example.com",
                "b.c+d@sub.example.org",
                "x_example.com#EXT#@contoso.example",
                "é@ü.example",
            ],
        );
        check(&Kind::Email, "a@b, @example.com, alex@", &[]);
    }

    #[test]
    fn finds_addresses_of_machines() {
        check(
            &Kind::Ipv4,
            "192.0.2.1:443 (198.51.100.255), 1.2.3, 256.0.2.1, 192.0.2.1234",
            &["192.0.2.1", "198.51.100.255"],
        );
        check(
            &Kind::Ipv6,
            "[2001:db8::7]:443, ::1. fe80::1%eth0 2001:db8:0:0:0:0:0:1: ::ffff:192.0.2.1",
            &[
                "2001:db8::7",
                "::1",
                "fe80::1",
                "2001:db8:0:0:0:0:0:1",
                "::ffff:192.0.2.1",
            ],
        );
        check(
            &Kind::Ipv6,
            "10:12:33 std::vec a:b c::text Get-Mailbox::",
            &[],
        );
    }

    #[test]
    fn finds_numbers() {
        check(
            &Kind::Guid,
            "{11111111-2222-3333-4444-55555555555A} 11111111-2222-3333-4444-5555555555555",
            &["11111111-2222-3333-4444-55555555555A"],
        );
        check(
            &Kind::CreditCard,
            "4111 1111 1111 1111, 4111111111111112, 378282246310005",
            &["4111 1111 1111 1111", "378282246310005"],
        );
        check(
            &Kind::UsSocialSecurityNumber,
            "078-05-1120 078-05-11201",
            &["078-05-1120"],
        );
        check(
            &Kind::Regex("(?i)secret-[a-z]+".into()),
            "a Secret-b c",
            &["Secret-b"],
        );
    }

    #[test]
    fn refuses_expressions_that_cannot_be_or_find_nothing() {
        for (expression, why) in [
            ("a(", "unclosed group"),
            ("[0-9]*", "it finds a text of no letters"),
            (r"(a{1000}){1000}", "it needs more than 10485760 bytes"),
            (
                "(?=a)",
                "look-around, including look-ahead and look-behind, is not supported",
            ),
        ] {
            let error = Pattern::new(&Kind::Regex(expression.into())).unwrap_err();
            assert_eq!(error, why, "{expression}");
        }
    }
}
