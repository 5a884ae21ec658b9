//! The rows over the host's metrics.

use super::{Kind, Panel};

const fn lines(
    title: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
    about: &'static str,
) -> Panel {
    Panel {
        title,
        about,
        kind: Kind::Lines,
        unit,
        queries,
    }
}

const fn stat(
    title: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
    about: &'static str,
) -> Panel {
    Panel {
        title,
        about,
        kind: Kind::Stat,
        unit,
        queries,
    }
}

/// Everything in Grafana: rows with their panels.
pub const ROWS: &[(&str, &[Panel])] = &[
    (
        "At a glance",
        &[
            stat(
                "Tenants",
                "short",
                &[(
                    r#"sum(sluicegate_tenants{pipeline=~"$pipeline"})"#,
                    "tenants",
                )],
                "Tenants that run.",
            ),
            stat(
                "Unhealthy streams",
                "short",
                &[(
                    r#"count(sluicegate_stream_healthy{pipeline=~"$pipeline",tenant=~"$tenant"} == 0) or vector(0)"#,
                    "streams",
                )],
                "Streams that deliver or list nothing further; `sluicegate state` says why.",
            ),
            stat(
                "Events a second",
                "short",
                &[(
                    r#"sum(rate(component_sent_events_total{pipeline=~"$pipeline",component_kind="sink"}[$__rate_interval]))"#,
                    "events",
                )],
                "What the sinks have durably.",
            ),
            stat(
                "Declared losses",
                "short",
                &[(
                    r#"sum(increase(sluicegate_losses_total{pipeline=~"$pipeline",tenant=~"$tenant"}[$__range]))"#,
                    "losses",
                )],
                "What the service deleted before it could be read, in the time on the page.",
            ),
        ],
    ),
    (
        "Delivery",
        &[
            lines(
                "Events delivered",
                "short",
                &[(
                    r#"sum by (tenant, stream) (rate(sluicegate_events_delivered_total{pipeline=~"$pipeline",tenant=~"$tenant"}[$__rate_interval]))"#,
                    "{{tenant}} {{stream}}",
                )],
                "A second, for each stream.",
            ),
            lines(
                "Lag",
                "s",
                &[(
                    r#"max by (tenant, stream) (sluicegate_stream_watermark_age_seconds{pipeline=~"$pipeline",tenant=~"$tenant"})"#,
                    "{{tenant}} {{stream}}",
                )],
                "How long ago was the time up to which everything is listed.",
            ),
            lines(
                "From event to sink",
                "s",
                &[(
                    r#"histogram_quantile(0.95, sum by (le, part) (rate(sluicegate_lag_seconds_bucket{pipeline=~"$pipeline",tenant=~"$tenant"}[$__rate_interval])))"#,
                    "{{part}}",
                )],
                "The lag that 95 of 100 events stay below, in its three parts.",
            ),
            lines(
                "Backlog",
                "short",
                &[
                    (
                        r#"sum by (tenant) (sluicegate_splits_pending{pipeline=~"$pipeline",tenant=~"$tenant"})"#,
                        "{{tenant}} waiting",
                    ),
                    (
                        r#"sum by (tenant) (sluicegate_splits_in_quarantine{pipeline=~"$pipeline",tenant=~"$tenant"}) > 0"#,
                        "{{tenant}} in quarantine",
                    ),
                ],
                "Splits that are found and not delivered.",
            ),
        ],
    ),
    (
        "Trouble",
        &[
            lines(
                "Errors of streams",
                "short",
                &[(
                    r#"sum by (tenant, error_type) (rate(sluicegate_stream_errors_total{pipeline=~"$pipeline",tenant=~"$tenant"}[$__rate_interval])) > 0"#,
                    "{{tenant}} {{error_type}}",
                )],
                "Failed calls of the source, a second.",
            ),
            lines(
                "Errors of components",
                "short",
                &[(
                    r#"sum by (component_id, error_type) (rate(component_errors_total{pipeline=~"$pipeline"}[$__rate_interval])) > 0"#,
                    "{{component_id}} {{error_type}}",
                )],
                "What a source, stage or sink could not handle, a second.",
            ),
            lines(
                "Events not delivered",
                "short",
                &[
                    (
                        r#"sum by (tenant) (rate(sluicegate_events_dead_lettered_total{pipeline=~"$pipeline",tenant=~"$tenant"}[$__rate_interval]))"#,
                        "{{tenant}} dead letters",
                    ),
                    (
                        r#"sum by (component_id) (rate(component_discarded_events_total{pipeline=~"$pipeline",intentional="true"}[$__rate_interval]))"#,
                        "{{component_id}} dropped on purpose",
                    ),
                ],
                "Dead letters; and what was known already, or dropped by a stage.",
            ),
            lines(
                "Time until content expires",
                "s",
                &[(
                    r#"min by (tenant, stream) (sluicegate_stream_expiry_seconds{pipeline=~"$pipeline",tenant=~"$tenant"})"#,
                    "{{tenant}} {{stream}}",
                )],
                "Of what is found and not delivered.",
            ),
        ],
    ),
    (
        "Sinks",
        &[
            lines(
                "Events taken",
                "short",
                &[(
                    r#"sum by (component_id) (rate(component_sent_events_total{pipeline=~"$pipeline",component_kind="sink"}[$__rate_interval]))"#,
                    "{{component_id}}",
                )],
                "A second.",
            ),
            lines(
                "Bytes taken",
                "Bps",
                &[(
                    r#"sum by (component_id) (rate(component_sent_event_bytes_total{pipeline=~"$pipeline",component_kind="sink"}[$__rate_interval]))"#,
                    "{{component_id}}",
                )],
                "Of the bodies of events.",
            ),
            lines(
                "Waiting for acknowledgement",
                "short",
                &[(
                    r#"sum by (component_id) (sluicegate_sink_pending_events{pipeline=~"$pipeline"})"#,
                    "{{component_id}}",
                )],
                "Events that were handed over and are not settled.",
            ),
            lines(
                "Everything waits",
                "s",
                &[(
                    r#"max by (component_id) (sluicegate_sink_waiting_seconds{pipeline=~"$pipeline"})"#,
                    "{{component_id}}",
                )],
                "For how long everything has been waiting for a sink; a minute makes the process not ready.",
            ),
        ],
    ),
    (
        "Service and host",
        &[
            lines(
                "Requests",
                "reqpm",
                &[(
                    r#"sum by (tenant, outcome) (rate(sluicegate_requests_total{pipeline=~"$pipeline",tenant=~"$tenant"}[$__rate_interval])) * 60"#,
                    "{{tenant}} {{outcome}}",
                )],
                "A minute, by what became of them.",
            ),
            lines(
                "Pace",
                "reqpm",
                &[
                    (
                        r#"sum by (tenant) (sluicegate_limiter_rate{pipeline=~"$pipeline",tenant=~"$tenant"})"#,
                        "{{tenant}} now",
                    ),
                    (
                        r#"sum by (tenant) (sluicegate_limiter_budget{pipeline=~"$pipeline",tenant=~"$tenant"})"#,
                        "{{tenant}} budget",
                    ),
                ],
                "Requests a minute that may be sent; less than the budget while the service complains.",
            ),
            lines(
                "Buffer",
                "bytes",
                &[
                    (
                        r#"sum by (pipeline) (sluicegate_buffer_bytes{pipeline=~"$pipeline"})"#,
                        "{{pipeline}}",
                    ),
                    (
                        r#"sum by (pipeline) (sluicegate_buffer_limit_bytes{pipeline=~"$pipeline"})"#,
                        "{{pipeline}} limit",
                    ),
                ],
                "Between plugins and commit; at the limit plugins wait.",
            ),
            lines(
                "Memory",
                "bytes",
                &[
                    ("process_resident_memory_bytes", "{{instance}}"),
                    (
                        "sluicegate_sandbox_memory_peak_bytes",
                        "{{instance}} largest call of a plugin",
                    ),
                ],
                "Of the process, and the most that any call of a plugin has used.",
            ),
        ],
    ),
];
