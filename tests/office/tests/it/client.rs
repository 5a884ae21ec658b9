//! A careful collector in memory: what a client must do to lose nothing, and no more.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use sluicegate_office::{Builder, ContentType, HOUR_MS, Office, Reply, Request};

/// 2026-03-01T12:00:00Z: six days after it comes the end of a month, one before it was one.
pub const NOON: i64 = 1_772_366_400_000;
pub const PUBLISHER: &str = "9b7e4c02-51aa-4d0f-8c9e-2f6f3d1a7b44";

/// How often anything is tried before the test gives up: above what any rate below one can need.
const TRIES: usize = 200;

pub struct Client {
    pub office: Office,
    pub now: i64,
    pub tenant: usize,
    tokens: BTreeMap<usize, String>,
}

impl Client {
    pub fn new(builder: Builder) -> Self {
        Self {
            office: builder.build(NOON),
            now: NOON,
            tenant: 0,
            tokens: BTreeMap::new(),
        }
    }

    pub fn send(&mut self, request: &Request) -> Reply {
        self.now += 1;
        self.office.handle(self.now, request)
    }

    /// A good token request of this tenant, as its endpoint and its form.
    pub fn token_form(&self) -> (String, Vec<(&'static str, String)>) {
        let tenant = &self.office.tenants()[self.tenant];
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            self.office.login_url(),
            tenant.directory_id
        );
        let form = vec![
            ("grant_type", "client_credentials".into()),
            ("client_id", tenant.client_id.clone()),
            ("client_secret", tenant.client_secret.clone()),
            ("scope", format!("{}/.default", self.office.resource_url())),
        ];
        (url, form)
    }

    pub fn ask_token(&mut self, url: &str, form: &[(&str, String)]) -> Reply {
        let pairs: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.send(&Request::post(url).with_body(pairs.join("&")))
    }

    /// A token, kept until `forget_token`.
    pub fn token(&mut self) -> String {
        for _ in 0..TRIES {
            if let Some(token) = self.tokens.get(&self.tenant) {
                return token.clone();
            }
            let (url, form) = self.token_form();
            let reply = self.ask_token(&url, &form);
            let arrived = reply.clone().received().is_some_and(|(_, whole)| whole);
            if reply.status == 200 && arrived {
                let body: Value = json(reply);
                let token = body["access_token"].as_str().unwrap().to_owned();
                self.tokens.insert(self.tenant, token);
            } else {
                self.now += 60_000;
            }
        }
        panic!("no token");
    }

    pub fn forget_token(&mut self) {
        self.tokens.remove(&self.tenant);
    }

    /// Sends a request of the API with all that belongs to it; `query` without the publisher.
    pub fn api(&mut self, method: &str, operation: &str, query: &str) -> Reply {
        let directory = &self.office.tenants()[self.tenant].directory_id;
        let root = format!(
            "{}/api/v1.0/{directory}/activity/feed",
            self.office.resource_url()
        );
        self.call(method, &format!("{root}/{operation}?{query}"))
    }

    pub fn call(&mut self, method: &str, url: &str) -> Reply {
        let token = self.token();
        let join = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{join}PublisherIdentifier={PUBLISHER}");
        let request = if method == "POST" {
            Request::post(&url)
        } else {
            Request::get(&url)
        };
        self.send(&request.header("Authorization", &format!("Bearer {token}")))
    }

    /// The answer of a call, repeated until it is a good one: status 200 and a whole JSON array.
    fn persist(&mut self, method: &str, url: &str) -> (Reply, Vec<Value>) {
        for _ in 0..TRIES {
            let reply = self.call(method, url);
            if reply.status == 401 {
                self.forget_token();
            }
            // It never asks for gzip, so a body that says it is gzip cannot be right.
            let good = reply.status == 200 && reply.find_header("content-encoding").is_none();
            if let (true, Some((bytes, true))) = (good, reply.clone().received()) {
                let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
                if let Ok(records) = serde_json::from_slice(bytes) {
                    return (reply, records);
                }
            }
            self.now += 1_000;
        }
        panic!("{method} {url} never succeeded");
    }

    /// Starts what is not in the list of subscriptions; an answer can be lost, so the list decides.
    pub fn subscribe(&mut self, kinds: &[ContentType]) {
        for kind in kinds {
            let directory = &self.office.tenants()[self.tenant].directory_id;
            let root = format!(
                "{}/api/v1.0/{directory}/activity/feed",
                self.office.resource_url()
            );
            let list = format!("{root}/subscriptions/list");
            let enabled = (0..TRIES).any(|_| {
                let (_, known) = self.persist("GET", &list);
                let is = |s: &Value| s["contentType"] == kind.name() && s["status"] != "disabled";
                if known.iter().any(is) {
                    return true;
                }
                let reply = self.api("POST", "subscriptions/start", &content_type(*kind));
                if reply.status == 401 {
                    self.forget_token();
                }
                self.now += 16 * 60_000;
                false
            });
            assert!(enabled, "{}", kind.name());
        }
    }

    /// Every descriptor of a window, whatever the pages do.
    pub fn list(&mut self, kind: ContentType, from: i64, to: i64) -> Vec<Value> {
        'window: for _ in 0..TRIES {
            let mut found = Vec::new();
            let mut visited = HashSet::new();
            let directory = &self.office.tenants()[self.tenant].directory_id;
            let root = format!("{}/api/v1.0/{directory}", self.office.resource_url());
            let window = window(from, to);
            let query = format!("{}&{window}", content_type(kind));
            let mut url = format!("{root}/activity/feed/subscriptions/content?{query}");
            while visited.insert(url.clone()) {
                let (reply, page) = self.persist("GET", &with_window(&url, &window));
                let foreign = |d: &Value| !d["contentUri"].as_str().is_some_and(|u| self.own(u));
                if page.iter().any(foreign) {
                    continue 'window;
                }
                found.extend(page);
                match next_page(&reply) {
                    None => return found,
                    Some(next) if self.own(&next) => url = next,
                    Some(_) => continue 'window,
                }
            }
        }
        panic!("the listing of {} never ended", kind.name());
    }

    fn own(&self, url: &str) -> bool {
        url.starts_with(&format!("{}/", self.office.resource_url()))
    }

    pub fn fetch(&mut self, uri: &str) -> Vec<Value> {
        self.persist("GET", uri).1
    }

    /// Lists and fetches everything of a day, each record once; content begins a little before the
    /// day.
    pub fn collect(&mut self, kinds: &[ContentType], done: &mut Delivered) {
        for kind in kinds {
            for hour in (0..25).rev() {
                let from = NOON - (hour + 1) * HOUR_MS;
                for descriptor in self.list(*kind, from, from + HOUR_MS) {
                    let uri = descriptor["contentUri"].as_str().unwrap();
                    if done.blobs.insert(uri.to_owned()) {
                        let records = self.fetch(uri);
                        done.take(records);
                    }
                }
            }
        }
    }
}

/// What a sink would have got.
#[derive(Default)]
pub struct Delivered {
    blobs: HashSet<String>,
    known: HashSet<String>,
    pub events: Vec<(String, String)>,
}

impl Delivered {
    fn take(&mut self, records: Vec<Value>) {
        for record in records {
            // `Value` sorts members, so the text is the same in whatever order they came.
            if self.known.insert(record.to_string()) {
                let text = |name: &str| record[name].as_str().unwrap().to_owned();
                self.events.push((text("OrganizationId"), text("Id")));
            }
        }
    }
}

pub fn content_type(kind: ContentType) -> String {
    format!("contentType={}", kind.name())
}

pub fn window(from: i64, to: i64) -> String {
    format!("startTime={}&endTime={}", stamp(from), stamp(to))
}

/// An instant as a window writes it, by way of the listing's own format.
pub fn stamp(ms: i64) -> String {
    let (day, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 2026-01-01, enough for the first half of that year.
    let mut day = day - 20_454;
    let mut month = 0;
    for length in [31, 28, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        (day, month) = (day - length, month + 1);
    }
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    let fraction = rest % 1_000;
    format!(
        "2026-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z",
        month + 1,
        day + 1
    )
}

/// A page URL that has lost its window gets it back.
fn with_window(url: &str, window: &str) -> String {
    if url.to_lowercase().contains("starttime=") {
        return url.to_owned();
    }
    format!("{url}&{window}")
}

pub fn next_page(reply: &Reply) -> Option<String> {
    ["NextPageUri", "NextPageUrl"]
        .iter()
        .find_map(|n| reply.find_header(n))
        .map(str::to_owned)
}

pub fn json(reply: Reply) -> Value {
    let bytes = reply.content.into_bytes();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)))
}

/// The code of a refusal in the regular shape.
pub fn code(reply: Reply) -> String {
    json(reply)["error"]["code"].as_str().unwrap().to_owned()
}

pub fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let one = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(one).collect()
}
