//! Changes events by a program in VRL.
//!
//! The program owns the body and nothing else: identity, time and acknowledgement stay whatever it
//! does. A list of objects becomes several events with child identities. What the program leaves as
//! it was keeps its bytes; what it cannot hold, such as a number of thirty digits, is lost only where
//! it writes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use vrl::value::Value;

use super::fields::{members_at, text};
use super::script::{Ran, Runner, Script, read};
use super::{Stage, Staged};
use crate::event::{Batch, Event, StreamKey};

/// What the events that a program makes of one may weigh together, unless the one weighed more than
/// half of it: the default limit of an event.
const MOST_BYTES: usize = 32 << 20;

/// How many events a program makes of one at most.
const MOST_EVENTS: usize = 10_000;

/// What becomes of an event for which the program fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It is a dead letter.
    Reject,
    /// It goes on as it was.
    Keep,
}

/// The stage `remap`.
#[derive(Debug)]
pub struct RemapStage {
    script: Arc<Script>,
    on_error: OnError,
    drop_on_abort: bool,
    most_bytes: usize,
}

/// What became of an event.
enum Remapped {
    Bodies(Vec<Vec<u8>>),
    Body(Vec<u8>),
    Aborted(String),
    Failed(String),
}

impl RemapStage {
    /// Runs a program for each event. An event whose program aborts is dropped, or goes on as it was.
    pub fn new(script: Arc<Script>, on_error: OnError, drop_on_abort: bool) -> Self {
        Self {
            script,
            on_error,
            drop_on_abort,
            most_bytes: MOST_BYTES,
        }
    }

    fn remap(
        &self,
        runner: &mut Runner,
        event: &Event,
        stream: &StreamKey,
        before: Value,
    ) -> Result<Remapped, String> {
        let after = match runner.run(&self.script, before.clone(), event, stream) {
            Ran::Ended { event, .. } => event,
            Ran::Aborted(reason) => return Ok(Remapped::Aborted(reason)),
            Ran::Failed(reason) => return Ok(Remapped::Failed(reason)),
        };
        let most = self.most_bytes.max(event.body.len() * 2);
        let too_large = || {
            Ok(Remapped::Failed(format!(
                "it made more than {most} bytes of the event"
            )))
        };
        match after {
            Value::Object(_) => {
                let body = rewrite(&event.body, &before, &after)?;
                if body.len() > most {
                    return too_large();
                }
                Ok(Remapped::Body(body))
            }
            Value::Array(list) if list.len() > MOST_EVENTS => Ok(Remapped::Failed(format!(
                "it made {} events of the event; at most {MOST_EVENTS}",
                list.len()
            ))),
            Value::Array(list) => {
                let mut bodies = Vec::with_capacity(list.len());
                let mut bytes = 0;
                for (index, value) in list.iter().enumerate() {
                    if !value.is_object() {
                        let kind = value.kind();
                        let what =
                            format!("it made a list of the event whose item {index} is: {kind}");
                        return Ok(Remapped::Failed(what));
                    }
                    let body = write(value)?;
                    bytes += body.len();
                    if bytes > most {
                        return too_large();
                    }
                    bodies.push(body);
                }
                Ok(Remapped::Bodies(bodies))
            }
            other => {
                let what = format!("it made of the event, which is an object: {}", other.kind());
                Ok(Remapped::Failed(what))
            }
        }
    }
}

#[async_trait]
impl Stage for RemapStage {
    fn name(&self) -> &'static str {
        "remap"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let Batch { stream, events, .. } = batch;
        let mut staged = Staged::default();
        staged.passed.reserve(events.len());
        let mut runner = Runner::default();
        for mut event in events {
            let remapped = read(&event.body)
                .and_then(|before| self.remap(&mut runner, &event, &stream, before));
            match remapped {
                Ok(Remapped::Body(body)) => {
                    event.body = Bytes::from(body);
                    staged.passed.push(event);
                }
                Ok(Remapped::Bodies(bodies)) if bodies.is_empty() => staged.dropped += 1,
                Ok(Remapped::Bodies(bodies)) => {
                    staged
                        .passed
                        .extend((0..).zip(bodies).map(|(index, body)| Event {
                            body: Bytes::from(body),
                            identity: event.identity.child(index),
                            ..event.clone()
                        }));
                }
                Ok(Remapped::Aborted(reason)) if self.drop_on_abort => {
                    tracing::debug!(%stream, %reason, "an event is dropped by its program");
                    staged.dropped += 1;
                }
                Ok(Remapped::Aborted(_)) => staged.passed.push(event),
                Ok(Remapped::Failed(reason)) if self.on_error == OnError::Keep => {
                    tracing::debug!(%stream, %reason, "a program failed; its event goes on as it was");
                    staged.passed.push(event);
                }
                Ok(Remapped::Failed(reason)) => {
                    staged
                        .rejected
                        .push((event, format!("the program failed: {reason}")));
                }
                Err(reason) => staged.rejected.push((event, reason)),
            }
        }
        staged
    }
}

fn write(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| format!("the event cannot be written: {error}"))
}

/// The event as the program left it, with the bytes of all that it left alone.
fn rewrite(body: &[u8], before: &Value, after: &Value) -> Result<Vec<u8>, String> {
    let text = text(body)?;
    let start = body.len() - text.trim_start().len();
    let mut out = Vec::with_capacity(body.len() + 256);
    merge(&mut out, text, start..text.trim_end().len(), before, after)?;
    Ok(out)
}

fn merge(
    out: &mut Vec<u8>,
    text: &str,
    at: std::ops::Range<usize>,
    before: &Value,
    after: &Value,
) -> Result<(), String> {
    if before == after {
        out.extend_from_slice(&text.as_bytes()[at]);
        return Ok(());
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        out.extend(write(after)?);
        return Ok(());
    };
    out.push(b'{');
    let mut comma = false;
    let mut next = |out: &mut Vec<u8>| {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
    };
    let members = members_at(text, at)?;
    for (index, member) in members.iter().enumerate() {
        // Of several with one name the program saw the last.
        let repeated = members[index + 1..]
            .iter()
            .any(|later| later.name == member.name);
        let (Some(was), Some(is)) = (old.get(&*member.name), new.get(&*member.name)) else {
            continue;
        };
        if !repeated {
            next(out);
            out.extend_from_slice(&text.as_bytes()[member.key.clone()]);
            out.push(b':');
            merge(out, text, member.value.clone(), was, is)?;
        }
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        next(out);
        out.extend(write(&Value::from(name.to_string()))?);
        out.push(b':');
        out.extend(write(value)?);
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Identity, Part};
    use crate::stage::script::Purpose;

    fn stage(source: &str) -> RemapStage {
        let script = Script::compile(source, Purpose::Remap).unwrap();
        RemapStage::new(Arc::new(script), OnError::Reject, true)
    }

    async fn apply(stage: &RemapStage, body: &str) -> Staged {
        let event = Event {
            id: "one".into(),
            fingerprint: 7,
            time_ms: 8,
            body: body.to_owned().into(),
            identity: Identity::of("contoso", "one", 7),
        };
        let stream = StreamKey::new("contoso", "Audit.General");
        stage
            .apply(Batch {
                stream,
                events: vec![event],
                part: Part::default(),
            })
            .await
    }

    fn bodies(staged: &Staged) -> Vec<&str> {
        staged
            .passed
            .iter()
            .map(|event| str::from_utf8(&event.body).unwrap())
            .collect()
    }

    async fn check(source: &str, body: &str, expected: &str) {
        let staged = apply(&stage(source), body).await;
        assert_eq!(
            bodies(&staged),
            [expected],
            "{source}: {:?}",
            staged.rejected
        );
        let event = &staged.passed[0];
        assert_eq!(event.identity, Identity::of("contoso", "one", 7));
        assert_eq!(
            (&*event.id, event.fingerprint, event.time_ms),
            ("one", 7, 8)
        );
    }

    #[tokio::test]
    async fn what_the_program_leaves_alone_keeps_its_bytes() {
        let odd = concat!(
            r#" { "z" : 18446744073709551616.50, "a":{ "b":1.500, "c":[1e2, "\u0041"], "d":1 }, "#,
            r#""t":"2026-03-01T10:00:00" } "#
        );
        check("true", odd, odd.trim()).await;
        check(
            ".a.d = 2\n.n.m = [1]",
            odd,
            concat!(
                r#"{"z":18446744073709551616.50,"a":{"b":1.500,"c":[1e2, "\u0041"],"d":2},"#,
                r#""t":"2026-03-01T10:00:00","n":{"m":[1]}}"#
            ),
        )
        .await;
        check(
            "del(.a.d)\ndel(.z)\n.t = null",
            odd,
            r#"{"a":{"b":1.500,"c":[1e2, "\u0041"]},"t":null}"#,
        )
        .await;
        check("del(.a.b)", r#"{"a":{"b":1},"c":2}"#, r#"{"a":{},"c":2}"#).await;
        check(
            ".x = 1",
            r#"{"a":1,"\u0061":2,"n":{"k":1,"k":2}}"#,
            r#"{"\u0061":2,"n":{"k":1,"k":2},"x":1}"#,
        )
        .await;
        check(".\"q\\\"\" = 1", "{}", r#"{"q\"":1}"#).await;
    }

    #[tokio::test]
    async fn a_list_becomes_several_events_with_identities_of_their_own() {
        let staged = apply(&stage(". = [{\"n\": .a}, {\"n\": 2}]"), r#"{"a":1}"#).await;
        assert_eq!(bodies(&staged), [r#"{"n":1}"#, r#"{"n":2}"#]);
        let identity = Identity::of("contoso", "one", 7);
        let identities: Vec<_> = staged.passed.iter().map(|event| event.identity).collect();
        assert_eq!(identities, [identity.child(0), identity.child(1)]);
        let staged = apply(&stage(". = []"), "{}").await;
        assert_eq!((staged.passed.len(), staged.dropped), (0, 1));
    }

    #[tokio::test]
    async fn a_failure_is_a_dead_letter_with_the_words_of_the_language_unless_it_is_kept() {
        let source = ".a = 1\n.b = parse_json!(.b)";
        for (source, body, words) in [
            (source, r#"{"b":"{"}"#, "parse_json"),
            (". = \"text\"", "{}", "string"),
            (". = [{}, 1]", "{}", "item 1"),
            (
                ". = map_values(range!(0, 10_001, 1)) -> |_n| { {} }",
                "{}",
                "10001 events",
            ),
            (".a = 1", "[]", "not a JSON object"),
        ] {
            let staged = apply(&stage(source), body).await;
            assert_eq!((staged.passed.len(), staged.dropped), (0, 0), "{source}");
            let (event, reason) = &staged.rejected[0];
            assert_eq!(event.body, body);
            assert!(reason.contains(words), "{reason}");
        }
        let keep = RemapStage {
            on_error: OnError::Keep,
            ..stage(source)
        };
        assert_eq!(
            bodies(&apply(&keep, r#"{"b":"{"}"#).await),
            [r#"{"b":"{"}"#]
        );
        assert_eq!(apply(&keep, "[]").await.rejected.len(), 1);
    }

    #[tokio::test]
    async fn an_abort_drops_the_event_or_leaves_it_as_it_was() {
        let source = ".a = 2\nif .b == true { abort \"enough\" }";
        let staged = apply(&stage(source), r#"{"a":1,"b":true}"#).await;
        assert_eq!(
            (staged.passed.len(), staged.dropped, staged.rejected.len()),
            (0, 1, 0)
        );
        let kept = RemapStage {
            drop_on_abort: false,
            ..stage(source)
        };
        assert_eq!(
            bodies(&apply(&kept, r#"{"a":1,"b":true}"#).await),
            [r#"{"a":1,"b":true}"#]
        );
        check(source, r#"{"a":1,"b":false}"#, r#"{"a":2,"b":false}"#).await;
    }

    #[tokio::test]
    async fn an_event_cannot_grow_without_end() {
        let growing = RemapStage {
            most_bytes: 20,
            ..stage(".b = .a")
        };
        // An event that is large already may double.
        for body in [
            r#"{"a":"x"}"#,
            r#"{"a":"0123456789"}"#,
            r#"{"a":"0123456789012345"}"#,
        ] {
            assert_eq!(apply(&growing, body).await.passed.len(), 1, "{body}");
        }
        let growing = RemapStage {
            most_bytes: 20,
            ..stage(". = [., ., .]")
        };
        let staged = apply(&growing, r#"{"a":123}"#).await;
        assert!(
            staged.rejected[0].1.contains("more than 20 bytes"),
            "{:?}",
            staged.rejected
        );
    }
}
