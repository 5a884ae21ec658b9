//! The answer to a unary call of gRPC over HTTP/2: where its message is, and what its status means
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, and the codes of
//! <https://opentelemetry.io/docs/specs/otlp/#failures>).

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use prost::Message;

/// The method that takes logs.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Before each message: whether it is packed, and its length.
const PREFIX: usize = 5;

/// No server is believed that asks for more.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// A call that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub verdict: Verdict,
    /// The code by its name, and what the server says.
    pub what: String,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the request: in halves.
    Split,
    /// Too much to do.
    Overloaded,
    /// Who we are is not accepted.
    Unauthenticated,
    /// Who we are may not do this.
    Denied,
    /// Nobody there takes logs.
    NotThere,
    /// Trouble of its own.
    Trouble,
}

/// The one message of a body; `None` when it is none, or packed in a way that nobody offered.
pub(super) fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    (prefix[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

/// Whether a call succeeded; `None` when the answer does not say so, and is none of gRPC.
pub(super) fn status(trailers: &HeaderMap) -> Option<Result<(), Failure>> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code: u32 = text("grpc-status")?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let said = percent_decode_str(text("grpc-message").unwrap_or_default());
    let name = NAMES.get(usize::try_from(code).ok()?);
    let name = name.copied().unwrap_or("a code that is not known");
    let said = super::excerpt(&Cow::from(said));
    Some(Err(Failure {
        verdict: verdict(code, &said),
        what: format!("{name}{said}"),
        retry_after: text("grpc-status-details-bin").and_then(retry_delay),
    }))
}

fn verdict(code: u32, said: &str) -> Verdict {
    // What Go's and Rust's servers say of a message that is too large; 8 and 11 mean other things as well.
    let too_large = ["larger than max", "too large"];
    match code {
        3 => Verdict::Split,
        8 | 11 if too_large.iter().any(|words| said.contains(words)) => Verdict::Split,
        8 | 14 => Verdict::Overloaded,
        16 => Verdict::Unauthenticated,
        7 => Verdict::Denied,
        5 | 12 => Verdict::NotThere,
        _ => Verdict::Trouble,
    }
}

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long the details of a status ask to wait.
fn retry_delay(details: &str) -> Option<Duration> {
    let either =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let details = GeneralPurpose::new(&STANDARD, either)
        .decode(details)
        .ok()?;
    let status = Status::decode(&details[..]).ok()?;
    let mut infos = status.details.iter();
    let info = infos.find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    let nanos = Duration::from_nanos(u64::try_from(delay.nanos).ok()?);
    Some((seconds + nanos).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_its_frame() {
        assert_eq!(message(b"\0\0\0\0\x03abc"), Some(&b"abc"[..]));
        for wrong in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x04abc",
            b"\x01\0\0\0\x03abc",
        ] {
            assert_eq!(message(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_status_says_what_to_do() {
        let of = |code: &str, said: &str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            trailers.insert("grpc-message", said.parse().unwrap());
            status(&trailers)
        };
        assert_eq!(of("0", ""), Some(Ok(())));
        assert_eq!(status(&HeaderMap::new()), None);
        assert_eq!(of("many", ""), None);
        for (code, said, wanted) in [
            ("3", "bad", Verdict::Split),
            (
                "8",
                "grpc: received message larger than max (5 vs. 4)",
                Verdict::Split,
            ),
            (
                "11",
                "Error, decoded message length too large: found 5",
                Verdict::Split,
            ),
            ("8", "quota", Verdict::Overloaded),
            ("14", "", Verdict::Overloaded),
            ("16", "", Verdict::Unauthenticated),
            ("7", "", Verdict::Denied),
            ("12", "", Verdict::NotThere),
            ("13", "", Verdict::Trouble),
            ("99", "", Verdict::Trouble),
        ] {
            let failure = of(code, said).unwrap().unwrap_err();
            assert_eq!(failure.verdict, wanted, "{code}");
        }
        let failure = of("14", "no%20room%0A for %C3%BC%").unwrap().unwrap_err();
        assert_eq!(failure.what, "UNAVAILABLE: no room for ü%");
    }

    #[test]
    fn a_wait_is_read_from_the_details() {
        let delay = RetryInfo {
            retry_delay: Some(Delay {
                seconds: 7,
                nanos: 500_000_000,
            }),
        };
        let any = |kind: &str, value: Vec<u8>| Any {
            type_url: format!("type.googleapis.com/google.rpc.{kind}"),
            value,
        };
        let details = vec![any("Help", vec![]), any("RetryInfo", delay.encode_to_vec())];
        let details = Status { details }.encode_to_vec();
        let padded = base64::engine::general_purpose::STANDARD.encode(&details);
        for text in [padded.as_str(), padded.trim_end_matches('=')] {
            assert_eq!(retry_delay(text), Some(Duration::from_millis(7_500)));
        }
        assert_eq!(retry_delay("AAAA"), None);
    }
}
