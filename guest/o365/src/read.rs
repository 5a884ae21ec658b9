//! Reads one split (a content blob) to batches of events, decoded while it arrives.
//!
//! Memory does not depend on the blob's size. Good records become events even when the blob as a
//! whole must be fetched again. From [`SALVAGE_FROM`] tries on, a blob that comes whole and with
//! the same damage twice is taken apart: what is no record goes to the dead letters. A blob that is cut
//! short, or answers with anything but an array, is asked for again until it expires.
//!
//! A blob that should have expired is asked for once more and then declared lost, whatever the service says
//! but success: a clock of ours that runs ahead must not give up what could be had.

use memchr::memmem;
use sluicegate_records::{Item, Splitter, Stop};

use crate::api::{self, Api, Payload};
use crate::batch::Batcher;
use crate::config::{self, Config, Use};
use crate::failure::Decision;
use crate::map::Mapper;
use crate::time::{self, DAY, HOUR, floor};
use crate::walk::walk;
use crate::world::{
    Body, Broken, Failure, Level, Limits, Log, Response, Scope, Split, Timestamp, World,
};

/// From this try on, damage is salvaged instead of fetched again: by then it is not the network.
pub const SALVAGE_FROM: u32 = 3;
/// A blob that is said not to exist is asked for again after this time: replication lags.
const MISSING_RETRY_MS: u64 = 20 * 60 * 1000;
/// Most bytes of an unusable body that are shown.
const EXCERPT_BYTES: usize = 200;

/// Reads one split.
pub fn read(
    world: &mut World<'_>,
    config: &str,
    stream: &str,
    split: &Split,
    limits: Limits,
) -> Result<(), Failure> {
    let config = config::load(config, Use::Source).map_err(Failure::Misconfigured)?;
    let payload: Payload = serde_json::from_slice(&split.payload)
        .map_err(|error| Failure::Internal(format!("the split's payload: {error}")))?;
    let mut date = None;
    let result = attempt(world, &config, stream, split, &payload, limits, &mut date);
    let ends = split.expires.unwrap_or(0).max(split.created + 7 * DAY);
    let expired = ends <= world.clock.now() && date.is_some_and(|date| ends <= date);
    match result {
        Err(Failure::Retry {
            affects: Scope::Split,
            reason,
            ..
        }) if expired => {
            let ends = time::show(ends);
            Err(Failure::SplitLost(format!(
                "{reason}; it expired at {ends}"
            )))
        }
        result => result,
    }
}

/// One attempt; `date` becomes the service's time, or ours where it answers without one.
fn attempt(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    split: &Split,
    payload: &Payload,
    limits: Limits,
    date: &mut Option<Timestamp>,
) -> Result<(), Failure> {
    let response = fetch(world, config, stream, split, payload, date)?;
    let Some(damage) = pass(world, config, stream, split, limits, response, Pass::Read)? else {
        return Ok(());
    };
    if config.attempt >= SALVAGE_FROM && damage.whole {
        // Only damage that is the same in a second copy is the blob's own.
        let response = fetch(world, config, stream, split, payload, date)?;
        let again = pass(world, config, stream, split, limits, response, Pass::Probe)?;
        if again.as_ref() == Some(&damage) {
            let response = fetch(world, config, stream, split, payload, date)?;
            let fields = [
                ("stream", stream),
                ("blob", &split.id),
                ("damage", &damage.reason),
            ];
            world
                .log
                .line(Level::Error, "a damaged blob is salvaged", &fields);
            world.log.count("blobs_salvaged", 1);
            pass(
                world,
                config,
                stream,
                split,
                limits,
                response,
                Pass::Salvage,
            )?;
            return Ok(());
        }
    }
    Err(retry(format!("the body is damaged: {}", damage.reason)))
}

/// How a body is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Good records become events; damage is noted and nothing is set aside.
    Read,
    /// Nothing comes out: is the damage still the same?
    Probe,
    /// Good records become events, the rest goes to the dead letters.
    Salvage,
}

/// What is wrong with a body, the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Damage {
    reason: String,
    /// Whether the body ends as a whole one does. One that does not was cut on its way, perhaps
    /// the same way every time, and what is missing must not be forgotten.
    whole: bool,
}

/// Asks for the blob, at its own URL or, when that is of no use, at the one listed now.
fn fetch(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    split: &Split,
    payload: &Payload,
    date: &mut Option<Timestamp>,
) -> Result<Response, Failure> {
    let request = match Api::new(config).blob(&payload.uri) {
        Ok(request) => request,
        Err(foreign) => {
            // The credential must never go there. The split stays, and ends in quarantine, where
            // a person sees it, unless the service lists another URL by then.
            let fields = [
                ("stream", stream),
                ("blob", &*split.id),
                ("why", &*foreign.0),
            ];
            let alarm = "security: a content URL leads elsewhere";
            world.log.line(Level::Error, alarm, &fields);
            world.log.count("foreign_urls", 1);
            if config.attempt == 0 {
                return Err(retry(&foreign.0));
            }
            return look_again(world, config, stream, split, payload, &foreign.0, date);
        }
    };
    let response = api::call(world.http, &request).map_err(transport)?;
    *date = Some(api::date(&response).unwrap_or_else(|| world.clock.now()));
    if response.status == 200 {
        return Ok(response);
    }
    let refused = api::refused(response, world.clock);
    if refused.is_bare_denial() && config.attempt == 0 {
        return Err(retry(refused.reason));
    }
    if refused.decision != Decision::Missing {
        return Err(refused.failure("content blob", Scope::Split));
    }
    let reason = refused.reason;
    if crate::mutant::is_on("missing_is_lost") {
        return Err(Failure::SplitLost(reason));
    }
    if config.attempt < SALVAGE_FROM {
        // Replication lags: three tries over an hour.
        return Err(missing(format!("content blob: {reason}")));
    }
    look_again(world, config, stream, split, payload, &reason, date)
}

/// Goes through a body once; the damage it met, if any.
fn pass(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    split: &Split,
    limits: Limits,
    mut response: Response,
    pass: Pass,
) -> Result<Option<Damage>, Failure> {
    let mut reader = Reader {
        batcher: Batcher::new(world.output, &limits),
        mapper: Mapper::new(&config.mapping),
        log: world.log,
        config,
        split,
        pass,
        event_bytes: limits.event_bytes as usize,
        scratch: Vec::new(),
        organization: memmem::Finder::new(b"\"OrganizationId\""),
        foreign_tenant: 0,
        damage: None,
        doubtful: false,
        last: 0,
    };
    reader.blob(&mut *response.body)?;
    if pass != Pass::Probe {
        reader.report(stream);
    }
    let whole = reader.last == b']';
    if crate::mutant::is_on("damaged_is_whole") {
        return Ok(None);
    }
    Ok(reader.damage.map(|reason| Damage { reason, whole }))
}

/// What is said not to be there, and may yet come.
fn missing(reason: String) -> Failure {
    Failure::Retry {
        after_ms: Some(MISSING_RETRY_MS),
        affects: Scope::Split,
        reason,
    }
}

/// Looks whether a blob is still listed, and under which URL: a fresh one is fetched; the same one
/// is tried again later; only what is no longer listed is lost.
fn look_again(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    split: &Split,
    payload: &Payload,
    reason: &str,
    date: &mut Option<Timestamp>,
) -> Result<Response, Failure> {
    // The hour it was first listed in: other borders could show it under another id.
    let start = floor(split.created, HOUR);
    let limits = Limits {
        batch_bytes: 0,
        batch_events: 0,
        event_bytes: 0,
        splits: u32::MAX,
        deadline: Timestamp::MAX,
    };
    // Only the service's own time says that a blob has expired, and a window that old is not asked for.
    let any = Api::new(config).subscriptions();
    let along = date.is_none().then_some(&any);
    let wanted = [(start, start + HOUR)];
    let walked = walk(world, config, stream, &wanted, 0, limits, along);
    if let Some(Ok(response)) = &walked.along {
        *date = Some(api::date(response).unwrap_or_else(|| world.clock.now()));
    }
    let Some(pass) = walked.passes.into_iter().next() else {
        return Err(retry(format!("{reason}; nor could its window be listed")));
    };
    let unreadable = pass.invalid > 0;
    let Some(listed) = pass.splits.into_iter().find(|listed| listed.id == split.id) else {
        if unreadable {
            // It may be the very element that cannot be read.
            let why = format!("{reason}; its window cannot be read in full");
            return Err(retry(why));
        }
        let reason = format!("content blob, no longer listed: {reason}");
        if config.attempt <= SALVAGE_FROM {
            // One listing is no proof: pages may have changed while they were turned.
            return Err(missing(reason));
        }
        return Err(Failure::SplitLost(reason));
    };
    let fresh: Payload = serde_json::from_slice(&listed.payload)
        .map_err(|error| Failure::Internal(format!("the split's payload: {error}")))?;
    if fresh == *payload {
        return Err(retry(format!("{reason}; it is still listed")));
    }
    let request = Api::new(config)
        .blob(&fresh.uri)
        .map_err(|foreign| retry(&foreign.0))?;
    let response = api::call(world.http, &request).map_err(transport)?;
    if response.status != 200 {
        let refused = api::refused(response, world.clock);
        return Err(match refused.decision {
            Decision::Missing => retry(refused.reason),
            _ => refused.failure("content blob", Scope::Split),
        });
    }
    Ok(response)
}

struct Reader<'a> {
    batcher: Batcher<'a>,
    mapper: Mapper,
    log: &'a dyn Log,
    config: &'a Config,
    split: &'a Split,
    pass: Pass,
    event_bytes: usize,
    /// Where a probe maps to.
    scratch: Vec<u8>,
    /// Finds the member that names the tenant.
    organization: memmem::Finder<'static>,
    foreign_tenant: u64,
    damage: Option<String>,
    /// Damage was met: what follows may be a fragment.
    doubtful: bool,
    /// The last byte of the body that is no white space.
    last: u8,
}

impl Reader<'_> {
    fn blob(&mut self, body: &mut dyn Body) -> Result<(), Failure> {
        let salvage = self.pass == Pass::Salvage;
        let element_bytes = self.event_bytes;
        let mut splitter = Splitter::new(sluicegate_records::Limits {
            element_bytes,
            salvage,
        });
        let mut broken = false;
        while let Some(chunk) = body.read().map_err(transport)? {
            if self.last == 0 {
                self.head(&chunk)?;
            }
            let blank = |byte: &&u8| !byte.is_ascii_whitespace();
            self.last = chunk.iter().rev().find(blank).copied().unwrap_or(self.last);
            if !broken {
                // The rest of a damaged body is read for its end.
                broken = self.split(|reader| splitter.push(&chunk, |item| reader.item(item)))?;
            }
        }
        if self.last == 0 {
            return Err(retry("the body is empty"));
        }
        if !broken {
            self.split(|reader| splitter.finish(|item| reader.item(item)))?;
        }
        self.batcher.finish()
    }

    /// Splits on; whether the body turned out to be damaged beyond splitting.
    fn split(
        &mut self,
        split: impl FnOnce(&mut Self) -> Result<(), Stop<Failure>>,
    ) -> Result<bool, Failure> {
        match split(self) {
            Ok(()) => Ok(false),
            Err(Stop::Caller(failure)) => Err(failure),
            Err(Stop::Malformed(malformed)) => {
                self.damage.get_or_insert_with(|| malformed.to_string());
                Ok(true)
            }
        }
    }

    /// Looks at the first byte that counts: only an array is data. A single record is read when
    /// it comes so again and again.
    fn head(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        let mark = |byte: &u8| matches!(byte, 0xEF | 0xBB | 0xBF) || byte.is_ascii_whitespace();
        let Some(start) = chunk.iter().position(|byte| !mark(byte)) else {
            return Ok(());
        };
        let begin = &chunk[start..];
        if begin[0] == b'[' || (self.config.attempt >= SALVAGE_FROM && looks_like_a_record(begin)) {
            return Ok(());
        }
        let excerpt = String::from_utf8_lossy(&begin[..begin.len().min(EXCERPT_BYTES)]);
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        let excerpt: String = excerpt.chars().map(plain).collect();
        let reason = format!("the body is not a list of records but begins with `{excerpt}`");
        Err(retry(reason))
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), Failure> {
        match item {
            Item::Record(record) => self.record(record),
            Item::Recovered(record) => {
                self.doubtful = true;
                self.record(record)
            }
            Item::Bad { bytes: [], .. } => Ok(()),
            Item::Bad {
                bytes,
                offset,
                reason,
            } => self.bad(bytes, &format!("{reason}, at byte {offset}")),
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), Failure> {
        let arrived = self.split.created;
        // Bodies that were overwritten in part hold two halves of two records that look like one,
        // and behind it pieces that look like records: from the first damage on, only what has
        // all that a record must have is one.
        let control = has_control_bytes(record);
        if (control || self.doubtful) && !looks_like_a_record(record) {
            return self.bad(record, "a fragment of a damaged record");
        }
        if control && self.pass != Pass::Salvage {
            return self.bad(record, "control bytes that JSON does not allow");
        }
        if self.pass == Pass::Probe {
            self.scratch.clear();
            let mapped = self.mapper.map(record, arrived, &mut self.scratch);
            return mapped.map_or_else(|reason| self.bad(record, &reason), |_| Ok(()));
        }
        // Kept all the same: where it came from is a question for people.
        if is_foreign(record, &self.organization, &self.config.tenant.directory_id) {
            self.foreign_tenant += 1;
        }
        match self.batcher.map(&mut self.mapper, record, arrived)? {
            Ok(()) => Ok(()),
            Err(reason) => self.bad(record, &reason),
        }
    }

    /// Notes what is no record, and sets it aside when it is certain that it stays so.
    fn bad(&mut self, bytes: &[u8], reason: &str) -> Result<(), Failure> {
        self.doubtful = true;
        if self.pass == Pass::Salvage {
            let reason = format!("{reason}; blob `{}`", self.split.id);
            return self.batcher.reject(bytes, &reason);
        }
        self.damage.get_or_insert_with(|| reason.to_owned());
        Ok(())
    }

    fn report(&self, stream: &str) {
        self.log
            .count("records_read", self.batcher.events + self.batcher.rejected);
        if self.batcher.rejected > 0 {
            self.log.count("records_rejected", self.batcher.rejected);
            let rejected = self.batcher.rejected.to_string();
            let fields = [
                ("stream", stream),
                ("blob", &self.split.id),
                ("records", &rejected),
            ];
            self.log.line(
                Level::Warn,
                "records that could not be mapped were set aside",
                &fields,
            );
        }
        if self.foreign_tenant > 0 {
            let records = self.foreign_tenant.to_string();
            self.log.count("tenant_mismatch", self.foreign_tenant);
            let fields = [
                ("stream", stream),
                ("tenant", &*self.config.tenant.id),
                ("blob", &self.split.id),
                ("records", &records),
            ];
            self.log
                .line(Level::Warn, "records name another organization", &fields);
        }
    }
}

/// Whether there are bytes that JSON allows nowhere. Without a branch, so that it is vectorised.
fn has_control_bytes(record: &[u8]) -> bool {
    let odd = |byte: u8| {
        let blank = u8::from(byte == b'\n') | u8::from(byte == b'\r') | u8::from(byte == b'\t');
        u8::from(byte < 0x20) & !blank
    };
    record.iter().fold(0, |found, byte| found | odd(*byte)) != 0
}

fn looks_like_a_record(bytes: &[u8]) -> bool {
    [&b"\"Id\""[..], b"\"CreationTime\"", b"\"RecordType\""]
        .iter()
        .all(|member| memmem::find(bytes, member).is_some())
}

/// Whether a record names another organization, and never the tenant's own.
fn is_foreign(record: &[u8], finder: &memmem::Finder<'_>, directory_id: &str) -> bool {
    let mut named = false;
    for found in finder.find_iter(record) {
        let rest = &record[found + finder.needle().len()..];
        let quoted = rest
            .iter()
            .position(|byte| !matches!(byte, b' ' | b':' | b'\t' | b'\n'));
        let value = quoted.map_or(&[][..], |start| &rest[start..]);
        let Some(value) = value.strip_prefix(b"\"") else {
            continue;
        };
        let value = &value[..value.len().min(directory_id.len())];
        if value.eq_ignore_ascii_case(directory_id.as_bytes()) {
            return false;
        }
        named = true;
    }
    named
}

fn transport(broken: Broken) -> Failure {
    match broken {
        Broken::Denied(_) => Failure::Misconfigured(broken.to_string()),
        Broken::Transport(reason) => retry(reason),
    }
}

fn retry(reason: impl std::fmt::Display) -> Failure {
    Failure::Retry {
        after_ms: None,
        affects: Scope::Split,
        reason: format!("content blob: {reason}"),
    }
}

#[cfg(test)]
mod tests;
