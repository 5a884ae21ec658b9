//! A path that depends on the event: literal text, `{{ field }}`, and `%Y-%m-%d` of the event's time.
//!
//! Whatever an event holds, it stays within its part of the path: what is filled in has no slash, does not begin with a
//! dot, and is neither empty nor long.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};

use crate::sink::members::Members;

/// Longest text filled in; longer values are cut and told apart by a hash.
const MOST_CHARS: usize = 100;

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Tenant,
    Stream,
    Field(String),
    /// One specifier of strftime.
    Time(String),
}

/// What a template is filled from.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// The tenant's `id`.
    pub tenant: &'a str,
    /// The stream's name.
    pub stream: &'a str,
    /// When the event happened.
    pub time_ms: i64,
}

impl Template {
    /// Reads a template; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let special = if let Some(inside) = rest.strip_prefix("{{") {
                let (name, after) = inside
                    .split_once("}}")
                    .ok_or_else(|| "`{{` has no `}}`".to_owned())?;
                rest = after;
                Some(field(name.trim())?)
            } else if letter == '%' {
                let (part, after) = time(rest)?;
                rest = after;
                if part.is_none() {
                    literal.push('%');
                }
                part
            } else {
                literal.push(letter);
                rest = &rest[letter.len_utf8()..];
                None
            };
            if let Some(part) = special {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(part);
            }
        }
        parts.push(Part::Literal(literal));
        parts.retain(|part| *part != Part::Literal(String::new()));
        Ok(Self { parts })
    }

    /// The path, when it is the same for every event.
    pub fn fixed(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Literal(path)] => Some(path),
            _ => None,
        }
    }

    /// The folder that all paths lie in, up to its last slash; empty for the working directory.
    pub fn folder(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text.rfind('/').map_or("", |end| &text[..=end]),
            _ => "",
        }
    }

    /// What the last part of every path ends with, as far as it is the same for all.
    pub fn ends_with(&self, end: &str) -> bool {
        matches!(self.parts.last(), Some(Part::Literal(text)) if text.ends_with(end))
    }

    /// Whether it holds fields of the event's body.
    pub fn reads_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(_)))
    }

    /// The path of an event.
    pub(crate) fn fill(&self, filling: Filling<'_>, body: Option<&Members<'_>>) -> String {
        let mut path = String::new();
        for part in &self.parts {
            let value = match part {
                Part::Literal(text) => {
                    path.push_str(text);
                    continue;
                }
                Part::Tenant => filling.tenant.to_owned(),
                Part::Stream => filling.stream.to_owned(),
                Part::Field(name) => body.and_then(|body| body.text(name)).unwrap_or_default(),
                Part::Time(specifier) => {
                    let time = DateTime::<Utc>::from_timestamp_millis(filling.time_ms);
                    time.unwrap_or_default().format(specifier).to_string()
                }
            };
            path.push_str(&harmless(&value));
        }
        path
    }
}

fn field(name: &str) -> Result<Part, String> {
    match name {
        "tenant" => Ok(Part::Tenant),
        "stream" => Ok(Part::Stream),
        name if name.is_empty()
            || name.split('.').any(str::is_empty)
            || name.contains(['{', '/']) =>
        {
            Err(format!(
                "`{}` is not the name of a field",
                name.escape_debug()
            ))
        }
        name => Ok(Part::Field(name.to_owned())),
    }
}

/// One specifier and what follows it; `None` for `%%`.
fn time(text: &str) -> Result<(Option<Part>, &str), String> {
    let bytes = text.as_bytes();
    let ends = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'%' || *byte == b'+';
    let length = bytes[1..].iter().position(ends).map(|at| at + 2);
    let wrong = || {
        let shown: String = text.chars().take(4).collect();
        format!(
            "`{}` is no specifier of a time; write `%%` for a percent sign",
            shown.escape_debug()
        )
    };
    let length = length
        .filter(|length| text.is_char_boundary(*length))
        .ok_or_else(wrong)?;
    let (specifier, rest) = text.split_at(length);
    if specifier == "%%" {
        return Ok((None, rest));
    }
    if StrftimeItems::new(specifier).any(|item| matches!(item, Item::Error)) {
        return Err(wrong());
    }
    Ok((Some(Part::Time(specifier.to_owned())), rest))
}

/// A value as a part of a file's name.
fn harmless(value: &str) -> String {
    let fine = |letter: char| letter.is_alphanumeric() || "-_.@".contains(letter);
    let plain = |letter: char| if fine(letter) { letter } else { '_' };
    let mut name: String = value.chars().take(MOST_CHARS).map(plain).collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.is_empty() {
        name.push('_');
    }
    if value.chars().nth(MOST_CHARS).is_some() {
        let identity = crate::event::Identity::of_bytes("", value.as_bytes());
        name.truncate(name.floor_char_boundary(MOST_CHARS - 23));
        name = format!("{name}-{}", identity.delivery_id());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, body: &str, wanted: &str) {
        let filling = Filling {
            tenant: "contoso",
            stream: "Audit.Exchange",
            time_ms: 1_767_225_600_045,
        };
        let body: Members<'_> = serde_json::from_str(body).unwrap();
        let found = Template::parse(template)
            .unwrap()
            .fill(filling, Some(&body));
        assert_eq!(found, wanted);
    }

    #[test]
    fn fields_and_times_are_filled_in() {
        check(
            "out/{{tenant}}/{{ stream }}.ndjson",
            "{}",
            "out/contoso/Audit.Exchange.ndjson",
        );
        check(
            "out/%Y/%m-%d/%H.%3f.ndjson",
            "{}",
            "out/2026/01-01/00.045.ndjson",
        );
        let body = r#"{"organization":{"id":"a"},"event.kind":"alert","n":1.50,"t":true}"#;
        check(
            "o/{{ organization.id }}/{{event.kind}}/{{n}}{{t}}",
            body,
            "o/a/alert/1.50true",
        );
        check("50%% {a}", "{}", "50% {a}");
    }

    #[test]
    fn no_value_leads_out_of_its_place() {
        for (value, wanted) in [
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_."),
            (".", "_"),
            ("", "_"),
            (".hidden", "_hidden"),
            ("a/b\\\\c", "a_b_c"),
            ("a\\u0000b\\nc", "a_b_c"),
            ("Zürich GmbH", "Zürich_GmbH"),
        ] {
            let body = format!("{{\"a\":\"{value}\"}}");
            check("out/{{ a }}/x", &body, &format!("out/{wanted}/x"));
        }
        for body in ["{}", r#"{"a":null}"#, r#"{"a":["b"]}"#, r#"{"a":{"b":1}}"#] {
            check("out/{{ a }}/x", body, "out/_/x");
        }
        check("out/%D/x", "{}", "out/01_01_26/x");
        check("out/.{{ a }}/x", r#"{"a":"."}"#, "out/._/x");
    }

    #[test]
    fn long_values_stay_short_and_apart() {
        let template = Template::parse("{{ a }}").unwrap();
        let fill = |value: &str| {
            let body = format!("{{\"a\":\"{value}\"}}");
            let body: Members<'_> = serde_json::from_str(&body).unwrap();
            let filling = Filling {
                tenant: "",
                stream: "",
                time_ms: 0,
            };
            template.fill(filling, Some(&body))
        };
        let (one, two) = (
            fill(&"ü".repeat(300)),
            fill(&format!("{}x", "ü".repeat(299))),
        );
        assert_ne!(one, two);
        assert!(
            one.chars().count() <= 100 && two.chars().count() <= 100,
            "{one}"
        );
    }

    #[test]
    fn the_folder_is_literal() {
        for (template, folder) in [
            ("out/a/{{ b }}/c", "out/a/"),
            ("out/a-{{ b }}", "out/"),
            ("/var/log/x", "/var/log/"),
            ("{{ b }}/c", ""),
            ("x", ""),
        ] {
            assert_eq!(Template::parse(template).unwrap().folder(), folder);
        }
        assert_eq!(Template::parse("a/b%%c").unwrap().fixed(), Some("a/b%c"));
        for wrong in ["{{", "{{ }}", "{{ a..b }}", "%", "%Q", "100%ü", "{{ a/b }}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
