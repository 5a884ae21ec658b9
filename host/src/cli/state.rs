//! `sluicegate state`: how far each stream is, what waits, what is set aside, what is lost.
//!
//! Reads the ledger only: no secret, no plugin, no network, and a running collector never notices.

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
use crate::ledger::sqlite::view::{LedgerView, SplitRow};
use crate::ledger::{Loss, StreamStatus};
use crate::secret::Redactor;

/// Splits and losses that are named one by one for each stream; the counts are always whole.
const NAMED: usize = 10;

/// And in JSON, which is for machines.
const NAMED_IN_JSON: usize = 1_000;

/// The live edge is listed every minute and counts as listed ten minutes later; an hour behind, the collector
/// stands still or cannot list.
const LATE_MS: i64 = 60 * 60 * 1_000;

/// Content that expires within this time is read before all other: nobody should learn of it later.
const NEAR_EXPIRY_MS: i64 = 12 * 60 * 60 * 1_000;

/// A loss is news for a day; it stays listed for good.
const LOSS_NEWS_MS: i64 = 24 * 60 * 60 * 1_000;

/// Show how each stream of a pipeline stands; works beside a running collector and needs no secrets.
///
/// LISTED UNTIL: everything that became available before has been listed; LAG: how long ago that is. WAITING and
/// READING: found and not delivered. OLDEST: when the oldest of those became available. EXPIRES IN: when the service
/// will forget the first of them.
///
/// Exits 0 when it could look. With --check it exits 75 when something needs a person: a stream that cannot be listed
/// or has not been for an hour, content that expires within twelve hours, splits in quarantine, losses declared in
/// the last day.
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
    quarantine: Vec<SplitRow>,
    losses: Vec<Loss>,
    /// What needs a person, one sentence each.
    attention: Vec<String>,
}

impl State {
    #[expect(clippy::unused_async, reason = "every command is run the same way")]
    pub async fn run(self, _: Arc<Redactor>) -> Done {
        let config = Config::load(&self.file)?;
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
        for key in view.streams()? {
            if self
                .tenant
                .as_ref()
                .is_some_and(|tenant| *tenant != *key.tenant)
            {
                continue;
            }
            let status = view.status(&key)?;
            let news = view.losses_declared(&key, now_ms - LOSS_NEWS_MS)?;
            shown.push(Shown {
                quarantine: view.quarantine(&key, named)?,
                losses: view.losses(&key, (i64::MIN, i64::MAX), named)?,
                attention: attention(&status, news, now_ms),
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
fn attention(status: &StreamStatus, losses: u64, now_ms: i64) -> Vec<String> {
    let mut attention = Vec::new();
    if let Some(trouble) = &status.trouble {
        let since = span(now_ms - trouble.since_ms);
        attention.push(format!("{} for {since}: {}", trouble.kind, trouble.reason));
    }
    match status
        .watermark_ms
        .map(|watermark_ms| now_ms - watermark_ms)
    {
        Some(lag) if lag > LATE_MS => attention.push(format!("not listed for {}", span(lag))),
        None => attention.push("never listed".into()),
        Some(_) => {}
    }
    if let Some(expires_ms) = status.next_expiry_ms {
        match expires_ms - now_ms {
            left if left <= 0 => attention.push("undelivered content has expired".into()),
            left if left <= NEAR_EXPIRY_MS => {
                attention.push(format!("undelivered content expires in {}", span(left)));
            }
            _ => {}
        }
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
    for Shown { key, status, .. } in shown {
        let since = |ms: Option<i64>| ms.map_or_else(|| "-".into(), |ms| span(now_ms - ms));
        rows.push(vec![
            key.tenant.to_string(),
            key.stream.to_string(),
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
    let Shown { key, status, .. } = shown;
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

    /// A stream in order.
    fn calm() -> StreamStatus {
        StreamStatus {
            discovered: 7,
            watermark_ms: Some(NOW_MS - LATE_MS),
            next_expiry_ms: Some(NOW_MS + NEAR_EXPIRY_MS + 1),
            lost: 3,
            ..StreamStatus::default()
        }
    }

    #[track_caller]
    fn check(status: &StreamStatus, losses: u64, expected: &[&str]) {
        assert_eq!(attention(status, losses, NOW_MS), expected);
    }

    #[test]
    fn what_needs_a_person_is_said_and_nothing_else() {
        check(&calm(), 0, &[]);
        check(&calm(), 3, &["3 loss(es) declared in the last day"]);
        let status = StreamStatus {
            quarantined: 2,
            ..calm()
        };
        check(&status, 0, &["2 split(s) in quarantine"]);
        let status = StreamStatus {
            watermark_ms: Some(NOW_MS - 3 * HOUR_MS),
            ..calm()
        };
        check(&status, 0, &["not listed for 3h00m"]);
        let status = StreamStatus {
            next_expiry_ms: Some(NOW_MS + 5 * HOUR_MS),
            ..calm()
        };
        check(&status, 0, &["undelivered content expires in 5h00m"]);
        let status = StreamStatus {
            next_expiry_ms: Some(NOW_MS - 1),
            ..calm()
        };
        check(&status, 0, &["undelivered content has expired"]);
        let trouble = Trouble {
            kind: "unauthorised".into(),
            reason: "no consent".into(),
            since_ms: NOW_MS - 2 * HOUR_MS,
        };
        let status = StreamStatus {
            watermark_ms: None,
            trouble: Some(trouble),
            ..calm()
        };
        let expected = ["unauthorised for 2h00m: no consent", "never listed"];
        check(&status, 0, &expected);
    }
}
