//! What a tenant writes for this plugin, and its checks.
//!
//! The same JSON serves both exports; a transform needs neither tenant nor content types. Every
//! finding names its place and what to do; nothing here needs the network.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::map;
use crate::time::{self, DAY, HOUR, MINUTE};
use crate::url::Url;
use crate::world::{Diagnostic, Severity, Timestamp};

/// Every content type the API has, in its exact case.
pub const CONTENT_TYPES: [&str; 5] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
];

/// JSON Schema of the config.
pub const SCHEMA: &str = include_str!("config.schema.json");

/// The service forgets content after seven days; this much earlier we stop asking, because a
/// request may wait before it is sent and the clocks may differ.
pub const RETENTION: i64 = 7 * DAY - 5 * MINUTE;

/// Which export a config is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Listing and reading.
    Source,
    /// Mapping only.
    Transform,
}

/// A checked config.
#[derive(Debug, Clone)]
pub struct Config {
    /// Content types to fetch, each a stream.
    pub content_types: Vec<String>,
    /// The GUID that the service counts requests under.
    pub publisher_id: String,
    /// Longest window that is listed at once.
    pub window: i64,
    /// How old a window's end must be before the window counts as complete.
    pub settle: i64,
    /// Ages at which a complete window is listed again; ascending.
    pub relist: Vec<i64>,
    /// How far back the first start goes.
    pub lookback: i64,
    /// Time between listings of the live edge.
    pub interval: i64,
    /// Stop subscriptions of content types that are not configured.
    pub unsubscribe: bool,
    /// Nothing before it.
    pub since: Option<Timestamp>,
    /// Nothing at or behind it.
    pub until: Option<Timestamp>,
    /// The tenant.
    pub tenant: Tenant,
    /// How often this split was tried before; 0 at first. Set by the host, not by people.
    pub attempt: u32,
    /// What the mapping should do.
    pub mapping: map::Options,
}

/// The tenant's public facts, merged in by the host.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name in this installation.
    pub id: String,
    /// Its GUID at Microsoft.
    pub directory_id: String,
    /// Origin of the API.
    pub resource: Url,
}

/// The members as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    content_types: Option<Vec<String>>,
    publisher_id: Option<String>,
    window: Option<String>,
    settle: Option<String>,
    relist: Option<Vec<String>>,
    lookback: Option<String>,
    interval: Option<String>,
    unsubscribe: bool,
    since: Option<String>,
    until: Option<String>,
    tenant: Option<RawTenant>,
    attempt: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTenant {
    id: String,
    directory_id: String,
    resource_url: String,
}

/// Members with the JSON type they must have, for findings that name the place.
const MEMBERS: [(&str, Kind); 12] = [
    ("attempt", Kind::Number),
    ("content_types", Kind::Texts),
    ("interval", Kind::Text),
    ("lookback", Kind::Text),
    ("publisher_id", Kind::Text),
    ("relist", Kind::Texts),
    ("settle", Kind::Text),
    ("since", Kind::Text),
    ("tenant", Kind::Object),
    ("unsubscribe", Kind::Flag),
    ("until", Kind::Text),
    ("window", Kind::Text),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Texts,
    Flag,
    Number,
    Object,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Texts => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_string)),
            Self::Flag => value.is_boolean(),
            Self::Number => value
                .as_u64()
                .is_some_and(|number| u32::try_from(number).is_ok()),
            Self::Object => value.is_object(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Texts => "a list of strings",
            Self::Flag => "`true` or `false`",
            Self::Number => "a whole number",
            Self::Object => "an object",
        }
    }
}

/// Every finding about a config.
pub fn check(config: &str, wanted: Use) -> Vec<Diagnostic> {
    read(config, wanted).1
}

/// The checked config, or its first error in one sentence.
pub fn load(config: &str, wanted: Use) -> Result<Config, String> {
    match read(config, wanted) {
        (Some(config), _) => Ok(config),
        (None, findings) => Err(findings
            .iter()
            .find(|finding| finding.severity == Severity::Error)
            .map_or_else(
                || "the config is not usable".into(),
                |finding| format!("config `{}`: {}", finding.pointer, finding.what),
            )),
    }
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Diagnostic>);

impl Findings {
    fn error(&mut self, pointer: &str, what: String, help: &str) {
        self.push(Severity::Error, pointer, what, help);
    }

    fn push(&mut self, severity: Severity, pointer: &str, what: String, help: &str) {
        let (pointer, help) = (pointer.to_owned(), help.to_owned());
        self.0.push(Diagnostic {
            severity,
            pointer,
            what,
            help,
        });
    }

    fn failed(&self) -> bool {
        self.0
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }
}

fn read(config: &str, wanted: Use) -> (Option<Config>, Vec<Diagnostic>) {
    let mut findings = Findings::default();
    let members = match serde_json::from_str::<Value>(config) {
        Ok(Value::Object(members)) => members,
        Ok(Value::Null) => Map::new(),
        Ok(_) => {
            findings.error(
                "",
                "the config is not an object".into(),
                "write members: `key: value`",
            );
            return (None, findings.0);
        }
        Err(error) => {
            let help = "the host hands the config over as one JSON object";
            findings.error("", format!("the config is not JSON: {error}"), help);
            return (None, findings.0);
        }
    };
    #[cfg(feature = "mutants")]
    let members = {
        let mut members = members;
        crate::mutant::take(&mut members);
        members
    };
    let (own, mapping) = sort_members(members, &mut findings);
    let mapping = match map::options(mapping) {
        Ok(mapping) => Some(mapping),
        Err(errors) => {
            let help = "`sluicegate inspect o365` shows the mapping options";
            for (pointer, what) in errors {
                findings.error(&pointer, what, help);
            }
            None
        }
    };
    let raw = match Raw::deserialize(Value::Object(own)) {
        Ok(raw) => raw,
        Err(error) => {
            findings.error("", error.to_string(), "");
            return (None, findings.0);
        }
    };
    let config = mapping.map(|mapping| build(raw, mapping, wanted, &mut findings));
    (config.filter(|_| !findings.failed()), findings.0)
}

/// Parts the members into ours and the mapping's; names the others.
fn sort_members(
    members: Map<String, Value>,
    findings: &mut Findings,
) -> (Map<String, Value>, Map<String, Value>) {
    let (mut own, mut mapping) = (Map::new(), Map::new());
    for (name, value) in members {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        if map::OPTIONS.contains(&&*name) {
            mapping.insert(name, value);
        } else if let Some((_, kind)) = MEMBERS.iter().find(|(known, _)| *known == name) {
            if kind.fits(&value) {
                own.insert(name, value);
            } else if !value.is_null() {
                let what = format!("`{name}` is not {}", kind.name());
                findings.error(
                    &pointer,
                    what,
                    "see the plugin's schema: `sluicegate inspect o365`",
                );
            }
        } else {
            let names = MEMBERS.iter().map(|(known, _)| *known).chain(map::OPTIONS);
            let help = nearest(&name, names).map_or_else(
                || "`sluicegate inspect o365` lists every key".to_owned(),
                |known| format!("did you mean `{known}`?"),
            );
            findings.error(&pointer, format!("unknown key `{name}`"), &help);
        }
    }
    (own, mapping)
}

fn build(raw: Raw, mapping: map::Options, wanted: Use, findings: &mut Findings) -> Config {
    let content_types = content_types(raw.content_types, findings);
    let mut length = |name: &str, text: Option<String>, default, least, most| {
        let Some(text) = text else { return default };
        span(&format!("/{name}"), &text, least, most, findings).unwrap_or(default)
    };
    let window = length("window", raw.window, 6 * HOUR, 5 * MINUTE, DAY);
    let settle = length("settle", raw.settle, 10 * MINUTE, 0, DAY);
    let lookback = length("lookback", raw.lookback, 7 * DAY, MINUTE, 7 * DAY);
    let interval = length("interval", raw.interval, MINUTE, 1000, DAY);
    if DAY % window != 0 || window % MINUTE != 0 {
        let what = format!(
            "`window` of {} minutes does not divide a day",
            window / MINUTE
        );
        findings.error(
            "/window",
            what,
            "choose 5m, 10m, 15m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h, 24h",
        );
    }
    let mut relist = vec![HOUR, 6 * HOUR, 24 * HOUR];
    if let Some(ages) = raw.relist {
        let age = |(index, text): (usize, &String)| {
            span(&format!("/relist/{index}"), text, MINUTE, 6 * DAY, findings)
        };
        relist = ages.iter().enumerate().filter_map(age).collect();
        relist.sort_unstable();
    }
    if crate::mutant::is_on("late_not_relisted") {
        relist.clear();
    }
    let since = instant("/since", raw.since, findings);
    let until = instant("/until", raw.until, findings);
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        findings.error("/until", "`until` is not behind `since`".into(), "");
    }
    let tenant = tenant(raw.tenant, wanted, findings);
    if raw
        .publisher_id
        .as_ref()
        .is_some_and(|publisher| !is_guid(publisher))
    {
        let help = "leave it out to use the tenant's own id, which is what Microsoft asks for";
        findings.error("/publisher_id", "`publisher_id` is not a GUID".into(), help);
    }
    let publisher_id = raw
        .publisher_id
        .unwrap_or_else(|| tenant.directory_id.clone());
    Config {
        content_types,
        publisher_id,
        window,
        settle,
        relist,
        lookback,
        interval,
        unsubscribe: raw.unsubscribe,
        since,
        until,
        tenant,
        attempt: raw.attempt,
        mapping,
    }
}

fn content_types(raw: Option<Vec<String>>, findings: &mut Findings) -> Vec<String> {
    let Some(raw) = raw else {
        return CONTENT_TYPES[..4].iter().map(ToString::to_string).collect();
    };
    if raw.is_empty() {
        let help = "leave it out for the four audit types";
        findings.error("/content_types", "`content_types` is empty".into(), help);
    }
    let mut found: Vec<String> = Vec::new();
    for (index, name) in raw.iter().enumerate() {
        let pointer = format!("/content_types/{index}");
        let Some(known) = CONTENT_TYPES
            .iter()
            .find(|known| known.eq_ignore_ascii_case(name))
        else {
            let help = nearest(name, CONTENT_TYPES.into_iter()).map_or_else(
                || format!("the content types are {}", CONTENT_TYPES.join(", ")),
                |known| format!("did you mean `{known}`?"),
            );
            findings.error(&pointer, format!("unknown content type `{name}`"), &help);
            continue;
        };
        if found.iter().any(|earlier| earlier == known) {
            findings.push(
                Severity::Warning,
                &pointer,
                format!("content type `{known}` is named twice"),
                "it is fetched once",
            );
        } else {
            found.push((*known).to_owned());
        }
    }
    found
}

fn tenant(raw: Option<RawTenant>, wanted: Use, findings: &mut Findings) -> Tenant {
    let nowhere = || Url {
        secure: true,
        authority: String::new(),
        path: "/".into(),
    };
    let raw = match (raw, wanted) {
        (Some(raw), Use::Source) => raw,
        (raw, _) => {
            if wanted == Use::Source {
                let help = "the host merges it in from the tenant's `auth`";
                findings.error("/tenant", "the tenant is missing".into(), help);
            }
            let raw = raw.unwrap_or_default();
            return Tenant {
                id: raw.id,
                directory_id: raw.directory_id,
                resource: nowhere(),
            };
        }
    };
    if !is_guid(&raw.directory_id) {
        findings.error(
            "/tenant/directory_id",
            "`directory_id` is not a GUID".into(),
            "it is the `Directory (tenant) ID` on the app's overview page; a domain does not do",
        );
    }
    let resource = Url::parse(&raw.resource_url).unwrap_or_else(|reason| {
        let what = format!("`resource_url` is not usable: {reason}");
        findings.error(
            "/tenant/resource_url",
            what,
            "for example `https://manage.office.com`",
        );
        nowhere()
    });
    let directory_id = raw.directory_id.to_ascii_lowercase();
    Tenant {
        id: raw.id,
        directory_id,
        resource,
    }
}

fn span(pointer: &str, text: &str, least: i64, most: i64, findings: &mut Findings) -> Option<i64> {
    let Some(span) = time::parse_duration(text) else {
        let what = format!("`{text}` is not a duration");
        findings.error(pointer, what, "write `30s`, `10m`, `24h` or `7d`");
        return None;
    };
    if span < least || span > most {
        let what = format!("`{text}` is out of range");
        let help = format!("between {} and {} seconds", least / 1000, most / 1000);
        findings.error(pointer, what, &help);
        return None;
    }
    Some(span)
}

fn instant(pointer: &str, text: Option<String>, findings: &mut Findings) -> Option<Timestamp> {
    let text = text?;
    let time = time::parse(&text).map(|time| time::floor(time, MINUTE));
    if time.is_none() {
        let what = format!("`{text}` is not a time");
        findings.error(pointer, what, "write it as 2026-05-02T10:14:00Z");
    }
    time
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    known
        .map(|known| (distance(&name, &known.to_ascii_lowercase()), known))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 4))
        .map(|(_, known)| known)
}

/// Edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
