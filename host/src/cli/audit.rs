//! `sluicegate audit`: lists everything again and proves from the ledger that it was delivered.
//!
//! The real component lists, with a state that is thrown away; the ledger is only read. So a running collector is not
//! disturbed, and what it believes of itself is not what is asked.

mod events;
mod listing;
mod verdict;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::Done;
use super::people::{loss_json, loss_line, quarantine_line, span, split_json, table};
use super::time_range::{self, Point, TimeRange};
use crate::config::Config;
use crate::engine::rfc3339;
use crate::error::{Error, Kind};
use crate::event::StreamKey;
use crate::ledger::sqlite::view::{DayCount, LedgerView};
use crate::ledger::{DAY_MS, Loss};
use crate::pipeline::{Prepared, prepare};
use crate::plugin::PluginSource;
use crate::secret::Redactor;
use crate::source::{Source as _, Stream};
use listing::Listed;
use verdict::Verdict;

/// Streams listed at the same time; each lists several windows at once already.
const SIDE_BY_SIDE: usize = 8;

/// Splits and losses that are named one by one for each stream and kind; JSON names all.
const NAMED: usize = 20;

/// Most losses of a stream; more say nothing new.
const LOSSES: usize = 10_000;

/// Exit code when something that should have been delivered was not.
const DIFFERENT: u8 = 1;

/// List everything again and prove that it was delivered; works beside a running collector and needs its secrets.
///
/// Each split (content blob) that the service lists has to stand in the ledger. A difference is one that does not,
/// although the collector says that it has listed everything up to then; and a delivered event whose identity is no
/// longer remembered. Told apart and no difference: pending (found and not delivered yet, or newer than the
/// collector's last listing), quarantined, and declared losses.
///
/// Content that is published late counts as a difference until the collector has listed its window again, a day
/// later at most: `--since 7d --until 1d` leaves that day out.
///
/// Exits 0 without a difference, 1 with one, 75 when a stream could not be listed.
#[derive(Args)]
pub(super) struct Audit {
    /// The pipeline file.
    file: PathBuf,
    /// From when: `2026-05-02T10:00:00Z`, `2026-05-02` or a span back from now; Microsoft keeps seven days.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: Point,
    /// Until when; now when it is left out.
    #[arg(long, value_name = "TIME")]
    until: Option<Point>,
    /// Only this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Also read every delivered split again and prove each of its events; as many requests as there are splits.
    #[arg(long)]
    events: bool,
    /// As one JSON object, which names everything.
    #[arg(long)]
    json: bool,
}

/// A stream and who lists it.
struct Subject {
    key: StreamKey,
    stream: Stream,
    source: Arc<PluginSource>,
}

/// What came of one stream.
struct Audited {
    key: StreamKey,
    /// Why it could not be listed.
    failed: Option<String>,
    verdict: Verdict,
    losses: Vec<Loss>,
    events: Option<events::Proof>,
}

/// What came of it all.
struct Report {
    range: TimeRange,
    now_ms: i64,
    streams: Vec<Audited>,
    /// Days of which identities are missing.
    days: Vec<DayCount>,
}

impl Audit {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let mut config = Config::load(&self.file)?;
        let runtime = super::runtime(redactor).map_err(wrong)?;
        let now_ms = runtime.clock.now_ms();
        let range = TimeRange::new(self.since, self.until, now_ms).map_err(wrong)?;
        let range = range.kept(now_ms).map_err(wrong)?;
        // Asked first: without a ledger there is nothing to prove, and no reason to sign in.
        drop(LedgerView::open(&config.state_dir).map_err(wrong)?);
        if time_range::is_known(&config, &runtime)
            .await
            .map_err(wrong)?
        {
            range.narrow(&mut config);
        }
        let (folder, horizon) = (config.state_dir.clone(), config.identity_horizon);
        let name = config.name.clone();
        let prepared = prepare(config, &runtime).await?;
        let listed = self.list(&prepared, range).await.map_err(wrong)?;
        // Looked at after the listing: what was delivered meanwhile is delivered.
        let view = LedgerView::open(&folder).map_err(wrong)?;
        let mut report = compare(&view, listed, range, now_ms).map_err(wrong)?;
        if self.events {
            let prover = events::Prover::new(view, horizon, now_ms).map_err(wrong)?;
            for (audited, subject, splits) in &mut report.1 {
                let proof = prover.prove(subject, splits, &audited.verdict).await;
                audited.events = Some(proof.map_err(wrong)?);
            }
        }
        let report = Report {
            streams: report.1.into_iter().map(|(audited, ..)| audited).collect(),
            days: report.0,
            range,
            now_ms,
        };
        if self.json {
            println!("{:#}", report.json(&name));
        } else {
            report.print(&name);
        }
        Ok(report.code())
    }

    /// Lists every stream, several side by side.
    async fn list(
        &self,
        prepared: &Prepared,
        range: TimeRange,
    ) -> Result<Vec<(Subject, Result<Listed, String>)>, Error> {
        let mut subjects = Vec::new();
        for (tenant, source) in prepared.tenants() {
            if self
                .tenant
                .as_ref()
                .is_some_and(|wanted| *wanted != *tenant.id)
            {
                continue;
            }
            let streams = source.streams().await.map_err(|failure| {
                Error::config(failure.to_string()).at(format!("tenant `{}`", tenant.id))
            })?;
            subjects.extend(streams.into_iter().map(|stream| Subject {
                key: StreamKey::new(&tenant.id, &stream.name),
                stream,
                source: source.clone(),
            }));
        }
        if subjects.is_empty() {
            let what = "no tenant of the pipeline is meant".to_owned();
            return Err(Error::new(Kind::Usage, what)
                .at(prepared.file())
                .help("check `--tenant`; it is the `id` under `tenants`"));
        }
        let listings = futures::stream::iter(subjects).map(|subject| async {
            let listed = listing::list(subject.source.as_ref(), &subject.stream, range).await;
            (subject, listed.map_err(|failure| failure.to_string()))
        });
        Ok(listings.buffered(SIDE_BY_SIDE).collect().await)
    }
}

type Compared = (Vec<DayCount>, Vec<(Audited, Subject, Listed)>);

/// Holds what was listed against one moment of the ledger.
fn compare(
    view: &LedgerView,
    listed: Vec<(Subject, Result<Listed, String>)>,
    range: TimeRange,
    now_ms: i64,
) -> Result<Compared, Error> {
    view.hold()?;
    let borders = (range.since_ms, range.until_ms);
    let mut audited = Vec::new();
    for (subject, listed) in listed {
        let key = subject.key.clone();
        let status = view.status(&key)?;
        let mut rows = view.splits(&key, borders)?;
        let (listed, failed) = match listed {
            Ok(listed) => (listed, None),
            Err(reason) => (Listed::default(), Some(reason)),
        };
        for id in listed.keys() {
            // An origin may date a split anew.
            if !rows.contains_key(id)
                && let Some(row) = view.split(&key, id)?
            {
                rows.insert(id.clone(), row);
            }
        }
        let verdict = Verdict::of(&listed, rows, status.watermark_ms);
        let losses = view.losses(&key, borders, LOSSES)?;
        let one = Audited {
            key,
            failed,
            verdict,
            losses,
            events: None,
        };
        audited.push((one, subject, listed));
    }
    let counts = view.identity_counts()?;
    let touches = |day: &DayCount| {
        day.start_ms + DAY_MS > range.since_ms
            && day.start_ms <= now_ms
            && day.found < day.remembered
    };
    Ok((counts.into_iter().filter(touches).collect(), audited))
}

impl Report {
    /// Splits and events that should have been delivered and are not known to be.
    fn differences(&self) -> u64 {
        let splits: usize = self
            .streams
            .iter()
            .map(|audited| audited.verdict.missing.len())
            .sum();
        let days = self.days.iter().map(|day| day.remembered - day.found);
        let forgotten = usize::try_from(days.sum::<i64>()).unwrap_or(0);
        let proofs = self.streams.iter().filter_map(|audited| {
            let proof = audited.events.as_ref()?;
            Some(
                proof
                    .missing
                    .iter()
                    .map(|missing| (&audited.key.tenant, missing.event())),
            )
        });
        // An event can stand in several splits; and one that is named was counted among the forgotten, too.
        let events: BTreeSet<_> = proofs.flatten().collect();
        (splits + events.len().max(forgotten)) as u64
    }

    fn incomplete(&self) -> bool {
        let unread = |audited: &Audited| {
            let unread = audited
                .events
                .as_ref()
                .is_some_and(|proof| !proof.unread.is_empty());
            audited.failed.is_some() || unread
        };
        self.streams.iter().any(unread)
    }

    fn code(&self) -> u8 {
        match (self.differences(), self.incomplete()) {
            (0, false) => 0,
            (0, true) => Kind::Temporary.code(),
            _ => DIFFERENT,
        }
    }

    fn print(&self, name: &str) {
        let (since, until) = self.range.borders();
        println!("{name}: what became available from {since} to {until}");
        let head = [
            "TENANT",
            "STREAM",
            "LISTED",
            "DELIVERED",
            "PENDING",
            "QUARANTINED",
            "LOST",
            "MISSING",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for Audited { key, verdict, .. } in &self.streams {
            let lengths = [
                verdict.listed,
                verdict.delivered,
                verdict.pending.len() + verdict.unlisted.len(),
                verdict.quarantined.len(),
                verdict.lost.len(),
                verdict.missing.len(),
            ];
            let cells = lengths.iter().map(ToString::to_string);
            let names = [key.tenant.to_string(), key.stream.to_string()];
            rows.push(names.into_iter().chain(cells).collect());
        }
        print!("{}", table(&rows));
        for audited in &self.streams {
            self.print_stream(audited);
        }
        for day in &self.days {
            println!(
                "difference: {} of {} delivered events of {} are no longer remembered",
                day.remembered - day.found,
                day.remembered,
                &rfc3339(day.start_ms)[..10],
            );
        }
        let incomplete = if self.incomplete() {
            "; not everything could be looked at"
        } else {
            ""
        };
        println!("{} difference(s){incomplete}", self.differences());
    }

    fn print_stream(&self, audited: &Audited) {
        let Audited { key, verdict, .. } = audited;
        if let Some(reason) = &audited.failed {
            println!("{key}: could not be listed: {reason}");
        }
        let many = |count: usize, kind: &str| {
            if count > NAMED {
                println!(
                    "{key}: and {} more {kind}; `--json` names them",
                    count - NAMED
                );
            }
        };
        for split in verdict.missing.iter().take(NAMED) {
            let created = rfc3339(split.created_ms);
            println!(
                "{key}: difference: split {}, created {created}, is listed and not in the ledger",
                split.id
            );
        }
        many(verdict.missing.len(), "differences");
        for row in verdict.pending.iter().take(NAMED) {
            let age = span(self.now_ms - row.created_ms);
            println!("{key}: pending: split {}, available for {age}", row.key.id);
        }
        many(verdict.pending.len(), "pending");
        for split in verdict.unlisted.iter().take(NAMED) {
            let age = span(self.now_ms - split.created_ms);
            println!(
                "{key}: pending: split {}, available for {age}, newer than the last listing",
                split.id
            );
        }
        many(
            verdict.unlisted.len(),
            "that are newer than the last listing",
        );
        for row in verdict.quarantined.iter().take(NAMED) {
            println!(
                "{key}: quarantined: split {}",
                quarantine_line(row, self.now_ms)
            );
        }
        many(verdict.quarantined.len(), "in quarantine");
        for loss in audited.losses.iter().take(NAMED) {
            println!("{key}: declared loss: {}", loss_line(loss));
        }
        many(audited.losses.len(), "declared losses");
        if let Some(proof) = &audited.events {
            proof.print(key, NAMED);
        }
    }

    fn json(&self, name: &str) -> Value {
        let (since, until) = self.range.borders();
        let days = self.days.iter().map(|day| {
            json!({
                "day": rfc3339(day.start_ms)[..10],
                "remembered": day.remembered,
                "found": day.found,
                "missing": day.remembered - day.found,
            })
        });
        json!({
            "pipeline": name,
            "since": since,
            "until": until,
            "differences": self.differences(),
            "complete": !self.incomplete(),
            "streams": self.streams.iter().map(stream_json).collect::<Vec<_>>(),
            "forgotten_identities": days.collect::<Vec<_>>(),
        })
    }
}

fn stream_json(audited: &Audited) -> Value {
    let Audited { key, verdict, .. } = audited;
    let listed = |splits: &[verdict::Found]| {
        let split = |found: &verdict::Found| json!({ "split": found.id, "created": rfc3339(found.created_ms) });
        splits.iter().map(split).collect::<Vec<_>>()
    };
    let rows = |rows: &[_]| rows.iter().map(split_json).collect::<Vec<_>>();
    json!({
        "tenant": &*key.tenant,
        "stream": &*key.stream,
        "failed": audited.failed,
        "listed": verdict.listed,
        "delivered": verdict.delivered,
        "missing": listed(&verdict.missing),
        "pending": rows(&verdict.pending),
        "newer_than_last_listing": listed(&verdict.unlisted),
        "quarantined": rows(&verdict.quarantined),
        "lost": rows(&verdict.lost),
        "losses": audited.losses.iter().map(loss_json).collect::<Vec<_>>(),
        "events": audited.events.as_ref().map(events::Proof::json),
    })
}
