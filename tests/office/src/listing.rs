//! Lists content: windows, pages, and the ways in which the service's lists are not what one
//! expects.
//!
//! A page key holds all there is to know of a page, so nothing is remembered between two pages:
//! what becomes visible meanwhile comes on a later page when it sorts behind the key, and is missed
//! when it sorts before.

use std::fmt::Write as _;

use crate::faults::{Fault, Order, Paging, Windows};
use crate::feed::{bad_window, bad_window_of_old, refuse};
use crate::kind::ContentType;
use crate::office::Office;
use crate::random::{Concern, Seed};
use crate::records::{Blob, LONGEST_RANGE_MS};
use crate::tenant::Feed;
use crate::time::{self, DAY_MS, HOUR_MS};
use crate::wire::{Reply, Request};

/// How long after a blob a window may begin that lists it again, under [`Fault::ListedAgain`].
const AGAIN_MS: i64 = 60_000;
/// The same under [`Fault::ListedLater`].
const LATER_MS: i64 = 6 * HOUR_MS;

/// A window, checked: `from <= contentCreated < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub from: i64,
    pub to: i64,
    /// It is too long, and will be answered in part.
    partial: bool,
}

/// Where a page begins: behind this order key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    key: u64,
    index: u32,
    /// Tells apart two page keys of the same place.
    hop: u64,
    /// As of when the pass lists, under [`Paging::Snapshot`].
    seen: i64,
}

impl Cursor {
    fn at(key: u64, index: u32) -> Self {
        Self {
            key,
            index,
            hop: 0,
            seen: 0,
        }
    }
}

/// A line of a listing.
#[derive(Clone, Copy)]
struct Line {
    cursor: Cursor,
    blob: Blob,
    /// The keys of its content id: the blob's own, or those of the part that lies in the window.
    first_key: i64,
    last_key: i64,
    /// Its `contentCreated`.
    created: i64,
}

impl Office {
    /// Reads and checks the window of a request.
    pub(crate) fn window(&mut self, now: i64, request: &Request) -> Result<Window, Reply> {
        let (start, end) = (request.parameter("startTime"), request.parameter("endTime"));
        let (Some(start), Some(end)) = (&start, &end) else {
            if start.is_some() || end.is_some() {
                let read = |text: &Option<String>| text.as_deref().and_then(time::parse);
                return Err(self.refuse_window(read(&start), read(&end)));
            }
            if self.faults.windows == Windows::Nonsense {
                let code = "String reference not set to an instance of a String.\r\nParameter name";
                return Err(refuse(400, code, "s"));
            }
            return Ok(Window {
                from: now - DAY_MS,
                to: now,
                partial: false,
            });
        };
        let (Some(from), Some(to)) = (time::parse(start), time::parse(end)) else {
            let text = "Parameter startTime or endTime is of the wrong type. Expected: datetime.";
            return Err(refuse(400, "AF20002", text));
        };
        let wide = to - from > DAY_MS;
        self.stats.wide_windows += u64::from(wide);
        let partial = wide && self.faults.windows == Windows::Partial;
        let old = from < now - 7 * DAY_MS - self.faults.window_tolerance_ms;
        if from >= to || old || (wide && !partial) {
            return Err(self.refuse_window(Some(from), Some(to)));
        }
        Ok(Window { from, to, partial })
    }

    fn refuse_window(&self, from: Option<i64>, to: Option<i64>) -> Reply {
        if self.faults.windows == Windows::Older {
            return bad_window_of_old();
        }
        bad_window(from, to)
    }

    pub(crate) fn list(
        &mut self,
        now: i64,
        request: &Request,
        tenant: usize,
        kind: ContentType,
        about: Seed,
    ) -> Result<Reply, Reply> {
        self.stats.list_requests += 1;
        self.check_subscription(now, tenant, kind)?;
        let window = self.window(now, request)?;
        if self.strikes(Fault::BadPage, about) {
            return Ok(no_list(about));
        }
        let page_key = request.parameter("nextPage");
        let start = match &page_key {
            Some(key) => Some(self.read_page_key(key, window, tenant, kind)?),
            None => None,
        };
        let seen = match (self.faults.paging, start) {
            (Paging::Snapshot, Some(start)) => start.seen.min(now),
            _ => now,
        };
        let mut lines = self.lines((now, seen), window, tenant, kind);
        let behind = start.map_or(0, |s| {
            lines.partition_point(|line| (line.cursor.key, line.cursor.index) <= (s.key, s.index))
        });
        let earlier = self.earlier(&lines[..behind], about);
        lines.drain(..behind);
        let next = self.cut_page(&mut lines, start, page_key.is_none(), about);
        if !lines.is_empty() {
            lines.splice(0..0, earlier);
        }
        if self.faults.order == Order::ShuffledPages {
            lines.sort_by_key(|line| about.of(Concern::Order).with(u64::from(line.blob.index)).0);
        }
        let reply = Reply::json(200, self.descriptors(&lines, tenant, kind, about));
        Ok(match next {
            None => reply,
            Some(cursor) => {
                let cursor = Cursor { seen, ..cursor };
                let key = self.page_key(cursor, window, tenant, kind);
                self.link(reply, &key, page_key, window, tenant, kind, about)
            }
        })
    }

    /// Cuts the lines down to one page and says where the next begins, if there is one.
    fn cut_page(
        &mut self,
        lines: &mut Vec<Line>,
        start: Option<Cursor>,
        first: bool,
        about: Seed,
    ) -> Option<Cursor> {
        let here = start.unwrap_or(Cursor::at(0, 0));
        let most = u64::from(self.page_size);
        let size = if self.faults.random_pages {
            1 + about.of(Concern::Page).below(most)
        } else {
            most
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // The last page of all can be empty too; an empty page never follows an empty page.
        if !first && here.hop == 0 && !lines.is_empty() && self.strikes(Fault::EmptyPage, about) {
            lines.clear();
            return Some(Cursor { hop: 1, ..here });
        }
        // A key names a blob, so no page ends between two parts of one.
        let same = |at: usize| lines[at - 1].cursor == lines[at].cursor;
        let size = (size..lines.len())
            .find(|at| !same(*at))
            .unwrap_or(lines.len());
        let more = lines.len() > size;
        lines.truncate(size);
        let last = lines.last().map(|line| Cursor {
            hop: 0,
            ..line.cursor
        })?;
        (more || self.strikes(Fault::EmptyLastPage, about)).then_some(last)
    }

    /// Everything the window lists now, of what had appeared by `seen`, in the order of the listing.
    fn lines(
        &self,
        (now, seen): (i64, i64),
        window: Window,
        tenant: usize,
        kind: ContentType,
    ) -> Vec<Line> {
        let feed = self.tenants[tenant]
            .feed(kind)
            .expect("callers have found the feed");
        let at = |time: i64| feed.blobs.partition_point(|blob| blob.created < time);
        let (first, end) = (at(window.from), at(window.to));
        let again = |fault: Fault, reach: i64| {
            let before = feed.blobs[at(window.from - reach)..first].iter();
            before.filter(move |blob| feed.hits(fault, blob))
        };
        let again = again(Fault::ListedLater, LATER_MS).chain(again(Fault::ListedAgain, AGAIN_MS));
        // Of a blob whose keys reach over the window's end, the part before the end.
        let heads = if self.faults.regroup {
            end..at(window.to + LONGEST_RANGE_MS)
        } else {
            0..0
        };
        let heads = feed.blobs[heads]
            .iter()
            .filter(|blob| blob.first_key < window.to);
        let blobs = again.chain(&feed.blobs[first..end]).chain(heads);
        let partial = self.seed.of(Concern::Page);
        let kept = |blob: &&Blob| {
            feed.offers(blob, now)
                && blob.visible <= seen
                && !(window.partial && partial.with(u64::from(blob.index)).chance(0.5))
        };
        let mut lines: Vec<Line> = blobs
            .filter(kept)
            .flat_map(|blob| self.halves(feed, self.line(feed, *blob, window), now))
            .collect();
        if self.faults.order == Order::Shuffled {
            lines.sort_by_key(|line| line.cursor);
        }
        lines
    }

    fn line(&self, feed: &Feed, blob: Blob, window: Window) -> Line {
        let key = if self.faults.order == Order::Shuffled {
            let about = self.seed.of(Concern::Order).text(feed.maker.kind.name());
            about
                .with(u64::from(blob.index))
                .below(100_000_000_000_000_000)
        } else {
            time::digits(blob.created).parse().unwrap_or(0)
        };
        let (mut first_key, mut last_key) = (blob.first_key, blob.created);
        if self.faults.regroup && blob.created >= window.from {
            first_key = first_key.max(window.from);
            last_key = last_key.min(window.to - 1);
        }
        Line {
            cursor: Cursor::at(key, blob.index),
            blob,
            first_key,
            last_key,
            created: last_key,
        }
    }

    /// The line, or two that hold its halves, where the service has grouped the records anew.
    fn halves(&self, feed: &Feed, line: Line, now: i64) -> Vec<Line> {
        let blob = line.blob;
        let whole = (line.first_key, line.last_key) == (blob.first_key, blob.created);
        let old = now >= blob.created + self.faults.regroup_after_ms;
        if !whole || !old || !feed.hits(Fault::Regrouped, &blob) {
            return vec![line];
        }
        let middle = i64::midpoint(blob.first_key, blob.created);
        let part = |first_key: i64, last_key: i64| Line {
            cursor: line.cursor,
            first_key,
            last_key,
            ..line
        };
        vec![part(blob.first_key, middle), part(middle + 1, blob.created)]
    }

    /// Lines of the page before, which this page repeats.
    fn earlier(&mut self, before: &[Line], about: Seed) -> Vec<Line> {
        if before.is_empty() || !self.strikes(Fault::ListedTwice, about) {
            return Vec::new();
        }
        let last = &before[before.len().saturating_sub(2)..];
        last.to_vec()
    }

    fn descriptors(
        &mut self,
        lines: &[Line],
        tenant: usize,
        kind: ContentType,
        about: Seed,
    ) -> String {
        let foreign = !lines.is_empty() && self.strikes(Fault::ForeignBlob, about);
        let bad = !lines.is_empty() && self.strikes(Fault::BadItem, about);
        let origin = if foreign {
            &self.foreign_url
        } else {
            &self.resource_url
        };
        let tenant = &self.tenants[tenant];
        let mut out = String::from("[");
        for (index, line) in lines.iter().enumerate() {
            if bad && index == 0 {
                let item: &&str = about.of(Concern::Style).stream().pick(BAD_ITEMS);
                out.push_str(item);
                continue;
            }
            let id = content_id(
                &line.blob,
                (line.first_key, line.last_key),
                kind,
                &tenant.tag,
            );
            let created = time::millis(line.created);
            let expires = time::millis(line.created + 7 * DAY_MS);
            let comma = if index == 0 { "" } else { "," };
            write!(
                out,
                "{comma}{{\"contentUri\":\"{origin}/api/v1.0/{}/activity/feed/audit/{id}\",\
                 \"contentId\":\"{id}\",\"contentType\":\"{}\",\"contentCreated\":\"{created}\",\
                 \"contentExpiration\":\"{expires}\"}}",
                tenant.directory_id,
                kind.name(),
            )
            .expect("writing to a string succeeds");
        }
        out.push(']');
        out
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of them appear in the URL it writes"
    )]
    fn link(
        &mut self,
        reply: Reply,
        key: &str,
        own_key: Option<String>,
        window: Window,
        tenant: usize,
        kind: ContentType,
        about: Seed,
    ) -> Reply {
        let key = match own_key {
            Some(own) if self.strikes(Fault::PageLoop, about) => own,
            _ => key.to_owned(),
        };
        let foreign = self.strikes(Fault::ForeignPage, about);
        let origin = if foreign {
            &self.foreign_url
        } else {
            &self.resource_url
        };
        let root = format!("{origin}/api/v1.0/{}", self.tenants[tenant].directory_id);
        let (from, to) = (time::ticks(window.from), time::ticks(window.to));
        let times = format!("&endtime={to}&starttime={from}");
        let bare = self.meets(Fault::BarePage, about);
        let url = format!(
            "{root}/activity/feed/subscriptions/content?contenttype={}{}&nextpage={key}",
            kind.name(),
            if bare { "" } else { &times },
        );
        if bare {
            self.count_fault(Fault::BarePage);
        }
        let names = [
            "NextPageUri",
            "nextpageuri",
            "Nextpageuri",
            "NextPageUrl",
            "NEXTPAGEURI",
        ];
        let odd = self.faults.odd_header_case;
        let name = if odd {
            about.of(Concern::Style).stream().pick(&names)
        } else {
            "NextPageUri"
        };
        reply.with(name, url)
    }

    fn page_key(&self, cursor: Cursor, window: Window, tenant: usize, kind: ContentType) -> String {
        let check = self.page_check(cursor, window, tenant, kind);
        format!(
            "{:017}{:06}${}{check:05}{}${}",
            cursor.key,
            cursor.index,
            time::digits(cursor.seen),
            cursor.hop,
            self.tenants[tenant].tag
        )
    }

    fn read_page_key(
        &self,
        text: &str,
        window: Window,
        tenant: usize,
        kind: ContentType,
    ) -> Result<Cursor, Reply> {
        let read = || {
            let (place, rest) = text.split_once('$')?;
            let cursor = Cursor {
                key: place.get(..17)?.parse().ok()?,
                index: place.get(17..)?.parse().ok()?,
                hop: rest.get(22..23)?.parse().ok()?,
                seen: time::from_digits(rest.get(..17)?)?,
            };
            (self.page_key(cursor, window, tenant, kind) == text).then_some(cursor)
        };
        read().ok_or_else(|| {
            refuse(
                400,
                "AF20031",
                format!("Invalid nextPage Input: {text}. Can only contain a page key."),
            )
        })
    }

    /// Binds a page key to its window and feed.
    fn page_check(&self, cursor: Cursor, window: Window, tenant: usize, kind: ContentType) -> u64 {
        let about = self
            .seed
            .of(Concern::Page)
            .with(cursor.key)
            .with(u64::from(cursor.index));
        let about = about.with(cursor.hop).with(tenant as u64).text(kind.name());
        about
            .with(window.from.unsigned_abs())
            .with(window.to.unsigned_abs())
            .below(100_000)
    }
}

/// Elements that are no descriptions of blobs.
const BAD_ITEMS: &[&str] = &[
    "{}",
    "null",
    "7",
    r#""blob""#,
    r#"{"contentId":"blob","contentType":"Audit.General"}"#,
    r#"{"contentUri":7,"contentId":"blob"}"#,
];

/// Bodies that are no lists.
const NO_LISTS: &[&str] = &[
    "null",
    "{}",
    r#""a list""#,
    "7",
    "",
    "<html><body>The service is being updated.</body></html>",
    r#"[{"contentUri":"https://"#,
    r#"{"error":{"code":"AF50000","message":"An internal error occurred. Retry the request."}}"#,
];

fn no_list(about: Seed) -> Reply {
    Reply::json(
        200,
        *about.of(Concern::Style).with(8).stream().pick(NO_LISTS),
    )
}

/// The id of a blob, or of the part of it between two keys.
pub(crate) fn content_id(blob: &Blob, keys: (i64, i64), kind: ContentType, tag: &str) -> String {
    let (first, last, number) = (time::digits(keys.0), time::digits(keys.1), blob.index);
    let table = kind.table();
    let lower = table.to_ascii_lowercase();
    format!("{first}{number:06}${last}{number:06}${lower}${table}${tag}")
}
