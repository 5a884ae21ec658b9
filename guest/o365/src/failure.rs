//! What an answer that is not success means: one table from the service's code to a decision.
//!
//! The body may be JSON of two shapes, the same with single quotes, a code that is a sentence, HTML
//! or nothing at all; when no code can be found the HTTP status decides. No decision ever says
//! `skip`: content is retried until it is declared lost.

use serde::Deserialize;

use crate::time;
use crate::world::{Failure, Scope, Timestamp};

/// What an answer asks the caller to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The subscription was enabled already: success.
    AlreadyEnabled,
    /// Wait, the whole tenant, as long as the service says.
    Throttled,
    /// Try the same again, later.
    Retry,
    /// The content is gone for good.
    Expired,
    /// The content is not there now: try again, list again, and only then call it lost.
    Missing,
    /// There is no subscription: start it.
    NoSubscription,
    /// Somebody stopped the subscription: start it, at most once an hour.
    Disabled,
    /// The window or the page is no longer valid: begin the window again.
    RestartWindow,
    /// A permission is missing.
    Unauthorised,
    /// A person must act.
    Misconfigured,
}

/// The codes, sorted, each with what it means and a sentence for the operator.
pub const CODES: [(&str, Decision, &str); 23] = [
    (
        "AF10001",
        Decision::Unauthorised,
        "grant the app `ActivityFeed.Read` (for DLP.All also `ActivityFeed.ReadDlp`), with consent",
    ),
    (
        "AF20001",
        Decision::Misconfigured,
        "a parameter is missing: please report this as a defect",
    ),
    (
        "AF20002",
        Decision::Misconfigured,
        "a parameter has the wrong type; check that `publisher_id` is a GUID",
    ),
    (
        "AF20003",
        Decision::Misconfigured,
        "somebody set a webhook that has expired on this subscription",
    ),
    (
        "AF20010",
        Decision::Misconfigured,
        "`directory_id` is not the tenant that the credential belongs to",
    ),
    (
        "AF20011",
        Decision::Misconfigured,
        "the tenant is unknown: check `cloud`, and that auditing is switched on",
    ),
    (
        "AF20012",
        Decision::Misconfigured,
        "the tenant is not set up right at Microsoft; open a support case",
    ),
    (
        "AF20013",
        Decision::Misconfigured,
        "`directory_id` must be a GUID",
    ),
    (
        "AF20020",
        Decision::Misconfigured,
        "this cloud does not know the content type",
    ),
    (
        "AF20021",
        Decision::Misconfigured,
        "a webhook on this subscription cannot be validated; remove it",
    ),
    (
        "AF20022",
        Decision::NoSubscription,
        "there is no subscription; it is started",
    ),
    (
        "AF20023",
        Decision::Disabled,
        "an administrator disabled the subscription; it is started again",
    ),
    (
        "AF20024",
        Decision::AlreadyEnabled,
        "the subscription is enabled already",
    ),
    (
        "AF20030",
        Decision::RestartWindow,
        "the window is not valid (any more)",
    ),
    (
        "AF20031",
        Decision::RestartWindow,
        "the page is not valid (any more)",
    ),
    ("AF20050", Decision::Missing, "the content does not exist"),
    (
        "AF20051",
        Decision::Expired,
        "the content has expired; Microsoft keeps it for seven days",
    ),
    (
        "AF20052",
        Decision::Missing,
        "the content id is invalid; when every blob says so, `cloud` is wrong",
    ),
    (
        "AF20053",
        Decision::Misconfigured,
        "more than one language was asked for: please report this as a defect",
    ),
    (
        "AF20054",
        Decision::Misconfigured,
        "the language is malformed: please report this as a defect",
    ),
    (
        "AF20055",
        Decision::RestartWindow,
        "the window is not valid (any more)",
    ),
    (
        "AF429",
        Decision::Throttled,
        "the tenant's request quota is used up",
    ),
    (
        "AF50000",
        Decision::Retry,
        "Microsoft reports an internal error",
    ),
];

/// Most bytes of an error body that are looked at.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Most bytes of it that are shown.
const EXCERPT_BYTES: usize = 512;
/// Longest wait that `Retry-After` may ask for, and shortest.
const RETRY_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=900_000;

/// An answer, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What to do.
    pub decision: Decision,
    /// The HTTP status.
    pub status: u16,
    /// The service's code, when it gave one.
    pub code: Option<String>,
    /// For the operator: what was asked, what came back, what to do.
    pub reason: String,
    /// What `Retry-After` asks for.
    pub after_ms: Option<u64>,
}

/// Understands an answer that is not success.
pub fn understand(status: u16, body: &[u8], retry_after: Option<&str>, now: Timestamp) -> Refused {
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_LIMIT)]);
    let (code, message) = parse(&text);
    let auditing_off = text.contains("DataServiceException") && text.contains("does not exist");
    let (decision, help) = if auditing_off {
        let help = "auditing is off: switch it on in the Purview portal (it takes up to an hour)";
        (Decision::Misconfigured, help)
    } else {
        code.as_deref()
            .and_then(by_code)
            .unwrap_or_else(|| by_status(status))
    };
    let mut reason = format!("HTTP {status}");
    if let Some(code) = &code {
        reason = format!("{reason} {code}");
    }
    let excerpt = excerpt(message.as_deref().unwrap_or(&text));
    if !excerpt.is_empty() {
        reason = format!("{reason}: {excerpt}");
    }
    let reason = format!("{reason} ({help})");
    let after_ms = retry_after.and_then(|value| wait(value, now));
    Refused {
        decision,
        status,
        code,
        reason,
        after_ms,
    }
}

impl Refused {
    /// Whether it is a denial that says no reason. A good token meets one now and then, so it
    /// deserves another try before a stream is stopped for it.
    pub fn is_bare_denial(&self) -> bool {
        self.decision == Decision::Unauthorised && self.code.is_none()
    }

    /// The failure that a call ends with. `scope` says how far a plain retry reaches.
    pub fn failure(self, what: &str, scope: Scope) -> Failure {
        let reason = format!("{what}: {}", self.reason);
        match self.decision {
            Decision::Unauthorised => Failure::Unauthorised(reason),
            Decision::Misconfigured => Failure::Misconfigured(reason),
            Decision::Expired if scope == Scope::Split => Failure::SplitLost(reason),
            Decision::Throttled => Failure::Retry {
                after_ms: self.after_ms,
                affects: Scope::Tenant,
                reason,
            },
            _ => Failure::Retry {
                after_ms: self.after_ms,
                affects: scope,
                reason,
            },
        }
    }
}

fn by_code(code: &str) -> Option<(Decision, &'static str)> {
    if let Ok(row) = CODES.binary_search_by(|(known, ..)| (*known).cmp(code)) {
        return Some((CODES[row].1, CODES[row].2));
    }
    match code.as_bytes().get(2)? {
        b'1' => Some((Decision::Unauthorised, "the app lacks a permission")),
        b'5' => Some((Decision::Retry, "Microsoft reports an internal error")),
        _ => Some((Decision::Retry, "a code that this version does not know")),
    }
}

fn by_status(status: u16) -> (Decision, &'static str) {
    match status {
        401 => (
            Decision::Unauthorised,
            "the service refuses a fresh token: check the app's permissions and consent",
        ),
        403 => (
            Decision::Unauthorised,
            "forbidden: check the app's permissions, and proxies on the way",
        ),
        404 => (Decision::Missing, "not found"),
        410 => (Decision::Expired, "gone"),
        411 | 413 | 415 => (Decision::Misconfigured, "please report this as a defect"),
        429 => (Decision::Throttled, "the tenant's request quota is used up"),
        300..=399 => (
            Decision::Retry,
            "a redirect, which this API never sends and nobody follows: check proxies on the way",
        ),
        _ => (Decision::Retry, "transient"),
    }
}

/// Both JSON shapes of an error.
#[derive(Deserialize)]
struct Shapes {
    error: Option<Inner>,
    #[serde(rename = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Inner {
    code: Option<String>,
    message: Option<String>,
}

/// Code and message of an error body.
fn parse(text: &str) -> (Option<String>, Option<String>) {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(shapes) = serde_json::from_str::<Shapes>(text) {
        if let Some(error) = shapes.error {
            let code = error
                .code
                .as_deref()
                .and_then(find_code)
                .or_else(|| find_code(text));
            return (code, error.message);
        }
        return (find_code(text), shapes.message);
    }
    (find_code(text), None)
}

/// The first `AF` that is followed by three to five digits and stands alone.
fn find_code(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = text[from..].find("AF") {
        let at = from + found;
        from = at + 2;
        if at > 0 && bytes[at - 1].is_ascii_alphanumeric() {
            continue;
        }
        let digits = bytes[at + 2..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let ends = bytes
            .get(at + 2 + digits)
            .is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if (3..=5).contains(&digits) && ends {
            return Some(text[at..at + 2 + digits].to_owned());
        }
    }
    None
}

/// One line of a text, cut.
fn excerpt(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(EXCERPT_BYTES)
        .collect();
    if line.len() < text.trim().len() {
        line.push('…');
    }
    line
}

/// `Retry-After`, in seconds or as a date, within bounds. Garbage is nothing.
pub fn wait(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        value
            .parse::<u64>()
            .unwrap_or(u64::MAX)
            .saturating_mul(1000)
    } else {
        let at = time::parse_http(value)?;
        u64::try_from(at.saturating_sub(now)).unwrap_or(0)
    };
    Some(wait.clamp(*RETRY_AFTER_MS.start(), *RETRY_AFTER_MS.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::NOW;

    const AUDITING_OFF: &str = concat!(
        r#"{"error":{"code":"StartSubscription [CorrId=0d6f][TenantId=3f2c,ContentType=Audit."#,
        r#"General][AppId","message":"d0a8] failed. Exception: Microsoft.Office.Compliance."#,
        r#"Audit.DataServiceException: Tenant 3f2c does not exist.\r\n   at X"}}"#
    );

    /// Every row: status, body, the decision, the code that was found.
    #[test]
    fn every_answer_has_its_decision() {
        use Decision as D;
        let shape = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        for (code, decision, _) in CODES {
            for status in [400, 401, 403, 404, 500] {
                check(status, &shape(code), decision, Some(code));
            }
        }
        check(401, &shape("AF10009"), D::Unauthorised, Some("AF10009"));
        check(400, &shape("AF20099"), D::Retry, Some("AF20099"));
        check(500, &shape("AF50005"), D::Retry, Some("AF50005"));
        check(500, &shape("AF50006"), D::Retry, Some("AF50006"));
        let quoted = "{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob'}}";
        check(403, quoted, D::Throttled, Some("AF429"));
        check(429, &shape("AF429"), D::Throttled, Some("AF429"));
        let denied = r#"{"Message":"Authorization has been denied for this request."}"#;
        check(401, denied, D::Unauthorised, None);
        check(400, AUDITING_OFF, D::Misconfigured, None);
        let nonsense =
            r#"{"error":{"code":"String reference not set to an instance","message":"s"}}"#;
        check(400, nonsense, D::Retry, None);
        check(200, "<html>AF</html>", D::Retry, None);
        for (status, decision) in [
            (400, D::Retry),
            (401, D::Unauthorised),
            (403, D::Unauthorised),
            (404, D::Missing),
            (408, D::Retry),
            (410, D::Expired),
            (411, D::Misconfigured),
            (413, D::Misconfigured),
            (415, D::Misconfigured),
            (429, D::Throttled),
            (302, D::Retry),
            (500, D::Retry),
            (502, D::Retry),
            (503, D::Retry),
            (504, D::Retry),
        ] {
            for body in [
                "",
                "<html>Service unavailable</html>",
                "null",
                "[]",
                "{}",
                "\u{feff}",
            ] {
                check(status, body, decision, None);
            }
        }
    }

    fn check(status: u16, body: &str, decision: Decision, code: Option<&str>) {
        let refused = understand(status, body.as_bytes(), None, NOW);
        assert_eq!(refused.decision, decision, "HTTP {status} with {body}");
        assert_eq!(refused.code.as_deref(), code, "HTTP {status} with {body}");
        assert!(
            refused.reason.starts_with(&format!("HTTP {status}")),
            "{}",
            refused.reason
        );
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(CODES.is_sorted_by(|left, right| left.0 < right.0));
    }

    #[test]
    fn auditing_off_says_what_to_do() {
        let refused = understand(400, AUDITING_OFF.as_bytes(), None, NOW);
        assert!(
            refused.reason.contains("auditing is off"),
            "{}",
            refused.reason
        );
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        for (value, expected) in [
            ("37", Some(37_000)),
            (" 37 ", Some(37_000)),
            ("0", Some(1_000)),
            ("315360000", Some(900_000)),
            ("99999999999999999999999", Some(900_000)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("1.5", None),
            // NOW is 09:00:30.
            ("Sat, 10 Jan 2026 09:01:00 GMT", Some(30_000)),
            ("Sat, 10 Jan 2026 08:00:00 GMT", Some(1_000)),
            ("Thu, 10 Jan 2036 08:00:00 GMT", Some(900_000)),
        ] {
            assert_eq!(wait(value, NOW), expected, "{value:?}");
        }
    }

    #[test]
    fn only_whole_codes_count() {
        assert_eq!(find_code("xAF50000"), None);
        assert_eq!(find_code("AF50"), None);
        assert_eq!(find_code("AF500001"), None);
        assert_eq!(find_code("AF AF1x AF20051!"), Some("AF20051".into()));
    }

    #[test]
    fn decisions_become_failures() {
        let failure = |status, scope| understand(status, b"", None, NOW).failure("x", scope);
        assert!(matches!(failure(410, Scope::Split), Failure::SplitLost(_)));
        assert!(matches!(failure(410, Scope::Stream), Failure::Retry { .. }));
        assert!(matches!(
            failure(401, Scope::Split),
            Failure::Unauthorised(_)
        ));
        assert!(matches!(
            failure(413, Scope::Split),
            Failure::Misconfigured(_)
        ));
        let throttled = understand(429, b"", Some("7"), NOW).failure("x", Scope::Split);
        assert!(matches!(
            throttled,
            Failure::Retry {
                after_ms: Some(7_000),
                affects: Scope::Tenant,
                ..
            }
        ));
    }
}
