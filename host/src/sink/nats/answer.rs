//! What a stream answers to a message.

use std::borrow::Cow;

use serde::Deserialize;

use crate::sink::request::Fate;
use crate::sink::service::excerpt;

/// The message, or its headers, are larger than the stream takes.
const TOO_LARGE: [u32; 2] = [10_054, 10_097];

#[derive(Deserialize)]
struct Answer<'a> {
    /// The stream that has the message now; a duplicate has one, too.
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Complaint<'a>>,
}

#[derive(Deserialize)]
struct Complaint<'a> {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(borrow, default)]
    description: Cow<'a, str>,
}

/// Whether the stream has the message; otherwise what becomes of its event.
pub(super) fn read(payload: &[u8], subject: &str) -> Result<(), Fate> {
    let again = |reason, overloaded| Err(Fate::Again { reason, overloaded });
    match serde_json::from_slice::<Answer<'_>>(payload) {
        Ok(Answer {
            error: Some(error), ..
        }) => {
            let Complaint {
                code,
                err_code,
                description,
            } = error;
            let reason = format!("the stream refuses the message: {description} ({err_code})");
            if TOO_LARGE.contains(&err_code) {
                return Err(Fate::Refused(reason));
            }
            again(reason, matches!(code, 429 | 503))
        }
        Ok(Answer {
            stream: Some(stream),
            ..
        }) if !stream.is_empty() => Ok(()),
        _ => {
            let said = excerpt(payload);
            let reason =
                format!("what answers on subject `{subject}` is no stream of JetStream{said}");
            again(reason, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str, expected: Result<(), &str>) {
        let found = match read(payload.as_bytes(), "logs.a") {
            Ok(()) => Ok(()),
            Err(Fate::Refused(reason)) => Err(format!("refused: {reason}")),
            Err(Fate::Again { reason, overloaded }) => Err(format!("{overloaded}: {reason}")),
            Err(Fate::Rewrite { .. }) => Err("rewrite".into()),
        };
        assert_eq!(found, expected.map_err(str::to_owned), "{payload}");
    }

    #[test]
    fn an_acknowledgement_is_one_whether_or_not_the_message_was_there() {
        check(r#"{"stream":"LOGS","seq":7}"#, Ok(()));
        check(r#"{"stream":"LOGS","seq":7,"duplicate":true}"#, Ok(()));
    }

    #[test]
    fn a_stream_that_is_full_is_waited_for_and_a_large_message_is_not() {
        check(
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"L","seq":0}"#,
            Err("true: the stream refuses the message: maximum bytes exceeded (10077)"),
        );
        check(
            r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#,
            Err(
                "refused: the stream refuses the message: message size exceeds maximum allowed (10054)",
            ),
        );
    }

    #[test]
    fn whoever_else_answers_is_no_stream() {
        for payload in ["", "ok", "{}", "[]", r#"{"stream":""}"#] {
            let found = read(payload.as_bytes(), "logs.a");
            let Err(Fate::Again { reason, .. }) = found else {
                panic!("{payload}")
            };
            assert!(reason.contains("is no stream of JetStream"), "{reason}");
        }
    }
}
