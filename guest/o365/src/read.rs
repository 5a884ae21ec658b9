//! Reads one split (a content blob) to batches of events, decoded while it arrives.
//!
//! Memory does not depend on the blob's size. What arrives damaged is fetched again; only after
//! [`SALVAGE_FROM`] tries is a damaged blob taken apart, good records to events, the rest to the
//! dead letters. A blob that answers with anything but an array is not read as data.

use sluicegate_records::{Item, Splitter, Stop};

use crate::api::{self, Api, Payload};
use crate::batch::Batcher;
use crate::config::{self, Config, Use};
use crate::failure::Decision;
use crate::map::Mapper;
use crate::world::{Body, Broken, Failure, Level, Limits, Log, Scope, Split, World};

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
        return Err(refused(world, &config, split, response));
    }
    let mut reader = Reader {
        batcher: Batcher::new(world.output, &limits),
        mapper: Mapper::new(&config.mapping),
        log: world.log,
        config: &config,
        split,
        event_bytes: limits.event_bytes as usize,
        body: Vec::new(),
        foreign_tenant: 0,
    };
    let salvage = config.attempt >= SALVAGE_FROM;
    reader.blob(&mut *response.body, salvage)?;
    reader.report(stream);
    Ok(())
}

fn refused(
    world: &World<'_>,
    config: &Config,
    split: &Split,
    response: crate::world::Response,
) -> Failure {
    let refused = api::refused(response, world.clock);
    let expired = split
        .expires
        .is_some_and(|expires| expires <= world.clock.now());
    if refused.decision == Decision::Missing {
        if expired {
            return Failure::SplitLost(format!("content blob: {}", refused.reason));
        }
        let after_ms = (config.attempt < SALVAGE_FROM).then_some(MISSING_RETRY_MS);
        let reason = format!("content blob: {}", refused.reason);
        return Failure::Retry {
            after_ms,
            affects: Scope::Split,
            reason,
        };
    }
    refused.failure("content blob", Scope::Split)
}

struct Reader<'a> {
    batcher: Batcher<'a>,
    mapper: Mapper,
    log: &'a dyn Log,
    config: &'a Config,
    split: &'a Split,
    event_bytes: usize,
    /// The event that is being written; kept for its memory.
    body: Vec<u8>,
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
        self.body.clear();
        let mapped = match self.mapper.map(record, self.split.created, &mut self.body) {
            Ok(mapped) => mapped,
            Err(reason) => return self.batcher.reject(record, &reason),
        };
        if self.body.len() > self.event_bytes {
            let reason = format!(
                "its event has {} bytes; the limit is {}",
                self.body.len(),
                self.event_bytes
            );
            return self.batcher.reject(record, &reason);
        }
        let id = self.mapper.id();
        self.batcher
            .add(id, &self.body, mapped.fingerprint, mapped.time)
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
        .all(|member| bytes.windows(member.len()).any(|window| window == *member))
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
