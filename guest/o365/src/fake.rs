//! What the host provides, for tests: a service that is a function, a clock that is a number.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use crate::world::{
    Batch, Body, Broken, Clock, Http, Level, Limits, Log, Output, Refusal, Request, Response,
    State, Timestamp, World,
};

/// 2026-01-10T09:00:30Z.
pub(crate) const NOW: Timestamp = 1_768_035_630_000;
pub(crate) const TENANT: &str = "3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21";
pub(crate) const STREAM: &str = "Audit.Exchange";

/// A config for the tenant, with more members.
pub(crate) fn config(more: &str) -> String {
    format!(
        r#"{{"tenant":{{"id":"contoso","directory_id":"{TENANT}",
            "resource_url":"https://manage.example.com"}}{}{more}}}"#,
        if more.is_empty() { "" } else { "," }
    )
}

pub(crate) fn limits() -> Limits {
    Limits {
        batch_bytes: 1 << 20,
        batch_events: 10_000,
        event_bytes: 1 << 20,
        splits: 1_000,
        deadline: Timestamp::MAX,
    }
}

/// An answer of the service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Pieces of the body; an error ends it.
    pub(crate) body: VecDeque<Result<Vec<u8>, Broken>>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        let body = VecDeque::from([Ok(body.as_bytes().to_vec())]);
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Service<'a> = Box<dyn FnMut(&Request, Timestamp) -> Result<Answer, Broken> + 'a>;

struct Pieces(VecDeque<Result<Vec<u8>, Broken>>);

impl Body for Pieces {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        self.0.pop_front().transpose()
    }
}

/// Answers each request by a function, the last one sent first, which is the order least expected.
pub(crate) struct FakeHttp<'a> {
    pub(crate) service: Service<'a>,
    pub(crate) sent: Vec<Request>,
    outstanding: Vec<(u64, Request)>,
    pub(crate) most_outstanding: usize,
    clock: &'a FakeClock,
}

impl Http for FakeHttp<'_> {
    fn send(&mut self, request: &Request) -> u64 {
        self.sent.push(request.clone());
        let ticket = self.sent.len() as u64;
        self.outstanding.push((ticket, request.clone()));
        self.most_outstanding = self.most_outstanding.max(self.outstanding.len());
        ticket
    }

    fn wait(&mut self) -> Option<(u64, Result<Response, Broken>)> {
        let (ticket, request) = self.outstanding.pop()?;
        self.clock
            .now
            .set(self.clock.now() + self.clock.latency.get());
        let answer = (self.service)(&request, self.clock.now());
        Some((
            ticket,
            answer.map(|answer| Response {
                status: answer.status,
                headers: answer.headers,
                body: Box::new(Pieces(answer.body)),
            }),
        ))
    }

    fn abandon(&mut self) {
        self.outstanding.clear();
    }
}

#[derive(Default)]
pub(crate) struct FakeClock {
    pub(crate) now: Cell<Timestamp>,
    pub(crate) slept: Cell<u64>,
    /// How long each answer takes.
    pub(crate) latency: Cell<i64>,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn sleep(&self, milliseconds: u64) {
        self.slept.set(self.slept.get() + milliseconds);
        let milliseconds = i64::try_from(milliseconds).expect("tests sleep less than an age");
        self.now.set(self.now.get() + milliseconds);
    }
}

/// State as the host keeps it: staged by the call, committed or dropped behind it.
#[derive(Default, Clone)]
pub(crate) struct FakeState {
    pub(crate) committed: BTreeMap<String, Vec<u8>>,
    pub(crate) staged: BTreeMap<String, Vec<u8>>,
}

impl FakeState {
    pub(crate) fn commit(&mut self) {
        self.committed.append(&mut self.staged);
    }
}

impl State for FakeState {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.staged
            .get(key)
            .or_else(|| self.committed.get(key))
            .cloned()
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        self.staged.insert(key.into(), value.into());
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct FakeOutput {
    pub(crate) batches: Vec<Batch>,
    pub(crate) rejected: Vec<(String, String)>,
    pub(crate) draining: bool,
}

impl FakeOutput {
    /// Ids of all events, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let text = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        self.batches
            .iter()
            .flat_map(Batch::events)
            .map(|(id, ..)| text(id))
            .collect()
    }
}

impl Output for FakeOutput {
    fn emit(&mut self, batch: Batch) -> Result<(), Refusal> {
        let length: usize = batch
            .events()
            .map(|(id, body, _)| id.len() + body.len())
            .sum();
        assert_eq!(length, batch.bytes.len(), "lengths must add up");
        self.batches.push(batch);
        Ok(())
    }

    fn reject(&mut self, body: &[u8], reason: &str) -> Result<(), Refusal> {
        self.rejected
            .push((String::from_utf8_lossy(body).into_owned(), reason.into()));
        Ok(())
    }

    fn draining(&self) -> bool {
        self.draining
    }
}

#[derive(Default)]
pub(crate) struct FakeLog {
    pub(crate) lines: RefCell<Vec<(Level, String)>>,
    pub(crate) counts: RefCell<BTreeMap<String, u64>>,
}

impl Log for FakeLog {
    fn line(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let fields: Vec<String> = fields.iter().map(|(n, v)| format!(" {n}={v}")).collect();
        self.lines
            .borrow_mut()
            .push((level, format!("{message}{}", fields.concat())));
    }

    fn count(&self, name: &str, add: u64) {
        *self.counts.borrow_mut().entry(name.into()).or_default() += add;
    }
}

/// A host in which calls are made, one after the other.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) clock: FakeClock,
    pub(crate) state: FakeState,
    pub(crate) output: FakeOutput,
    pub(crate) log: FakeLog,
    pub(crate) sent: Vec<Request>,
    pub(crate) most_outstanding: usize,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let fake = Self::default();
        fake.clock.now.set(NOW);
        fake
    }

    /// Makes one call; the service answers it.
    pub(crate) fn call<T>(
        &mut self,
        service: impl FnMut(&Request, Timestamp) -> Result<Answer, Broken>,
        call: impl FnOnce(&mut World<'_>) -> T,
    ) -> T {
        self.state.staged.clear();
        let mut http = FakeHttp {
            service: Box::new(service),
            sent: Vec::new(),
            outstanding: Vec::new(),
            most_outstanding: 0,
            clock: &self.clock,
        };
        let mut world = World {
            http: &mut http,
            clock: &self.clock,
            state: &mut self.state,
            output: &mut self.output,
            log: &self.log,
        };
        let result = call(&mut world);
        self.sent = std::mem::take(&mut http.sent);
        self.most_outstanding = http.most_outstanding;
        result
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.log.counts.borrow().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn alarms(&self) -> usize {
        self.log
            .lines
            .borrow()
            .iter()
            .filter(|(level, _)| *level == Level::Error)
            .count()
    }
}

/// The value of a parameter in a request.
pub(crate) fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let query = request.url.path.split_once('?')?.1;
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}
