//! Makes sure that a content type is subscribed: listed first, started only when missing.
//!
//! The service refuses a second start within 15 minutes, also over crashes. So a start is
//! announced in the state by one call, which the host commits, and sent by the next one. An
//! announcement that is no longer fresh counts as sent. That the service took it is committed as
//! well, before anything is listed: what lists subscriptions may not show it for a while.
//!
//! Stopping is asked for twice: by `unsubscribe: true`, and by not naming a content type. What one
//! stop could not do is tried again; a listing of a range (`until`) changes nothing.

use crate::api::{self, Api, Subscription};
use crate::config::Config;
use crate::cursor::Subscribed;
use crate::failure::Decision;
use crate::time::{HOUR, MINUTE};
use crate::world::{Broken, Failure, Level, Request, Response, Scope, Timestamp, World};

/// Shortest time between two starts of one type.
const START_INTERVAL: i64 = 15 * MINUTE;
/// The same for a subscription that somebody disabled: it may be meant.
const RESTART_INTERVAL: i64 = HOUR;
/// How long an announced start may be sent, and sent again while the service refuses it. Short,
/// because a crash right behind the request leaves the announcement as if nothing had been sent.
const FRESH: i64 = MINUTE;
/// How soon a refused start is tried again.
const REFUSED_RETRY_MS: u64 = 5_000;
/// A start that is throttled although the service does not say how long: most likely it was started
/// by somebody else within this time.
const THROTTLED_RETRY_MS: u64 = 15 * 60 * 1000;
/// Subscriptions are looked at this often even when listing works, for `unsubscribe`.
const CHECK_INTERVAL: i64 = 24 * HOUR;
/// How soon a stop that failed is tried again.
const STOP_INTERVAL: i64 = 15 * MINUTE;
/// Tries of one request within a call, and the pause between them.
const TRIES: u32 = 3;
const PAUSE_MS: u64 = 300;
/// Longest wait within a call that the service may ask for.
const LONGEST_PAUSE_MS: u64 = 5_000;

/// What a survey found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Content can be listed.
    Enabled,
    /// A start is announced, or was taken: commit that, and call again at once.
    Starting,
}

/// A survey of the tenant's subscriptions.
#[derive(Debug)]
pub struct Survey {
    /// What the service lists; `None` when it would not say.
    pub listed: Option<Vec<Subscription>>,
    /// The service's clock minus ours.
    pub skew: Option<i64>,
}

/// Whether a survey is due.
pub fn survey_due(known: &Subscribed, now: Timestamp, config: &Config) -> bool {
    let moved = stops(config) && known.types != config.content_types.join(",");
    let tried = |at: Timestamp| (at..at + STOP_INTERVAL).contains(&now);
    (moved && !known.unstopped.is_some_and(tried))
        || known
            .checked
            .is_none_or(|at| at > now + MINUTE || now - at >= CHECK_INTERVAL)
}

/// Whether subscriptions may be stopped: not while a range of time is looked at once more.
fn stops(config: &Config) -> bool {
    config.unsubscribe && config.until.is_none()
}

/// Asks the service for the tenant's subscriptions.
pub fn survey(world: &mut World<'_>, config: &Config) -> Result<Survey, Failure> {
    let request = Api::new(config).subscriptions();
    let mut last = transient("");
    for tries in 0..TRIES {
        if tries > 0 {
            world.clock.sleep(PAUSE_MS << tries);
        }
        match send(world, &request)? {
            Ok(response) => match understand(world, response)? {
                Ok(survey) => return Ok(survey),
                Err(failure) => last = failure,
            },
            Err(reason) => last = transient(reason),
        }
    }
    Err(last)
}

fn transient(reason: impl std::fmt::Display) -> Failure {
    let reason = format!("listing subscriptions: {reason}");
    Failure::Retry {
        after_ms: None,
        affects: Scope::Split,
        reason,
    }
}

/// Understands the answer to a survey; the inner error deserves another try.
pub fn understand(
    world: &World<'_>,
    mut response: Response,
) -> Result<Result<Survey, Failure>, Failure> {
    let skew = api::date(&response).map(|date| date - world.clock.now());
    if response.status == 200 {
        let listed = api::read_subscriptions(&mut response);
        let survey = |listed| Survey {
            listed: Some(listed),
            skew,
        };
        return Ok(listed.map(survey).map_err(transient));
    }
    let refused = api::refused(response, world.clock);
    let bare = refused.is_bare_denial();
    match refused.decision {
        Decision::Retry => Ok(Err(transient(refused.reason))),
        Decision::Unauthorised | Decision::Misconfigured | Decision::Throttled => {
            let failure = refused.failure("listing subscriptions", Scope::Stream);
            if bare { Ok(Err(failure)) } else { Err(failure) }
        }
        // The listing of content will tell.
        _ => Ok(Ok(Survey { listed: None, skew })),
    }
}

/// Starts what is missing, stops what is not wanted.
pub fn ensure(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    survey: &Survey,
    known: &mut Subscribed,
    now: Timestamp,
) -> Result<Found, Failure> {
    let Some(listed) = &survey.listed else {
        known.checked = Some(now);
        return Ok(Found::Enabled);
    };
    let stopped = stop_unwanted(world, config, stream, listed)?;
    known.unstopped = (!stopped).then_some(now);
    if !stopped {
        known.types.clear();
    }
    let own = listed
        .iter()
        .find(|found| found.content_type.eq_ignore_ascii_case(stream));
    // An element without a status is unknown, so listing content is tried.
    if own.is_some_and(|own| own.enabled != Some(false)) {
        enabled(known, config, now);
        return Ok(Found::Enabled);
    }
    let disabled = own.is_some();
    let least = if disabled {
        RESTART_INTERVAL
    } else {
        START_INTERVAL
    };
    if crate::mutant::is_on("started_each_time") {
        start(world, config, stream)?;
        return Ok(Found::Enabled);
    }
    let taken = |announced| known.started.is_some_and(|at| at >= announced);
    match known.announced {
        Some(at) if (at..at + FRESH).contains(&now) && !taken(at) => {
            start(world, config, stream)?;
            known.started = Some(now);
            enabled(known, config, now);
            Ok(Found::Starting)
        }
        // It may not be started again yet. Whether content can be listed all the same, the
        // service knows best.
        Some(at) if (at..at + least).contains(&now) => {
            known.checked = None;
            Ok(Found::Enabled)
        }
        _ => {
            if disabled {
                let again = known.restarted.replace(now).is_some();
                report_disabled(world, stream, again);
            }
            known.announced = Some(now);
            known.checked = None;
            Ok(Found::Starting)
        }
    }
}

/// Somebody disabled a subscription. That it happens again behind our start is for people to look at.
fn report_disabled(world: &World<'_>, stream: &str, again: bool) {
    let (level, text) = if again {
        let text = "somebody disabled the subscription again; it is started at most once an hour";
        (Level::Error, text)
    } else {
        let text = "somebody disabled the subscription; it is started again";
        (Level::Warn, text)
    };
    world.log.line(level, text, &[("stream", stream)]);
    world.log.count("subscriptions_disabled", 1);
}

fn enabled(known: &mut Subscribed, config: &Config, now: Timestamp) {
    known.checked = Some(now);
    if stops(config) && known.unstopped.is_none() {
        known.types = config.content_types.join(",");
    } else {
        known.types.clear();
    }
}

fn start(world: &mut World<'_>, config: &Config, stream: &str) -> Result<(), Failure> {
    let what = format!("starting the subscription of {stream}");
    let later = |reason: String, after_ms: u64| Failure::Retry {
        after_ms: Some(after_ms),
        affects: Scope::Stream,
        reason: format!("{what}: {reason}"),
    };
    let request = Api::new(config).switch(stream, true);
    let mut tries = 1;
    loop {
        // Whether a request without an answer had its effect, the next survey tells.
        let response = send(world, &request)?.map_err(|reason| later(reason, REFUSED_RETRY_MS))?;
        if (200..300).contains(&response.status) {
            world
                .log
                .line(Level::Info, "subscription started", &[("stream", stream)]);
            world.log.count("subscriptions_started", 1);
            return Ok(());
        }
        let refused = api::refused(response, world.clock);
        let asked = refused.after_ms.unwrap_or(0);
        let again = tries < TRIES && asked <= LONGEST_PAUSE_MS;
        match refused.decision {
            Decision::AlreadyEnabled => return Ok(()),
            Decision::Unauthorised | Decision::Misconfigured if !refused.is_bare_denial() => {
                return Err(refused.failure(&what, Scope::Stream));
            }
            // A refusal started nothing, so it does not count against the fifteen minutes.
            Decision::Retry | Decision::Throttled if again => {
                world.clock.sleep(asked.max(PAUSE_MS << tries));
                tries += 1;
            }
            Decision::Throttled => {
                let after_ms = refused.after_ms.unwrap_or(THROTTLED_RETRY_MS);
                return Err(later(refused.reason, after_ms));
            }
            _ => return Err(later(refused.reason, asked.max(REFUSED_RETRY_MS))),
        }
    }
}

/// Stops subscriptions that are enabled and not configured, when the config says so. The first
/// stream does it for all. Whether nothing is left to stop.
fn stop_unwanted(
    world: &mut World<'_>,
    config: &Config,
    stream: &str,
    listed: &[Subscription],
) -> Result<bool, Failure> {
    if !stops(config)
        || config
            .content_types
            .first()
            .is_none_or(|first| first != stream)
    {
        return Ok(true);
    }
    let mut all = true;
    for found in listed.iter().filter(|found| found.enabled == Some(true)) {
        let wanted = |name: &String| name.eq_ignore_ascii_case(&found.content_type);
        let known = crate::config::CONTENT_TYPES
            .iter()
            .find(|known| known.eq_ignore_ascii_case(&found.content_type));
        let Some(known) = known.filter(|_| !config.content_types.iter().any(wanted)) else {
            continue;
        };
        match stop(world, config, known)? {
            Ok(()) => {
                let text = "subscription stopped, as configured";
                world
                    .log
                    .line(Level::Warn, text, &[("content_type", known)]);
                world.log.count("subscriptions_stopped", 1);
            }
            Err(reason) => {
                all = false;
                let fields = [("content_type", *known), ("reason", &*reason)];
                let text = "subscription could not be stopped; trying again";
                world.log.line(Level::Warn, text, &fields);
            }
        }
    }
    Ok(all)
}

/// Stops a subscription; the inner error says why it could not be.
fn stop(
    world: &mut World<'_>,
    config: &Config,
    content_type: &str,
) -> Result<Result<(), String>, Failure> {
    let response = match send(world, &Api::new(config).switch(content_type, false))? {
        Ok(response) if (200..300).contains(&response.status) => return Ok(Ok(())),
        Ok(response) => response,
        Err(reason) => return Ok(Err(reason)),
    };
    let refused = api::refused(response, world.clock);
    // Somebody was faster: what is not there, or off, need not be stopped.
    let gone = matches!(
        refused.decision,
        Decision::NoSubscription | Decision::Disabled
    );
    Ok(if gone { Ok(()) } else { Err(refused.reason) })
}

/// Sends a request; the inner error is transient.
fn send(world: &mut World<'_>, request: &Request) -> Result<Result<Response, String>, Failure> {
    match api::call(world.http, request) {
        Ok(response) => Ok(Ok(response)),
        Err(Broken::Transport(reason)) => Ok(Err(reason)),
        Err(broken @ Broken::Denied(_)) => Err(Failure::Misconfigured(format!(
            "`{}`: {broken}",
            request.url.origin()
        ))),
    }
}
