//! The Management Activity API: its URLs, its pages, its bodies.
//!
//! Every request carries `PublisherIdentifier`. URLs that the service hands out are used as they
//! are; they are only checked to lead to the same origin and given what they lack.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::failure::{self, Refused};
use crate::time;
use crate::url::Url;
use crate::world::{Body, Broken, Clock, Http, Method, Request, Response, Split, Timestamp};

/// Largest listing page that is read. Pages are cut by the service at some hundred elements of
/// half a kilobyte.
const PAGE_BYTES: usize = 16 << 20;

/// The API of one tenant.
#[derive(Debug)]
pub struct Api<'a> {
    config: &'a Config,
}

/// One subscription as the service lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its content type.
    pub content_type: String,
    /// Whether it is enabled; `None` when the service does not say.
    pub enabled: Option<bool>,
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    /// Blobs on it.
    pub splits: Vec<Split>,
    /// Elements that are no blob description, as text.
    pub invalid: Vec<String>,
    /// The next page.
    pub next: Option<Url>,
}

/// Why a URL of the service is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign(pub String);

/// What a split carries from `discover` to `read`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Payload {
    /// `contentUri`, verbatim.
    pub uri: String,
}

impl<'a> Api<'a> {
    /// The API of a tenant.
    pub fn new(config: &'a Config) -> Self {
        Self { config }
    }

    fn operation(&self, operation: &str) -> Url {
        let resource = &self.config.tenant.resource;
        let prefix = resource.path.trim_end_matches('/');
        let tenant = &self.config.tenant.directory_id;
        let path = format!("{prefix}/api/v1.0/{tenant}/activity/feed/{operation}");
        Url {
            secure: resource.secure,
            authority: resource.authority.clone(),
            path,
        }
    }

    fn signed(&self, url: Url) -> Url {
        url.with_parameter("PublisherIdentifier", &self.config.publisher_id)
    }

    /// Lists the subscriptions.
    pub fn subscriptions(&self) -> Request {
        get(self.signed(self.operation("subscriptions/list")))
    }

    /// Starts or stops a subscription.
    pub fn switch(&self, content_type: &str, on: bool) -> Request {
        let operation = if on {
            "subscriptions/start"
        } else {
            "subscriptions/stop"
        };
        let url = self
            .operation(operation)
            .with_parameter("contentType", content_type);
        Request {
            method: Method::Post,
            url: self.signed(url),
        }
    }

    /// The first page of a window.
    pub fn window(&self, content_type: &str, start: Timestamp, end: Timestamp) -> Url {
        let url = self.operation("subscriptions/content");
        let url = url.with_parameter("contentType", content_type);
        let end = if crate::mutant::is_on("wrong_border") {
            end - time::MINUTE
        } else {
            end
        };
        self.signed(url)
            .with_parameter("startTime", &time::query(start))
            .with_parameter("endTime", &time::query(end))
    }

    /// The next page, from the headers of this one.
    pub fn next_page(&self, this: &Url, response: &Response) -> Result<Option<Url>, Foreign> {
        let mut found = None;
        for name in ["NextPageUri", "NextPageUrl"] {
            for value in response.header(name).filter(|value| !value.is_empty()) {
                if found.is_some_and(|earlier| earlier != value) {
                    return Err(Foreign("two different next pages".into()));
                }
                found = Some(value);
            }
        }
        let found = found.filter(|_| !crate::mutant::is_on("first_page_only"));
        let Some(text) = found else { return Ok(None) };
        let url = self.own(text)?;
        // Seen in the field: a page URL that has lost its window. The window is ours to give back.
        let mut url = self.signed(url);
        for name in ["contentType", "startTime", "endTime"] {
            if let Some(value) = parameter(this, name) {
                url = url.with_parameter(name, &value);
            }
        }
        Ok(Some(url))
    }

    /// The request for a blob.
    pub fn blob(&self, uri: &str) -> Result<Request, Foreign> {
        let url = self.own(uri)?;
        let tenant = &self.config.tenant.directory_id;
        let path = url.path.split(['?']).next().unwrap_or_default();
        if !path
            .split('/')
            .any(|segment| segment.eq_ignore_ascii_case(tenant))
        {
            return Err(Foreign(format!(
                "`{}` is not under the tenant's path",
                shorten(uri)
            )));
        }
        Ok(get(self.signed(url)))
    }

    /// Checks that a URL of the service leads to the service.
    fn own(&self, text: &str) -> Result<Url, Foreign> {
        let resource = &self.config.tenant.resource;
        let refused = |why: &str| Foreign(format!("`{}` is not followed: {why}", shorten(text)));
        let url = resource.join(text).map_err(refused)?;
        if !url.same_origin(resource) && !crate::mutant::is_on("token_to_foreign") {
            return Err(refused(&format!(
                "it leads away from `{}`",
                resource.origin()
            )));
        }
        Ok(url)
    }
}

fn get(url: Url) -> Request {
    Request {
        method: Method::Get,
        url,
    }
}

/// The value of a parameter as it stands in a URL.
fn parameter(url: &Url, name: &str) -> Option<String> {
    let query = url.path.split_once('?')?.1;
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Enough of a URL for a log line.
fn shorten(text: &str) -> String {
    let mut short: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Sends one request and waits for it.
pub fn call(http: &mut dyn Http, request: &Request) -> Result<Response, Broken> {
    let id = http.send(request);
    while let Some((answered, response)) = http.wait() {
        if answered == id {
            return response;
        }
    }
    Err(Broken::Transport("the request got no answer".into()))
}

/// Reads a body up to a limit; `true` when there was more.
pub fn collect(body: &mut dyn Body, limit: usize) -> Result<(Vec<u8>, bool), Broken> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.read()? {
        let room = limit - bytes.len();
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok((bytes, true));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, false))
}

/// Understands an answer that is not success; a body that cannot be read counts as empty.
pub fn refused(mut response: Response, clock: &dyn Clock) -> Refused {
    let body = collect(&mut *response.body, failure::BODY_LIMIT).map_or_else(|_| vec![], |b| b.0);
    let retry_after = response.header("retry-after").next();
    failure::understand(response.status, &body, retry_after, clock.now())
}

/// The server's clock, when it says something believable.
pub fn date(response: &Response) -> Option<Timestamp> {
    /// 2020 and 2100: anything else is a broken clock.
    const BELIEVABLE: std::ops::Range<i64> = 1_577_836_800_000..4_102_444_800_000;
    if crate::mutant::is_on("own_clock_only") {
        return None;
    }
    let date = time::parse_http(response.header("date").next()?)?;
    BELIEVABLE.contains(&date).then_some(date)
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(rename = "contentType")]
    content_type: String,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

/// Reads the list of subscriptions.
pub fn read_subscriptions(response: &mut Response) -> Result<Vec<Subscription>, String> {
    let body = page_body(response)?;
    let listed: Vec<Listed> =
        serde_json::from_slice(plain(&body)).map_err(|error| format!("not a list: {error}"))?;
    let subscription = |listed: Listed| {
        let status = listed
            .status
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        Subscription {
            content_type: listed.content_type,
            enabled: status.map(|status| status.eq_ignore_ascii_case("enabled")),
        }
    };
    Ok(listed.into_iter().map(subscription).collect())
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "contentUri")]
    uri: String,
    #[serde(rename = "contentId")]
    id: String,
    #[serde(rename = "contentCreated", default)]
    created: Option<serde_json::Value>,
    #[serde(rename = "contentExpiration", default)]
    expires: Option<serde_json::Value>,
}

/// Reads the blobs of a page. `fallback` is the time of blobs that do not say when they came.
pub fn read_page(
    response: &mut Response,
    fallback: Timestamp,
) -> Result<(Vec<Split>, Vec<String>), String> {
    let body = page_body(response)?;
    let elements: Vec<&RawValue> =
        serde_json::from_slice(plain(&body)).map_err(|error| format!("not a list: {error}"))?;
    let (mut splits, mut invalid) = (Vec::with_capacity(elements.len()), Vec::new());
    for element in elements {
        match describe(element, fallback) {
            Some(split) => splits.push(split),
            None => invalid.push(shorten(element.get())),
        }
    }
    Ok((splits, invalid))
}

fn describe(element: &RawValue, fallback: Timestamp) -> Option<Split> {
    let described: Described = serde_json::from_str(element.get()).ok()?;
    if described.id.is_empty() || described.id.len() > 1024 {
        return None;
    }
    if described.uri.is_empty() || described.uri.len() > 8 * 1024 {
        return None;
    }
    let time = |value: Option<serde_json::Value>| {
        value
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .and_then(time::parse)
    };
    Some(Split {
        id: described.id,
        payload: serde_json::to_vec(&Payload { uri: described.uri }).ok()?,
        created: time(described.created).unwrap_or(fallback),
        expires: time(described.expires),
    })
}

fn page_body(response: &mut Response) -> Result<Vec<u8>, String> {
    let (body, more) =
        collect(&mut *response.body, PAGE_BYTES).map_err(|broken| broken.to_string())?;
    if more {
        return Err(format!("larger than {PAGE_BYTES} bytes"));
    }
    Ok(body)
}

/// Without a byte-order mark.
fn plain(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}
