//! Lists several windows at once, page by page.
//!
//! A window is complete or it is nothing: page URLs live in this call only, and a window whose
//! pages could not all be read is listed from its first page again, in another call. Each page has
//! some tries of its own, because a long window would otherwise never get through a bad hour.

use std::collections::{BTreeSet, VecDeque};

use crate::api::{self, Api};
use crate::config::{Config, RETENTION};
use crate::failure::Decision;
use crate::time::{self, MINUTE, ceil};
use crate::url::Url;
use crate::world::{
    Body, Broken, Failure, Level, Limits, Method, Request, Response, Scope, Split, Timestamp, World,
};

/// Windows listed at the same time. Seven days are nine windows, so a cold start takes as long as
/// its longest window; the tenant's own limit of requests in flight is the host's affair.
pub const OUTSTANDING: usize = 10;
/// Pages of one window; the service cuts pages at a few hundred blobs.
pub const PAGE_LIMIT: u32 = 10_000;
/// Tries of one page within a call.
const PAGE_TRIES: u32 = 4;
/// Blobs of one window that are kept in memory: at half a kilobyte each, a quarter of the memory
/// that a call usually has. A window with more is divided.
const WINDOW_SPLITS: usize = 20_000;
/// Times a window is begun again within a call because its page or its start was refused.
const RESTARTS: u32 = 2;
/// Pause before the second try of a page; each further one waits four times as long.
const PAUSE_MS: u64 = 100;
/// Longest pause inside a call: what takes longer is the host's to wait for.
const LONGEST_PAUSE_MS: u64 = 5_000;
/// No request is sent when the call must end within this time and twice the longest that an answer
/// took: it may wait for its turn in a small budget, and a call that is cut off has listed nothing.
const LAST_SEND: i64 = 30_000;

/// Most bytes of an answer that is kept: the list of subscriptions has a few hundred.
const KEPT_BYTES: usize = 1 << 20;

/// A complete pass over one window.
#[derive(Debug)]
pub struct Pass {
    /// The window's borders as planned.
    pub start: Timestamp,
    /// The window's borders as planned.
    pub end: Timestamp,
    /// The start as it was sent: later than planned when the window was ageing out.
    pub from: Timestamp,
    /// When it began: by our clock or by the service's, whichever says earlier.
    pub begun: Timestamp,
    /// Its blobs.
    pub splits: Vec<Split>,
    /// Elements that could not be read.
    pub invalid: usize,
}

/// Why a window could not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is no enabled subscription.
    Unsubscribed {
        /// Whether somebody disabled it.
        disabled: bool,
        /// What the service said.
        reason: String,
    },
    /// The window has more blobs or pages than one call can hold: divide it.
    TooLarge {
        /// The window's borders as planned.
        start: Timestamp,
        /// The window's borders as planned.
        end: Timestamp,
    },
    /// Anything else.
    Failure(Failure),
}

impl Trouble {
    /// Whether the other windows may go on.
    fn is_of_one_window(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::Failure(Failure::Retry {
                    affects: Scope::Split,
                    ..
                })
        )
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Walked {
    /// Complete windows, in the order asked for.
    pub passes: Vec<Pass>,
    /// Windows that were not tried or not kept.
    pub left: bool,
    /// The first trouble.
    pub trouble: Option<Trouble>,
    /// The service's clock minus ours.
    pub skew: Option<i64>,
    /// The answer to the request that went along.
    pub along: Option<Result<Response, Broken>>,
}

/// Lists windows: `wanted` in order of urgency. Another request may go along, so that a cold start
/// does not wait for it alone.
pub fn walk(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    wanted: &[(Timestamp, Timestamp)],
    skew: i64,
    limits: Limits,
    along: Option<&Request>,
) -> Walked {
    let along = along.map(|request| world.http.send(request));
    let mut walker = Walker {
        world,
        api: Api::new(config),
        stream,
        skew,
        active: Vec::new(),
        done: Vec::new(),
        deadline: limits.deadline,
        longest: 0,
        late: None,
        walked: Walked::default(),
    };
    walker.run(wanted, limits, along);
    walker.finish(wanted.len(), limits)
}

/// Reads an answer now that is looked at later. A body that waits unread keeps its place among the tenant's
/// requests in flight; with one for each stream, few places would all be taken, and nothing moved any more.
fn kept(mut response: Response) -> Response {
    let mut body = Kept::default();
    let mut bytes = 0;
    loop {
        match response.body.read() {
            Ok(Some(piece)) if bytes + piece.len() <= KEPT_BYTES => {
                bytes += piece.len();
                body.pieces.push_back(piece);
            }
            Ok(Some(_)) => {
                let reason = format!("an answer of more than {KEPT_BYTES} bytes");
                body.broken = Some(Broken::Transport(reason));
                break;
            }
            Ok(None) => break,
            Err(broken) => {
                body.broken = Some(broken);
                break;
            }
        }
    }
    Response {
        body: Box::new(body),
        ..response
    }
}

/// A body that was read before it is needed.
#[derive(Default)]
struct Kept {
    pieces: VecDeque<Vec<u8>>,
    broken: Option<Broken>,
}

impl Body for Kept {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        match (self.pieces.pop_front(), self.broken.take()) {
            (None, Some(broken)) => Err(broken),
            (piece, broken) => {
                self.broken = broken;
                Ok(piece)
            }
        }
    }
}

struct Walker<'a, 'w> {
    world: &'a mut World<'w>,
    api: Api<'a>,
    stream: &'a str,
    skew: i64,
    active: Vec<Active>,
    /// Complete passes with their place in the order asked for.
    done: Vec<(usize, Pass)>,
    /// When the call must have ended.
    deadline: Timestamp,
    /// The longest that an answer took.
    longest: i64,
    /// The most urgent window that was given up for want of time.
    late: Option<(usize, Timestamp, Timestamp)>,
    walked: Walked,
}

/// A window that is being listed.
struct Active {
    ticket: u64,
    sent: Timestamp,
    order: usize,
    url: Url,
    pass: Pass,
    seen: BTreeSet<String>,
    pages: u32,
    tries: u32,
    restarts: u32,
}

/// What an answer leads to.
enum Step {
    Page(Url),
    Again { after_ms: u64 },
    Restart,
    Done,
    Stop(Trouble),
}

impl Walker<'_, '_> {
    /// Gives up the least urgent windows once more blobs have come than the call may return: they
    /// would be thrown away in the end, after more pages.
    fn shed(&mut self, limits: Limits) {
        while self.active.len() > 1 && self.found() > limits.splits as usize {
            let least = (0..self.active.len()).max_by_key(|place| self.active[*place].order);
            // Its answer, when it comes, belongs to nobody.
            least.map(|place| self.active.swap_remove(place));
            self.walked.left = true;
        }
    }

    /// Blobs in memory.
    fn found(&self) -> usize {
        let done = self.done.iter().map(|(_, pass)| pass.splits.len());
        let coming = self.active.iter().map(|active| active.pass.splits.len());
        done.chain(coming).sum()
    }

    fn run(&mut self, wanted: &[(Timestamp, Timestamp)], limits: Limits, along: Option<u64>) {
        let mut queue: VecDeque<_> = wanted.iter().copied().enumerate().collect();
        loop {
            while self.active.len() < OUTSTANDING && self.room(limits) {
                let Some((order, (start, end))) = queue.pop_front() else {
                    break;
                };
                self.launch(order, start, end);
            }
            let Some((ticket, answer)) = self.world.http.wait() else {
                break;
            };
            if along == Some(ticket) {
                self.walked.along = Some(answer.map(kept));
                continue;
            }
            let Some(place) = self
                .active
                .iter()
                .position(|active| active.ticket == ticket)
            else {
                continue;
            };
            let active = self.active.swap_remove(place);
            let took = self.world.clock.now().saturating_sub(active.sent);
            self.longest = self.longest.max(took);
            self.answered(active, answer);
            self.shed(limits);
        }
        self.walked.left |= !queue.is_empty();
    }

    /// Whether another window may begin.
    fn room(&self, limits: Limits) -> bool {
        let fatal = self
            .walked
            .trouble
            .as_ref()
            .is_some_and(|it| !it.is_of_one_window());
        if fatal || self.world.output.draining() {
            return false;
        }
        // The first one always: a call that does nothing would be repeated for ever.
        let first = self.active.is_empty() && self.done.is_empty();
        first || (self.has_time() && self.found() < limits.splits as usize)
    }

    /// Whether an answer to a request that is sent now will come before the call must end.
    fn has_time(&self) -> bool {
        let now = self.world.clock.now();
        let waiting = self.active.iter().map(|active| now - active.sent).max();
        let longest = self.longest.max(waiting.unwrap_or(0));
        self.deadline.saturating_sub(now) > LAST_SEND + 2 * longest
    }

    /// Gives a window up for want of time. One that is alone has to go on, unless it can be divided.
    fn give_up(&mut self, active: Active) -> Option<Active> {
        let Pass { start, end, .. } = active.pass;
        if self.done.is_empty() && self.active.is_empty() && end - start <= MINUTE {
            return Some(active);
        }
        let late = (active.order, start, end);
        self.late = Some(self.late.map_or(late, |earlier| earlier.min(late)));
        self.walked.left = true;
        None
    }

    fn launch(&mut self, order: usize, start: Timestamp, end: Timestamp) {
        let pass = Pass {
            start,
            end,
            from: start,
            begun: 0,
            splits: Vec::new(),
            invalid: 0,
        };
        let url = Url {
            secure: true,
            authority: String::new(),
            path: String::new(),
        };
        let seen = BTreeSet::new();
        let active = Active {
            ticket: 0,
            sent: 0,
            order,
            url,
            pass,
            seen,
            pages: 0,
            tries: 0,
            restarts: 0,
        };
        self.begin(active);
    }

    /// Sends the first page's request, its start clipped to what the service still keeps *now*.
    fn begin(&mut self, mut active: Active) {
        let now = self.world.clock.now();
        let oldest = ceil(now + self.skew - RETENTION, MINUTE);
        let start = active.pass.start.max(oldest);
        if start >= active.pass.end {
            // Aged out while it waited, or by the service's clock; the next call declares it.
            let failure = self.retry(&active, "it is older than the service keeps", None);
            self.walked.left = true;
            self.walked.trouble.get_or_insert(Trouble::Failure(failure));
            return;
        }
        active.url = self.api.window(self.stream, start, active.pass.end);
        active.pass.from = start;
        active.pass.begun = now;
        active.pass.splits.clear();
        active.pass.invalid = 0;
        active.seen.clear();
        active.pages = 0;
        active.tries = 0;
        self.send(active);
    }

    fn send(&mut self, mut active: Active) {
        // Its first page's request is bounded by whoever begins it.
        if (active.pages > 0 || active.tries > 0) && !self.has_time() {
            match self.give_up(active) {
                Some(alone) => active = alone,
                None => return,
            }
        }
        let request = Request {
            method: Method::Get,
            url: active.url.clone(),
        };
        active.sent = self.world.clock.now();
        active.ticket = self.world.http.send(&request);
        self.active.push(active);
    }

    fn answered(&mut self, mut active: Active, answer: Result<Response, Broken>) {
        match self.step(&mut active, answer) {
            Step::Page(url) => {
                active.url = url;
                active.tries = 0;
                self.send(active);
            }
            Step::Again { after_ms } => {
                self.world.clock.sleep(after_ms);
                self.send(active);
            }
            Step::Restart => {
                active.restarts += 1;
                // The service judges by its own clock.
                self.skew = self.walked.skew.unwrap_or(self.skew);
                self.begin(active);
            }
            Step::Done => self.done.push((active.order, active.pass)),
            Step::Stop(trouble) => {
                self.walked.left = true;
                if !trouble.is_of_one_window() {
                    // The other windows would be told the same.
                    self.world.http.abandon();
                    self.active.clear();
                    self.walked.trouble = Some(trouble);
                } else if self.walked.trouble.is_none() {
                    self.walked.trouble = Some(trouble);
                }
            }
        }
    }

    fn step(&mut self, active: &mut Active, answer: Result<Response, Broken>) -> Step {
        let mut response = match answer {
            Ok(response) => response,
            Err(Broken::Denied(reason)) => {
                return Step::Stop(Trouble::Failure(Failure::Misconfigured(format!(
                    "listing {}: refused by the host: {reason}",
                    self.stream
                ))));
            }
            Err(Broken::Transport(reason)) => return self.again(active, &reason, None),
        };
        self.note_date(active, &response);
        if response.status != 200 {
            return self.refused(active, response);
        }
        let next = self.api.next_page(&active.url, &response);
        let (splits, invalid) = match api::read_page(&mut response, active.pass.start) {
            Ok(page) => page,
            Err(reason) => return self.again(active, &reason, None),
        };
        active.pages += 1;
        active.seen.insert(active.url.path.clone());
        active.pass.splits.extend(splits);
        self.report_invalid(active, &invalid);
        let next = match next {
            Ok(None) => return Step::Done,
            Ok(Some(next)) => next,
            Err(foreign) => {
                self.alarm("security: a page URL leads elsewhere", &foreign.0);
                self.world.log.count("foreign_urls", 1);
                return self.restart(active, &foreign.0);
            }
        };
        if active.seen.contains(&next.path) {
            self.alarm("the pages of a listing form a loop", &next.path);
            return self.restart(active, "the pages form a loop");
        }
        let many = active.pages >= PAGE_LIMIT || active.pass.splits.len() >= WINDOW_SPLITS;
        if many && active.pass.end - active.pass.start > MINUTE {
            let (start, end) = (active.pass.start, active.pass.end);
            return Step::Stop(Trouble::TooLarge { start, end });
        }
        if active.pages >= PAGE_LIMIT {
            return self.restart(active, "more pages than the limit");
        }
        Step::Page(next)
    }

    /// The first page's `Date` bounds when the pass began; every one tells the skew.
    fn note_date(&mut self, active: &mut Active, response: &Response) {
        let Some(date) = api::date(response) else {
            return;
        };
        if active.pages == 0 {
            active.pass.begun = active.pass.begun.min(date);
        }
        self.walked.skew = Some(date - self.world.clock.now());
    }

    fn refused(&mut self, active: &mut Active, response: Response) -> Step {
        let refused = api::refused(response, self.world.clock);
        let what = format!("listing {}", self.stream);
        match refused.decision {
            Decision::NoSubscription | Decision::Disabled => Step::Stop(Trouble::Unsubscribed {
                disabled: refused.decision == Decision::Disabled,
                reason: refused.reason,
            }),
            Decision::RestartWindow => self.restart(active, &refused.reason),
            _ if refused.is_bare_denial() && active.tries + 1 < PAGE_TRIES => {
                self.again(active, &refused.reason, None)
            }
            Decision::Unauthorised | Decision::Misconfigured => {
                Step::Stop(Trouble::Failure(refused.failure(&what, Scope::Stream)))
            }
            Decision::Throttled => {
                self.world.log.count("throttled", 1);
                let after_ms = refused.after_ms.unwrap_or(1_000 << active.tries);
                if active.tries + 1 < PAGE_TRIES && after_ms <= LONGEST_PAUSE_MS {
                    active.tries += 1;
                    return Step::Again { after_ms };
                }
                Step::Stop(Trouble::Failure(refused.failure(&what, Scope::Tenant)))
            }
            _ => self.again(active, &refused.reason, refused.after_ms),
        }
    }

    /// Tries the same page again, or gives the window up for this call.
    fn again(&self, active: &mut Active, reason: &str, after_ms: Option<u64>) -> Step {
        let after = after_ms.unwrap_or(PAUSE_MS << (2 * active.tries));
        active.tries += 1;
        if active.tries < PAGE_TRIES && after <= LONGEST_PAUSE_MS {
            self.world.log.count("pages_retried", 1);
            return Step::Again { after_ms: after };
        }
        if crate::mutant::is_on("broken_listing_is_whole") {
            return Step::Done;
        }
        Step::Stop(Trouble::Failure(self.retry(active, reason, after_ms)))
    }

    /// Begins the window again, or gives it up for this call.
    fn restart(&self, active: &Active, reason: &str) -> Step {
        if active.restarts < RESTARTS {
            self.world.log.count("windows_restarted", 1);
            return Step::Restart;
        }
        Step::Stop(Trouble::Failure(self.retry(active, reason, None)))
    }

    fn retry(&self, active: &Active, reason: &str, after_ms: Option<u64>) -> Failure {
        let (start, end) = (time::show(active.pass.start), time::show(active.pass.end));
        let reason = format!("listing {} from {start} to {end}: {reason}", self.stream);
        Failure::Retry {
            after_ms,
            affects: Scope::Split,
            reason,
        }
    }

    fn report_invalid(&self, active: &mut Active, invalid: &[String]) {
        for element in invalid {
            let text = "a listed element is no blob description; its window stays open";
            self.alarm(text, element);
        }
        active.pass.invalid += invalid.len();
        self.world
            .log
            .count("list_items_invalid", invalid.len() as u64);
    }

    fn alarm(&self, message: &str, detail: &str) {
        let fields = [("stream", self.stream), ("detail", detail)];
        self.world.log.line(Level::Error, message, &fields);
    }

    /// Keeps as many complete windows as the limit allows, at least one.
    fn finish(mut self, wanted: usize, limits: Limits) -> Walked {
        self.done.sort_by_key(|(order, _)| *order);
        let mut found = 0;
        for (_, pass) in self.done {
            if !self.walked.passes.is_empty() && found + pass.splits.len() > limits.splits as usize
            {
                self.walked.left = true;
                continue;
            }
            found += pass.splits.len();
            self.walked.passes.push(pass);
        }
        self.walked.left |= self.walked.passes.len() < wanted;
        // Not even one: parts of it will fit.
        let late = self.late.filter(|(_, start, end)| end - start > MINUTE);
        let trouble = self.walked.trouble.as_ref();
        if let Some((_, start, end)) = late
            && self.walked.passes.is_empty()
            && trouble.is_none_or(Trouble::is_of_one_window)
        {
            self.walked.trouble = Some(Trouble::TooLarge { start, end });
        }
        self.walked
    }
}
