//! Takes `user_agent.original` apart into name, version, system and device.
//!
//! The rules are those of uap-core 0.18.0 (`user_agent/regexes.yaml`, Apache-2.0, as published; its
//! licence lies beside it). They are read when the first user agent arrives, once per process: a
//! pipeline without this stage pays neither their time nor their memory. What an event already says
//! is never overwritten.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use memchr::memmem;
use serde_json::value::RawValue;
use ua_parser::{Extractor, Regexes, os, user_agent};

use super::json::{self, Additions};
use super::{Stage, Staged, change};
use crate::event::Batch;

/// How many user agents are remembered: more than the applications and browser versions a large
/// tenant uses in an hour; with names of the usual 150 bytes that is 2 MiB.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");

/// What of a user agent is looked at. Browsers write some 200 bytes; whoever writes more wants the
/// rules to run long.
const TEXT_BYTES: usize = 4 << 10;

/// What the rules say about what they do not know.
const OTHER: &str = "Other";

/// How the member begins in events that a mapping of ours wrote.
const MEMBER: &[u8] = b"\"user_agent\"";

/// The text, and what is found out about it.
const MEMBERS: [&str; 5] = ["original", "name", "version", "os", "device"];

static RULES: OnceLock<Extractor<'static>> = OnceLock::new();

fn rules() -> &'static Extractor<'static> {
    RULES.get_or_init(|| {
        let rules: Regexes<'static> =
            serde_saphyr::from_str(include_str!("user_agent/regexes.yaml"))
                .expect("the rules are part of the program, and tests read them");
        Extractor::try_from(rules).expect("the rules are part of the program, and tests build them")
    })
}

/// Adds what the rules know about user agents, and remembers it: most events have one of few.
#[derive(Debug)]
pub struct UserAgents {
    /// From the text, as it is written in the event, to the members that belong beside it.
    known: Mutex<LruCache<Box<str>, Arc<[u8]>>>,
}

impl Default for UserAgents {
    fn default() -> Self {
        Self::new(REMEMBERED)
    }
}

impl UserAgents {
    /// Remembers at most `size` user agents.
    pub fn new(size: NonZeroUsize) -> Self {
        Self {
            known: Mutex::new(LruCache::new(size)),
        }
    }

    /// The event with `user_agent` completed; the same bytes when there is nothing to add.
    ///
    /// For events that were written by a mapping of ours: of those only the end is read, where the
    /// mapping puts the member. One that is no JSON object stays what it is.
    pub fn enrich<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        if memmem::find(body, MEMBER).is_none() {
            return Cow::Borrowed(body);
        }
        let added = match last_member(body) {
            Some(members) => self.beside(members).map(|added| {
                // Behind `original`, before the braces that close `user_agent` and the event.
                let (before, braces) = body.split_at(body.len() - 2);
                [before, b",", &*added, braces].concat()
            }),
            None => self.read(body).unwrap_or(None),
        };
        added.map_or(Cow::Borrowed(body), Cow::Owned)
    }

    /// The completed event; `None` when there is nothing to add. Refuses what is no JSON object.
    fn read(&self, body: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let [Some(object)] = json::members(body, ["user_agent"])? else {
            return Ok(None);
        };
        let Some(added) = self.beside(json::inner(object, MEMBERS)) else {
            return Ok(None);
        };
        let mut additions = Additions::new(body);
        additions.append(object, &added);
        Ok(additions.splice())
    }

    /// What belongs beside the members of `user_agent`; `None` when nothing does.
    fn beside(&self, members: [Option<&RawValue>; MEMBERS.len()]) -> Option<Arc<[u8]>> {
        match members {
            [Some(original), None, None, None, None] => self.look_up(original),
            // A part that somebody else found out would not fit to ours.
            _ => None,
        }
    }

    /// The members for a user agent; `None` when it is no text.
    fn look_up(&self, original: &RawValue) -> Option<Arc<[u8]>> {
        let written = original.get();
        if !written.starts_with('"') {
            return None;
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(written) {
            return Some(found.clone());
        }
        let text: Text<'_> = serde_json::from_str(written).ok()?;
        let found: Arc<[u8]> = describe(&text.0).into();
        if written.len() <= TEXT_BYTES {
            known().put(written.into(), found.clone());
        }
        Some(found)
    }
}

/// The members of `user_agent` when it is the last member of an event without blanks at its end.
///
/// Quotes inside a text have a backslash in front, so the name behind a comma or brace is a
/// member's; when its value goes on up to the last brace of the event, it is a member of the event
/// itself.
fn last_member(body: &[u8]) -> Option<[Option<&RawValue>; MEMBERS.len()]> {
    let start = memmem::find_iter(body, MEMBER).last()?;
    let before = body[..start].last()?;
    let value = body[start + MEMBER.len()..]
        .strip_prefix(b":")?
        .strip_suffix(b"}")?;
    if !matches!(before, b',' | b'{') || !value.ends_with(b"}") {
        return None;
    }
    json::members(value, MEMBERS).ok()
}

/// A text, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members that belong beside a user agent, as JSON.
fn describe(text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES)];
    let (agent, system, device) = rules().extract(text);
    let mut out = Vec::with_capacity(128);
    json::text(
        &mut out,
        "name",
        agent.as_ref().map_or(OTHER, |agent| &agent.family),
    );
    if let Some(version) = agent.as_ref().and_then(agent_version) {
        json::text(&mut out, "version", &version);
    }
    if let Some(system) = &system {
        write_system(&mut out, system);
    }
    json::name(&mut out, "device");
    out.push(b'{');
    json::text(
        &mut out,
        "name",
        device.as_ref().map_or(OTHER, |device| &device.device),
    );
    out.push(b'}');
    out
}

fn write_system(out: &mut Vec<u8>, system: &os::ValueRef<'_>) {
    json::name(out, "os");
    out.push(b'{');
    json::text(out, "name", &system.os);
    if let Some(version) = system_version(system) {
        json::text(out, "version", &version);
        json::text(out, "full", &format!("{} {version}", system.os));
    }
    out.push(b'}');
}

fn agent_version(agent: &user_agent::ValueRef<'_>) -> Option<String> {
    version([agent.major, agent.minor, agent.patch, agent.patch_minor])
}

fn system_version(system: &os::ValueRef<'_>) -> Option<String> {
    version([
        system.major.as_deref(),
        system.minor.as_deref(),
        system.patch.as_deref(),
        system.patch_minor.as_deref(),
    ])
}

/// `major[.minor[.patch[.build]]]`: what stands behind a part that is not known is not known
/// either.
fn version(parts: [Option<&str>; 4]) -> Option<String> {
    let known = parts
        .into_iter()
        .map_while(|part| part.filter(|part| !part.is_empty()));
    let joined = known.collect::<Vec<_>>().join(".");
    (!joined.is_empty()).then_some(joined)
}

/// The stage `user_agent`.
#[derive(Debug, Default)]
pub struct UserAgentStage(UserAgents);

#[async_trait]
impl Stage for UserAgentStage {
    fn name(&self) -> &'static str {
        "user_agent"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        change(batch, |body| {
            let added = self.0.read(body);
            added.map_err(|error| format!("the event is not a JSON object: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Event, Identity, Part, StreamKey};

    const FIREFOX: &str =
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.14; rv:72.0) Gecko/20100101 Firefox/72.0";

    /// What becomes of an agent, without `original`.
    fn check(agent: &str, expected: &Value) {
        let body = json!({ "a": 1, "user_agent": { "original": agent }, "z": [2] }).to_string();
        let enriched = UserAgents::default().enrich(body.as_bytes()).into_owned();
        let mut event: Value = serde_json::from_slice(&enriched).unwrap();
        assert_eq!((&event["a"], &event["z"]), (&json!(1), &json!([2])));
        let members = event["user_agent"].as_object_mut().unwrap();
        assert_eq!(members.remove("original"), Some(agent.into()));
        assert_eq!(&event["user_agent"], expected, "{agent}");
    }

    #[test]
    fn knows_name_version_system_and_device() {
        check(
            FIREFOX,
            &json!({
                "name": "Firefox", "version": "72.0",
                "os": { "name": "Mac OS X", "version": "10.14", "full": "Mac OS X 10.14" },
                "device": { "name": "Mac" },
            }),
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/120.0.0.0 Safari/537.36",
            &json!({
                "name": "Chrome", "version": "120.0.0.0",
                "os": { "name": "Windows", "version": "10", "full": "Windows 10" },
                "device": { "name": "Other" },
            }),
        );
        check(
            "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
            &json!({
                "name": "Firefox", "version": "115.0", "os": { "name": "Linux" },
                "device": { "name": "Other" },
            }),
        );
        check(
            "curl/8.5.0",
            &json!({ "name": "curl", "version": "8.5.0", "device": { "name": "Other" } }),
        );
    }

    #[test]
    fn calls_what_it_does_not_know_other() {
        for unknown in ["", " ", "\u{1f600}\n\"\\", "nothing that a browser says"] {
            check(
                unknown,
                &json!({ "name": "Other", "device": { "name": "Other" } }),
            );
        }
    }

    #[test]
    fn looks_at_the_beginning_of_an_endless_text() {
        let endless = format!("{FIREFOX} {}", "\u{e9}".repeat(TEXT_BYTES));
        let agents = UserAgents::default();
        let body = json!({ "user_agent": { "original": endless } }).to_string();
        let event: Value = serde_json::from_slice(&agents.enrich(body.as_bytes())).unwrap();
        assert_eq!(event["user_agent"]["name"], "Firefox");
        assert_eq!(event["user_agent"]["original"], endless);
        assert_eq!(
            agents.known.lock().unwrap().len(),
            0,
            "endless texts are not remembered"
        );
    }

    #[test]
    fn splices_and_keeps_all_other_bytes() {
        let body = r#" {"n":1.500,"user_agent":{"original":"curl\/8.5.0" },"e":"\u00e9"} "#;
        let expected = concat!(
            r#" {"n":1.500,"user_agent":{"original":"curl\/8.5.0" ,"name":"curl","#,
            r#""version":"8.5.0","device":{"name":"Other"}},"e":"\u00e9"} "#
        );
        let enriched = UserAgents::default().enrich(body.as_bytes()).into_owned();
        assert_eq!(String::from_utf8(enriched).unwrap(), expected);
    }

    #[test]
    fn reads_the_end_only_where_that_is_the_whole_truth() {
        let agents = UserAgents::default();
        let added = r#""name":"curl","version":"8.5.0","device":{"name":"Other"}"#;
        for (body, at_the_end) in [
            (r#"{"a":1,"user_agent":{"original":"curl/8.5.0"#, true),
            (
                r#"{"user_agent":{"a":"\"user_agent\":{","original":"curl/8.5.0"#,
                true,
            ),
            (
                r#"{"b":"\"user_agent\":{","user_agent":{"original":"curl/8.5.0"#,
                true,
            ),
            (
                r#"{"b":{"user_agent":{}},"user_agent":{"original":"curl/8.5.0"#,
                true,
            ),
            (r#"{"user_agent" :{"original":"curl/8.5.0"#, false),
            (r#"{ "user_agent":{"original":"curl/8.5.0"#, false),
        ] {
            let whole = format!("{body}\"}}}}");
            assert_eq!(
                last_member(whole.as_bytes()).is_some(),
                at_the_end,
                "{whole}"
            );
            let enriched = agents.enrich(whole.as_bytes()).into_owned();
            assert_eq!(enriched, format!("{body}\",{added}}}}}").as_bytes());
            assert_eq!(
                agents.read(whole.as_bytes()).unwrap(),
                Some(enriched),
                "both ways agree"
            );
        }
        for (body, enriched) in [
            (
                r#"{"user_agent":{"original":"curl/8.5.0"},"z":{"user_agent":{}}}"#,
                true,
            ),
            (r#"{"z":{"user_agent":{"original":"curl/8.5.0"}}}"#, false),
            (
                r#"{"z":{"user_agent":{"original":"curl/8.5.0"}},"y":{}}"#,
                false,
            ),
            (r#"{"z":["user_agent",{"original":"curl/8.5.0"}]}"#, false),
        ] {
            assert!(last_member(body.as_bytes()).is_none(), "{body}");
            let found = agents.enrich(body.as_bytes());
            assert_eq!(matches!(found, Cow::Owned(_)), enriched, "{body}");
        }
    }

    #[test]
    fn leaves_alone_what_says_nothing_or_enough() {
        let agents = UserAgents::default();
        for body in [
            "{}",
            r#"{"user_agent":null}"#,
            r#"{"user_agent":"curl/8.5.0"}"#,
            r#"{"user_agent":["curl/8.5.0"]}"#,
            r#"{"user_agent":{}}"#,
            r#"{"user_agent":{"original":null}}"#,
            r#"{"user_agent":{"original":5}}"#,
            r#"{"user_agent":{"original":{"original":"curl/8.5.0"}}}"#,
            r#"{"user_agent":{"original":"curl/8.5.0","name":"mine"}}"#,
            r#"{"user_agent":{"original":"curl/8.5.0","version":"1"}}"#,
            r#"{"user_agent":{"original":"curl/8.5.0","os":{}}}"#,
            r#"{"user_agent":{"device":null,"original":"curl/8.5.0"}}"#,
            r#"{"o365":{"user_agent":{"original":"curl/8.5.0"}}}"#,
            r#"{"user_agent":{"original":"curl/8.5.0"}"#,
        ] {
            let enriched = agents.enrich(body.as_bytes());
            assert!(
                matches!(enriched, Cow::Borrowed(same) if same == body.as_bytes()),
                "{body}"
            );
        }
    }

    #[test]
    fn remembers_no_more_than_it_may_and_the_latest() {
        let agents = UserAgents::new(NonZeroUsize::new(2).unwrap());
        let ask = |agent: &str| {
            let body = json!({ "user_agent": { "original": agent } }).to_string();
            agents.enrich(body.as_bytes()).into_owned()
        };
        let first = ask("curl/8.1.0");
        ask("curl/8.2.0");
        assert_eq!(
            ask("curl/8.1.0"),
            first,
            "what is remembered is what was found"
        );
        for version in 3..50 {
            ask(&format!("curl/8.{version}.0"));
            ask("curl/8.1.0");
            let known = agents.known.lock().unwrap();
            assert_eq!(known.len(), 2);
            assert!(
                known.contains("\"curl/8.1.0\""),
                "used all the time, so kept"
            );
        }
    }

    #[tokio::test]
    async fn rejects_what_is_no_object_and_passes_the_rest_on() {
        let event = |body: &'static str| Event {
            id: body.into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        };
        let bodies = [
            r#"{"user_agent":{"original":"curl/8.5.0"}}"#,
            "{",
            "[]",
            r#"{"a":1}"#,
            "{} {}",
        ];
        let stream = StreamKey::new("contoso", "Audit.General");
        let batch = Batch {
            stream,
            events: bodies.map(event).to_vec(),
            part: Part::default(),
        };
        let staged = UserAgentStage::default().apply(batch).await;
        let ids = |events: &[&Event]| events.iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
        assert_eq!(
            ids(&staged.passed.iter().collect::<Vec<_>>()),
            [bodies[0], bodies[3]]
        );
        assert_eq!(staged.dropped, 0);
        let rejected: Vec<_> = staged.rejected.iter().map(|(event, _)| event).collect();
        assert_eq!(ids(&rejected), [bodies[1], bodies[2], bodies[4]]);
        assert!(
            staged
                .rejected
                .iter()
                .all(|(_, reason)| reason.contains("not a JSON object"))
        );
        assert_eq!(staged.passed[1].body, bodies[3].as_bytes());
        assert!(
            staged.passed[0]
                .body
                .windows(13)
                .any(|part| part == br#""name":"curl""#)
        );
    }
}
