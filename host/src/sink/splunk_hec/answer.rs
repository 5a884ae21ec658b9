//! What Splunk's collector answers, and what its codes mean.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::ALLOW_ACKS;
use crate::sink::request::{Fate, Reply};

/// What a refused request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing of its own: the status decides.
    Service,
    /// This event cannot be indexed, and why.
    Event(usize, String),
    /// Something is set up wrong: what, and what to do.
    Setup(String, &'static str),
}

#[derive(Deserialize)]
struct Refusal {
    text: String,
    code: u64,
    #[serde(rename = "invalid-event-number")]
    event: Option<usize>,
}

/// Reads a refusal of a request with so many events.
pub(super) fn verdict(status: StatusCode, body: &[u8], events: usize) -> Verdict {
    let Ok(Refusal { text, code, event }) = serde_json::from_slice(body) else {
        return match status {
            // Whatever says that without a code is not the collector.
            StatusCode::BAD_REQUEST => Verdict::Setup(status.to_string(), "check `endpoint`"),
            _ => Verdict::Service,
        };
    };
    let what = format!("{text} (code {code})");
    match (code, event) {
        (1..=4, _) => Verdict::Setup(what, "check `default_token`; it is read again for each try"),
        (7, _) => Verdict::Setup(what, "allow the index for the token, or change `index`"),
        (10 | 11, _) => Verdict::Setup(what, "check what stands between us and the collector"),
        (14, _) => Verdict::Setup(what, ALLOW_ACKS),
        (_, Some(event)) if event < events && status == StatusCode::BAD_REQUEST => {
            Verdict::Event(event, what)
        }
        _ => Verdict::Service,
    }
}

/// One event is refused; what became of the others Splunk does not say, so they are sent again.
pub(super) fn all_but(refused: usize, events: usize, reason: String, latency: Duration) -> Reply {
    let failed = (0..events).map(|index| {
        let fate = if index == refused {
            Fate::Refused(reason.clone())
        } else {
            let reason = "another event of the request was refused".to_owned();
            Fate::Again {
                reason,
                overloaded: false,
            }
        };
        (index, fate)
    });
    Reply::Taken {
        failed: failed.collect(),
        latency,
    }
}

/// The number under which a request is acknowledged.
pub(super) fn ack_id(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Taken {
        #[serde(rename = "ackId")]
        ack_id: u64,
    }
    let taken: Taken = serde_json::from_slice(body).ok()?;
    Some(taken.ack_id)
}

/// Which numbers are indexed.
pub(super) fn acks(body: &[u8]) -> Result<BTreeMap<u64, bool>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Acks {
        acks: BTreeMap<u64, bool>,
    }
    let found: Acks = serde_json::from_slice(body)?;
    Ok(found.acks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whose_fault_it_is() {
        let check = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match verdict(status, body.as_bytes(), 3) {
                Verdict::Service => "service".to_owned(),
                Verdict::Event(index, _) => format!("event {index}"),
                Verdict::Setup(_, help) => help.split_whitespace().next().unwrap().to_owned(),
            }
        };
        for (status, body, wanted) in [
            (
                400,
                r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#,
                "event 2",
            ),
            (
                400,
                r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#,
                "service",
            ),
            (
                400,
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#,
                "allow",
            ),
            (400, r#"{"text":"ACK is disabled","code":14}"#, "allow"),
            (400, "<html>", "check"),
            (403, r#"{"text":"Invalid token","code":4}"#, "check"),
            (503, r#"{"text":"Server is busy","code":9}"#, "service"),
            (502, "bad gateway", "service"),
        ] {
            assert_eq!(check(status, body), wanted, "{status} {body}");
        }
    }

    #[test]
    fn acknowledgements_are_read() {
        assert_eq!(ack_id(br#"{"text":"Success","code":0,"ackId":7}"#), Some(7));
        assert_eq!(ack_id(br#"{"text":"Success","code":0}"#), None);
        let found = acks(br#"{"acks":{"7":true,"8":false}}"#).unwrap();
        assert_eq!(found, BTreeMap::from([(7, true), (8, false)]));
        assert!(acks(b"{}").is_err());
    }
}
