//! Knows what may be, and asks nobody whom it judges.
//!
//! It sees what crosses the border of the process (requests, writes, commits), knows from the service's own model what
//! was issued, and says which invariant a run has broken. `I1` to `I15` are those of the threat list; the README of
//! the tests says which of them are checked where.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem;
use sluicegate::event::{Identity, StreamKey};
use sluicegate::ledger::{Commit, Counts};
use sluicegate_office::{Office, Request};

use crate::plan::{Plan, Trouble};
use crate::secrets::Canaries;
use crate::time::{HOUR_MS, MINUTE_MS};
use crate::world::World;

/// How many violations of a run are told.
const MOST: usize = 20;

/// A request that was watched.
#[derive(Clone, Debug)]
pub struct Asked {
    life: u32,
    /// The tenant whose feed it is about.
    tenant: Option<usize>,
    token: bool,
}

/// Whom requests may concern.
#[derive(Debug)]
struct Customer {
    directory: String,
}

#[derive(Debug, Default)]
struct Seen {
    violations: Vec<String>,
    /// Whose each token is.
    tokens: BTreeMap<String, usize>,
    canaries: Canaries,
    /// When requests of a tenant left in the last minute of this life.
    minute: BTreeMap<usize, (u32, VecDeque<i64>)>,
    /// Until when a tenant's service wants to be left alone, and which life was told.
    alone: BTreeMap<usize, (u32, i64)>,
    watermarks: BTreeMap<StreamKey, i64>,
    /// When it was first committed where a stream's listing begins.
    begun_ms: BTreeMap<StreamKey, i64>,
    /// Lines that the committed part of the file must hold, and where that was counted last.
    lines: u64,
    counted: (u64, u64),
    lied: bool,
    /// What was committed in this life.
    life_counts: Counts,
    /// When each subscription was last started with success, and not disabled since.
    started: BTreeMap<(usize, String), i64>,
    /// How often each blob was said not to be there.
    missing: BTreeMap<String, u32>,
}

/// What the oracle has seen.
#[derive(Debug)]
pub struct Witness {
    seen: Mutex<Seen>,
    customers: Vec<Customer>,
    login: String,
    resource: String,
    /// How long after a start another one is one too many.
    hasty: Range<i64>,
}

/// Where the service does not show a start at once, one whose answer did not come may be sent again for some minutes.
const UNSURE_MS: i64 = 3 * MINUTE_MS;

impl Witness {
    /// Watches the clients of an office.
    pub fn new(office: &Office, plan: &Plan) -> Self {
        let leaps = plan.has(Trouble::ClockBack) || plan.has(Trouble::ClockForward);
        let hasty = match plan.office_faults().start_lag_ms {
            0 => 0..15 * MINUTE_MS,
            // And a client whose clock leaps does not know when it was.
            _ if leaps => 0..0,
            _ => UNSURE_MS..15 * MINUTE_MS,
        };
        let customer = |tenant: &sluicegate_office::Tenant| Customer {
            directory: tenant.directory_id.to_ascii_lowercase(),
        };
        let customers: Vec<_> = office.tenants().iter().map(customer).collect();
        let mut seen = Seen::default();
        for tenant in office.tenants() {
            seen.canaries.learn(&tenant.client_secret);
        }
        Self {
            seen: Mutex::new(seen),
            customers,
            login: office.login_url().to_owned(),
            resource: office.resource_url().to_owned(),
            hasty,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An invariant is broken.
    pub fn broken(&self, invariant: &str, what: impl std::fmt::Display) {
        self.lock().broken(invariant, what);
    }

    /// What was broken.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// A request leaves.
    pub fn asked(&self, now_ms: i64, life: u32, request: &Request) -> Asked {
        let mut seen = self.lock();
        let path = request.path.to_ascii_lowercase();
        let about = |customer: &Customer| path.contains(&customer.directory);
        let tenant = self.customers.iter().position(about);
        let token = request.origin == self.login;
        let asked = Asked {
            life,
            tenant,
            token,
        };
        let bearer = request.find_header("authorization");
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
        if token {
            if bearer.is_some() {
                seen.broken("I11", "a token goes to the login host");
            }
            return asked;
        }
        if request.origin != self.resource {
            seen.broken("I11", format!("a request goes to {}", request.origin));
        }
        if let Some(bearer) = bearer {
            let own = seen.tokens.get(bearer).copied();
            if own.is_none() || own != tenant || request.origin != self.resource {
                let where_to = format!("{}{}", request.origin, request.path);
                seen.broken(
                    "I11",
                    format!("a token goes to what is not its own: {where_to}"),
                );
            }
        }
        if !request.body.is_empty() && seen.canaries.find(&request.body).is_some() {
            seen.broken("I10", "a secret goes to the API");
        }
        if let Some(tenant) = tenant {
            seen.count(tenant, life, now_ms);
            if path.ends_with("/subscriptions/start") {
                let before = seen.started.get(&(tenant, request.query.clone()));
                if before.is_some_and(|before| self.hasty.contains(&(now_ms - before))) {
                    seen.broken("I9", "a subscription is started twice in 15 minutes");
                }
            }
        }
        asked
    }

    /// Whether more requests of a tenant left in a minute than it may send.
    pub fn check_budget(&self, world: &World, asked: &Asked) {
        let mut seen = self.lock();
        let Some((_, minute)) = asked.tenant.and_then(|tenant| seen.minute.get(&tenant)) else {
            return;
        };
        let count = minute.len();
        if !asked.token && count >= world.plan.budget as usize {
            world.coverage.mark(crate::coverage::Point::BudgetSpent);
        }
        if !asked.token && count > world.plan.budget as usize {
            let budget = world.plan.budget;
            seen.broken(
                "I9",
                format!("{count} requests in a minute, {budget} allowed"),
            );
        }
    }

    /// A subscription was started.
    pub fn started(&self, asked: &Asked, now_ms: i64, query: &str) {
        if let Some(tenant) = asked.tenant {
            let key = (tenant, query.to_owned());
            self.lock().started.insert(key, now_ms);
        }
    }

    /// Somebody else disabled subscriptions of a tenant.
    pub fn disabled(&self, tenant: usize) {
        self.lock().started.retain(|(known, _), _| *known != tenant);
    }

    /// When it was first committed where the listing of a stream begins.
    pub fn begun_ms(&self, stream: &StreamKey) -> Option<i64> {
        self.lock().begun_ms.get(stream).copied()
    }

    /// Whether that is committed for every stream of a plan.
    pub fn has_begun(&self, plan: &Plan) -> bool {
        self.lock().begun_ms.len() >= usize::from(plan.tenants) * plan.streams
    }

    /// Whether a blob may be said not to be there once more, which then is noted.
    pub fn may_be_missing(&self, path: &str) -> bool {
        let mut seen = self.lock();
        let times = seen.missing.entry(path.to_owned()).or_default();
        *times += 1;
        *times <= 2
    }

    /// An answer leaves the service.
    pub fn answered(&self, asked: &Asked, status: u16, body: &[u8]) {
        if !asked.token || status != 200 {
            return;
        }
        let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        if let (Some(token), Some(tenant)) = (answer["access_token"].as_str(), asked.tenant) {
            let mut seen = self.lock();
            seen.canaries.learn(token);
            seen.tokens.insert(token.to_owned(), tenant);
        }
    }

    /// The service's wish to be left alone has arrived.
    pub fn told_to_wait(&self, asked: &Asked, now_ms: i64, wait: Option<&str>) {
        let wait = wait.and_then(|wait| wait.trim().parse::<i64>().ok());
        let (Some(tenant), Some(wait), false) = (asked.tenant, wait, asked.token) else {
            return;
        };
        let until = now_ms + wait.clamp(1, 3_600) * 1_000;
        let mut seen = self.lock();
        let alone = seen.alone.entry(tenant).or_insert((asked.life, until));
        *alone = if alone.0 == asked.life {
            (alone.0, alone.1.max(until))
        } else {
            (asked.life, until)
        };
    }

    /// A discovery is durable.
    pub fn discovered(
        &self,
        world: &World,
        stream: &StreamKey,
        watermark_ms: Option<i64>,
        state: &[Vec<u8>],
    ) {
        let mut seen = self.lock();
        if state
            .iter()
            .any(|value| seen.canaries.find(value).is_some())
        {
            seen.broken("I10", format!("{stream}: a secret stands in the state"));
        }
        let now_ms = world.clock.true_ms();
        // Where listing begins is committed with the first one.
        seen.begun_ms.entry(stream.clone()).or_insert(now_ms);
        let Some(watermark_ms) = watermark_ms else {
            return;
        };
        if watermark_ms > now_ms + MINUTE_MS {
            let ahead = watermark_ms - now_ms;
            seen.broken("I5", format!("{stream}: listed until {ahead} ms from now"));
        }
        let before = seen.watermarks.insert(stream.clone(), watermark_ms);
        if let Some(before) = before.filter(|before| *before > watermark_ms) {
            let back = before - watermark_ms;
            seen.broken(
                "I5",
                format!("{stream}: the position moves back by {back} ms"),
            );
        }
    }

    /// A loss is durable: only of what the service has forgotten, or does within the margin that it is asked for with.
    pub fn declared(&self, world: &World, stream: &StreamKey, until_ms: i64) {
        let early = until_ms.saturating_add(7 * 24 * HOUR_MS) - world.clock.true_ms();
        // Without a subscription there is nothing, whatever was listed before.
        if early > 6 * MINUTE_MS && !world.plan.has(Trouble::Unsubscribed) {
            let what =
                format!("{stream}: a loss is declared {early} ms before the content expires");
            self.broken("I2", what);
        }
    }

    /// The ledger said that a commit failed, and it had not.
    pub fn lied(&self) {
        self.lock().lied = true;
    }

    /// A commit is durable: so must be everything that it says is delivered.
    pub fn committed(&self, world: &World, commit: &Commit) {
        let mut seen = self.lock();
        let mut refused = 0;
        let mut letters = None;
        for (stream, identities) in &commit.identities {
            for identity in identities {
                let kept = world.plan.documents && is_stored(world, *identity);
                if kept {
                    continue;
                }
                let letters = letters.get_or_insert_with(|| read(&world.letters_file()));
                match by(letters, *identity) {
                    Some(by) => refused += u64::from(by == "sink documents"),
                    None if world.plan.documents => {
                        let id = identity.delivery_id();
                        seen.broken(
                            "I6",
                            format!("{stream}: {id} is committed and stands nowhere"),
                        );
                    }
                    None => {}
                }
            }
        }
        let delivered: u64 = commit
            .counts
            .iter()
            .map(|(_, counts)| counts.delivered)
            .sum();
        seen.lines += delivered + refused;
        let name = format!("{} end", world.events_file().display());
        if let Some(end) = commit.positions.get(&name) {
            seen.check_file(&read(&world.events_file()), *end);
        }
        for (stream, counts) in &commit.counts {
            seen.life_counts += *counts;
            let settled =
                counts.delivered + counts.duplicates + counts.dropped + counts.dead_lettered;
            if counts.read != settled {
                let what = format!("{stream}: {} read, {settled} accounted for", counts.read);
                seen.broken("I15", what);
            }
        }
    }

    /// A new process counts from zero.
    pub fn born(&self) {
        self.lock().life_counts = Counts::default();
    }

    /// What the process says of itself when everything is committed.
    pub fn check_totals(&self, exported: Counts) {
        let mut seen = self.lock();
        let committed = seen.life_counts;
        if exported != committed && !seen.lied {
            seen.broken(
                "I15",
                format!("exported {exported:?}, committed {committed:?}"),
            );
        }
    }

    /// A document came again.
    pub fn sent_again(&self, world: &World, id: &str, same: bool) {
        use sluicegate_office::Fault;
        // A copy that the service itself wrote in another way may come first after a crash.
        let copies = [Fault::CopyInBlob, Fault::CopyInNext];
        if !same && !copies.iter().any(|fault| world.plan.has_fault(*fault)) {
            self.broken("I3", format!("document {id} comes again with another body"));
        }
        if !world.effects.crashes().is_empty() {
            world
                .coverage
                .mark(crate::coverage::Point::SentAgainAfterCrash);
        }
    }

    /// Looks for secrets in what the process let out.
    pub fn search(&self, place: &str, bytes: &[u8]) {
        let mut seen = self.lock();
        if let Some(spelling) = seen.canaries.find(bytes) {
            let what = format!("a secret stands in {place}, spelt as {spelling}");
            seen.broken("I10", what);
        }
    }
}

impl Seen {
    fn broken(&mut self, invariant: &str, what: impl std::fmt::Display) {
        if self.violations.len() < MOST {
            self.violations.push(format!("{invariant}: {what}"));
        }
    }

    fn count(&mut self, tenant: usize, life: u32, now_ms: i64) {
        let (known, minute) = self.minute.entry(tenant).or_default();
        if *known != life {
            // A new process remembers no requests of the one before.
            (*known, *minute) = (life, VecDeque::new());
        }
        while minute
            .front()
            .is_some_and(|first| *first <= now_ms - MINUTE_MS)
        {
            minute.pop_front();
        }
        minute.push_back(now_ms);
        let alone = self.alone.get(&tenant).filter(|(told, _)| *told == life);
        if let Some((_, until)) = alone
            && now_ms + 2 < *until
        {
            let early = until - now_ms;
            self.broken(
                "I9",
                format!("a request {early} ms before `Retry-After` is over"),
            );
        }
    }

    /// The committed part of the file holds exactly what was committed.
    fn check_file(&mut self, file: &[u8], end: u64) {
        let at = |end: u64| usize::try_from(end).unwrap_or(usize::MAX).min(file.len());
        if end > file.len() as u64 {
            let length = file.len();
            self.broken(
                "I6",
                format!("{end} bytes are committed, the file has {length}"),
            );
        }
        let (counted, lines) = self.counted;
        let new = file.get(at(counted)..at(end)).unwrap_or_default();
        let new = memchr::memchr_iter(b'\n', new).count() as u64;
        self.counted = (end, lines + new);
        let (stand, committed) = (self.counted.1, self.lines);
        if stand != committed && !self.lied {
            let what = format!("{stand} lines are committed by length, {committed} by count");
            self.broken("I15", what);
        }
    }
}

fn is_stored(world: &World, identity: Identity) -> bool {
    world.documents().contains_key(&identity.delivery_id())
}

/// A file, or nothing where there is none.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// Who refused the event that stands among the dead letters.
fn by(letters: &[u8], identity: Identity) -> Option<String> {
    let id = identity.delivery_id();
    let lines = letters.split(|byte| *byte == b'\n');
    let line = lines
        .into_iter()
        .find(|line| memmem::find(line, id.as_bytes()).is_some())?;
    let letter: serde_json::Value = serde_json::from_slice(line).ok()?;
    Some(letter["by"].as_str()?.to_owned())
}
