//! Windows to splits (content blobs): the subscription, the backlog, the live edge, re-listing.
//!
//! One call lists what is due, several windows at once, and returns at most `limits.splits`
//! splits; only a single window with more than that is returned whole, because a window is either
//! listed or not. What one call achieved is kept even when a part of it failed.

use std::collections::BTreeSet;

use crate::api::Api;
use crate::config::{self, Config, Use};
use crate::cursor::{Cursor, KEY};
use crate::subscription::{self, Found};
use crate::time::{self, HOUR, MINUTE};
use crate::walk::{self, Trouble, Walked};
use crate::world::{Discovery, Failure, Gap, Level, Limits, Next, Request, Scope, Stream, World};

/// After a start the service may say for a while that there is no subscription.
const STARTING_RETRY_MS: u64 = 30_000;
/// Clocks this far apart are not worth mentioning.
const SKEW_TOLERANCE: i64 = 2 * MINUTE;
/// A header counts whole seconds and travels: clocks this far apart agree.
const SKEW_NOISE: i64 = 5_000;
/// Clocks this far apart: nobody knows which is right.
const SKEW_LIMIT: i64 = HOUR;

/// The feeds that a config asks for: one per content type, all on the tenant's one quota.
pub fn streams(config: &str) -> Result<Vec<Stream>, Failure> {
    let config = config::load(config, Use::Source).map_err(Failure::Misconfigured)?;
    let quota_key = &config.tenant.directory_id;
    let stream = |name: &String| Stream {
        name: name.clone(),
        quota_key: quota_key.clone(),
    };
    Ok(config.content_types.iter().map(stream).collect())
}

/// Lists what is due.
pub fn discover(
    world: &mut World<'_>,
    config: &str,
    stream: &str,
    limits: Limits,
) -> Result<Discovery, Failure> {
    let config = config::load(config, Use::Source).map_err(Failure::Misconfigured)?;
    if !config.content_types.iter().any(|known| known == stream) {
        let reason = format!("`{stream}` is not among the configured content types");
        return Err(Failure::Misconfigured(reason));
    }
    match load(world, stream) {
        Some(cursor) if cursor.begun || cursor.subscribed.announced.is_some() => {
            go_on(world, &config, stream, limits, cursor)
        }
        Some(cursor) => list_first(world, &config, stream, limits, cursor),
        None => begin(world, &config),
    }
}

/// The first call, or the first behind a damaged cursor: commits where listing begins, before
/// anything is asked for. From here on what ages out is missed by somebody, however long it takes
/// until a listing succeeds, and whoever goes away meanwhile finds out by how much.
fn begin(world: &mut World<'_>, config: &Config) -> Result<Discovery, Failure> {
    let cursor = Cursor::begin(world.clock.now(), config);
    let discovery = commit(world, &cursor, Vec::new(), Vec::new(), Next::Again)?;
    // Nothing is listed yet, and where it begins may move while nobody knows whose clock is right.
    Ok(Discovery {
        watermark: None,
        ..discovery
    })
}

/// The first listing.
///
/// The subscriptions are asked for together with the windows: in the usual case, they are enabled
/// and the clocks agree, the windows are listed by the time we know.
fn list_first(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    limits: Limits,
    stored: Cursor,
) -> Result<Discovery, Failure> {
    let mut cursor = stored.clone();
    cursor.correct(world.clock.now(), 0, config);
    let mut gaps = cursor.advance(world.clock.now(), config);
    let request = Api::new(config).subscriptions();
    let mut walked = list(world, config, stream, limits, &cursor, Some(&request));
    let survey = match walked.along.take() {
        Some(Ok(response)) => subscription::understand(world, response)?.ok(),
        _ => None,
    };
    let survey = match survey {
        Some(survey) => survey,
        None => subscription::survey(world, config)?,
    };
    let skew = reconcile(world, survey.skew);
    let now = world.clock.now() + skew;
    // Cut by the wrong clock: again, by the right one. Clocks that are only a little apart matter
    // where something would be given up.
    let again = skew.abs() > SKEW_TOLERANCE || (skew != 0 && !gaps.is_empty());
    if again {
        cursor = stored;
        cursor.correct(now, skew, config);
    }
    let known = &mut cursor.subscribed;
    if subscription::ensure(world, config, stream, &survey, known, now)? == Found::Starting {
        cursor.wait(now, config);
        return commit(world, &cursor, Vec::new(), Vec::new(), Next::Again);
    }
    cursor.begun = true;
    if again {
        gaps = cursor.advance(now, config);
        walked = list(world, config, stream, limits, &cursor, None);
    }
    report_gaps(world, stream, &gaps);
    conclude(world, config, stream, cursor, gaps, walked, true)
}

/// Every other call.
fn go_on(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    limits: Limits,
    mut cursor: Cursor,
) -> Result<Discovery, Failure> {
    let now = world.clock.now() + cursor.skew;
    let surveyed =
        subscription::survey_due(&cursor.subscribed, now, config) || cursor.would_lose(now, config);
    if surveyed {
        // Before anything is given up, the service's own clock is asked.
        let survey = subscription::survey(world, config)?;
        cursor.skew = reconcile(world, survey.skew);
        let now = world.clock.now() + cursor.skew;
        let known = &mut cursor.subscribed;
        let found = subscription::ensure(world, config, stream, &survey, known, now)?;
        if cursor.subscribed.checked.is_some() {
            cursor.begun = true;
        } else if !cursor.begun {
            cursor.wait(now, config);
        }
        if found == Found::Starting {
            return commit(world, &cursor, Vec::new(), Vec::new(), Next::Again);
        }
    }
    let gaps = cursor.advance(world.clock.now() + cursor.skew, config);
    report_gaps(world, stream, &gaps);
    let walked = list(world, config, stream, limits, &cursor, None);
    conclude(world, config, stream, cursor, gaps, walked, surveyed)
}

/// Lists the windows that are due.
fn list(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    limits: Limits,
    cursor: &Cursor,
    along: Option<&Request>,
) -> Walked {
    let now = world.clock.now() + cursor.skew;
    let borders = |index: usize| (cursor.windows[index].start, cursor.windows[index].end);
    let wanted: Vec<_> = cursor.due(now, config).into_iter().map(borders).collect();
    walk::walk(world, config, stream, &wanted, cursor.skew, limits, along)
}

/// Turns what the walk achieved into the call's answer.
fn conclude(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    mut cursor: Cursor,
    mut gaps: Vec<Gap>,
    walked: Walked,
    surveyed: bool,
) -> Result<Discovery, Failure> {
    let mut corrected = false;
    if walked.skew.is_some() {
        let skew = reconcile(world, walked.skew);
        corrected = (skew - cursor.skew).abs() > SKEW_TOLERANCE;
        cursor.skew = skew;
    }
    match walked.trouble {
        Some(Trouble::Unsubscribed { reason, .. }) if surveyed => {
            let affects = Scope::Stream;
            return Err(Failure::Retry {
                after_ms: Some(STARTING_RETRY_MS),
                affects,
                reason,
            });
        }
        // The next call looks at the subscription.
        Some(Trouble::Unsubscribed { .. }) => cursor.subscribed.checked = None,
        Some(Trouble::TooLarge { start, end }) => cursor.divide(start, end),
        // Windows were asked for by the wrong clock. A failure would forget which is the right one,
        // and the next call would ask for the same.
        Some(Trouble::Failure(Failure::Retry {
            after_ms: None,
            affects: Scope::Split,
            ..
        })) if corrected => {}
        // Progress is kept; the next call meets the trouble again and, without progress, says so.
        Some(Trouble::Failure(failure))
            if walked.passes.is_empty() || !matches!(failure, Failure::Retry { .. }) =>
        {
            return Err(failure);
        }
        Some(Trouble::Failure(_)) | None => {}
    }
    let mut splits = Vec::new();
    let mut seen = BTreeSet::new();
    cursor.begun |= !walked.passes.is_empty();
    for pass in walked.passes {
        let lost = cursor.listed(&pass, config);
        report_gaps(world, stream, lost.as_slice());
        gaps.extend(lost);
        for split in pass.splits {
            if seen.insert(split.id.clone()) {
                splits.push(split);
            }
        }
    }
    cursor.settle(config);
    world.log.count("splits_listed", splits.len() as u64);
    let now = world.clock.now();
    let next = if walked.left {
        Next::Again
    } else {
        Next::At((cursor.wake(now + cursor.skew, config) - cursor.skew).max(now))
    };
    commit(world, &cursor, splits, gaps, next)
}

fn commit(
    world: &mut World<'_>,
    cursor: &Cursor,
    splits: Vec<crate::world::Split>,
    gaps: Vec<Gap>,
    next: Next,
) -> Result<Discovery, Failure> {
    let stored = cursor.store().map_err(Failure::Internal)?;
    world
        .state
        .set(KEY, &stored)
        .map_err(|reason| Failure::Internal(format!("state: {reason}")))?;
    let ahead = if crate::mutant::is_on("position_ahead") {
        HOUR
    } else {
        0
    };
    // Where listing begins may still be corrected while nothing has been listed.
    let watermark = cursor.begun.then_some(cursor.watermark + ahead);
    Ok(Discovery {
        splits,
        next,
        watermark,
        gaps,
    })
}

/// The stored cursor. One that cannot be used is replaced by a start seven days back: that costs
/// listings and repeats nothing, since the host knows the splits.
fn load(world: &World<'_>, stream: &str) -> Option<Cursor> {
    let stored = world.state.get(KEY)?;
    match Cursor::load(&stored) {
        Ok(cursor) => Some(cursor),
        Err(reason) => {
            let fields = [("stream", stream), ("reason", &*reason)];
            let text = "the stored cursor is not usable; listing starts seven days back";
            world.log.line(Level::Error, text, &fields);
            world.log.count("cursors_damaged", 1);
            None
        }
    }
}

/// The skew to go by. The service judges requests by its own clock; but when the two are far
/// apart, the earlier one is safe: it gives nothing up too soon and closes no window too early.
fn reconcile(world: &World<'_>, skew: Option<i64>) -> i64 {
    let Some(skew) = skew else { return 0 };
    if skew.abs() <= SKEW_TOLERANCE {
        // The earlier clock is the safe one here, too.
        return if skew < -SKEW_NOISE { skew } else { 0 };
    }
    let seconds = (skew / 1000).to_string();
    let fields = [("seconds", &*seconds)];
    let (level, text, used) = if skew.abs() <= SKEW_LIMIT {
        (
            Level::Warn,
            "this machine's clock differs from the service's",
            skew,
        )
    } else {
        let text = "this machine's clock and the service's are far apart; the earlier one is used";
        (Level::Error, text, skew.min(0))
    };
    world.log.line(level, text, &fields);
    used
}

fn report_gaps(world: &World<'_>, stream: &str, gaps: &[Gap]) {
    for gap in gaps {
        let (since, until) = (time::show(gap.since), time::show(gap.until));
        let fields = [("stream", stream), ("since", &*since), ("until", &*until)];
        world.log.line(
            Level::Error,
            "content was never listed and is lost",
            &fields,
        );
        world.log.count("gaps", 1);
    }
}

#[cfg(test)]
mod tests;
