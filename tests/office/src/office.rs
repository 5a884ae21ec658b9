//! The office itself: takes a request at an instant, gives a reply.
//!
//! No socket, no clock, no thread. What a request does to the office (a token, a subscription, a
//! count) has happened when `handle` returns, even when the reply is one that never arrives.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::builder::Builder;
use crate::faults::{Fault, Faults, Scope};
use crate::oracle::Oracle;
use crate::random::{Concern, Seed};
use crate::script::Script;
use crate::stats::{Minutes, Stats};
use crate::tenant::Tenant;
use crate::time;
use crate::token::{Assertion, AssertionCheck, Token};
use crate::wire::{End, Reply, Request};

/// A simulated Management Activity API with its tenants.
pub struct Office {
    pub(crate) seed: Seed,
    pub(crate) login_url: String,
    pub(crate) resource_url: String,
    pub(crate) foreign_url: String,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) faults: Faults,
    pub(crate) page_size: u32,
    pub(crate) token_life_ms: i64,
    latency_ms: u64,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) tokens_issued: u64,
    pub(crate) assertions_seen: HashSet<String>,
    pub(crate) assertion_check: Option<AssertionCheck>,
    attempts: HashMap<u64, u64>,
    pub(crate) minutes: Minutes,
    pub(crate) stats: Stats,
    trace: Seed,
    recent: VecDeque<(i64, u16, String)>,
    pub(crate) scripts: Vec<Script>,
    /// The fault that a script plays on the request being answered.
    pub(crate) planned: Option<Fault>,
}

impl Office {
    /// Describes an office; everything in it follows from the seed.
    pub fn builder(seed: u64) -> Builder {
        Builder::new(seed)
    }

    pub(crate) fn open(builder: Builder, tenants: Vec<Tenant>) -> Self {
        Self {
            seed: Seed(builder.seed),
            login_url: "https://login.example.com".into(),
            resource_url: "https://manage.example.com".into(),
            foreign_url: "https://manage.example.net".into(),
            tenants,
            faults: builder.faults,
            page_size: builder.page_size,
            token_life_ms: i64::try_from(builder.token_life.as_millis()).unwrap_or(i64::MAX),
            latency_ms: u64::try_from(builder.latency.as_millis()).unwrap_or(u64::MAX),
            tokens: HashMap::new(),
            tokens_issued: 0,
            assertions_seen: HashSet::new(),
            assertion_check: None,
            attempts: HashMap::new(),
            minutes: Minutes::default(),
            stats: Stats::default(),
            trace: Seed(builder.seed),
            recent: VecDeque::new(),
            scripts: Vec::new(),
            planned: None,
        }
    }

    /// Tells the office under which origins it is reached: login, API, and one that is not its own.
    pub fn set_origins(&mut self, login: &str, resource: &str, foreign: &str) {
        self.login_url = login.into();
        self.resource_url = resource.into();
        self.foreign_url = foreign.into();
    }

    /// Where tokens come from.
    pub fn login_url(&self) -> &str {
        &self.login_url
    }

    /// Where the API is; also the resource that tokens are for.
    pub fn resource_url(&self) -> &str {
        &self.resource_url
    }

    /// The tenants.
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// A tenant, to change its secret, roles or application while the office runs.
    pub fn tenant_mut(&mut self, index: usize) -> &mut Tenant {
        &mut self.tenants[index]
    }

    /// The faults, to change them while the office runs. What blobs hold was settled when it was
    /// built.
    pub fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Revokes every token of a tenant.
    pub fn revoke_tokens(&mut self, tenant: usize) {
        self.tokens
            .values_mut()
            .filter(|t| t.tenant == tenant)
            .for_each(|t| t.revoked = true);
    }

    /// Checks the signature of client assertions with this; without it a signature only has to be
    /// there.
    pub fn check_assertions(&mut self, check: impl Fn(&Assertion) -> bool + Send + 'static) {
        self.assertion_check = Some(Box::new(check));
    }

    /// What was seen of the clients so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Who knows what a client owes its sinks at this instant.
    pub fn oracle(&self, now_ms: i64) -> Oracle<'_> {
        Oracle::new(self, now_ms)
    }

    /// A hash over every request so far, its instant and the status it got: two runs of a
    /// deterministic client under one seed have the same.
    pub fn trace(&self) -> u64 {
        self.trace.0
    }

    /// The last requests, oldest first: instant, status, method, path and query.
    pub fn recent(&self) -> impl Iterator<Item = String> {
        self.recent
            .iter()
            .map(|(at, status, line)| format!("{} {status} {line}", time::millis(*at)))
    }

    fn remember(&mut self, now_ms: i64, request: &Request, status: u16) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        // Neither headers nor body: they hold tokens and secrets.
        let line = format!("{} {}?{}", request.method, request.path, request.query);
        self.recent.push_back((now_ms, status, line));
    }

    pub(crate) fn saw_in_flight(&mut self, number: u64) {
        self.stats.peak_in_flight = self.stats.peak_in_flight.max(number);
    }

    /// Answers a request.
    pub fn handle(&mut self, now_ms: i64, request: &Request) -> Reply {
        self.stats.requests += 1;
        self.planned = None;
        let mut reply = if request.origin == self.foreign_url {
            self.foreign(request)
        } else {
            let about = self.attempt(request);
            self.route(now_ms, request, about)
        };
        self.trace = self.trace.with(now_ms.cast_unsigned()).text(&request.path);
        self.trace = self
            .trace
            .text(&request.query)
            .with(u64::from(reply.status));
        self.remember(now_ms, request, reply.status);
        *self.stats.statuses.entry(reply.status).or_default() += 1;
        reply.transport.delay_ms += self.latency_ms;
        for (name, value) in HEADERS {
            reply.headers.push(((*name).into(), (*value).into()));
        }
        reply.with("Date", time::http_date(now_ms + self.faults.date_skew_ms))
    }

    fn route(&mut self, now_ms: i64, request: &Request, about: Seed) -> Reply {
        let path = request.path.trim_start_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            [tenant, "oauth2", "v2.0", "token"] => self.token(now_ms, request, tenant, true, about),
            [tenant, "oauth2", "token"] => self.token(now_ms, request, tenant, false, about),
            [tenant, "v2.0", ".well-known", "openid-configuration"] => {
                self.describe_directory(now_ms, tenant, about)
            }
            ["api", "v1.0" | "v1", tenant, "activity", "feed", ..] => {
                self.api(now_ms, request, tenant, &parts[5..], about)
            }
            _ => Reply::json(404, r#"{"Message":"No HTTP resource was found."}"#),
        }
    }

    fn foreign(&mut self, request: &Request) -> Reply {
        if request.find_header("authorization").is_some() {
            self.stats.leaked_tokens += 1;
        }
        Reply::json(200, "[]")
    }

    /// The draws for this sending of this request: the same request sent again meets other chances,
    /// and the order among different requests plays no part.
    fn attempt(&mut self, request: &Request) -> Seed {
        let about = self
            .seed
            .of(Concern::Fault)
            .text(&request.method)
            .text(&request.path);
        let about = about.text(&request.query);
        let count = self.attempts.entry(about.0).or_default();
        *count += 1;
        about.with(*count)
    }

    /// Whether the fault strikes, by chance or by script.
    pub(crate) fn meets(&self, fault: Fault, about: Seed) -> bool {
        self.is_planned(fault) || self.faults.hits(fault, about)
    }

    /// Whether the fault strikes, counted.
    pub(crate) fn strikes(&mut self, fault: Fault, about: Seed) -> bool {
        let hit = self.meets(fault, about);
        if hit {
            self.count_fault(fault);
        }
        hit
    }

    pub(crate) fn count_fault(&mut self, fault: Fault) {
        *self.stats.faults.entry(fault.name()).or_default() += 1;
    }

    /// The transport faults that any API reply can meet.
    pub(crate) fn spoil(&mut self, mut reply: Reply, about: Seed) -> Reply {
        debug_assert_eq!(Fault::Close.scope(), Scope::Api);
        if self.strikes(Fault::SlowHeaders, about) {
            reply.transport.delay_ms += self.faults.slow_ms;
        }
        if self.strikes(Fault::ResetBeforeHeaders, about) {
            reply.transport.end = End::ResetBeforeHeaders;
        } else if self.strikes(Fault::ResetAfterHeaders, about) {
            reply.transport.end = End::ResetAfter(0);
        } else if self.strikes(Fault::Close, about) {
            reply.transport.close = true;
        }
        reply
    }
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the tenants: they hold secrets.
        f.debug_struct("Office")
            .field("resource_url", &self.resource_url)
            .finish_non_exhaustive()
    }
}

/// How many requests are remembered: enough to see what a test did last, and little to hold.
const RECENT: usize = 5_000;

const HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "no-cache"),
    ("Pragma", "no-cache"),
    ("Expires", "-1"),
    ("Server", "Microsoft-IIS/10.0"),
    ("X-AspNet-Version", "4.0.30319"),
    ("X-Powered-By", "ASP.NET"),
];
