//! The API's front: who may ask, how often, and the operations on subscriptions.

use serde_json::json;

use crate::faults::{Fault, Waits};
use crate::kind::ContentType;
use crate::office::Office;
use crate::random::{Concern, Seed};
use crate::script::Operation;
use crate::time;
use crate::token::is_guid;
use crate::wire::{Reply, Request, percent_decode};

/// The publisher that requests without a `PublisherIdentifier` are counted under.
pub(crate) const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000000";

/// A refusal in the regular shape.
pub(crate) fn refuse(status: u16, code: &str, message: impl Into<String>) -> Reply {
    let message: String = message.into();
    Reply::json(
        status,
        json!({"error": {"code": code, "message": message}}).to_string(),
    )
}

/// A refusal of the authorisation layer, in its own shape.
fn denied() -> Reply {
    Reply::json(
        401,
        r#"{"Message":"Authorization has been denied for this request."}"#,
    )
    .with("WWW-Authenticate", "Bearer")
}

/// Who asks: a tenant with the roles of its token.
pub(crate) struct Caller {
    pub tenant: usize,
    pub roles: Vec<String>,
}

impl Office {
    pub(crate) fn api(
        &mut self,
        now: i64,
        request: &Request,
        tenant: &str,
        operation: &[&str],
        about: Seed,
    ) -> Reply {
        let reply = self.admit(now, request, tenant, operation, about);
        self.spoil(reply.unwrap_or_else(|refusal| refusal), about)
    }

    fn admit(
        &mut self,
        now: i64,
        request: &Request,
        tenant: &str,
        operation: &[&str],
        about: Seed,
    ) -> Result<Reply, Reply> {
        let publisher = request.parameter("PublisherIdentifier");
        self.stats.without_publisher += u64::from(publisher.is_none());
        let caller = self.authorize(now, request)?;
        self.match_tenant(tenant, caller.tenant)?;
        if publisher
            .as_ref()
            .is_some_and(|publisher| !is_guid(publisher))
        {
            let text = "Parameter PublisherIdentifier is of the wrong type. Expected: guid.";
            return Err(refuse(400, "AF20002", text));
        }
        let method = method_name(operation);
        self.check_rate(now, caller.tenant, publisher.as_deref(), method, about)?;
        let name = publisher.as_deref().unwrap_or(ANONYMOUS);
        self.stumble(about, name, method, &request.path)?;
        if let Some(listed) = Operation::of(request, operation) {
            let kind = kind_of(request, operation);
            self.cue(listed, caller.tenant, kind).map_or(Ok(()), Err)?;
        }
        match (&*request.method, operation) {
            ("GET", ["subscriptions", "list"]) => Ok(self.subscriptions(now, caller.tenant)),
            ("GET", ["audit" | "Audit", id]) => {
                Ok(self.fetch(now, request, &caller, &percent_decode(id, false), about))
            }
            ("GET", ["resources", "dlpSensitiveTypes"]) => sensitive_types(request),
            (method, ["subscriptions", verb]) => {
                let kind = self.content_type(request, &caller)?;
                match (method, *verb) {
                    ("POST", "start") => Ok(self.start(now, request, caller.tenant, kind)),
                    ("POST", "stop") => Ok(self.stop(now, caller.tenant, kind)),
                    ("GET", "content") => self.list(now, request, caller.tenant, kind, about),
                    ("GET", "notifications") => {
                        self.window(now, request)?;
                        Ok(Reply::json(200, "[]"))
                    }
                    _ => Err(Reply::json(
                        405,
                        r#"{"Message":"The method is not allowed."}"#,
                    )),
                }
            }
            _ => Err(Reply::json(
                404,
                r#"{"Message":"No HTTP resource was found."}"#,
            )),
        }
    }

    fn authorize(&mut self, now: i64, request: &Request) -> Result<Caller, Reply> {
        let header = request.find_header("authorization").unwrap_or_default();
        let (scheme, token) = header.split_once(' ').unwrap_or_default();
        let token = self.tokens.get_mut(token.trim()).ok_or_else(denied)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(denied());
        }
        if now >= token.expires || token.revoked {
            self.stats.expired_tokens += 1;
            self.stats.expired_tokens_again += u64::from(token.refused);
            token.refused = true;
            return Err(denied());
        }
        Ok(Caller {
            tenant: token.tenant,
            roles: token.roles.clone(),
        })
    }

    fn match_tenant(&self, path: &str, token: usize) -> Result<(), Reply> {
        if !self.faults.strict_tenant {
            return Ok(());
        }
        if !is_guid(path) {
            let text = format!("The tenant ID {path} passed in the URL is not a valid GUID.");
            return Err(refuse(400, "AF20013", text));
        }
        let own = &self.tenants[token].directory_id;
        if !own.eq_ignore_ascii_case(path) {
            let text = format!(
                "The tenant ID passed in the URL ({path}) does not match the tenant ID passed in \
                the access \
                 token ({own})."
            );
            return Err(refuse(400, "AF20010", text));
        }
        Ok(())
    }

    fn check_rate(
        &mut self,
        now: i64,
        tenant: usize,
        publisher: Option<&str>,
        method: &str,
        about: Seed,
    ) -> Result<(), Reply> {
        let all = self.minutes.count(&format!("tenant {tenant}"), now);
        self.stats.peak_per_minute = self.stats.peak_per_minute.max(all);
        let name = publisher.unwrap_or(ANONYMOUS);
        // Whoever gives no publisher shares one pool with everybody else who gives none.
        let (key, most) = match publisher {
            Some(name) => (
                format!("publisher {tenant} {name}"),
                self.faults.requests_per_minute,
            ),
            None => (ANONYMOUS.to_owned(), self.faults.anonymous_per_minute),
        };
        let Some(most) = most else { return Ok(()) };
        if self.minutes.count(&key, now) > u64::from(most) {
            return Err(self.throttled(about, name, method));
        }
        Ok(())
    }

    /// The refusals that have no reason in the request.
    fn stumble(
        &mut self,
        about: Seed,
        publisher: &str,
        method: &str,
        path: &str,
    ) -> Result<(), Reply> {
        if self.strikes(Fault::Unauthorized, about) {
            return Err(denied());
        }
        if self.strikes(Fault::Throttle, about) {
            return Err(self.throttled(about, publisher, method));
        }
        if self.strikes(Fault::ServerError, about) {
            return Err(server_error(about));
        }
        if self.strikes(Fault::Redirect, about) {
            return Err(self.redirected(about, path));
        }
        Ok(())
    }

    fn redirected(&self, about: Seed, path: &str) -> Reply {
        let about = about.of(Concern::Style).with(6);
        let to = match about.below(3) {
            0 => format!("{}{path}", self.foreign_url),
            1 => format!("{}{path}", self.resource_url),
            _ => format!("{}/error.htm", self.resource_url),
        };
        let status = *about.stream().pick(&[301, 302, 307, 308]);
        Reply::json(status, "").with("Location", to)
    }

    fn throttled(&self, about: Seed, publisher: &str, method: &str) -> Reply {
        let text = format!("Too many requests. Method={method}, PublisherId={publisher}");
        let about = about.of(Concern::Style).with(1);
        let reply = if about.chance(0.5) {
            let body = format!("{{'error':{{'code':'AF429','message':'{text}'}}}}");
            Reply::json(403, body)
        } else {
            refuse(429, "AF429", text)
        };
        let choices = if self.faults.waits == Waits::Odd {
            8
        } else {
            4
        };
        match about.with(2).below(choices) {
            0 => reply.with("Retry-After", "0"),
            1 => reply.with("Retry-After", "1"),
            4 => reply.with("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
            5 => reply.with("Retry-After", "315360000"),
            6 => reply.with("Retry-After", "soon"),
            7 => reply.with("Retry-After", "-5"),
            _ => reply,
        }
    }

    fn content_type(&self, request: &Request, caller: &Caller) -> Result<ContentType, Reply> {
        let Some(name) = request.parameter("contentType") else {
            return Err(refuse(400, "AF20001", "Missing parameter: contentType."));
        };
        let kind = ContentType::from_name(&name);
        let tenant = &self.tenants[caller.tenant];
        let Some(kind) = kind.filter(|kind| tenant.feed(*kind).is_some()) else {
            return Err(refuse(
                400,
                "AF20020",
                "The specified content type is not valid.",
            ));
        };
        self.permit(kind, caller).map(|()| kind)
    }

    /// Whether the caller may read a content type, listings and blobs alike.
    pub(crate) fn permit(&self, kind: ContentType, caller: &Caller) -> Result<(), Reply> {
        let granted = caller.roles.iter().any(|role| role == kind.role());
        if granted && !self.tenants[caller.tenant].denied.contains(&kind) {
            return Ok(());
        }
        let set = caller.roles.join(" ");
        let text = format!(
            "The permission set ({set}) sent in the request does not include the expected \
            permission."
        );
        Err(refuse(401, "AF10001", text))
    }
}

/// The content type that a request is about: by its parameter, or by the table in a blob's id.
fn kind_of(request: &Request, operation: &[&str]) -> Option<ContentType> {
    match operation {
        ["audit" | "Audit", id] => {
            let id = percent_decode(id, false);
            let table = id.split('$').nth(3)?;
            ContentType::ALL
                .into_iter()
                .find(|kind| kind.table() == table)
        }
        _ => ContentType::from_name(&request.parameter("contentType")?),
    }
}

/// The service's internal name of the operation, as throttling messages show it.
fn method_name(operation: &[&str]) -> &'static str {
    match operation {
        ["audit" | "Audit", ..] => "GetBlob",
        [_, "content"] => "GetContents",
        [_, "start"] => "StartSubscription",
        [_, "stop"] => "StopSubscription",
        [_, "list"] => "ListSubscriptions",
        _ => "Other",
    }
}

pub(crate) fn server_error(about: Seed) -> Reply {
    let html = |status: u16, name: &str| {
        let page =
            format!("<html><head><title>{status} {name}</title></head><body>{name}</body></html>");
        let mut reply = Reply::json(status, page);
        reply.headers[0].1 = "text/html".into();
        reply
    };
    match about.of(Concern::Style).with(3).below(10) {
        0..=2 => refuse(
            500,
            "AF50000",
            "An internal error occurred. Retry the request.",
        ),
        3 => {
            let text = "An internal error occurred. Please retry the request again in an hour.";
            Reply::json(
                500,
                format!("{{'error':{{'code':'AF50000','message':'{text}'}}}}"),
            )
        }
        4 => refuse(
            500,
            "AF50005",
            "An internal error occurred. Retry the request.",
        ),
        5 => refuse(
            500,
            "AF50006",
            "An internal error occurred. Retry the request.",
        ),
        6 => html(502, "Bad Gateway"),
        7 => html(503, "Service Unavailable"),
        8 => html(504, "Gateway Timeout"),
        _ => html(408, "Request Timeout"),
    }
}

fn sensitive_types(request: &Request) -> Result<Reply, Reply> {
    let language = request.find_header("accept-language").unwrap_or("en-US");
    if language.contains(',') {
        return Err(refuse(
            400,
            "AF20053",
            "More than one language is specified.",
        ));
    }
    if !language
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Err(refuse(400, "AF20054", "The language is not valid."));
    }
    let list = r#"[{"id":"50842eb7-edc8-4019-85dd-5a5c1f2bb085","name":"Credit Card Number"}]"#;
    Ok(Reply::json(200, list))
}

/// The older wording, which lacks the order of the two and their echo.
pub(crate) fn bad_window_of_old() -> Reply {
    let text = "Start time and end time must both be specified (or both omitted) and must be less \
        than or equal to 24 hours apart, with the start time no more than 7 days in the past.";
    refuse(400, "AF20030", text)
}

/// The echo of a bad window's times in the service's wording.
pub(crate) fn bad_window(start: Option<i64>, end: Option<i64>) -> Reply {
    let of = |time: Option<i64>| time.map(time::seconds).unwrap_or_default();
    let text = format!(
        "Start time and end time must both be specified (or both omitted) and must be less than \
        or equal to \
         24 hours apart, with the start time prior to end time and start time no more than 7 \
         days in the \
         past. StartTime:{}, EndTime:{}",
        of(start),
        of(end)
    );
    refuse(400, "AF20055", text)
}
