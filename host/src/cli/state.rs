//! `sluicegate state`: how far each stream is, what waits, what is set aside, what is lost.
//!
//! Reads the ledger only: no secret, no plugin, no network, and a running collector never notices.

mod lag;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::Done;
use super::people::{
    json_time, loss_json, loss_line, quarantine_line, span, split_json, table, time,
};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::engine::rfc3339;
use crate::error::{Error, Kind};
use crate::event::StreamKey;
use crate::health::{Health, judge};
use crate::ledger::progress::Progress;
use crate::ledger::sqlite::view::{LedgerView, SplitRow};
use crate::ledger::{Loss, StreamStatus};
use crate::secret::Redactor;
use lag::Lag;

/// Splits and losses that are named one by one for each stream; the counts are always whole.
const NAMED: usize = 10;

/// And in JSON, which is for machines.
const NAMED_IN_JSON: usize = 1_000;

/// A loss is news for a day; it stays listed for good.
const LOSS_NEWS_MS: i64 = 24 * 60 * 60 * 1_000;

/// Show how each stream of a pipeline stands; works beside a running collector and needs no secrets.
///
/// HEALTH: whether the stream moves, by the thresholds of the pipeline's `health` section. LISTED UNTIL: everything
/// that became available before has been listed; LAG: how long ago that is. WAITING and READING: found and not
/// delivered. OLDEST: when the oldest of those became available. EXPIRES IN: when the service will forget the first of
/// them.
///
/// The second table shows how late events were: from the event to its availability (of the event in each split that
/// waited longest), from there to its discovery, from there to the acknowledgement of every sink; the median and the
/// longest of the newest splits that were delivered.
///
/// Exits 0 when it could look. With --check it exits 75 when something needs a person: a stream that is unhealthy (it
/// lists or delivers nothing further) or cannot be listed now, splits in quarantine, losses declared in the last day.
#[derive(Args)]
pub(super) struct State {
    /// The pipeline file.
    file: PathBuf,
    /// Only this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Exit 75 when something needs a person.
    #[arg(long)]
    check: bool,
}

/// What is shown of a stream.
struct Shown {
    key: StreamKey,
    status: StreamStatus,
    health: Health,
    lag: Lag,
    quarantine: Vec<SplitRow>,
    losses: Vec<Loss>,
    /// What needs a person, one sentence each.
    attention: Vec<String>,
}

impl State {
    #[expect(clippy::unused_async, reason = "every command is run the same way")]
    pub async fn run(self, _: Arc<Redactor>) -> Done {
        let config = Config::load(&self.file)?;
        // What the ledger knows can be looked at whatever a tenant's file says by now.
        for error in &config.source.broken {
            eprintln!("warning: {error}");
        }
        let now_ms = SystemClock.now_ms();
        let shown = self.look(&config, now_ms).map_err(|error| vec![error])?;
        if self.json {
            println!("{:#}", report(&config, &shown, now_ms));
        } else {
            print(&config, &shown, now_ms);
        }
        let calm = shown.iter().all(|shown| shown.attention.is_empty());
        Ok(if calm || !self.check {
            0
        } else {
            Kind::Temporary.code()
        })
    }

    fn look(&self, config: &Config, now_ms: i64) -> Result<Vec<Shown>, Error> {
        let view = LedgerView::open(&config.state_dir)?;
        // One moment for all streams.
        view.hold()?;
        let named = if self.json { NAMED_IN_JSON } else { NAMED };
        let mut shown = Vec::new();
        let progress: BTreeMap<StreamKey, Progress> = view.progress()?.into_iter().collect();
        for (key, progress) in progress {
            if self
                .tenant
                .as_ref()
                .is_some_and(|tenant| *tenant != *key.tenant)
            {
                continue;
            }
            let status = view.status(&key)?;
            let health = judge(&progress, &config.health, None, now_ms);
            let news = view.losses_declared(&key, now_ms - LOSS_NEWS_MS)?;
            shown.push(Shown {
                quarantine: view.quarantine(&key, named)?,
                losses: view.losses(&key, (i64::MIN, i64::MAX), named)?,
                lag: Lag::of(&view.lags(&key, lag::SPLITS)?),
                attention: attention(&status, &health, news, now_ms),
                health,
                status,
                key,
            });
        }
        if let (Some(tenant), true) = (&self.tenant, shown.is_empty()) {
            let what = format!("the ledger knows no tenant `{tenant}`");
            return Err(Error::new(Kind::Usage, what)
                .at(format!("`{}`", config.state_dir.display()))
                .help("`sluicegate state FILE` without `--tenant` shows all of them"));
        }
        Ok(shown)
    }
}

/// What of a stream needs a person.
fn attention(status: &StreamStatus, health: &Health, losses: u64, now_ms: i64) -> Vec<String> {
    let said = |reason: &String| format!("unhealthy: {reason}");
    let mut attention: Vec<String> = health.reasons().iter().map(said).collect();
    if let Some(trouble) = &status.trouble {
        let since = span(now_ms - trouble.since_ms);
        attention.push(format!("{} for {since}: {}", trouble.kind, trouble.reason));
    }
    if status.quarantined > 0 {
        attention.push(format!("{} split(s) in quarantine", status.quarantined));
    }
    if losses > 0 {
        attention.push(format!("{losses} loss(es) declared in the last day"));
    }
    attention
}

fn print(config: &Config, shown: &[Shown], now_ms: i64) {
    println!("{}: state in {}", config.name, config.state_dir.display());
    let head = [
        "TENANT",
        "STREAM",
        "HEALTH",
        "LISTED UNTIL",
        "LAG",
        "WAITING",
        "READING",
        "OLDEST",
        "EXPIRES IN",
        "QUARANTINE",
        "LOST",
        "EVENTS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Shown {
        key,
        status,
        health,
        ..
    } in shown
    {
        let since = |ms: Option<i64>| ms.map_or_else(|| "-".into(), |ms| span(now_ms - ms));
        rows.push(vec![
            key.tenant.to_string(),
            key.stream.to_string(),
            health.name().to_owned(),
            time(status.watermark_ms),
            since(status.watermark_ms),
            status.discovered.to_string(),
            status.reading.to_string(),
            time(status.oldest_undelivered_ms),
            since(
                status
                    .next_expiry_ms
                    .map(|expires_ms| 2 * now_ms - expires_ms),
            ),
            status.quarantined.to_string(),
            status.lost.to_string(),
            status.counts.delivered.to_string(),
        ]);
    }
    print!("{}", table(&rows));
    print_lag(shown);
    for shown in shown {
        let Shown { key, status, .. } = shown;
        for sentence in &shown.attention {
            println!("{key}: {sentence}");
        }
        for row in &shown.quarantine {
            println!("  quarantined: {}", quarantine_line(row, now_ms));
        }
        more(status.quarantined, shown.quarantine.len());
        for loss in &shown.losses {
            println!("  lost: {}", loss_line(loss));
        }
        more(status.lost, shown.losses.len());
    }
}

fn print_lag(shown: &[Shown]) {
    let mut rows = vec![
        ["TENANT".into(), "STREAM".into()]
            .into_iter()
            .chain(Lag::head())
            .collect(),
    ];
    for Shown { key, lag, .. } in shown {
        let Some(cells) = lag.cells() else { continue };
        let names = [key.tenant.to_string(), key.stream.to_string()];
        rows.push(names.into_iter().chain(cells).collect());
    }
    if rows.len() > 1 {
        println!("lag of the newest delivered splits, median / longest:");
        print!("{}", table(&rows));
    }
}

/// Says that a list is longer than what was shown of it.
fn more(all: u64, named: usize) {
    let rest = all.saturating_sub(named as u64);
    if rest > 0 {
        println!("  and {rest} more; `--json` names them");
    }
}

fn report(config: &Config, shown: &[Shown], now_ms: i64) -> Value {
    let streams: Vec<Value> = shown.iter().map(|shown| stream(shown, now_ms)).collect();
    json!({
        "pipeline": config.name,
        "state": config.state_dir.display().to_string(),
        "time": rfc3339(now_ms),
        "streams": streams,
    })
}

fn stream(shown: &Shown, now_ms: i64) -> Value {
    let Shown {
        key,
        status,
        health,
        ..
    } = shown;
    let counts = &status.counts;
    let trouble = status.trouble.as_ref().map(|trouble| {
        json!({
            "kind": trouble.kind,
            "reason": trouble.reason,
            "since": rfc3339(trouble.since_ms),
        })
    });
    json!({
        "tenant": &*key.tenant,
        "stream": &*key.stream,
        "health": { "state": health.name(), "reasons": health.reasons() },
        "lag": shown.lag.json(),
        "watermark": json_time(status.watermark_ms),
        "lag_seconds": status.watermark_ms.map(|ms| (now_ms - ms) / 1_000),
        "last_listed": json_time(status.listed_ms),
        "trouble": trouble,
        "backlog": {
            "discovered": status.discovered,
            "reading": status.reading,
            "oldest_created": json_time(status.oldest_undelivered_ms),
            "soonest_expiry": json_time(status.next_expiry_ms),
            "seconds_to_expiry": status.next_expiry_ms.map(|ms| (ms - now_ms) / 1_000),
        },
        "quarantined": status.quarantined,
        "quarantine": shown.quarantine.iter().map(split_json).collect::<Vec<_>>(),
        "lost": status.lost,
        "losses": shown.losses.iter().map(loss_json).collect::<Vec<_>>(),
        "splits_delivered_and_remembered": status.delivered,
        "events": {
            "read": counts.read,
            "delivered": counts.delivered,
            "duplicates": counts.duplicates,
            "dropped": counts.dropped,
            "dead_lettered": counts.dead_lettered,
        },
        "attention": shown.attention,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Trouble;

    const HOUR_MS: i64 = 60 * 60 * 1_000;
    const NOW_MS: i64 = 20_000 * 24 * HOUR_MS;

    /// A stream in order, whatever it has lost and has to do.
    fn calm() -> StreamStatus {
        StreamStatus {
            discovered: 7,
            watermark_ms: Some(NOW_MS - 9 * HOUR_MS),
            next_expiry_ms: Some(NOW_MS + HOUR_MS),
            lost: 3,
            ..StreamStatus::default()
        }
    }

    #[track_caller]
    fn check(status: &StreamStatus, health: &Health, losses: u64, expected: &[&str]) {
        assert_eq!(attention(status, health, losses, NOW_MS), expected);
    }

    #[test]
    fn what_needs_a_person_is_said_and_nothing_else() {
        let ok = Health::Ok;
        check(&calm(), &ok, 0, &[]);
        check(&calm(), &ok, 3, &["3 loss(es) declared in the last day"]);
        let status = StreamStatus {
            quarantined: 2,
            ..calm()
        };
        check(&status, &ok, 0, &["2 split(s) in quarantine"]);
        let unhealthy = Health::Unhealthy {
            reasons: vec!["it stands still".into(), "it expires".into()],
        };
        let expected = ["unhealthy: it stands still", "unhealthy: it expires"];
        check(&calm(), &unhealthy, 0, &expected);
        let trouble = Trouble {
            kind: "unauthorised".into(),
            reason: "no consent".into(),
            since_ms: NOW_MS - 2 * HOUR_MS,
        };
        let status = StreamStatus {
            trouble: Some(trouble),
            ..calm()
        };
        check(&status, &ok, 0, &["unauthorised for 2h00m: no consent"]);
    }
}
