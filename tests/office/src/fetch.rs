//! Fetches content: one blob, or the rest of one, and everything that can happen to it on the way.

use std::ops::Range;

use bytes::Bytes;

use crate::faults::Fault;
use crate::feed::{Caller, refuse, server_error};
use crate::kind::ContentType;
use crate::listing::content_id;
use crate::office::Office;
use crate::random::{Concern, Seed};
use crate::records::{Blob, RecordStream};
use crate::time::{self, DAY_MS};
use crate::wire::{Content, End, Framing, Reply, Request};

/// Larger blobs are streamed as they are made, without a `Content-Length`.
const STREAMED_BYTES: u64 = 1 << 20;

/// Which blob an id names, and which of its records.
struct Target {
    kind: ContentType,
    blob: Blob,
    records: Range<u32>,
}

impl Target {
    fn is_whole(&self) -> bool {
        self.records == (0..self.blob.count)
    }
}

impl Office {
    pub(crate) fn fetch(
        &mut self,
        now: i64,
        request: &Request,
        caller: &Caller,
        id: &str,
        about: Seed,
    ) -> Reply {
        self.stats.fetch_requests += 1;
        let tenant = caller.tenant;
        let Some(target) = self.target(tenant, id) else {
            return refuse(
                400,
                "AF20052",
                format!("Blob key {id} in the url is invalid"),
            );
        };
        if let Err(refusal) = self.permit(target.kind, caller) {
            return refusal;
        }
        match self.refuse_blob(now, tenant, id, &target, about) {
            Some(refusal) => refusal,
            None => self.send(request, tenant, &target, about),
        }
    }

    /// Finds the blob of a content id; the id of a part has other keys.
    fn target(&self, tenant: usize, id: &str) -> Option<Target> {
        let parts: Vec<&str> = id.split('$').collect();
        let [first, last, _, table, tag] = parts[..] else {
            return None;
        };
        let kind = ContentType::ALL
            .into_iter()
            .find(|kind| kind.table() == table)?;
        let index: usize = last.get(17..)?.parse().ok()?;
        let blob = *self.tenants[tenant].feed(kind)?.blobs.get(index)?;
        let key = |text: &str| time::from_digits(text.get(..17)?);
        let keys = (key(first)?, key(last)?);
        let own = tag == self.tenants[tenant].tag;
        let inside = blob.first_key <= keys.0 && keys.0 <= keys.1 && keys.1 <= blob.created;
        if !own || !inside || content_id(&blob, keys, kind, tag) != id {
            return None;
        }
        // Records are spread evenly over the keys, so that parts which meet leave nothing out.
        let before = |key: i64| {
            let share = (key - blob.first_key) * i64::from(blob.count);
            u32::try_from(share / (blob.created - blob.first_key))
                .unwrap_or(0)
                .min(blob.count)
        };
        let end = if keys.1 == blob.created {
            blob.count
        } else {
            before(keys.1 + 1)
        };
        Some(Target {
            kind,
            blob,
            records: before(keys.0)..end,
        })
    }

    fn refuse_blob(
        &mut self,
        now: i64,
        tenant: usize,
        id: &str,
        target: &Target,
        about: Seed,
    ) -> Option<Reply> {
        let (kind, blob) = (target.kind, target.blob);
        if let Err(refusal) = self.check_subscription(now, tenant, kind) {
            return Some(refusal);
        }
        let missing = || {
            refuse(
                404,
                "AF20050",
                format!("The specified content ({id}) does not exist."),
            )
        };
        let feed = self.tenants[tenant]
            .feed(kind)
            .expect("target found the feed");
        if now >= blob.created + 7 * DAY_MS {
            self.stats.expired_fetches += 1;
            if self.faults.expired_is_404 {
                return Some(Reply::json(404, ""));
            }
            let text = format!(
                "Content requested with the key {id} has already expired. Content older than 7 \
                days cannot be \
                 retrieved."
            );
            return Some(refuse(400, "AF20051", text));
        }
        if blob.visible > now || feed.hides(&blob) {
            return Some(missing());
        }
        let hits = |fault: &Fault| self.is_planned(*fault) || feed.hits(*fault, &blob);
        let hits = [Fault::Gone, Fault::PoisonError, Fault::PoisonBody].map(|f| (hits(&f), f));
        for (hit, fault) in hits {
            if hit {
                self.count_fault(fault);
                self.served(tenant, target, false);
                return Some(match fault {
                    Fault::Gone => missing(),
                    Fault::PoisonError => server_error(about),
                    _ => self.poisoned(tenant, target),
                });
            }
        }
        self.strikes(Fault::Missing, about).then(missing)
    }

    /// The blob with its third quarter overwritten: whole to look at, and never JSON.
    fn poisoned(&self, tenant: usize, target: &Target) -> Reply {
        let mut bytes = self.stream(tenant, target).into_bytes().to_vec();
        let quarter = bytes.len() / 4;
        bytes[quarter * 2..quarter * 3].fill(b'\x01');
        bytes.truncate(bytes.len().saturating_sub(1));
        Reply::json(200, bytes)
    }

    fn stream(&self, tenant: usize, target: &Target) -> RecordStream {
        let feed = self.tenants[tenant]
            .feed(target.kind)
            .expect("target found the feed");
        let echoes = if target.is_whole() {
            feed.echoes(&target.blob)
        } else {
            Vec::new()
        };
        RecordStream::new(
            feed.maker.clone(),
            target.blob,
            target.records.clone(),
            echoes,
        )
    }

    fn served(&mut self, tenant: usize, target: &Target, whole: bool) {
        let feed = self.tenants[tenant]
            .feed_mut(target.kind)
            .expect("target found the feed");
        let at = usize::try_from(target.blob.index).expect("an index in memory fits usize");
        let served = &mut feed.served[at];
        if whole {
            // A part of a blob is another download than the blob.
            if target.is_whole() {
                self.stats.repeated_downloads += u64::from(served.whole > 0);
                served.whole += 1;
            }
            self.stats.blobs_sent += 1;
        } else {
            served.broken += 1;
        }
    }

    fn send(&mut self, request: &Request, tenant: usize, target: &Target, about: Seed) -> Reply {
        let stream = self.stream(tenant, target);
        let framing = if stream.estimate() > STREAMED_BYTES {
            Framing::Chunked
        } else {
            Framing::Length
        };
        let mut reply = Reply::json(200, "");
        reply.content = Content::Records(Box::new(stream));
        reply.transport.framing = framing;
        let gzip = request
            .find_header("accept-encoding")
            .is_some_and(|value| value.contains("gzip"));
        let broken = BREAKING
            .iter()
            .find(|fault| (**fault != Fault::TruncateGzip || gzip) && self.strikes(**fault, about));
        // What `spoil` will do to the reply is known from the same draws.
        let reset = [Fault::ResetBeforeHeaders, Fault::ResetAfterHeaders];
        let spoilt = reset.iter().any(|fault| self.meets(*fault, about));
        self.served(tenant, target, broken.is_none() && !spoilt);
        if let Some(fault) = broken {
            return break_reply(reply, *fault, about, self.faults.stall_ms);
        }
        self.dress(reply, gzip, about)
    }

    /// The harmless ways in which a good answer can look odd.
    fn dress(&mut self, mut reply: Reply, gzip: bool, about: Seed) -> Reply {
        if self.strikes(Fault::ByteOrderMark, about) {
            let bytes = reply.content.into_bytes();
            reply.content = Content::Bytes([b"\xEF\xBB\xBF", &bytes[..]].concat().into());
        }
        let unasked = !gzip && self.strikes(Fault::UnaskedGzip, about);
        if unasked || (gzip && self.strikes(Fault::Gzip, about)) {
            reply.content = Content::Bytes(crate::wire::gzip(&reply.content.into_bytes()));
            reply
                .headers
                .push(("Content-Encoding".into(), "gzip".into()));
        }
        if self.strikes(Fault::OctetStream, about) {
            reply.headers[0].1 = "application/octet-stream".into();
        }
        if self.strikes(Fault::Chunked, about) {
            reply.transport.framing = Framing::Chunked;
        }
        if self.strikes(Fault::Trickle, about) {
            reply.transport.trickle = Some(self.faults.trickle);
        }
        reply
    }
}

/// The faults after which a client does not hold the blob, in the order in which they are tried.
const BREAKING: &[Fault] = &[
    Fault::Truncate,
    Fault::TruncateChunked,
    Fault::LengthShort,
    Fault::LengthLong,
    Fault::Stall,
    Fault::ErrorWith200,
    Fault::NullBody,
    Fault::EmptyBody,
    Fault::HtmlBody,
    Fault::GarbageTail,
    Fault::DoubleBody,
    Fault::FalseEncoding,
    Fault::TruncateGzip,
];

fn break_reply(mut reply: Reply, fault: Fault, about: Seed, stall_ms: u32) -> Reply {
    let mut bytes = reply.content.into_bytes();
    // Anywhere from nothing to all but the last byte.
    let cut = about.of(Concern::Style).with(4).below(bytes.len() as u64);
    let at = usize::try_from(cut).expect("a cut inside bytes in memory fits usize");
    let transport = &mut reply.transport;
    match fault {
        Fault::Truncate => {
            (transport.framing, transport.end) = (Framing::Length, End::ResetAfter(cut));
        }
        Fault::TruncateChunked => {
            (transport.framing, transport.end) = (Framing::Chunked, End::ResetAfter(cut));
        }
        Fault::LengthLong => transport.framing = Framing::LengthPlus(1 + cut),
        Fault::Stall => {
            transport.end = End::StallAfter {
                bytes: cut,
                stall_ms,
            }
        }
        Fault::LengthShort => bytes = bytes.slice(..at),
        Fault::ErrorWith200 => {
            bytes = refuse(
                500,
                "AF50000",
                "An internal error occurred. Retry the request.",
            )
            .content
            .into_bytes();
        }
        Fault::DoubleBody => bytes = bytes.repeat(2).into(),
        Fault::FalseEncoding => {
            reply
                .headers
                .push(("Content-Encoding".into(), "gzip".into()));
        }
        Fault::NullBody => bytes = "null".into(),
        Fault::EmptyBody => bytes = Bytes::new(),
        Fault::HtmlBody => {
            bytes = "<html><body>The service is being updated.</body></html>".into();
            reply.headers[0].1 = "text/html".into();
        }
        Fault::TruncateGzip => {
            let packed = crate::wire::gzip(&bytes);
            bytes = packed.slice(..packed.len() - 9);
            reply
                .headers
                .push(("Content-Encoding".into(), "gzip".into()));
        }
        _ => bytes = [&bytes[..at], b"\0\0]}garbage"].concat().into(),
    }
    reply.content = Content::Bytes(bytes);
    reply
}
