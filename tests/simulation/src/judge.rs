//! The last word on a run: what stands in the sinks against what the service has issued.

use std::sync::Arc;

use serde::Deserialize;
use sluicegate::event::StreamKey;
use sluicegate::ledger::{Ledger, Loss};
use sluicegate_office::{Absent, DAY_MS, Fault, Verdict};

use crate::bodies;
use crate::coverage::Point;
use crate::oracle::read;
use crate::plan::Trouble;
use crate::world::{HORIZON, World};

/// How long after its end a window stays open, as the simulated config says.
const SETTLE_MS: i64 = 5 * 60_000;

/// So many declared losses are looked at.
const MOST_LOSSES: usize = 10_000;

/// Tenant and id of an event.
pub type Pair = (String, String);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: Named<'a>,
    #[serde(borrow)]
    organization: Named<'a>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Letter<'a> {
    by: &'a str,
    #[serde(borrow)]
    body: &'a serde_json::value::RawValue,
}

/// Tenant and id of an event as it was written.
pub fn pair(line: &[u8]) -> Result<Pair, serde_json::Error> {
    let line: Line = serde_json::from_slice(line)?;
    Ok((
        line.organization.id.into_owned(),
        line.event.id.into_owned(),
    ))
}

/// The lines of a file.
pub fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// The events of the file; an error names what is no event.
fn in_file(world: &World) -> Result<Vec<Pair>, String> {
    let file = read(&world.events_file());
    let broken = |line: &[u8]| format!("not an event: {}", String::from_utf8_lossy(line));
    lines(&file)
        .map(|line| pair(line).map_err(|_| broken(line)))
        .collect()
}

/// What the document store refused for ever, as it stands among the dead letters.
pub fn refused(world: &World) -> Vec<(Pair, String)> {
    let file = read(&world.letters_file());
    let letters = lines(&file).filter_map(|line| serde_json::from_slice::<Letter>(line).ok());
    letters
        .filter(|letter| letter.by == "sink documents")
        .filter_map(|letter| {
            let body = letter.body.get();
            Some((pair(body.as_bytes()).ok()?, body.to_owned()))
        })
        .collect()
}

/// What the store holds or has refused.
fn in_store(world: &World) -> Vec<Pair> {
    let documents = world.documents();
    let held = documents
        .values()
        .map(|held| (held.tenant.clone(), held.event.clone()));
    let refused = refused(world).into_iter().map(|(pair, _)| pair);
    held.chain(refused).collect()
}

fn verdict(world: &World, pairs: &[Pair]) -> Verdict {
    let now_ms = world.clock.true_ms();
    let office = world.office();
    let pairs = pairs
        .iter()
        .map(|(tenant, id)| (tenant.as_str(), id.as_str()));
    office.oracle(now_ms).check(pairs)
}

/// Whether every sink has all that is owed, and nothing is under way.
pub async fn is_drained(world: &World, ledger: &Arc<dyn Ledger>) -> bool {
    for (_, backlog) in ledger.backlog().await.unwrap_or_default() {
        if backlog.pending > 0 {
            return false;
        }
    }
    let losses = ledger.losses(MOST_LOSSES).await.unwrap_or_default();
    let complete = |pairs: &[Pair]| {
        let absent = verdict(world, pairs).absent;
        absent
            .iter()
            .all(|blob| excuse(world, &losses, blob) == Some(true))
    };
    in_file(world).is_ok_and(|pairs| complete(&pairs))
        && (!world.plan.documents || complete(&in_store(world)))
}

/// Says what is wrong with what a run left behind.
pub async fn judge(world: &World, ledger: &dyn Ledger, log: &str) {
    let witness = &world.witness;
    let file = match in_file(world) {
        Ok(file) => file,
        Err(what) => {
            witness.broken("I4", format!("file: {what}"));
            Vec::new()
        }
    };
    let losses = ledger.losses(MOST_LOSSES).await.unwrap_or_default();
    if !losses.is_empty() {
        world.coverage.mark(Point::DeclaredLost);
    }
    sentence(world, "file", &verdict(world, &file), &losses);
    if world.plan.documents {
        sentence(
            world,
            "documents",
            &verdict(world, &in_store(world)),
            &losses,
        );
        check_copies(world);
    }
    bodies::check(world);
    check_manners(world);
    let letters = read(&world.letters_file());
    mark_letters(world, &letters);
    witness.search("the file", &read(&world.events_file()));
    witness.search("dead letters", &letters);
    witness.search("the log", log.as_bytes());
    for document in world.documents().values() {
        witness.search("a document", &document.body);
    }
}

/// Whether a blob of which something is absent could be had no more: whether that was declared, or need not be.
/// `None` when it can still be had.
fn excuse(world: &World, losses: &[Loss], blob: &Absent) -> Option<bool> {
    if !blob.expired {
        return None;
    }
    let stream = StreamKey::new(&blob.tenant, blob.kind.name());
    let covers = |loss: &Loss| {
        loss.stream == stream
            && match &loss.split {
                Some(split) => number(split) == Some(blob.number),
                None => (loss.since_ms..loss.until_ms).contains(&blob.created_ms),
            }
    };
    // What had expired before listing began is not owed, and nothing is while nobody is subscribed.
    let begun_ms = world.witness.begun_ms(&stream);
    // What appears behind a window that was listed already, and expires before it is listed again, nobody knows of.
    let late = blob.visible_ms - blob.created_ms > SETTLE_MS;
    let owed = !late
        && begun_ms.is_some_and(|begun_ms| begun_ms < blob.created_ms + 7 * DAY_MS)
        && !world.plan.has(Trouble::Unsubscribed);
    Some(!owed || losses.iter().any(covers))
}

/// When a blob was created, which the service knows.
pub fn created_ms(world: &World, stream: &StreamKey, content_id: &str) -> Option<i64> {
    let office = world.office();
    let oracle = office.oracle(world.clock.true_ms());
    oracle.created(&stream.tenant, &stream.stream, number(content_id)?)
}

/// The number of a blob, as it stands in its id.
fn number(content_id: &str) -> Option<u32> {
    content_id.split('$').nth(1)?.get(17..)?.parse().ok()
}

fn sentence(world: &World, sink: &str, verdict: &Verdict, losses: &[Loss]) {
    let witness = &world.witness;
    let with = |wanted| {
        let excuse = move |blob: &&Absent| excuse(world, losses, blob) == wanted;
        verdict.absent.iter().filter(excuse).collect::<Vec<_>>()
    };
    let (missing, silent) = (with(None), with(Some(false)));
    if let Some(first) = missing.first() {
        let (missing, owed) = (missing.len(), verdict.owed);
        let samples = &verdict.missing_samples;
        witness.broken(
            "I1",
            format!("{sink}: of {missing} blobs events are missing ({owed} owed): {first:?}, {samples:?}"),
        );
    }
    if let Some(first) = silent.first() {
        witness.broken(
            "I2",
            format!("{sink}: a blob expired unread, and no loss is declared: {first:?}"),
        );
    }
    // Identities are remembered for eight days. What the service publishes again while nobody is there for longer, a
    // sink without ids has twice.
    let forgotten = world.plan.away_ms > 8 * DAY_MS && world.plan.has_fault(Fault::CopyInNext);
    if verdict.duplicated > 0 && !forgotten {
        witness.broken("I3", format!("{sink}: {:?}", verdict.odd_samples));
    }
    if verdict.invented > 0 {
        witness.broken("I4", format!("{sink}: {:?}", verdict.odd_samples));
    }
}

/// Without a cause nothing comes twice.
fn check_copies(world: &World) {
    let plan = &world.plan;
    let causes = [Trouble::AcksLost, Trouble::LedgerLies];
    let stopped = [Trouble::Restarts, Trouble::Absence];
    let has = |troubles: &[Trouble]| troubles.iter().any(|trouble| plan.has(*trouble));
    if has(&causes) || !world.effects.crashes().is_empty() {
        return;
    }
    // A drain that ends before a slow sink has answered leaves something to be sent again.
    let slow = [
        Trouble::SinkDown,
        Trouble::SinkSlow,
        Trouble::SinkPartial,
        Trouble::LedgerErrors,
        Trouble::DiskFull,
    ];
    if has(&stopped) && has(&slow) {
        return;
    }
    // The service writes a copy of what it issued before identities are forgotten, as the design says when.
    let copies = [Fault::CopyInNext, Fault::ChangedCopy];
    let aged = i64::try_from(HORIZON.as_millis()).is_ok_and(|horizon| plan.away_ms > horizon);
    if aged && copies.iter().any(|fault| plan.has_fault(*fault)) {
        return;
    }
    for (id, document) in world.documents().iter() {
        if document.copies > 1 {
            let copies = document.copies;
            world.witness.broken(
                "I3",
                format!("document {id} came {copies} times, for no reason"),
            );
        }
    }
}

/// How the process behaved towards the service.
fn check_manners(world: &World) {
    let stats = world.office().stats().clone();
    let witness = &world.witness;
    if stats.leaked_tokens > 0 {
        witness.broken("I11", "a foreign host saw a token");
    }
    if stats.wide_windows > 0 {
        witness.broken("I9", "a window of more than 24 hours was asked for");
    }
    for (fault, point) in [
        (Fault::ListedTwice, Point::ListedTwice),
        (Fault::HtmlBody, Point::HtmlInsteadOfJson),
        (Fault::OddExpiry, Point::OddToken),
    ] {
        if stats.faults.contains_key(fault.name()) {
            world.coverage.mark(point);
        }
    }
    if stats.expired_tokens > 0 {
        world.coverage.mark(Point::TokenExpired);
    }
    for (fault, point) in [
        (Fault::CopyInBlob, Point::DuplicateRecord),
        (Fault::CopyInNext, Point::DuplicateRecord),
        (Fault::ChangedCopy, Point::ChangedRecord),
    ] {
        if world.plan.has_fault(fault) {
            world.coverage.mark(point);
        }
    }
    if world.plan.late_ms > 0 {
        world.coverage.mark(Point::LateBlob);
    }
}

fn mark_letters(world: &World, letters: &[u8]) {
    for line in lines(letters) {
        match serde_json::from_slice::<Letter>(line) {
            Ok(_) => world.coverage.mark(Point::DeadLetter),
            Err(error) => world
                .witness
                .broken("I1", format!("a dead letter is torn: {error}")),
        }
    }
}
