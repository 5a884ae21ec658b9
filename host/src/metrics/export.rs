//! Every name that leaves the process, once, with what it means.
//!
//! `component_*` are named after Vector's component specification; what it does not know begins with `sluicegate_`, and
//! what every process has with `process_`. There is a sample for each tenant and each stream, and none for an event.

mod streams;

use super::requests::Outcome;
use super::snapshot::{
    PipelineSnapshot, SinkSnapshot, Snapshot, StageSnapshot, StreamSnapshot, TenantSnapshot,
};
use super::streams::ErrorType;
use super::text::{Family, Kind, Labels, Page, Seconds};

/// A pipeline with the labels of its parts, in the order of the parts.
struct Labelled<'s> {
    pipeline: &'s PipelineSnapshot,
    own: Labels,
    source: Labels,
    stages: Vec<Labels>,
    sinks: Vec<Labels>,
    tenants: Vec<Labels>,
    streams: Vec<Labels>,
}

impl<'s> Labelled<'s> {
    fn new(pipeline: &'s PipelineSnapshot) -> Self {
        let own = Labels::default().with("pipeline", &pipeline.name);
        let component = |id: &str, kind: &str, which: &str| {
            own.with("component_id", id)
                .with("component_kind", kind)
                .with("component_type", which)
        };
        let stages = pipeline.stages.iter().enumerate().map(|(index, stage)| {
            component(&format!("stage_{}", index + 1), "transform", stage.kind)
        });
        let sinks = pipeline.sinks.iter();
        let sinks = sinks.map(|sink| component(&sink.name, "sink", sink.kind));
        let tenants = pipeline.tenants.iter();
        let tenants = tenants.map(|tenant| own.with("tenant", &tenant.id));
        let streams = pipeline.streams.iter().map(|stream| {
            own.with("tenant", &stream.key.tenant)
                .with("stream", &stream.key.stream)
        });
        Self {
            source: component("source", "source", &pipeline.plugin),
            stages: stages.collect(),
            sinks: sinks.collect(),
            tenants: tenants.collect(),
            streams: streams.collect(),
            own,
            pipeline,
        }
    }

    fn stages(&self) -> impl Iterator<Item = (&Labels, &StageSnapshot)> {
        self.stages.iter().zip(&self.pipeline.stages)
    }

    fn sinks(&self) -> impl Iterator<Item = (&Labels, &SinkSnapshot)> {
        self.sinks.iter().zip(&self.pipeline.sinks)
    }

    fn tenants(&self) -> impl Iterator<Item = (&Labels, &TenantSnapshot)> {
        self.tenants.iter().zip(&self.pipeline.tenants)
    }

    fn streams(&self) -> impl Iterator<Item = (&Labels, &StreamSnapshot)> {
        self.streams.iter().zip(&self.pipeline.streams)
    }
}

/// Writes all of it.
pub fn export(snapshot: &Snapshot, text: &mut dyn Page) {
    let pipelines: Vec<_> = snapshot.pipelines.iter().map(Labelled::new).collect();
    process(snapshot, text);
    components(&pipelines, text);
    of_pipelines(&pipelines, text);
    what_can_be_used(&pipelines, text);
    telemetry(&pipelines, text);
    of_tenants(&pipelines, text);
    tokens(&pipelines, snapshot.now_ms, text);
    streams::counters(&pipelines, text);
    streams::backlog(&pipelines, text);
    streams::progress(&pipelines, snapshot.now_ms, text);
    streams::lag(&pipelines, text);
}

fn process(snapshot: &Snapshot, text: &mut dyn Page) {
    let none = Labels::default();
    let version = none.with("version", env!("CARGO_PKG_VERSION"));
    let mut family = text.family("sluicegate_build_info", Kind::Gauge, "Which version runs.");
    family.sample(&version, 1_u64);
    let mut family = text.family(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, since 1970.",
    );
    family.sample(&none, Seconds(snapshot.started_ms));
    let system = &snapshot.process;
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Memory in use.",
            system.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Address space; the sandbox reserves much more than it uses.",
            system.virtual_bytes,
        ),
        (
            "process_open_fds",
            "Open files and sockets.",
            system.open_files,
        ),
        (
            "sluicegate_sandbox_memory_peak_bytes",
            "Most memory that any call of a plugin has used.",
            Some(snapshot.guest_peak_bytes),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = text.family(name, Kind::Gauge, help);
        if let Some(value) = value {
            family.sample(&none, value);
        }
    }
    let mut counters = text.family(
        "sluicegate_plugin_counts_total",
        Kind::Counter,
        "What plugins count themselves.",
    );
    for (plugin, counter, value) in &snapshot.plugin_counters {
        counters.sample(&none.with("plugin", plugin).with("counter", counter), value);
    }
    let mut faults = text.family(
        "sluicegate_sandbox_faults_total",
        Kind::Counter,
        "Calls of plugins that the sandbox ended, by what ended them.",
    );
    for (plugin, limit, count) in &snapshot.faults {
        faults.sample(&none.with("plugin", plugin).with("limit", limit), count);
    }
}

fn components(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut family = counter(
        text,
        "component_received_events_total",
        "Events that a component got; the source, from its origin, known ones and rejected records included.",
    );
    for pipeline in pipelines {
        let read = pipeline.pipeline.all.events.read;
        family.sample(&pipeline.source, read);
        for (labels, stage) in pipeline.stages() {
            family.sample(labels, stage.counts.received);
        }
        for (labels, sink) in pipeline.sinks() {
            family.sample(labels, sink.counts.accepted.events);
        }
    }
    let mut family = counter(
        text,
        "component_received_event_bytes_total",
        "Bytes of the bodies of events that a component got.",
    );
    for pipeline in pipelines {
        family.sample(&pipeline.source, pipeline.pipeline.all.read_bytes);
        for (labels, sink) in pipeline.sinks() {
            family.sample(labels, sink.counts.accepted.bytes);
        }
    }
    let mut family = counter(
        text,
        "component_sent_events_total",
        "Events that a component passed on; a sink, that are durable on the other side.",
    );
    for pipeline in pipelines {
        let all = &pipeline.pipeline.all;
        let kept_back = all.events.duplicates + all.rejected;
        family.sample(&pipeline.source, all.events.read.saturating_sub(kept_back));
        for (labels, stage) in pipeline.stages() {
            family.sample(labels, stage.counts.sent);
        }
        for (labels, sink) in pipeline.sinks() {
            family.sample(labels, sink.counts.sent().events);
        }
    }
    let mut family = counter(
        text,
        "component_sent_event_bytes_total",
        "Bytes of the bodies of events that are durable on the other side of a sink.",
    );
    for pipeline in pipelines {
        for (labels, sink) in pipeline.sinks() {
            family.sample(labels, sink.counts.sent().bytes);
        }
    }
    discarded(pipelines, text);
    errors(pipelines, text);
}

fn discarded(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut family = counter(
        text,
        "component_discarded_events_total",
        "Events that a component did not pass on: on purpose (known already, or dropped by a stage), or kept as dead \
         letters.",
    );
    let mut both = |labels: &Labels, on_purpose: u64, not: u64| {
        family.sample_with(labels, ("intentional", "true"), on_purpose);
        family.sample_with(labels, ("intentional", "false"), not);
    };
    for pipeline in pipelines {
        let all = &pipeline.pipeline.all;
        both(&pipeline.source, all.events.duplicates, all.rejected);
        for (labels, stage) in pipeline.stages() {
            both(labels, stage.counts.dropped, stage.counts.rejected);
        }
        for (labels, sink) in pipeline.sinks() {
            both(labels, 0, sink.counts.refused.events);
        }
    }
}

fn errors(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut family = counter(
        text,
        "component_errors_total",
        "Calls of the source that failed, records that it, a stage or a sink could not handle.",
    );
    let mut error = |labels: &Labels, kind: &str, stage: &str, count: u64| {
        family.sample_with(&labels.with("error_type", kind), ("stage", stage), count);
    };
    for pipeline in pipelines {
        let all = &pipeline.pipeline.all;
        for (kind, count) in ErrorType::ALL.into_iter().zip(all.errors) {
            error(&pipeline.source, kind.name(), "receiving", count);
        }
        error(&pipeline.source, "parser_failed", "receiving", all.rejected);
        for (labels, stage) in pipeline.stages() {
            error(
                labels,
                "event_rejected",
                "processing",
                stage.counts.rejected,
            );
        }
        for (labels, sink) in pipeline.sinks() {
            error(
                labels,
                "event_refused",
                "sending",
                sink.counts.refused.events,
            );
        }
    }
}

fn what_can_be_used(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut each = |name: &str, help: &str, value: fn(&PipelineSnapshot) -> u64| {
        let mut family = text.family(name, Kind::Gauge, help);
        for pipeline in pipelines {
            family.sample(&pipeline.own, value(pipeline.pipeline));
        }
    };
    each(
        "sluicegate_config_up",
        "Whether the pipeline's file could be used when it was read last; it goes on as it was when not.",
        |pipeline| u64::from(pipeline.config_trouble.is_none()),
    );
    each(
        "sluicegate_dead_letter_bytes",
        "Size of the file of dead letters.",
        |pipeline| pipeline.dead_letters.bytes,
    );
    each(
        "sluicegate_dead_letter_limit_bytes",
        "How large the file of dead letters may be; then everything waits.",
        |pipeline| pipeline.dead_letters.most_bytes,
    );
    each(
        "sluicegate_dead_letter_up",
        "Whether dead letters can be kept; everything waits while they cannot.",
        |pipeline| u64::from(pipeline.dead_letters.trouble.is_none()),
    );
}

fn of_pipelines(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut each = |name: &str, kind, help: &str, value: fn(&PipelineSnapshot) -> u64| {
        let mut family = text.family(name, kind, help);
        for pipeline in pipelines {
            family.sample(&pipeline.own, value(pipeline.pipeline));
        }
    };
    each(
        "sluicegate_tenants",
        Kind::Gauge,
        "Tenants that run.",
        |pipeline| pipeline.tenants.len() as u64,
    );
    each(
        "sluicegate_buffer_bytes",
        Kind::Gauge,
        "Bytes between the plugins and the commit.",
        |pipeline| pipeline.held_bytes,
    );
    each(
        "sluicegate_buffer_limit_bytes",
        Kind::Gauge,
        "Most bytes between the plugins and the commit; then plugins wait.",
        |pipeline| pipeline.room_bytes,
    );
    each(
        "sluicegate_buffer_waits_total",
        Kind::Counter,
        "How often a plugin had to wait for room.",
        |pipeline| pipeline.waited,
    );
    each(
        "sluicegate_ledger_up",
        Kind::Gauge,
        "Whether the ledger could be asked for this answer; what only it knows is missing when not.",
        |pipeline| u64::from(pipeline.ledger_trouble.is_none()),
    );
    let mut family = text.family(
        "sluicegate_plugin_info",
        Kind::Gauge,
        "Which plugin is the source, with the SHA-256 of its component.",
    );
    for pipeline in pipelines {
        let labels = pipeline.own.with("plugin", &pipeline.pipeline.plugin);
        let digest = pipeline.pipeline.plugin_digest.as_str();
        family.sample_with(&labels, ("digest", digest), 1_u64);
    }
    let mut family = text.family(
        "sluicegate_sink_pending_events",
        Kind::Gauge,
        "Events that were handed to a sink and are not settled.",
    );
    for (labels, sink) in pipelines.iter().flat_map(Labelled::sinks) {
        family.sample(labels, sink.counts.pending().events);
    }
    let mut family = text.family(
        "sluicegate_sink_waiting_seconds",
        Kind::Gauge,
        "For how long everything has been waiting for a sink.",
    );
    for (labels, sink) in pipelines.iter().flat_map(Labelled::sinks) {
        let waiting = sink.counts.waiting.unwrap_or_default();
        family.sample(labels, Seconds(crate::clock::millis(waiting)));
    }
}

/// Only where a pipeline is traced.
fn telemetry(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let dropped = |one: &Labelled<'_>| one.pipeline.dropped_spans;
    if pipelines.iter().all(|one| dropped(one).is_none()) {
        return;
    }
    let mut family = counter(
        text,
        "sluicegate_telemetry_dropped_spans_total",
        "Spans that the collector of telemetry did not get: it was away or slow, or refused them.",
    );
    for pipeline in pipelines {
        if let Some(dropped) = dropped(pipeline) {
            family.sample(&pipeline.own, dropped);
        }
    }
}

fn of_tenants(pipelines: &[Labelled<'_>], text: &mut dyn Page) {
    let mut family = counter(
        text,
        "sluicegate_requests_total",
        "Requests of a tenant's plugin, by what became of them.",
    );
    for (labels, tenant) in pipelines.iter().flat_map(Labelled::tenants) {
        for (outcome, count) in Outcome::ALL.into_iter().zip(tenant.requests.0) {
            family.sample_with(labels, ("outcome", outcome.name()), count);
        }
    }
    let mut pace = |name: &str, help: &str, value: fn(&crate::limiter::Pace) -> f64| {
        let mut family = text.family(name, Kind::Gauge, help);
        for (labels, tenant) in pipelines.iter().flat_map(Labelled::tenants) {
            for (quota, pace) in &tenant.paces {
                family.sample_with(labels, ("quota", quota), value(pace));
            }
        }
    };
    pace(
        "sluicegate_limiter_rate",
        "Requests a minute that may be sent now; less than the budget while the origin complains.",
        |pace| pace.rate,
    );
    pace(
        "sluicegate_limiter_budget",
        "Requests a minute that may be sent at most.",
        |pace| pace.budget,
    );
    #[allow(clippy::cast_precision_loss, reason = "a few hundred requests at most")]
    pace(
        "sluicegate_limiter_in_flight",
        "Requests that are under way.",
        |pace| pace.in_flight as f64,
    );
    #[allow(clippy::cast_precision_loss, reason = "a few hundred requests at most")]
    pace(
        "sluicegate_limiter_in_flight_limit",
        "Requests that may be under way at once.",
        |pace| pace.cap as f64,
    );
    pace(
        "sluicegate_limiter_pause_seconds",
        "How long nothing will be sent because the origin asked for it.",
        |pace| pace.pause.as_secs_f64(),
    );
}

fn tokens(pipelines: &[Labelled<'_>], now_ms: i64, text: &mut dyn Page) {
    let mut family = text.family(
        "sluicegate_token_expiry_seconds",
        Kind::Gauge,
        "Time until a tenant's present token ends; tokens are renewed before.",
    );
    for (labels, tenant) in pipelines.iter().flat_map(Labelled::tenants) {
        if let Some(expires_ms) = tenant.token_expires_ms {
            family.sample(labels, Seconds(expires_ms.saturating_sub(now_ms)));
        }
    }
}

fn counter<'p>(text: &'p mut dyn Page, name: &str, help: &str) -> Family<'p> {
    text.family(name, Kind::Counter, help)
}

#[cfg(test)]
mod tests;
