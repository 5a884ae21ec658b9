//! What is said of each stream.

use super::super::lag::Part;
use super::super::snapshot::StreamSnapshot;
use super::super::streams::ErrorType;
use super::super::text::{Kind, Number, Page, Seconds};
use super::{Labelled, counter};

/// A family with at most one sample for each stream.
fn each_stream<V: Into<Number>>(
    text: &mut dyn Page,
    pipelines: &[Labelled<'_>],
    (name, kind, help): (&str, Kind, &str),
    value: impl Fn(&StreamSnapshot) -> Option<V>,
) {
    let mut family = text.family(name, kind, help);
    for (labels, stream) in pipelines.iter().flat_map(Labelled::streams) {
        if let Some(value) = value(stream) {
            family.sample(labels, value);
        }
    }
}

/// What became of splits and events.
pub(super) fn counters(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut each = |name: &str, help: &str, value: fn(&StreamSnapshot) -> u64| {
        let head = (name, Kind::Counter, help);
        each_stream(text, pipelines, head, |stream| Some(value(stream)));
    };
    each(
        "sluicegate_splits_discovered_total",
        "Splits found for the first time.",
        |stream| stream.counts.discovered,
    );
    each(
        "sluicegate_splits_delivered_total",
        "Splits of which every event is delivered, and the ledger says so.",
        |stream| stream.counts.delivered,
    );
    each(
        "sluicegate_splits_quarantined_total",
        "Splits set aside after too many failures.",
        |stream| stream.counts.quarantined,
    );
    each(
        "sluicegate_losses_total",
        "Losses declared: content that expired or could not be listed any more.",
        |stream| stream.counts.lost,
    );
    each(
        "sluicegate_events_delivered_total",
        "Events that every sink has, and the ledger says so.",
        |stream| stream.counts.events.delivered,
    );
    each(
        "sluicegate_events_duplicate_total",
        "Events that were known already and not sent again.",
        |stream| stream.counts.events.duplicates,
    );
    each(
        "sluicegate_events_dropped_total",
        "Events left out by a stage, on purpose.",
        |stream| stream.counts.events.dropped,
    );
    each(
        "sluicegate_events_dead_lettered_total",
        "Events and records kept as dead letters.",
        |stream| stream.counts.events.dead_lettered,
    );
    let mut family = counter(
        text,
        "sluicegate_stream_errors_total",
        "Calls of the source for a stream that failed; only what happened.",
    );
    for (labels, stream) in pipelines.iter().flat_map(Labelled::streams) {
        for (kind, count) in ErrorType::ALL.into_iter().zip(stream.counts.errors) {
            if count > 0 {
                family.sample_with(labels, ("error_type", kind.name()), count);
            }
        }
    }
}

/// How much waits, and whether it moves.
pub(super) fn backlog(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    each_stream(
        text,
        pipelines,
        (
            "sluicegate_stream_healthy",
            Kind::Gauge,
            "Whether a stream that is at work moves, as judged every half minute.",
        ),
        |stream| {
            stream
                .health
                .as_ref()
                .map(|health| u64::from(health.is_ok()))
        },
    );
    each_stream(
        text,
        pipelines,
        (
            "sluicegate_splits_pending",
            Kind::Gauge,
            "Splits that are found and neither delivered nor in quarantine.",
        ),
        |stream| stream.backlog.map(|backlog| backlog.pending),
    );
    each_stream(
        text,
        pipelines,
        (
            "sluicegate_splits_in_quarantine",
            Kind::Gauge,
            "Splits that are set aside.",
        ),
        |stream| stream.backlog.map(|backlog| backlog.quarantined),
    );
}

/// How far streams are.
pub(super) fn progress(pipelines: &[Labelled<'_>], now_ms: i64, text: &mut dyn Page) {
    let mut age = |name: &str, help: &str, since: fn(&StreamSnapshot) -> Option<i64>| {
        each_stream(text, pipelines, (name, Kind::Gauge, help), |stream| {
            since(stream).map(|since_ms| Seconds(now_ms.saturating_sub(since_ms)))
        });
    };
    age(
        "sluicegate_stream_watermark_age_seconds",
        "How long ago what is listed completely ends.",
        |stream| stream.progress.as_ref()?.watermark_ms,
    );
    age(
        "sluicegate_stream_listed_age_seconds",
        "How long ago the stream was last listed.",
        |stream| stream.progress.as_ref()?.listed_ms,
    );
    age(
        "sluicegate_stream_oldest_undelivered_age_seconds",
        "How long the oldest content that is neither delivered nor in quarantine has been available.",
        |stream| Some(stream.progress.as_ref()?.oldest?.at_ms),
    );
    each_stream(
        text,
        pipelines,
        (
            "sluicegate_stream_expiry_seconds",
            Kind::Gauge,
            "Time until the first undelivered content expires, in quarantine or not.",
        ),
        |stream| {
            let progress = stream.progress.as_ref()?;
            let waiting = progress.expiring.map(|front| front.at_ms);
            let first = waiting
                .into_iter()
                .chain(progress.quarantine_expires_ms)
                .min()?;
            Some(Seconds(first.saturating_sub(now_ms)))
        },
    );
}

/// How late events were.
pub(super) fn lag(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut family = text.family(
        "sluicegate_lag_seconds",
        Kind::Histogram,
        "How late events were, in three parts: until they were available, of each new event; from there until their \
         split was discovered; from there until every sink had it.",
    );
    for (labels, stream) in pipelines.iter().flat_map(Labelled::streams) {
        let Some(lag) = &stream.lag else { continue };
        for (part, measured) in Part::ALL.into_iter().zip(lag) {
            family.histogram(&labels.with("part", part.name()), &measured.histogram);
        }
    }
}
