//! Reads one split (a content blob) to batches of events, decoded while it arrives.
//!
//! Memory does not depend on the blob's size. What arrives damaged is fetched again; only after
//! [`SALVAGE_FROM`] tries is a damaged blob taken apart, good records to events, the rest to the
//! dead letters. A blob that answers with anything but an array is not read as data.

use memchr::memmem;
use sluicegate_records::{Item, Splitter, Stop};

use crate::api::{self, Api, Payload};
use crate::batch::Batcher;
use crate::config::{self, Config, Use};
use crate::failure::Decision;
use crate::map::Mapper;
use crate::time::{DAY, HOUR, floor};
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
    let request = Api::new(&config).blob(&payload.uri).map_err(|foreign| {
        // The credential must never go there. The split stays, fails, and ends in quarantine,
        // where a person sees it.
        let fields = [("stream", stream), ("blob", &split.id)];
        world.log.line(
            Level::Error,
            "security: a content URL leads elsewhere",
            &fields,
        );
        world.log.count("foreign_urls", 1);
        retry(&foreign.0)
    })?;
    let mut response = match api::call(world.http, &request) {
        Ok(response) => response,
        Err(broken) => return Err(transport(broken)),
    };
    if response.status != 200 {
        let refused = api::refused(response, world.clock);
        if refused.decision != Decision::Missing {
            return Err(refused.failure("content blob", Scope::Split));
        }
        response = missing(world, &config, stream, split, &payload, &refused.reason)?;
    }
    let mut reader = Reader {
        batcher: Batcher::new(world.output, &limits),
        mapper: Mapper::new(&config.mapping),
        log: world.log,
        config: &config,
        split,
        event_bytes: limits.event_bytes as usize,
        organization: memmem::Finder::new(b"\"OrganizationId\""),
        foreign_tenant: 0,
    };
    let salvage = config.attempt >= SALVAGE_FROM;
    reader.blob(&mut *response.body, salvage)?;
    reader.report(stream);
    Ok(())
}

/// What to do about a blob that the service says is not there: try again for an hour, then look
/// whether it is still listed, and only when it is not, call it lost.
fn missing(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    split: &Split,
    payload: &Payload,
    reason: &str,
) -> Result<Response, Failure> {
    let now = world.clock.now();
    if split.expires.unwrap_or(split.created + 7 * DAY) <= now {
        return Err(Failure::SplitLost(format!("content blob: {reason}")));
    }
    if config.attempt < SALVAGE_FROM {
        let (after_ms, affects) = (Some(MISSING_RETRY_MS), Scope::Split);
        let reason = format!("content blob: {reason}");
        return Err(Failure::Retry {
            after_ms,
            affects,
            reason,
        });
    }
    // The hour it was first listed in: other borders could show it under another id.
    let start = floor(split.created, HOUR);
    let limits = Limits {
        batch_bytes: 0,
        batch_events: 0,
        event_bytes: 0,
        splits: u32::MAX,
        deadline: Timestamp::MAX,
    };
    let walked = walk(
        world,
        config,
        stream,
        &[(start, start + HOUR)],
        0,
        limits,
        None,
    );
    let Some(pass) = walked.passes.into_iter().next() else {
        return Err(retry(format!("{reason}; nor could its window be listed")));
    };
    let Some(listed) = pass.splits.into_iter().find(|listed| listed.id == split.id) else {
        return Err(Failure::SplitLost(format!(
            "content blob, no longer listed: {reason}"
        )));
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
    event_bytes: usize,
    /// Finds the member that names the tenant.
    organization: memmem::Finder<'static>,
    foreign_tenant: u64,
}

impl Reader<'_> {
    fn blob(&mut self, body: &mut dyn Body, salvage: bool) -> Result<(), Failure> {
        let limits = sluicegate_records::Limits {
            element_bytes: self.event_bytes,
            salvage,
        };
        let mut splitter = Splitter::new(limits);
        let mut head = Head::default();
        while let Some(chunk) = body.read().map_err(transport)? {
            head.check(&chunk, salvage)?;
            splitter
                .push(&chunk, |item| self.item(item))
                .map_err(stopped)?;
        }
        if !head.seen {
            return Err(retry("the body is empty"));
        }
        splitter.finish(|item| self.item(item)).map_err(stopped)?;
        self.batcher.finish()
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), Failure> {
        match item {
            Item::Record(record) => self.record(record),
            // Behind damage a fragment of a record looks like a record; a real one has all three.
            Item::Recovered(record) if looks_like_a_record(record) => self.record(record),
            Item::Recovered(bytes) => self.batcher.reject(bytes, "a fragment of a damaged record"),
            Item::Bad { bytes: [], .. } => Ok(()),
            Item::Bad {
                bytes,
                offset,
                reason,
            } => {
                let reason = format!("{reason}, at byte {offset} of blob `{}`", self.split.id);
                self.batcher.reject(bytes, &reason)
            }
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), Failure> {
        // Kept all the same: where it came from is a question for people.
        if is_foreign(record, &self.organization, &self.config.tenant.directory_id) {
            self.foreign_tenant += 1;
        }
        self.batcher
            .map(&mut self.mapper, record, self.split.created)
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

/// Checks that a body begins as an array does.
#[derive(Default)]
struct Head {
    seen: bool,
}

impl Head {
    fn check(&mut self, chunk: &[u8], salvage: bool) -> Result<(), Failure> {
        if self.seen {
            return Ok(());
        }
        let mark = |byte: &u8| matches!(byte, 0xEF | 0xBB | 0xBF) || byte.is_ascii_whitespace();
        let Some(start) = chunk.iter().position(|byte| !mark(byte)) else {
            return Ok(());
        };
        self.seen = true;
        let begin = &chunk[start..];
        if begin[0] == b'[' || (salvage && begin[0] == b'{' && looks_like_a_record(begin)) {
            return Ok(());
        }
        let excerpt = String::from_utf8_lossy(&begin[..begin.len().min(EXCERPT_BYTES)]);
        let excerpt: String = excerpt
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        Err(retry(format!(
            "the body is not a list of records but begins with `{excerpt}`"
        )))
    }
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

fn stopped(stop: Stop<Failure>) -> Failure {
    match stop {
        Stop::Malformed(malformed) => retry(format!("the body is damaged: {malformed}")),
        Stop::Caller(failure) => failure,
    }
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
