//! What the feed says to the token: subscriptions, a short listing of each type, one blob.
//!
//! Only reads, except where `--start` was asked for. What an answer means is decided by the
//! service's code where it gives one, as the plugin does; here it is also said in whose hands it is.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http_body_util::Full;
use serde_json::Value;
use url::Url;

use super::Patient;
use super::identity::plain;
use super::network::Reached;
use super::report::{Cause, Step};
use crate::auth::{Credentials, Token};
use crate::config::Auth;
use crate::http::{HttpError, Origin, read_all};

/// Listings and lists have some hundred kilobytes at most.
const BODY_BYTES: usize = 16 << 20;
/// Tries of one request while the service has trouble of its own.
const TRIES: u32 = 3;
/// How far back a listing looks: enough to see content where there is any, one page for nearly all.
const WINDOW_MS: i64 = 3_600_000;

const AUDITING: &str = "switch auditing on in the Microsoft Purview portal under Audit, `Start \
    recording user and admin activity` (or `Set-AdminAuditLogConfig \
    -UnifiedAuditLogIngestionEnabled $true` in Exchange Online PowerShell); it takes effect within \
    an hour, in a new tenant later";

/// An answer of the feed.
struct Answer {
    status: StatusCode,
    body: Bytes,
    has_more: bool,
}

/// A tenant's feed with the token that opens it.
struct Feed<'a> {
    patient: &'a Patient<'a>,
    root: String,
    publisher: String,
    credentials: Arc<dyn Credentials>,
    token: Token,
}

impl Patient<'_> {
    /// Subscriptions and listings of every content type that is configured.
    pub(super) async fn feed(
        &self,
        token: Option<(Arc<dyn Credentials>, Token)>,
        resource: &Reached,
        steps: &mut Vec<Step>,
    ) {
        let skip = |why: &str| {
            [
                Step::new("subscriptions", "").skip(why),
                Step::new("listing", "").skip(why),
            ]
        };
        let Auth::Microsoft(microsoft) = &self.tenant.auth else {
            return steps.extend(skip("only known for Microsoft's feed"));
        };
        if !self.knows_feed {
            return steps.extend(skip("only known for plugin `o365`"));
        }
        if !resource.is_reached() {
            return steps.extend(skip("the resource host cannot be reached"));
        }
        let Some((credentials, token)) = token else {
            return steps.extend(skip("there is no token"));
        };
        let base = microsoft
            .resource_url
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        let directory = &microsoft.directory_id;
        let publisher = self.tenant.config["publisher_id"]
            .as_str()
            .unwrap_or(directory);
        let feed = Feed {
            patient: self,
            root: format!("{base}/api/v1.0/{directory}/activity/feed"),
            publisher: publisher.to_owned(),
            credentials,
            token,
        };
        feed.examine(steps).await;
    }
}

impl Feed<'_> {
    async fn examine(mut self, steps: &mut Vec<Step>) {
        let kinds = self.patient.content_types();
        let list = format!("{}/subscriptions/list", self.root);
        let listed = match self.ask("GET", &list, &[]).await {
            Ok(answer) if answer.status.is_success() => {
                match serde_json::from_slice::<Vec<Value>>(&answer.body) {
                    Ok(listed) => listed,
                    Err(_) => return steps.push(broken(Step::new("subscriptions", ""))),
                }
            }
            other => {
                steps.push(judge(Step::new("subscriptions", ""), other));
                let why = "the subscriptions cannot be listed";
                return steps.push(Step::new("listing", "").skip(why));
            }
        };
        let mut enabled = Vec::new();
        for kind in &kinds {
            let (step, readable) = subscription(kind, &listed);
            steps.push(step);
            enabled.push(readable);
        }
        steps.extend(self.auditing(&kinds, &enabled).await);
        let mut blob = None;
        for (kind, enabled) in kinds.iter().zip(enabled) {
            let step = Step::new("listing", kind);
            if enabled {
                steps.push(self.list(step, kind, &mut blob).await);
            } else {
                steps.push(step.skip("there is no enabled subscription"));
            }
        }
        steps.extend(self.content(blob).await);
    }

    /// Whether auditing is on: known where something was ever subscribed; otherwise only a start
    /// tells.
    async fn auditing(&mut self, kinds: &[String], enabled: &[bool]) -> Option<Step> {
        let step = Step::new("auditing", "");
        let missing = kinds.iter().zip(enabled).find(|(_, enabled)| !**enabled);
        let (kind, _) = missing?;
        if self.patient.start {
            let url = format!("{}/subscriptions/start", self.root);
            let answer = self.ask("POST", &url, &[("contentType", kind)]).await;
            return Some(match answer {
                Ok(answer) if answer.status.is_success() || says(&answer.body, "AF20024") => {
                    step.ok(format!("on: the subscription to {kind} was started"))
                }
                other => judge(step, other),
            });
        }
        if enabled.contains(&true) {
            return None;
        }
        let found = "not known: the tenant has no subscription yet. `run` starts them; if it says \
            `Tenant ... does not exist`, auditing is off (`doctor --start` finds out now)";
        Some(step.warn(
            Cause::AuditingOff,
            found.into(),
            format!("if it is off: {AUDITING}"),
        ))
    }

    /// Lists the last hour of a type; keeps the address of one blob.
    async fn list(&mut self, step: Step, kind: &str, blob: &mut Option<String>) -> Step {
        let now_ms = self.patient.clock.now_ms() - self.patient.clock.now_ms() % 60_000;
        let time = |ms| {
            let text = crate::engine::rfc3339(ms);
            text.trim_end_matches('Z').to_owned()
        };
        let (start, end) = (time(now_ms - WINDOW_MS), time(now_ms));
        let fields = [
            ("contentType", kind),
            ("startTime", &*start),
            ("endTime", &*end),
        ];
        let url = format!("{}/subscriptions/content", self.root);
        let answer = match self.ask("GET", &url, &fields).await {
            Ok(answer) if answer.status.is_success() => answer,
            other => return judge(step, other),
        };
        let Ok(listed) = serde_json::from_slice::<Vec<Value>>(&answer.body) else {
            return broken(step);
        };
        if let Some(found) = listed.iter().find_map(|one| one["contentUri"].as_str()) {
            blob.get_or_insert_with(|| found.to_owned());
        }
        let more = if answer.has_more { " or more" } else { "" };
        step.ok(format!("{}{more} blob(s) in the last hour", listed.len()))
    }

    /// Fetches the head of one blob: a wrong cloud lists well and fetches nothing.
    async fn content(&mut self, blob: Option<String>) -> Option<Step> {
        let step = Step::new("content", "");
        let url = Url::parse(&blob?).ok()?;
        if Origin::of(&url).as_ref() != Some(self.credentials.origin()) {
            let found = "the service lists content on another host, where no token is sent";
            let fix = "check `cloud` and `resource_url`, and gateways on the way";
            return Some(step.fail(Cause::WrongCloud, found.into(), fix.into()));
        }
        Some(match self.ask("GET", url.as_str(), &[]).await {
            Ok(answer) if answer.status.is_success() => step.ok("one blob can be fetched".into()),
            // Longer than any answer that is looked at here, so it was coming.
            Err(error) if error.trouble == crate::http::Trouble::TooLarge => {
                step.ok("one blob can be fetched".into())
            }
            other => judge(step, other),
        })
    }

    /// Asks, again while the service has trouble of its own, and once with another token where this
    /// one is refused without a reason.
    async fn ask(
        &mut self,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        let mut renewed = false;
        let mut tries = 1;
        loop {
            let answer = self.send(method, url, fields).await;
            let again = match &answer {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    !says(&answer.body, "AF10") && self.renew().await
                }
                Ok(answer) => answer.status.is_server_error() && tries < TRIES,
                Err(_) => tries < TRIES,
            };
            if !again {
                return answer;
            }
            tries += 1;
        }
    }

    async fn renew(&mut self) -> bool {
        self.credentials.invalidate(&self.token);
        match self.credentials.bearer().await {
            Ok(token) => {
                self.token = token;
                true
            }
            Err(_) => false,
        }
    }

    async fn send(
        &self,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        let mut url = Url::parse(url).map_err(|_| HttpError::unsendable(""))?;
        url.query_pairs_mut()
            .extend_pairs(fields)
            .append_pair("PublisherIdentifier", &self.publisher);
        let host = url.host_str().unwrap_or_default().to_owned();
        let header = self
            .token
            .header()
            .ok_or_else(|| HttpError::unsendable(&host))?;
        let mut request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(AUTHORIZATION, header);
        // The service's front refuses a POST that does not say that it has no body (411).
        if method == "POST" {
            request = request.header(CONTENT_LENGTH, 0);
        }
        let request = request
            .body(Full::default())
            .map_err(|_| HttpError::unsendable(&host))?;
        let (head, body) = self.patient.client.send(request).await?.into_parts();
        let has_more = ["nextpageuri", "nextpageurl"]
            .iter()
            .any(|name| head.headers.contains_key(*name));
        let body = read_all(&host, body, BODY_BYTES).await?;
        Ok(Answer {
            status: head.status,
            body,
            has_more,
        })
    }
}

/// What is listed of a type, and whether it can be read.
fn subscription(kind: &str, listed: &[Value]) -> (Step, bool) {
    let step = Step::new("subscription", kind);
    let own = listed.iter().find(|one| {
        let name = one["contentType"].as_str().unwrap_or_default();
        name.eq_ignore_ascii_case(kind)
    });
    match own.map(|own| own["status"].as_str().unwrap_or("of unknown status")) {
        None => {
            let found = "there is none yet".to_owned();
            let fix =
                "nothing by hand: `run` starts it; first content can take 12 hours".to_owned();
            (step.warn(Cause::NoSubscription, found, fix), false)
        }
        Some(status) if status.eq_ignore_ascii_case("disabled") => {
            let found = "somebody disabled it".to_owned();
            let fix = "find out who and why; `run` starts it again, and what became available \
                meanwhile is lost";
            (step.warn(Cause::NoSubscription, found, fix.into()), false)
        }
        Some(status) => (step.ok(plain(status)), true),
    }
}

fn broken(step: Step) -> Step {
    let found = "the answer is not what the service sends: no JSON list".to_owned();
    let fix = "look for a gateway or proxy that answers in the service's place".to_owned();
    step.fail(Cause::NetworkBroken, found, fix)
}

fn says(body: &[u8], word: &str) -> bool {
    memchr::memmem::find(body, word.as_bytes()).is_some()
}

/// What an answer that is no success means.
fn judge(step: Step, answer: Result<Answer, HttpError>) -> Step {
    match answer {
        Ok(answer) => judge_refusal(step, answer.status, &answer.body),
        Err(error) => {
            let fix = error.help().to_owned();
            step.fail(Cause::NetworkBroken, error.what, fix)
        }
    }
}

fn judge_refusal(step: Step, status: StatusCode, body: &[u8]) -> Step {
    let found = |what: &str| format!("{what} (HTTP {}{})", status.as_u16(), code(body));
    if says(body, "DataServiceException") && says(body, "does not exist") {
        let what = found("auditing is off in this tenant, or was switched on just now");
        return step.fail(Cause::AuditingOff, what, AUDITING.into());
    }
    for (word, cause, what, fix) in CODES {
        if says(body, word) {
            return step.fail(*cause, found(what), (*fix).to_owned());
        }
    }
    let (cause, what, fix) = match status.as_u16() {
        401 | 403 => (
            Cause::MissingRole,
            "the service refuses a token that was just issued",
            "check API permissions and admin consent; then ask for gateways on the way",
        ),
        429 => (Cause::Throttled, "too many requests", WAIT),
        500.. => (
            Cause::ServiceTrouble,
            "the service has trouble of its own",
            WAIT,
        ),
        _ => (
            Cause::Refused,
            "the service refuses",
            "check `directory_id` and `cloud`, and gateways on the way",
        ),
    };
    step.fail(cause, found(what), fix.to_owned())
}

const WAIT: &str = "try again later; a run does so by itself";
const TENANT: &str = "check `directory_id` (Entra admin center, Overview, Tenant ID) and `cloud`";

/// The service's codes, each by its beginning: word, cause, what it says, what to do.
const CODES: &[(&str, Cause, &str, &str)] = &[
    (
        "AF10001",
        Cause::MissingRole,
        "the token lacks the permission for this",
        "in the Entra admin center under App registrations, the application, API permissions: add \
         Office 365 Management APIs, Application permissions, ActivityFeed.Read (for DLP.All \
         ActivityFeed.ReadDlp), then `Grant admin consent`",
    ),
    (
        "AF20010",
        Cause::WrongTenant,
        "the token is another directory's",
        TENANT,
    ),
    (
        "AF20011",
        Cause::WrongTenant,
        "the service does not know the directory",
        TENANT,
    ),
    (
        "AF20012",
        Cause::WrongTenant,
        "the directory is not set up right at Microsoft",
        "open a support case with Microsoft",
    ),
    (
        "AF20013",
        Cause::WrongTenant,
        "the directory's id is not one",
        TENANT,
    ),
    (
        "AF20020",
        Cause::Config,
        "this cloud does not know the content type",
        "remove it from `content_types`",
    ),
    (
        "AF20022",
        Cause::NoSubscription,
        "there is no subscription",
        "nothing by hand: `run` starts it",
    ),
    (
        "AF20023",
        Cause::NoSubscription,
        "somebody disabled the subscription",
        "find out who and why; `run` starts it again",
    ),
    (
        "AF20052",
        Cause::WrongCloud,
        "the service does not know the content that it lists: the cloud is another one",
        "check `cloud`: a government tenant on a commercial host lists well and fetches nothing",
    ),
    (
        "AF429",
        Cause::Throttled,
        "the tenant's request quota is used up",
        WAIT,
    ),
    (
        "AF5",
        Cause::ServiceTrouble,
        "the service reports an internal error",
        WAIT,
    ),
];

/// The service's code in a body, for people.
fn code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let Some(at) = text.find("AF") else {
        return String::new();
    };
    let digits = text[at + 2..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    if (3..=5).contains(&digits) {
        format!(" {}", &text[at..at + 2 + digits])
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Status;
    use super::*;

    #[test]
    fn every_refusal_of_the_feed_is_named() {
        let of = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let auditing = r#"{"error":{"code":"StartSubscription [CorrId=0][AppId","message":"x] \
            failed. Exception: Microsoft.DataServiceException: Tenant 3f2c does not exist."}}"#;
        for (status, body, cause) in [
            (401, of("AF10001"), Cause::MissingRole),
            (400, of("AF20010"), Cause::WrongTenant),
            (400, of("AF20011"), Cause::WrongTenant),
            (400, of("AF20020"), Cause::Config),
            (400, of("AF20022"), Cause::NoSubscription),
            (400, of("AF20052"), Cause::WrongCloud),
            (
                403,
                "{'error':{'code':'AF429'}}".to_owned(),
                Cause::Throttled,
            ),
            (500, of("AF50000"), Cause::ServiceTrouble),
            (400, auditing.to_owned(), Cause::AuditingOff),
            (
                401,
                r#"{"Message":"denied"}"#.to_owned(),
                Cause::MissingRole,
            ),
            (503, "<html>".to_owned(), Cause::ServiceTrouble),
            (404, String::new(), Cause::Refused),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let step = judge_refusal(Step::new("x", ""), status, body.as_bytes());
            assert_eq!(
                (step.status, step.cause),
                (Status::Fail, Some(cause)),
                "{body}"
            );
            assert!(!step.fix.is_empty(), "{body}");
        }
    }

    #[test]
    fn a_subscription_without_status_is_tried() {
        let listed = [
            json!({ "contentType": "audit.exchange" }),
            json!({ "contentType": "DLP.All", "status": "disabled" }),
            json!({ "contentType": "Audit.General", "status": "Enabled" }),
        ];
        for (kind, readable) in [
            ("Audit.Exchange", true),
            ("DLP.All", false),
            ("Audit.General", true),
            ("Audit.SharePoint", false),
        ] {
            let (step, found) = subscription(kind, &listed);
            assert_eq!(found, readable, "{kind}");
            assert_eq!(step.status == Status::Ok, readable, "{kind}");
        }
    }
}
