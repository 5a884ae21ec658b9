//! A small model of the service, and a host that keeps what `discover` found.

use std::collections::BTreeMap;

use super::*;
use crate::fake::{Answer, Fake, STREAM, TENANT, config, limits, parameter};
use crate::time::{DAY, parse};
use crate::world::{Broken, Method, Request, Timestamp};

/// A blob of the model.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) id: String,
    pub(super) created: Timestamp,
    /// When listings begin to show it.
    pub(super) visible: Timestamp,
}

/// The service, with the API's rules.
pub(super) struct Office {
    pub(super) blobs: Vec<Blob>,
    pub(super) enabled: bool,
    /// Somebody disabled the subscription; a start enables it.
    pub(super) disabled: bool,
    /// What starts are answered instead of being done.
    pub(super) refuse_start: Option<Answer>,
    /// So many stops fail.
    pub(super) refuse_stops: u32,
    pub(super) page: usize,
    /// Before it the service does not show its subscriptions.
    pub(super) settled: Timestamp,
    /// The service's clock minus the machine's.
    pub(super) skew: i64,
    /// Says its time in a `Date` header.
    pub(super) dated: bool,
    /// One in so many listings fails.
    pub(super) fault_every: u64,
    pub(super) requests: u64,
    pub(super) starts: Vec<Timestamp>,
    pub(super) stops: Vec<String>,
    /// First pages served: window and the service's time.
    pub(super) listed: Vec<(Timestamp, Timestamp, Timestamp)>,
}

impl Office {
    pub(super) fn new() -> Self {
        Self {
            blobs: Vec::new(),
            enabled: true,
            disabled: false,
            refuse_start: None,
            refuse_stops: 0,
            page: 3,
            settled: 0,
            skew: 0,
            dated: true,
            fault_every: 0,
            requests: 0,
            starts: Vec::new(),
            stops: Vec::new(),
            listed: Vec::new(),
        }
    }

    pub(super) fn blob(&mut self, created: Timestamp, lag: i64) {
        let id = format!("{created}$b{}$audit_exchange$na0044", self.blobs.len());
        self.blobs.push(Blob {
            id,
            created,
            visible: created + lag,
        });
    }

    pub(super) fn answer(&mut self, request: &Request, local: Timestamp) -> Result<Answer, Broken> {
        let now = local + self.skew;
        self.requests += 1;
        assert!(
            request.url.has_parameter("PublisherIdentifier"),
            "{}",
            request.url
        );
        if self.fault_every > 0 && self.requests.is_multiple_of(self.fault_every) {
            return match self.requests / self.fault_every % 3 {
                0 => Err(Broken::Transport("connection reset".into())),
                1 => Ok(Answer::new(
                    500,
                    r#"{"error":{"code":"AF50000","message":"m"}}"#,
                )),
                _ => Ok(Answer::new(200, r#"[{"contentUri":"https"#)),
            };
        }
        let answer = if request.url.path.contains("/subscriptions/list") {
            Answer::new(200, self.list(now))
        } else if request.url.path.contains("/subscriptions/start") {
            assert_eq!(request.method, Method::Post);
            self.starts.push(now);
            if let Some(refusal) = &self.refuse_start {
                return Ok(refusal.clone());
            }
            (self.enabled, self.disabled) = (true, false);
            Answer::new(200, "{}")
        } else if request.url.path.contains("/subscriptions/stop") {
            if self.refuse_stops > 0 {
                self.refuse_stops -= 1;
                return Ok(Answer::new(500, ""));
            }
            self.stops.push(
                parameter(request, "contentType")
                    .expect("a type")
                    .to_owned(),
            );
            Answer::new(200, "")
        } else {
            self.content(request, now)
        };
        if !self.dated {
            return Ok(answer);
        }
        let date = chrono::DateTime::from_timestamp_millis(now).expect("in range");
        Ok(answer.with(
            "date",
            &date.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        ))
    }

    fn list(&self, now: Timestamp) -> &'static str {
        match (self.enabled && now >= self.settled, self.disabled) {
            (_, true) => r#"[{"contentType":"Audit.Exchange","status":"disabled"}]"#,
            (true, _) if self.stops.is_empty() => LISTED,
            (true, _) => r#"[{"contentType":"Audit.Exchange","status":"enabled"}]"#,
            (false, _) => "[]",
        }
    }

    pub(super) fn content(&mut self, request: &Request, now: Timestamp) -> Answer {
        let time = |name| parse(parameter(request, name).expect("a window")).expect("a time");
        let (start, end) = (time("startTime"), time("endTime"));
        assert!(start < end && end - start <= DAY, "{}", request.url);
        assert!(start % MINUTE == 0 && end % MINUTE == 0, "{}", request.url);
        if self.disabled {
            return Answer::new(400, r#"{"error":{"code":"AF20023","message":"disabled"}}"#);
        }
        if !self.enabled || now < self.settled {
            return Answer::new(400, r#"{"error":{"code":"AF20022","message":"none"}}"#);
        }
        if start < now - 7 * DAY {
            return Answer::new(400, r#"{"error":{"code":"AF20055","message":"window"}}"#);
        }
        let from: usize = parameter(request, "nextpage").map_or(0, |key| {
            key.split('$')
                .nth(1)
                .and_then(|key| key.parse().ok())
                .expect("a page key")
        });
        if from == 0 {
            self.listed.push((start, end, now));
        }
        let inside: Vec<&Blob> = self
            .blobs
            .iter()
            .filter(|blob| (start..end).contains(&blob.created) && blob.visible <= now)
            .collect();
        let page: Vec<String> = inside
            .iter()
            .skip(from)
            .take(self.page)
            .map(|blob| describe(blob))
            .collect();
        let answer = Answer::new(200, &format!("[{}]", page.join(",")));
        if from + self.page >= inside.len() {
            return answer;
        }
        // As the service writes it: lower case, no publisher, a page key with a dollar sign.
        let next = format!(
            "https://manage.example.com/api/v1.0/{TENANT}/activity/feed/subscriptions/content\
             ?contenttype={STREAM}&endtime={}&starttime={}&nextpage=2026${}$na0044",
            time::query(end),
            time::query(start),
            from + self.page
        );
        answer.with("nextpageuri", &next)
    }
}

pub(super) const LISTED: &str = r#"[{"contentType":"Audit.Exchange","status":"enabled","webhook":null},
    {"contentType":"DLP.All","status":"Enabled"},{"contentType":"Audit.General"}]"#;

pub(super) fn describe(blob: &Blob) -> String {
    format!(
        r#"{{"contentUri":"https://manage.example.com/api/v1.0/{TENANT}/activity/feed/audit/{}",
            "contentId":"{}","contentType":"{STREAM}","contentCreated":"{}"}}"#,
        blob.id,
        blob.id,
        time::show(blob.created)
    )
}

/// A host that keeps what `discover` found.
pub(super) struct Run {
    pub(super) fake: Fake,
    pub(super) config: String,
    pub(super) found: BTreeMap<String, u32>,
    pub(super) gaps: Vec<Gap>,
    pub(super) watermark: Timestamp,
    pub(super) next: Next,
    /// The service's time at the first commit.
    pub(super) began: Option<Timestamp>,
}

impl Run {
    pub(super) fn new(more: &str) -> Self {
        Self {
            fake: Fake::new(),
            config: config(more),
            found: BTreeMap::new(),
            gaps: Vec::new(),
            watermark: 0,
            next: Next::Again,
            began: None,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.fake.clock.now.get()
    }

    pub(super) fn pass(&mut self, time: i64) {
        self.fake.clock.now.set(self.now() + time);
    }

    /// One call; a crash loses everything it would have committed.
    pub(super) fn discover(&mut self, office: &mut Office, crash: bool) -> Result<(), Failure> {
        let config = &self.config;
        let result = self.fake.call(
            |request, now| office.answer(request, now),
            |world| discover(world, config, STREAM, limits()),
        );
        let discovery = result?;
        if crash {
            return Ok(());
        }
        self.fake.state.commit();
        let service_time = self.now() + office.skew;
        self.began.get_or_insert(service_time);
        for split in discovery.splits {
            *self.found.entry(split.id).or_default() += 1;
        }
        self.gaps.extend(discovery.gaps);
        if let Some(watermark) = discovery.watermark {
            assert!(watermark >= self.watermark, "the watermark went back");
            self.watermark = watermark;
        }
        self.next = discovery.next;
        Ok(())
    }

    /// The first call, which commits where listing begins and asks for nothing.
    pub(super) fn begin(&mut self, office: &mut Office) {
        self.discover(office, false).expect("begun");
        assert_eq!((self.next, self.fake.sent.len()), (Next::Again, 0));
    }

    /// Calls until everything listable now is listed.
    pub(super) fn settle(&mut self, office: &mut Office) {
        for _ in 0..200 {
            match self.discover(office, false) {
                Ok(()) if self.next != Next::Again => return,
                Ok(()) => {}
                Err(Failure::Retry { .. }) => self.pass(1_000),
                Err(failure) => panic!("{failure:?}"),
            }
        }
        panic!(
            "it never settles: {:?}",
            self.fake.log.lines.borrow().last()
        );
    }

    /// Lives through a time, calling whenever `discover` asked for it.
    pub(super) fn live(&mut self, office: &mut Office, time: i64) {
        let end = self.now() + time;
        loop {
            self.settle(office);
            let Next::At(at) = self.next else {
                unreachable!("settled")
            };
            assert!(
                at > self.now() || at == self.now(),
                "{at} lies behind {}",
                self.now()
            );
            if at >= end {
                self.fake.clock.now.set(end);
                return;
            }
            // A host is never faster than a second.
            self.fake.clock.now.set(at.max(self.now() + 1_000));
        }
    }

    pub(super) fn found(&self, blob: &Blob) -> bool {
        self.found.contains_key(&blob.id)
    }

    pub(super) fn declared(&self, time: Timestamp) -> bool {
        self.gaps
            .iter()
            .any(|gap| (gap.since..gap.until).contains(&time))
    }
}
