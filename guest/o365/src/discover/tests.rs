//! Listing against a small model of the service: what is there must be found or declared lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::fake::{Answer, Fake, NOW, STREAM, TENANT, config, limits, parameter};
use crate::time::{DAY, parse};
use crate::world::{Broken, Method, Request, Timestamp};

/// A blob of the model.
#[derive(Debug, Clone)]
struct Blob {
    id: String,
    created: Timestamp,
    /// When listings begin to show it.
    visible: Timestamp,
}

/// The service, with the API's rules.
struct Office {
    blobs: Vec<Blob>,
    enabled: bool,
    page: usize,
    /// The service's clock minus the machine's.
    skew: i64,
    /// Says its time in a `Date` header.
    dated: bool,
    /// One in so many listings fails.
    fault_every: u64,
    requests: u64,
    starts: Vec<Timestamp>,
    stops: Vec<String>,
    /// First pages served: window and the service's time.
    listed: Vec<(Timestamp, Timestamp, Timestamp)>,
}

impl Office {
    fn new() -> Self {
        Self {
            blobs: Vec::new(),
            enabled: true,
            page: 3,
            skew: 0,
            dated: true,
            fault_every: 0,
            requests: 0,
            starts: Vec::new(),
            stops: Vec::new(),
            listed: Vec::new(),
        }
    }

    fn blob(&mut self, created: Timestamp, lag: i64) {
        let id = format!("{created}$b{}$audit_exchange$na0044", self.blobs.len());
        self.blobs.push(Blob {
            id,
            created,
            visible: created + lag,
        });
    }

    fn answer(&mut self, request: &Request, local: Timestamp) -> Result<Answer, Broken> {
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
            Answer::new(200, if self.enabled { LISTED } else { "[]" })
        } else if request.url.path.contains("/subscriptions/start") {
            assert_eq!(request.method, Method::Post);
            self.starts.push(now);
            self.enabled = true;
            Answer::new(200, "{}")
        } else if request.url.path.contains("/subscriptions/stop") {
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

    fn content(&mut self, request: &Request, now: Timestamp) -> Answer {
        let time = |name| parse(parameter(request, name).expect("a window")).expect("a time");
        let (start, end) = (time("startTime"), time("endTime"));
        assert!(start < end && end - start <= DAY, "{}", request.url);
        assert!(start % MINUTE == 0 && end % MINUTE == 0, "{}", request.url);
        if !self.enabled {
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

const LISTED: &str = r#"[{"contentType":"Audit.Exchange","status":"enabled","webhook":null},
    {"contentType":"DLP.All","status":"Enabled"},{"contentType":"Audit.General"}]"#;

fn describe(blob: &Blob) -> String {
    format!(
        r#"{{"contentUri":"https://manage.example.com/api/v1.0/{TENANT}/activity/feed/audit/{}",
            "contentId":"{}","contentType":"{STREAM}","contentCreated":"{}"}}"#,
        blob.id,
        blob.id,
        time::show(blob.created)
    )
}

/// A host that keeps what `discover` found.
struct Run {
    fake: Fake,
    config: String,
    found: BTreeMap<String, u32>,
    gaps: Vec<Gap>,
    watermark: Timestamp,
    next: Next,
    /// The service's time at the first commit.
    began: Option<Timestamp>,
}

impl Run {
    fn new(more: &str) -> Self {
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

    fn now(&self) -> Timestamp {
        self.fake.clock.now.get()
    }

    fn pass(&mut self, time: i64) {
        self.fake.clock.now.set(self.now() + time);
    }

    /// One call; a crash loses everything it would have committed.
    fn discover(&mut self, office: &mut Office, crash: bool) -> Result<(), Failure> {
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
        let watermark = discovery.watermark.expect("always known");
        assert!(watermark >= self.watermark, "the watermark went back");
        self.watermark = watermark;
        self.next = discovery.next;
        Ok(())
    }

    /// Calls until everything listable now is listed.
    fn settle(&mut self, office: &mut Office) {
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
    fn live(&mut self, office: &mut Office, time: i64) {
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

    fn found(&self, blob: &Blob) -> bool {
        self.found.contains_key(&blob.id)
    }

    fn declared(&self, time: Timestamp) -> bool {
        self.gaps
            .iter()
            .any(|gap| (gap.since..gap.until).contains(&time))
    }
}

#[test]
fn a_cold_start_lists_seven_days_in_one_call() {
    let mut office = Office::new();
    for hours in 1..167 {
        office.blob(NOW - hours * HOUR, 0);
    }
    office.page = 1_000;
    let mut run = Run::new("");
    run.discover(&mut office, false).expect("listed");
    assert_eq!(run.found.len(), 166);
    assert!(
        run.fake.most_outstanding >= 8,
        "{} at once",
        run.fake.most_outstanding
    );
    assert!(
        run.fake.sent.len() <= 12,
        "{} requests",
        run.fake.sent.len()
    );
    assert_eq!(run.next, Next::At(NOW + MINUTE));
    assert_eq!(run.gaps, []);
    // The last hour is complete up to ten minutes ago.
    assert_eq!(run.watermark, NOW - 10 * MINUTE);
}

#[test]
fn borders_stay_the_same() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.live(&mut office, 3 * HOUR);
    let windows: BTreeSet<_> = office.listed.iter().map(|(s, e, _)| (*s, *e)).collect();
    let ordered: Vec<_> = windows.iter().collect();
    for pair in ordered.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "windows must meet");
    }
    let hour = (time::floor(NOW, HOUR), time::floor(NOW, HOUR) + HOUR);
    let passes: Vec<_> = office
        .listed
        .iter()
        .filter(|(s, e, _)| (*s, *e) == hour)
        .map(|(.., at)| *at)
        .collect();
    assert!(
        passes.len() > 60,
        "the live edge is listed every minute: {}",
        passes.len()
    );
    let late: Vec<_> = passes
        .iter()
        .filter(|at| **at >= hour.1 + 10 * MINUTE)
        .collect();
    assert_eq!(late.len(), 2, "once to close it, once an hour later");
}

#[test]
fn a_closed_window_is_listed_again_at_the_promised_ages() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.live(&mut office, 27 * HOUR);
    let hour = (time::floor(NOW, HOUR), time::floor(NOW, HOUR) + HOUR);
    let passes: Vec<_> = office
        .listed
        .iter()
        .filter(|(s, e, _)| (*s, *e) == hour)
        .map(|(.., at)| *at)
        .collect();
    for age in [HOUR, 6 * HOUR, 24 * HOUR] {
        let due = hour.1 + age;
        let hit = passes.iter().any(|at| (due..due + 2 * MINUTE).contains(at));
        assert!(hit, "not listed at +{} h", age / HOUR);
    }
    assert!(
        !passes.iter().any(|at| *at > hour.1 + 25 * HOUR),
        "and then never again"
    );
}

#[test]
fn a_missing_subscription_is_started_once() {
    let mut office = Office::new();
    office.enabled = false;
    office.blob(NOW - HOUR, 0);
    let mut run = Run::new("");
    run.discover(&mut office, false).expect("announced");
    assert_eq!((run.next, office.starts.len()), (Next::Again, 0));
    // Crashes behind the start: the listing shows that it worked.
    run.discover(&mut office, true).expect("started");
    run.discover(&mut office, true).expect("listed");
    run.settle(&mut office);
    assert_eq!(office.starts.len(), 1);
    assert_eq!(run.found.len(), 1);
}

#[test]
fn a_start_without_effect_is_not_repeated_for_fifteen_minutes() {
    let mut office = Office::new();
    office.enabled = false;
    let mut run = Run::new("");
    for _ in 0..60 {
        // Auditing is off: the service takes the start and nothing changes.
        let result = run.discover(&mut office, false);
        office.enabled = false;
        match result {
            Ok(()) => {}
            Err(Failure::Retry {
                after_ms: Some(after),
                ..
            }) => {
                run.pass(i64::try_from(after).expect("minutes").min(40_000));
            }
            Err(failure) => panic!("{failure:?}"),
        }
        run.pass(20_000);
    }
    assert!(office.starts.len() >= 2, "{:?}", office.starts);
    for pair in office.starts.windows(2) {
        assert!(
            pair[1] - pair[0] >= 15 * MINUTE,
            "{} s apart",
            (pair[1] - pair[0]) / 1000
        );
    }
}

#[test]
fn a_subscription_that_vanishes_comes_back() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.settle(&mut office);
    office.enabled = false;
    office.blob(NOW + HOUR, 0);
    run.pass(2 * HOUR);
    run.settle(&mut office);
    assert_eq!(office.starts.len(), 1);
    assert_eq!(run.found.len(), 1);
}

#[test]
fn unsubscribing_stops_what_is_not_configured() {
    let mut office = Office::new();
    let mut run = Run::new(r#""content_types":["Audit.Exchange"],"unsubscribe":true"#);
    run.settle(&mut office);
    // `Audit.General` has no status in the list: unknown is not enabled.
    assert_eq!(office.stops, ["DLP.All"]);
}

#[test]
fn an_outage_longer_than_the_retention_is_declared() {
    let mut office = Office::new();
    let mut run = Run::new("");
    run.settle(&mut office);
    run.pass(9 * DAY);
    for hours in 1..(9 * 24) {
        office.blob(NOW + hours * HOUR, 0);
    }
    run.settle(&mut office);
    assert_eq!(run.gaps.len(), 1, "{:?}", run.gaps);
    for blob in &office.blobs {
        let (found, declared) = (run.found(blob), run.declared(blob.created));
        assert!(
            found != declared,
            "found {found}, declared {declared}: {blob:?}"
        );
    }
}

#[test]
fn since_and_until_bound_the_listing() {
    let mut office = Office::new();
    for hours in 0..(6 * 24) {
        office.blob(NOW - hours * HOUR, 0);
    }
    let (since, until) = (NOW - 50 * HOUR, NOW - 20 * HOUR);
    let (since, until) = (time::floor(since, MINUTE), time::floor(until, MINUTE));
    let (from, to) = (time::show(since), time::show(until));
    let mut run = Run::new(&format!(r#""since":"{from}","until":"{to}""#));
    run.live(&mut office, 2 * DAY);
    for blob in &office.blobs {
        let inside = (since..until).contains(&blob.created);
        assert_eq!(run.found(blob), inside, "{}", time::show(blob.created));
    }
    assert_eq!(run.watermark, until);
    assert_eq!(run.gaps, []);
}

#[test]
fn a_late_start_is_declared() {
    let mut office = Office::new();
    let since = time::floor(NOW - 10 * DAY, MINUTE);
    let mut run = Run::new(&format!(r#""since":"{}""#, time::show(since)));
    run.settle(&mut office);
    assert_eq!(run.gaps.len(), 1);
    assert_eq!(run.gaps[0].since, since);
    assert!((run.gaps[0].until - (NOW - config::RETENTION)).abs() <= MINUTE);
}

#[test]
fn a_damaged_cursor_starts_over_and_never_skips() {
    let mut office = Office::new();
    office.blob(NOW - 3 * DAY, 0);
    let mut run = Run::new("");
    run.settle(&mut office);
    let stored = run.fake.state.committed[KEY].clone();
    for damage in [
        stored[..stored.len() - 1].to_vec(),
        b"2 x {}".to_vec(),
        Vec::new(),
    ] {
        run.fake.state.committed.insert(KEY.into(), damage);
        run.found.clear();
        run.watermark = 0;
        run.settle(&mut office);
        assert_eq!(run.found.len(), 1);
        assert_eq!(run.fake.state.committed[KEY].len(), stored.len());
    }
    assert_eq!(run.fake.count("cursors_damaged"), 3);
}

#[test]
fn waiting_for_the_subscription_is_no_loss() {
    let mut office = Office::new();
    office.enabled = false;
    let mut run = Run::new("");
    run.discover(&mut office, false).expect("announced");
    run.pass(3 * HOUR);
    run.settle(&mut office);
    assert_eq!((run.gaps.len(), office.starts.len()), (0, 1));
    assert!(run.found.is_empty() && run.watermark > NOW);
}

#[test]
fn a_service_whose_clock_is_far_ahead_makes_nothing_lost() {
    let mut office = Office::new();
    office.blob(NOW - 2 * DAY, 0);
    office.blob(NOW + HOUR, 0);
    let mut run = Run::new("");
    run.settle(&mut office);
    // From one call to the next its `Date` is a month ahead; what it serves is as before.
    let odd = |run: &mut Run, office: &mut Office| {
        let config = run.config.clone();
        run.fake.call(
            |request, now| {
                let mut answer = office.answer(request, now)?;
                answer.headers.retain(|(name, _)| name != "date");
                Ok(answer.with("date", "Tue, 10 Feb 2026 09:00:00 GMT"))
            },
            |world| discover(world, &config, STREAM, limits()),
        )
    };
    for _ in 0..30 {
        run.pass(10 * MINUTE);
        let discovery = odd(&mut run, &mut office).expect("listed");
        run.fake.state.commit();
        assert_eq!(discovery.gaps, []);
        assert!(discovery.watermark.expect("known") <= run.now());
        run.found
            .extend(discovery.splits.into_iter().map(|split| (split.id, 1)));
    }
    assert_eq!(run.found.len(), 2);
    assert!(run.fake.alarms() > 0);
}

#[test]
fn no_page_url_is_kept() {
    let mut office = Office::new();
    for minutes in 0..60 {
        office.blob(NOW - minutes * MINUTE, 0);
    }
    let mut run = Run::new("");
    run.settle(&mut office);
    let stored = String::from_utf8_lossy(&run.fake.state.committed[KEY]).into_owned();
    assert!(
        !stored.contains("http") && !stored.contains('$'),
        "{stored}"
    );
    assert!(stored.len() < 4096, "{} bytes", stored.len());
}

/// One scripted answer to every listing; what comes of it.
fn listing(mut answer: impl FnMut(u32, &Request) -> Answer) -> (Fake, Result<Discovery, Failure>) {
    let mut fake = Fake::new();
    let mut pages = 0;
    let config = config(r#""lookback":"30m""#);
    let result = fake.call(
        |request, _| {
            if request.url.path.contains("/subscriptions/list") {
                return Ok(Answer::new(200, LISTED));
            }
            pages += 1;
            Ok(answer(pages, request))
        },
        |world| discover(world, &config, STREAM, limits()),
    );
    (fake, result)
}

fn retry_of(result: &Result<Discovery, Failure>) -> &str {
    match result {
        Err(Failure::Retry { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_loop_is_given_up() {
    let (fake, result) =
        listing(|_, request| Answer::new(200, "[]").with("NextPageUri", &request.url.to_string()));
    assert!(retry_of(&result).contains("loop"), "{result:?}");
    assert!(fake.sent.len() < 20, "{} requests", fake.sent.len());
    assert!(fake.alarms() > 0);
}

#[test]
fn a_page_elsewhere_is_not_followed() {
    for url in [
        "https://attacker.example/api/v1.0/x",
        "http://manage.example.com/api",
        "https://manage.example.com:8443/api",
        "https://manage.example.com@attacker.example/",
        "//attacker.example/",
    ] {
        let (fake, result) = listing(|_, _| Answer::new(200, "[]").with("NextPageUrl", url));
        retry_of(&result);
        assert!(
            fake.sent
                .iter()
                .all(|sent| sent.url.origin() == "https://manage.example.com")
        );
        assert!(fake.alarms() > 0, "{url}");
    }
}

#[test]
fn what_is_no_list_is_asked_for_again() {
    for body in [
        "null",
        "{}",
        "\"x\"",
        "5",
        "",
        "<html></html>",
        "[{\"contentUri\":",
    ] {
        let (fake, result) = listing(|_, _| Answer::new(200, body));
        assert!(retry_of(&result).contains("not a list"), "{result:?}");
        assert!(fake.sent.len() > 4, "each page has some tries");
    }
    // A mark in front and an empty page in the middle are fine.
    let (_, result) = listing(|page, request| {
        let answer = Answer::new(200, "\u{feff}[]");
        if page < 3 {
            return answer.with("NEXTPAGEURI", &format!("{}&nextpage={page}", request.url));
        }
        answer
    });
    assert!(
        matches!(
            result,
            Ok(Discovery {
                next: Next::At(_),
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn an_unusable_element_keeps_its_window_open() {
    let blob = Blob {
        id: "good".into(),
        created: NOW,
        visible: NOW,
    };
    for element in [
        "{}",
        "5",
        "null",
        r#"{"contentId":"x"}"#,
        r#"{"contentUri":5,"contentId":"x"}"#,
    ] {
        let (fake, result) =
            listing(|_, _| Answer::new(200, &format!("[{element},{}]", describe(&blob))));
        let discovery = result.expect("the good one is taken");
        assert_eq!(discovery.splits.len(), 1);
        assert!(
            discovery.watermark.expect("known") <= NOW - 29 * MINUTE,
            "{element}"
        );
        assert!(fake.count("list_items_invalid") > 0);
        assert_ne!(discovery.next, Next::Again, "no hot loop");
    }
}

#[test]
fn refusals_of_a_listing_become_failures() {
    let check = |status, body: &str, expected: fn(&Failure) -> bool| {
        let (fake, result) = listing(|_, _| Answer::new(status, body));
        assert!(
            result.as_ref().is_err_and(expected),
            "{status} {body}: {result:?}"
        );
        assert!(fake.state.committed.is_empty());
    };
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
    check(401, &error("AF10001"), |failure| {
        matches!(failure, Failure::Unauthorised(_))
    });
    check(401, r#"{"Message":"denied"}"#, |failure| {
        matches!(failure, Failure::Unauthorised(_))
    });
    check(400, &error("AF20013"), |failure| {
        matches!(failure, Failure::Misconfigured(_))
    });
    check(400, &error("AF20055"), |failure| {
        matches!(failure, Failure::Retry { .. })
    });
    check(500, &error("AF50000"), |failure| {
        matches!(failure, Failure::Retry { .. })
    });
    check(404, "", |failure| matches!(failure, Failure::Retry { .. }));
    check(403, "{'error':{'code':'AF429','message':'m'}}", |failure| {
        matches!(
            failure,
            Failure::Retry {
                affects: Scope::Tenant,
                ..
            }
        )
    });
    // Subscribed, says the list, and yet not: it is starting.
    check(400, &error("AF20022"), |failure| {
        matches!(
            failure,
            Failure::Retry {
                affects: Scope::Stream,
                after_ms: Some(30_000),
                ..
            }
        )
    });
}

#[test]
fn splits_are_limited_by_whole_windows() {
    let mut office = Office::new();
    for minutes in 0..(48 * 60) {
        office.blob(NOW - minutes * MINUTE, 0);
    }
    office.page = 200;
    let mut fake = Fake::new();
    let config = config("");
    let mut found = BTreeSet::new();
    for calls in 1.. {
        let few = Limits {
            splits: 500,
            ..limits()
        };
        let discovery = fake
            .call(
                |request, now| office.answer(request, now),
                |world| discover(world, &config, STREAM, few),
            )
            .expect("listed");
        fake.state.commit();
        // Only a window that alone has more may pass the limit.
        assert!(discovery.splits.len() <= 1440, "{}", discovery.splits.len());
        found.extend(discovery.splits.into_iter().map(|split| split.id));
        if discovery.next != Next::Again {
            assert!(calls > 2);
            break;
        }
        assert!(calls < 20, "no end");
    }
    assert_eq!(found.len(), office.blobs.len());
}

#[test]
fn a_window_too_large_for_one_call_is_divided() {
    let mut office = Office::new();
    let start = time::floor(NOW, DAY) - 2 * DAY;
    for number in 0..30_000 {
        office.blob(start + number * 2_000, 0);
    }
    office.page = 5_000;
    let mut run = Run::new("");
    run.settle(&mut office);
    assert_eq!(run.found.len(), 30_000);
    let parts = office
        .listed
        .iter()
        .filter(|(s, e, _)| *s >= start && *e <= start + DAY);
    assert!(parts.count() >= 8, "{:?}", office.listed.len());
}

/// What happens between two calls.
#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Crash,
    Settle,
    /// The machine's clock is set wrong by so much.
    Clock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_000..4 * HOUR).prop_map(Step::Pass),
        (1_000..20 * MINUTE).prop_map(Step::Pass),
        (HOUR..9 * DAY).prop_map(Step::Pass),
        Just(Step::Crash),
        Just(Step::Settle),
        Just(Step::Settle),
        (-50 * MINUTE..50 * MINUTE).prop_map(Step::Clock),
        (-30 * DAY..30 * DAY).prop_map(Step::Clock),
        Just(Step::Clock(0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, each blob is found or lies in a declared gap; declared gaps are true.
    #[test]
    fn nothing_is_skipped(
        steps in prop::collection::vec(step(), 1..25),
        lags in prop::collection::vec(0..9 * MINUTE, 40),
        spread in HOUR..20 * DAY,
        fault_every in prop_oneof![Just(0_u64), 5..40_u64],
    ) {
        let mut office = Office::new();
        office.fault_every = fault_every;
        for (index, lag) in lags.iter().enumerate() {
            let index = i64::try_from(index).expect("small");
            office.blob(NOW - 2 * DAY + index * spread / 40, *lag);
        }
        let mut run = Run::new(r#""interval":"10m""#);
        for step in steps {
            match step {
                Step::Pass(time) => run.pass(time),
                Step::Crash => {
                    let _ = run.discover(&mut office, true);
                }
                Step::Settle => {
                    // A clock that is days behind finds every window refused; it must not skip.
                    for _ in 0..20 {
                        if run.discover(&mut office, false).is_err() {
                            run.pass(1_000);
                        } else if run.next != Next::Again {
                            break;
                        }
                    }
                }
                Step::Clock(skew) => {
                    run.pass(office.skew - skew);
                    office.skew = skew;
                }
            }
        }
        run.pass(office.skew);
        office.skew = 0;
        office.fault_every = 0;
        run.settle(&mut office);
        let now = run.now();
        run.live(&mut office, 3 * HOUR);
        let oldest = run.began.expect("settled") - config::RETENTION + MINUTE;
        let owed = oldest..now - HOUR;
        for blob in office.blobs.iter().filter(|blob| owed.contains(&blob.created)) {
            prop_assert!(
                run.found(blob) || run.declared(blob.created),
                "skipped {blob:?}; gaps {:?}", run.gaps
            );
        }
        for gap in &run.gaps {
            prop_assert!(gap.until <= now - config::RETENTION + 2 * MINUTE, "{gap:?}");
        }
    }

    /// Blobs that appear in a listing hours after their time are found by listing again.
    #[test]
    fn late_blobs_are_found(lags in prop::collection::vec(0..23 * HOUR, 30)) {
        let mut office = Office::new();
        for (index, lag) in lags.iter().enumerate() {
            let index = i64::try_from(index).expect("small");
            office.blob(NOW - 6 * HOUR + index * 17 * MINUTE, *lag);
        }
        let mut run = Run::new(r#""interval":"10m""#);
        run.live(&mut office, 36 * HOUR);
        for blob in &office.blobs {
            prop_assert!(run.found(blob), "{blob:?}");
        }
    }
}
