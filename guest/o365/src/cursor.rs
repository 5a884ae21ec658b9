//! Which windows are listed and which must be listed again; never moves backwards.
//!
//! Time is cut into windows with fixed borders on whole minutes: once cut, a window is listed with
//! the same borders every time, because the service groups events by the window it is asked for.
//! A window is open until a pass that began `settle` behind its end; then it is closed and listed
//! again at the configured ages. What was never listed and can no longer be is a gap, said once.

use serde::{Deserialize, Serialize};

use crate::config::{Config, RETENTION};
use crate::time::{DAY, HOUR, MINUTE, ceil, floor};
use crate::walk::Pass;
use crate::world::{Gap, Timestamp};

/// Key of the cursor in the stream's state.
pub const KEY: &str = "cursor";
/// Form of the stored cursor; another one is not read.
const VERSION: u32 = 1;
/// A window with an element that could not be read is listed again after this time.
const HELD_RETRY: i64 = 10 * MINUTE;
/// A first start begins this much behind the oldest content that can be asked for: a first listing
/// that has to wait its turn, with a thousand tenants' beside it, finds nothing aged out.
pub const FIRST_MARGIN: i64 = 10 * MINUTE;
/// A window that is too large is cut into so many parts: a day becomes stretches of three hours.
const PARTS: i64 = 8;
/// A pass that lies further ahead than this was timed by a clock that has gone back since.
const CLOCK_TOLERANCE: i64 = 2 * MINUTE;

/// Why a gap is one.
const LATE: &str = "never listed, and older than the seven days that the service keeps";

/// A stretch of time that is listed as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first instant.
    #[serde(rename = "s")]
    pub start: Timestamp,
    /// The first instant behind it.
    #[serde(rename = "e")]
    pub end: Timestamp,
    /// When its last complete pass began.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Timestamp>,
    /// Its last pass met an element that could not be read, at this time: it stays open.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Timestamp>,
}

/// What is known of the subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// When it was last seen enabled.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// The content types configured when all others were last seen stopped; empty without
    /// `unsubscribe`.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub types: String,
    /// When a start was announced; it is sent right behind, until the service has taken it.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Timestamp>,
    /// When the service took a start; its list may not show that for a while.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When a start was last announced because somebody had disabled the subscription.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Timestamp>,
    /// When a subscription that is not configured could last not be stopped.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unstopped: Option<Timestamp>,
}

/// The stream's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything before it has been cut into windows.
    pub next: Timestamp,
    /// Windows that are not finished, oldest first.
    pub windows: Vec<Window>,
    /// Everything before it has been listed.
    pub watermark: Timestamp,
    /// The service's clock minus ours.
    #[serde(default)]
    pub skew: i64,
    /// What is known of the subscription.
    #[serde(default)]
    pub subscribed: Subscribed,
    /// Whether the subscription was seen enabled, or anything listed. What ages out before there
    /// is a subscription is no loss.
    #[serde(default)]
    pub begun: bool,
}

impl Cursor {
    /// The cursor of a first start. What lies between `since` and the oldest content is declared
    /// by the first [`Self::advance`].
    pub fn begin(now: Timestamp, config: &Config) -> Self {
        let oldest = now - config.lookback.min(RETENTION - FIRST_MARGIN);
        let start = config.since.unwrap_or_else(|| ceil(oldest, MINUTE));
        Self {
            next: start,
            windows: Vec::new(),
            watermark: start,
            skew: 0,
            subscribed: Subscribed::default(),
            begun: false,
        }
    }

    /// Corrects the beginning of a cursor that has listed nothing by how wrong the clock was that
    /// chose it; where a first start would begin earlier still, the clock has gone back since.
    pub fn correct(&mut self, now: Timestamp, skew: i64, config: &Config) {
        if self.windows.is_empty() {
            let fresh = Self::begin(now, config).next;
            let chosen = floor(self.next + skew, MINUTE).min(fresh);
            self.next = config.since.unwrap_or(chosen);
            self.watermark = self.next;
        }
        self.skew = skew;
    }

    /// Keeps the beginning of a cursor that waits for its subscription within reach. Without one
    /// there is no content, so what ages out meanwhile is no loss.
    pub fn wait(&mut self, now: Timestamp, config: &Config) {
        let begun = self.windows.first().map_or(self.next, |first| first.start);
        let oldest = ceil(now - (RETENTION - FIRST_MARGIN), MINUTE);
        let start = begun.min(Self::begin(now, config).next).max(oldest);
        self.windows.clear();
        self.next = config.since.unwrap_or(start);
        self.watermark = self.next;
    }

    /// Reads a stored cursor; says why when it cannot be used.
    pub fn load(stored: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(stored).map_err(|_| "it is not text")?;
        let (version, rest) = text.split_once(' ').ok_or("it has no version")?;
        if version != VERSION.to_string() {
            return Err(format!("its version is `{version}`"));
        }
        let (sum, json) = rest.split_once(' ').ok_or("it has no checksum")?;
        if sum != checksum(json) {
            return Err("its checksum does not fit".into());
        }
        let cursor: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let sound = cursor.windows.iter().all(|window| {
            window.start < window.end
                && window
                    .end
                    .checked_sub(window.start)
                    .is_some_and(|length| length <= DAY)
                && window.end <= cursor.next
                && window.start % MINUTE == 0
                && window.end % MINUTE == 0
        });
        if sound {
            Ok(cursor)
        } else {
            Err("its windows contradict each other".into())
        }
    }

    /// The form that is stored.
    pub fn store(&self) -> Result<Vec<u8>, String> {
        let json = serde_json::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{VERSION} {} {json}", checksum(&json)).into_bytes())
    }

    /// Whether going on at this time would give something up.
    pub fn would_lose(&self, now: Timestamp, config: &Config) -> bool {
        let mut ahead = self.clone();
        !ahead.advance(now, config).is_empty()
    }

    /// Cuts new windows up to now, and declares what is too old to be listed.
    pub fn advance(&mut self, now: Timestamp, config: &Config) -> Vec<Gap> {
        let limit = ceil(now - RETENTION, MINUTE);
        let mut gaps: Vec<Gap> = Vec::new();
        let mut lose = |since: Timestamp, until: Timestamp| match gaps.last_mut() {
            Some(last) if last.until == since => last.until = until,
            _ => gaps.push(gap(since, until, LATE)),
        };
        for window in &mut self.windows {
            if window.start >= limit {
                continue;
            }
            let until = limit.min(window.end);
            let covered = window.covered(config);
            if covered < until {
                lose(covered.max(window.start), until);
            }
            window.start = until;
        }
        self.windows.retain(|window| window.start < window.end);
        let until = config.until.unwrap_or(Timestamp::MAX);
        if self.next < limit.min(until) {
            lose(self.next, limit.min(until));
            self.next = limit.min(until);
        }
        self.cut(now, until, config);
        gaps
    }

    /// Cuts windows: the backlog into long ones, the live edge into hours.
    fn cut(&mut self, now: Timestamp, until: Timestamp, config: &Config) {
        let live = config.window.min(HOUR);
        let settled = floor(now - config.settle, live);
        while self.next <= now && self.next < until {
            let end = if self.next < settled {
                (floor(self.next, config.window) + config.window).min(settled)
            } else {
                floor(self.next, live) + live
            };
            let end = end.min(until);
            self.windows.push(Window {
                start: self.next,
                end,
                listed: None,
                held: None,
            });
            self.next = end;
        }
    }

    /// Indices of the windows to list now: the oldest first, the newest second, then the others.
    ///
    /// The oldest is next to expire; the newest is what people wait for.
    pub fn due(&self, now: Timestamp, config: &Config) -> Vec<usize> {
        let mut due: Vec<usize> = (0..self.windows.len())
            .filter(|index| self.windows[*index].due(now, config) <= now)
            .collect();
        if due.len() > 2
            && let Some(newest) = due.pop()
        {
            due.insert(1, newest);
        }
        due
    }

    /// Notes a complete pass of a window, and whether it was clean. A pass that could only begin
    /// behind the window's start leaves a gap, unless that part had been listed before.
    pub fn listed(&mut self, pass: &Pass, config: &Config) -> Option<Gap> {
        let found = |window: &&mut Window| window.start == pass.start && window.end == pass.end;
        let window = self.windows.iter_mut().find(found)?;
        let covered = window.covered(config);
        let lost = (covered < pass.from).then(|| gap(covered, pass.from, LATE));
        window.start = pass.from;
        if pass.invalid == 0 {
            window.held = None;
            window.listed = Some(pass.begun);
        } else {
            window.held = Some(pass.begun);
        }
        lost
    }

    /// Cuts a window that is too large for one call into parts; their borders stay, too.
    pub fn divide(&mut self, start: Timestamp, end: Timestamp) {
        let found = |window: &Window| window.start == start && window.end == end;
        let Some(place) = self.windows.iter().position(found) else {
            return;
        };
        let whole = self.windows.remove(place);
        let part = ceil((end - start) / PARTS, MINUTE).max(MINUTE);
        let mut from = start;
        for index in place.. {
            if from >= end {
                break;
            }
            let to = (from + part).min(end);
            self.windows.insert(
                index,
                Window {
                    start: from,
                    end: to,
                    ..whole.clone()
                },
            );
            from = to;
        }
    }

    /// Forgets finished windows and moves the watermark.
    pub fn settle(&mut self, config: &Config) {
        self.windows.retain(|window| !window.finished(config));
        let open = self.windows.iter().filter(|window| !window.closed(config));
        let oldest = open.map(|window| window.covered(config)).min();
        self.watermark = self
            .watermark
            .max(oldest.unwrap_or(self.next).min(self.next));
    }

    /// When something is due next.
    pub fn wake(&self, now: Timestamp, config: &Config) -> Timestamp {
        let listing = self
            .windows
            .iter()
            .map(|window| window.due(now, config))
            .min();
        let ended = config.until.is_some_and(|until| self.next >= until);
        let cutting = (!ended).then_some(self.next);
        listing
            .into_iter()
            .chain(cutting)
            .min()
            .unwrap_or(now + DAY)
    }
}

impl Window {
    /// Whether a pass that counts as complete has been made.
    fn closed(&self, config: &Config) -> bool {
        self.held.is_none() && self.listed.is_some_and(|at| at >= self.end + config.settle)
    }

    /// The age at which it is listed again next.
    fn relist(&self, config: &Config) -> Option<i64> {
        let at = self.listed?;
        config
            .relist
            .iter()
            .copied()
            .find(|age| self.end + age > at)
    }

    fn finished(&self, config: &Config) -> bool {
        self.closed(config) && self.relist(config).is_none()
    }

    /// Everything before it has been listed and counts.
    fn covered(&self, config: &Config) -> Timestamp {
        match self.listed {
            _ if self.closed(config) => self.end,
            Some(at) if self.held.is_none() => (at - config.settle).clamp(self.start, self.end),
            _ => self.start,
        }
    }

    /// When it is to be listed.
    fn due(&self, now: Timestamp, config: &Config) -> Timestamp {
        if let Some(at) = self.held {
            return if at > now + CLOCK_TOLERANCE {
                now
            } else {
                at + HELD_RETRY
            };
        }
        let Some(at) = self.listed else {
            return self.start;
        };
        if at > now + CLOCK_TOLERANCE {
            return now;
        }
        if !self.closed(config) {
            return at + config.interval;
        }
        self.relist(config)
            .map_or(Timestamp::MAX, |age| self.end + age)
    }
}

fn gap(since: Timestamp, until: Timestamp, reason: &str) -> Gap {
    Gap {
        since,
        until,
        reason: reason.into(),
    }
}

/// FNV-1a: finds torn and edited values; it is no seal.
fn checksum(text: &str) -> String {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{sum:016x}")
}
