//! Every row of the tables of refusals: what comes in, what is decided, and that it is so, seen from outside.
//!
//! A tenant for each row, all in one run of the real command against one office. In each only `Audit.Exchange` meets
//! the row's trouble; `Audit.SharePoint` of the same tenant shows whether the trouble stays where it belongs. What
//! came of it is read from the file, from `sluicegate state`, from the log, and from what the office was asked.

mod api;
mod signin;
mod subscriptions;

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_office::{Builder, ContentType, Office, Operation, Script, Tenant};
use sluicegate_tests::{Delivered, Pipeline, Running, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

/// Of both content types of a tenant: enough for a second page, few enough for a hundred tenants.
const BLOBS: u64 = 8;
const EVENTS: u64 = 2;
/// What one of the two types comes to.
const OF_ONE: u64 = BLOBS / 2 * EVENTS;

const VICTIM: ContentType = ContentType::Exchange;
const BYSTANDER: ContentType = ContentType::SharePoint;

/// What must come of a row.
enum Comes {
    /// Everything, without anybody doing anything.
    Delivered,
    /// Nothing of the type, which cannot be listed; the state says of what kind and why.
    TypeWaits(&'static str, &'static [&'static str]),
    /// The type was listed and is not read; the log says why. No blob is given up or set aside for it.
    BlobsWait(&'static [&'static str]),
    /// Each blob waits for itself, for a quarter of an hour at least.
    Postponed,
    /// Each blob is set aside, for this reason, and nothing is given up.
    SetAside(&'static [&'static str]),
    /// Each blob is a declared loss, for this reason.
    Lost(&'static [&'static str]),
    /// Nothing of the whole tenant; the state says of what kind and why, for both types.
    TenantWaits(&'static str, &'static [&'static str]),
}

use Comes::{BlobsWait, Delivered as Arrives, Lost, Postponed, SetAside, TenantWaits, TypeWaits};

/// One row of a table.
struct Row {
    /// What the service says, or does.
    input: &'static str,
    /// What is decided, in words.
    decision: &'static str,
    comes: Comes,
    scripts: Vec<Script>,
    change: fn(&mut Tenant),
    /// How often the first script's operation may be asked for.
    asked: RangeInclusive<u32>,
    /// How often the type's subscription may be started.
    starts: RangeInclusive<u32>,
    /// What the log never says of the tenant.
    unsaid: Option<&'static str>,
    /// What the tenant's part of the pipeline says instead.
    rewrite: Option<(String, String)>,
}

fn row(input: &'static str, decision: &'static str, comes: Comes) -> Row {
    Row {
        input,
        decision,
        comes,
        scripts: Vec::new(),
        change: |_| {},
        asked: 0..=u32::MAX,
        starts: 0..=1,
        unsaid: None,
        rewrite: None,
    }
}

impl Row {
    /// The service says so.
    fn on(mut self, script: Script) -> Self {
        self.scripts.push(script);
        self
    }

    fn changed(mut self, change: fn(&mut Tenant)) -> Self {
        self.change = change;
        self
    }

    fn asked(mut self, times: RangeInclusive<u32>) -> Self {
        self.asked = times;
        self
    }

    fn starts(mut self, times: RangeInclusive<u32>) -> Self {
        self.starts = times;
        self
    }

    fn unsaid(mut self, word: &'static str) -> Self {
        self.unsaid = Some(word);
        self
    }

    fn rewrite(mut self, from: &str, to: &str) -> Self {
        self.rewrite = Some((from.into(), to.into()));
        self
    }
}

/// An answer to an operation on the type that meets the trouble.
fn says(operation: Operation, status: u16, body: &str) -> Script {
    let script = Script::says(operation, status, body.to_owned());
    match operation {
        // These are about no content type.
        Operation::Token | Operation::Subscriptions => script,
        _ => script.content_type(VICTIM),
    }
}

/// An error of the regular shape.
fn error(operation: Operation, status: u16, code: &str) -> Script {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"said by the test"}}}}"#);
    says(operation, status, &body)
}

/// One run with a tenant for each row.
struct Run {
    office: Simulated,
    folder: TempDir,
    rows: Vec<Row>,
    /// Of each row: its first script, and what counts its starts.
    scripts: Vec<(Option<usize>, usize)>,
    names: Vec<String>,
    begun: Instant,
}

/// What is known of a run, now or at its end.
struct Seen {
    state: Value,
    delivered: Delivered,
    log: Option<String>,
}

impl Run {
    fn new(seed: u64, rows: Vec<Row>) -> Self {
        Self::with(Office::builder(seed), rows)
    }

    fn with(builder: Builder, rows: Vec<Row>) -> Self {
        assert!(
            rows.len() < 100,
            "names of tenants would be parts of others"
        );
        let builder = builder
            .tenants(u16::try_from(rows.len()).unwrap())
            .content_types(&[VICTIM, BYSTANDER])
            .blobs(u32::try_from(BLOBS).unwrap())
            .events_per_blob(u32::try_from(EVENTS).unwrap())
            .span(Duration::from_mins(100))
            .page_size(1);
        let office = Simulated::start(builder);
        let mut scripts = Vec::new();
        office.change(|office| {
            for (index, row) in rows.iter().enumerate() {
                (row.change)(office.tenant_mut(index));
                // Plays nothing that matters; it counts.
                let count = Script::plays(Operation::Start, sluicegate_office::Fault::Close)
                    .content_type(VICTIM)
                    .tenant(index)
                    .times(0);
                let count = office.follow(count);
                let own = row
                    .scripts
                    .iter()
                    .map(|script| script.clone().tenant(index));
                let own: Vec<_> = own.map(|script| office.follow(script)).collect();
                scripts.push((own.first().copied(), count));
            }
        });
        let names = office.tenants(|tenant| tenant.name.clone());
        Self {
            office,
            folder: folder(),
            rows,
            scripts,
            names,
            begun: Instant::now(),
        }
    }

    fn start(&self) -> Running {
        let config = "content_types: [Audit.Exchange, Audit.SharePoint], lookback: 3h";
        let pipeline = Pipeline::o365("rows", &self.office)
            .config(config)
            .section("drain_timeout: 1s");
        let command = pipeline.give(sluicegate(&self.folder).args("run"));
        let mut text = pipeline.text();
        for (row, name) in self.rows.iter().zip(&self.names) {
            let Some((from, to)) = &row.rewrite else {
                continue;
            };
            let begin = text.find(&format!("    - id: {name}\n")).unwrap();
            let end = text[begin + 1..]
                .find("    - id: ")
                .map_or(text.len(), |at| begin + 1 + at);
            let block = text[begin..end].replace(from, to);
            assert!(block.contains(to), "{block}");
            text.replace_range(begin..end, &block);
        }
        std::fs::write(self.folder.path().join("rows.yaml"), text).unwrap();
        command.start()
    }

    fn look(&self) -> Option<Seen> {
        let file = self.folder.path().join("rows.ndjson");
        let known = self.folder.path().join("state/rows/ledger.db").is_file();
        let state = known.then(|| {
            sluicegate(&self.folder)
                .args("state --json rows.yaml")
                .run()
        })?;
        Some(Seen {
            state: serde_json::from_slice(&state.stdout).ok()?,
            delivered: Delivered::so_far(&file),
            log: None,
        })
    }

    /// Runs until every row is as it should be, for four minutes at most, and asks again at the end.
    fn check(mut self) {
        let running = self.start();
        self.begun = Instant::now();
        loop {
            assert!(
                !running.ends_within(Duration::from_millis(700)),
                "the run has ended"
            );
            let seen = self.look();
            if seen.is_some_and(|seen| self.wrong(&seen).is_empty()) {
                break;
            }
            if self.begun.elapsed() > Duration::from_mins(4) {
                break;
            }
        }
        running.signal("TERM");
        let ended = running.end();
        let mut seen = self.look().expect("there is a ledger");
        seen.log = Some(ended.stderr.clone());
        let mut wrong = String::new();
        for (index, why) in self.wrong(&seen) {
            let row = &self.rows[index];
            let heard = self.heard(index);
            let _ = writeln!(
                wrong,
                "{}: {}\n    {why}; asked {heard:?}",
                row.input, row.decision
            );
            for line in ended
                .stderr
                .lines()
                .filter(|line| line.contains(&self.names[index]))
            {
                let _ = writeln!(wrong, "    {line}");
            }
        }
        assert!(wrong.is_empty(), "not as decided:\n{wrong}");
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    /// How often the first script's operation was asked for, and how often the type was started.
    fn heard(&self, index: usize) -> (u32, u32) {
        let (script, starts) = self.scripts[index];
        self.office.change(|office| {
            let heard = script.map_or(0, |script| office.heard(script));
            (heard, office.heard(starts))
        })
    }

    fn wrong(&self, seen: &Seen) -> Vec<(usize, String)> {
        let rows = self.rows.iter().enumerate();
        let wrong = |(index, row)| Some((index, self.wrong_of(index, row, seen).err()?));
        rows.filter_map(wrong).collect()
    }

    fn wrong_of(&self, index: usize, row: &Row, seen: &Seen) -> Result<(), String> {
        let (heard, starts) = self.heard(index);
        // What is asked once is asked again after a minute, by both types; a slow machine needs minutes.
        let minutes = u32::try_from(self.begun.elapsed().as_secs() / 60).unwrap_or(u32::MAX);
        let most = row.asked.end().saturating_add(2 * minutes);
        need((*row.asked.start()..=most).contains(&heard), || {
            format!("asked {heard} times")
        })?;
        need(row.starts.contains(&starts), || {
            format!("started {starts} times")
        })?;
        let (victim, other) = (
            self.stream(seen, index, VICTIM),
            self.stream(seen, index, BYSTANDER),
        );
        let verdict = self.office.judge_tenant(index, &seen.delivered);
        need(verdict.duplicated + verdict.invented == 0, || {
            format!("{verdict:?}")
        })?;
        if let (Some(log), Some(word)) = (&seen.log, row.unsaid) {
            let own = |line: &&str| line.contains(&self.names[index]) && line.contains(word);
            need(log.lines().find(own).is_none(), || {
                format!("the log says {word}")
            })?;
        }
        if let TenantWaits(kind, words) = &row.comes {
            need(verdict.delivered == 0, || format!("{verdict:?}"))?;
            return [victim, other]
                .iter()
                .try_for_each(|of| of.waits(kind, words));
        }
        other.is_delivered()?;
        match &row.comes {
            Arrives => victim.is_delivered(),
            TypeWaits(kind, words) => victim.waits(kind, words),
            BlobsWait(words) => {
                victim.holds("/backlog/discovered", BLOBS / 2)?;
                victim.holds("/lost", 0)?;
                let Some(log) = &seen.log else { return Ok(()) };
                let name = &self.names[index];
                let said = log.lines().any(|line| {
                    let own = line.contains(name.as_str()) && line.contains(VICTIM.name());
                    own && words.iter().all(|word| line.contains(word))
                });
                need(said, || format!("the log does not say {words:?}"))
            }
            Postponed => {
                victim.holds("/backlog/discovered", BLOBS / 2)?;
                victim.holds("/quarantined", 0)?;
                victim.holds("/lost", 0)
            }
            SetAside(words) => {
                victim.holds("/quarantined", BLOBS / 2)?;
                victim.holds("/lost", 0)?;
                victim.says("quarantine", words)
            }
            Lost(words) => {
                victim.holds("/lost", BLOBS / 2)?;
                victim.holds("/quarantined", 0)?;
                victim.says("losses", words)
            }
            TenantWaits(..) => Ok(()),
        }
    }

    fn stream(&self, seen: &Seen, index: usize, kind: ContentType) -> Shown {
        let streams = seen.state["streams"].as_array().into_iter().flatten();
        let mut own =
            streams.filter(|of| of["tenant"] == *self.names[index] && of["stream"] == kind.name());
        Shown(own.next().cloned().unwrap_or_default())
    }
}

fn need(so: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if so { Ok(()) } else { Err(why()) }
}

/// A stream as `sluicegate state` shows it.
struct Shown(Value);

impl Shown {
    fn holds(&self, pointer: &str, number: u64) -> Result<(), String> {
        let found = self.0.pointer(pointer).and_then(Value::as_u64);
        need(found == Some(number), || {
            format!("{pointer} is {found:?}, not {number}")
        })
    }

    fn is_delivered(&self) -> Result<(), String> {
        self.holds("/events/delivered", OF_ONE)?;
        self.holds("/lost", 0)?;
        self.holds("/quarantined", 0)?;
        let trouble = &self.0["trouble"];
        need(trouble.is_null(), || {
            format!("{}: {trouble}", self.0["stream"])
        })
    }

    fn waits(&self, kind: &str, words: &[&str]) -> Result<(), String> {
        self.holds("/events/delivered", 0)?;
        self.holds("/lost", 0)?;
        let trouble = &self.0["trouble"];
        let reason = trouble["reason"].as_str().unwrap_or_default();
        let said = trouble["kind"] == kind && words.iter().all(|word| reason.contains(word));
        need(said, || format!("not {kind} with {words:?} but {trouble}"))
    }

    /// Each of a list names these words as its reason.
    fn says(&self, list: &str, words: &[&str]) -> Result<(), String> {
        let all = self.0[list].as_array().into_iter().flatten();
        let lacks = |of: &&Value| {
            let reason = of["reason"].as_str().unwrap_or_default();
            !words.iter().all(|word| reason.contains(word))
        };
        match all.clone().find(lacks) {
            Some(of) => Err(format!("{words:?} is not in {of}")),
            None => Ok(()),
        }
    }
}
