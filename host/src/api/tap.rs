//! `/tap`: events as they pass, one JSON object a line, for as long as somebody reads.
//!
//! Whoever reads slowly, or asks for a rate, sees fewer events and is told how many were left out; the line never waits
//! (see [`crate::tap`]). It ends by itself: after its limit or its time, with the process, or when nobody reads.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::pipeline::view::Views;
use crate::stage::filter::{FilterStage, FilterStageOptions};
use crate::tap::{Point, Seen, Tap, WATCHERS, Wanted};

/// Longest that one request is answered.
pub(super) const LONGEST: Duration = Duration::from_secs(3_600);

/// How often what was left out is told. A line without anything shows that both sides are there.
const TICK: Duration = Duration::from_secs(1);

/// Events a second: without a wish, and at most.
const RATE: u64 = 100;
const MOST_RATE: u64 = 100_000;

/// How long a line may wait for whoever reads.
const STALLED: Duration = Duration::from_secs(30);

/// Lines that wait for whoever reads.
const LINES: usize = 64;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    wanted: Wanted,
    conditions: Vec<FilterStage>,
    limit: u64,
    time: Duration,
    rate: u64,
}

/// Why it is refused: what is wrong, and what to do.
pub(super) type Refusal = (String, String);

impl Asked {
    /// Reads the query of a request.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            wanted: Wanted::default(),
            conditions: Vec::new(),
            limit: u64::MAX,
            time: LONGEST,
            rate: RATE,
        };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number = value.parse::<u64>().ok().filter(|number| *number > 0);
                let help = "write a whole number from 1";
                number.ok_or_else(|| (format!("`{key}` is not a number"), help.to_owned()))
            };
            match &*key {
                "pipeline" => asked.wanted.pipeline = Some(value.into_owned()),
                "tenant" => asked.wanted.tenant = Some(value.into_owned()),
                "stream" => asked.wanted.stream = Some(value.into_owned()),
                "at" => asked.wanted.points.push(Point::parse(&value)),
                "where" => asked.conditions.push(condition(&value)?),
                "limit" => asked.limit = number()?,
                "seconds" => asked.time = Duration::from_secs(number()?).min(LONGEST),
                "rate" => asked.rate = number()?.min(MOST_RATE),
                _ => {
                    let help =
                        "there are pipeline, tenant, stream, at, where, limit, seconds and rate";
                    return Err((format!("`{}` is unknown", key.escape_debug()), help.into()));
                }
            }
        }
        if asked.wanted.points.is_empty() {
            asked.wanted.points.push(Point::Sinks);
        }
        Ok(asked)
    }

    /// Whether what is asked for can ever be seen, as far as running pipelines can tell.
    pub fn check(&self, views: &Views) -> Result<(), Refusal> {
        let running = views.watchable();
        let (mut tenants, mut points) = (BTreeSet::new(), BTreeSet::new());
        let mut names = BTreeSet::new();
        for one in running {
            names.insert(one.pipeline.clone());
            if self
                .wanted
                .pipeline
                .as_ref()
                .is_none_or(|it| *it == one.pipeline)
            {
                tenants.extend(one.tenants);
                points.extend(one.points);
            }
        }
        let mut asked = vec![("pipeline", self.wanted.pipeline.clone(), names)];
        asked.push(("tenant", self.wanted.tenant.clone(), tenants));
        for point in &self.wanted.points {
            asked.push(("point", Some(point.to_string()), points.clone()));
        }
        for (kind, name, known) in asked {
            let Some(name) = name.filter(|name| !known.contains(name)) else {
                continue;
            };
            let known: Vec<&str> = known.iter().map(String::as_str).take(20).collect();
            let what = format!("there is no {kind} `{}` here", name.escape_debug());
            return Err((what, format!("there are: {}", known.join(", "))));
        }
        Ok(())
    }

    /// Begins to watch; `None` when too many do.
    pub fn watch(&self, views: &Views) -> Result<Tap, Refusal> {
        views.taps().watch(self.wanted.clone()).ok_or_else(|| {
            let what = format!("{WATCHERS} others are watching already");
            (what, "wait until one of them ends".to_owned())
        })
    }

    /// Whether every condition holds.
    fn holds(&self, body: &[u8]) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|condition| condition.keeps(body).unwrap_or(false))
    }
}

/// `FIELD=VALUE`: the field has this value, be it text, a number, `true` or `false`.
fn condition(text: &str) -> Result<FilterStage, Refusal> {
    let wrong = |what: String| {
        (
            what,
            "write it like `event.action=user-logged-in`".to_owned(),
        )
    };
    let (field, value) = text
        .split_once('=')
        .ok_or_else(|| wrong(format!("`{}` is not a condition", text.escape_debug())))?;
    let scalar = serde_json::from_str::<Value>(value).ok();
    let scalar = scalar.filter(|value| value.is_number() || value.is_boolean());
    FilterStage::new(FilterStageOptions {
        field: field.trim().to_owned(),
        equals: [json!(value)].into_iter().chain(scalar).collect(),
        keep: true,
    })
    .map_err(|error| wrong(error.what))
}

/// What became of the events that a watcher could have seen.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    shown: u64,
    /// More in a second than were asked for.
    over_rate: u64,
    /// The watcher was too slow.
    missed: u64,
}

/// Writes what is seen until it is enough. Dropping `_ended` says that it is over.
pub(super) async fn tell(
    mut tap: Tap,
    asked: Asked,
    lines: Lines,
    stop: CancellationToken,
    _ended: tokio_util::sync::DropGuard,
) {
    let mut sums = Sums::default();
    let reason = watch(&mut tap, &asked, &lines, &stop, &mut sums).await;
    let Some(reason) = reason else { return };
    sums.missed += tap.missed();
    let end = json!({
        "end": { "reason": reason, "shown": sums.shown, "over_rate": sums.over_rate, "missed": sums.missed },
    });
    let _ = lines.send(format!("{end}\n").into()).await;
}

/// Returns why it ends; `None` when nobody reads any more.
async fn watch(
    tap: &mut Tap,
    asked: &Asked,
    lines: &Lines,
    stop: &CancellationToken,
    sums: &mut Sums,
) -> Option<&'static str> {
    let until = tokio::time::sleep(asked.time);
    tokio::pin!(until);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = (Instant::now(), 0);
    let mut told = 0;
    loop {
        tokio::select! {
            seen = tap.next() => {
                let seen = seen?;
                for body in seen.batch.events.iter().map(|event| &event.body) {
                    if !asked.holds(body) {
                        continue;
                    }
                    if second.0.elapsed() >= Duration::from_secs(1) {
                        second = (Instant::now(), 0);
                    }
                    second.1 += 1;
                    if second.1 > asked.rate {
                        sums.over_rate += 1;
                        continue;
                    }
                    lines.send(line(&seen, body)).await?;
                    sums.shown += 1;
                    if sums.shown >= asked.limit {
                        return Some("limit");
                    }
                }
            }
            _ = tick.tick() => {
                sums.missed += tap.missed();
                let left_out = sums.missed + sums.over_rate;
                let text = if left_out == told {
                    "\n".to_owned()
                } else {
                    format!("{}\n", json!({ "left_out": left_out }))
                };
                told = left_out;
                lines.send(text.into()).await?;
            }
            () = &mut until => return Some("time"),
            () = stop.cancelled() => return Some("stop"),
            () = lines.0.closed() => return None,
        }
    }
}

/// An event and where it was seen.
fn line(seen: &Seen, body: &Bytes) -> Bytes {
    let Seen {
        pipeline,
        point,
        batch,
    } = seen;
    let place = json!({
        "pipeline": &**pipeline,
        "tenant": &*batch.stream.tenant,
        "stream": &*batch.stream.stream,
        "at": point.to_string(),
    });
    let place = place.to_string();
    let place = place.strip_suffix('}').unwrap_or(&place);
    // A plugin's own output may be no JSON; then it is shown as the text that it is.
    let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok() && !body.contains(&b'\n');
    let text = String::from_utf8_lossy(body);
    let event = if is_json {
        text.into_owned()
    } else {
        json!(text).to_string()
    };
    format!("{place},\"event\":{event}}}\n").into()
}

/// The way to whoever reads.
pub(super) struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    /// Both ends of it.
    pub fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, lines) = mpsc::channel(LINES);
        (Self(sender), lines)
    }

    /// `None` when nobody reads any more.
    async fn send(&self, line: Bytes) -> Option<()> {
        let sent = tokio::time::timeout(STALLED, self.0.send(line)).await;
        sent.ok()?.ok()
    }
}

#[cfg(test)]
mod tests;
