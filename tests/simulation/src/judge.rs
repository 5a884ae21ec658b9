//! The last word on a run: what stands in the sinks against what the service has issued.

use std::sync::Arc;

use serde::Deserialize;
use sluicegate::ledger::{Ledger, Loss};
use sluicegate_office::{Fault, Verdict};

use crate::coverage::Point;
use crate::oracle::read;
use crate::plan::{Plan, Trouble};
use crate::world::World;

/// Tenant and id of an event.
type Pair = (String, String);

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

fn pair(line: &[u8]) -> Result<Pair, serde_json::Error> {
    let line: Line = serde_json::from_slice(line)?;
    Ok((
        line.organization.id.into_owned(),
        line.event.id.into_owned(),
    ))
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
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
fn refused(world: &World) -> Vec<Pair> {
    let file = read(&world.letters_file());
    let letters = lines(&file).filter_map(|line| serde_json::from_slice::<Letter>(line).ok());
    letters
        .filter(|letter| letter.by == "sink documents")
        .filter_map(|letter| pair(letter.body.get().as_bytes()).ok())
        .collect()
}

/// What the store holds or has refused.
fn in_store(world: &World) -> Vec<Pair> {
    let documents = world.documents();
    let held = documents
        .values()
        .map(|held| (held.tenant.clone(), held.event.clone()));
    held.chain(refused(world)).collect()
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
    let excused = excuses(world, &ledger.losses(1).await.unwrap_or_default());
    let complete = |pairs: &[Pair]| verdict(world, pairs).missing == 0 || excused;
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
    let losses = ledger.losses(10_000).await.unwrap_or_default();
    let excused = excuses(world, &losses);
    let mut lost = sentence(world, "file", &verdict(world, &file), excused);
    if world.plan.documents {
        let verdict = verdict(world, &in_store(world));
        lost |= sentence(world, "documents", &verdict, excused);
        check_copies(world);
    }
    // What was never begun is not declared: the collector has promised nothing of it yet.
    if lost && losses.is_empty() && witness.has_begun() {
        witness.broken("I2", "content expired unread, and no loss is declared");
    }
    if !lost && !losses.is_empty() && !may_lose(&world.plan) {
        let first = &losses[0];
        witness.broken(
            "I2",
            format!("a loss is declared of what could be had: {first:?}"),
        );
    }
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

/// What of the service's doings makes content unreadable for good, or look so.
fn may_lose(plan: &Plan) -> bool {
    plan.has(Trouble::Absence) || plan.has(Trouble::Unsubscribed)
}

/// What was read once, and expired before it was delivered, is declared and cannot come any more.
fn excuses(world: &World, losses: &[Loss]) -> bool {
    world.plan.has(Trouble::Absence) && !losses.is_empty()
}

fn sentence(world: &World, sink: &str, verdict: &Verdict, excused: bool) -> bool {
    let witness = &world.witness;
    if verdict.missing > 0 && !excused {
        let (missing, owed) = (verdict.missing, verdict.owed);
        let samples = &verdict.missing_samples;
        witness.broken(
            "I1",
            format!("{sink}: {missing} of {owed} events are missing: {samples:?}"),
        );
    }
    if verdict.duplicated > 0 {
        witness.broken("I3", format!("{sink}: {:?}", verdict.odd_samples));
    }
    if verdict.invented > 0 {
        witness.broken("I4", format!("{sink}: {:?}", verdict.odd_samples));
    }
    verdict.lost > 0 || verdict.missing > 0
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
