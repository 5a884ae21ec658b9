//! Section `limits`: what one tenant, one call or one event may use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::report::{Path, Report};
use super::unit::{Period, Size};

/// What one tenant of the source may use; also for a `wasm` stage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "limits")]
pub struct LimitsSection {
    /// Most requests in any sliding minute. The service's own limit is 2,000 per tenant; the host slows down
    /// below it by itself when the service throttles.
    #[schemars(extend("default" = 2000))]
    pub requests_per_minute: Option<u32>,
    /// Most requests under way at once.
    #[schemars(extend("default" = 32))]
    pub in_flight: Option<u32>,
    /// Most memory of one call of the plugin. A call that needs more ends, and the next one starts clean.
    #[schemars(extend("default" = "64MiB"))]
    pub memory: Option<Size>,
    /// Longest time one call may take, waiting included.
    #[schemars(extend("default" = "300s"))]
    pub call_timeout: Option<Period>,
    /// Longest time a call may compute without once asking the host for anything.
    #[schemars(extend("default" = "5s"))]
    pub cpu_timeout: Option<Period>,
    /// Most requests of one call.
    #[schemars(extend("default" = 10_000))]
    pub requests_per_call: Option<u32>,
    /// Most splits that one listing call may return.
    #[schemars(extend("default" = 10_000))]
    pub splits_per_call: Option<u32>,
    /// Most events in one batch.
    #[schemars(extend("default" = 1000))]
    pub batch_events: Option<u32>,
    /// Most bytes in one batch of more than one event.
    #[schemars(extend("default" = "1MiB"))]
    pub batch_bytes: Option<Size>,
    /// Most bytes of one event.
    #[schemars(extend("default" = "32MiB"))]
    pub event_bytes: Option<Size>,
    /// Most bytes that one call may hand over as events.
    #[schemars(extend("default" = "4GiB"))]
    pub output_bytes: Option<Size>,
    /// Most bytes of one response, unpacked.
    #[schemars(extend("default" = "512MiB"))]
    pub response_bytes: Option<Size>,
    /// Most bytes of state of one stream.
    #[schemars(extend("default" = "64MiB"))]
    pub state_bytes: Option<Size>,
    /// Most log lines of one call per second; what is more is counted, not printed.
    #[schemars(extend("default" = 100))]
    pub log_lines_per_second: Option<u32>,
}

/// What one tenant, call or event may use; see [`LimitsSection`] for what each is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the section's fields of the same names carry the words"
)]
pub struct Limits {
    pub requests_per_minute: u32,
    pub in_flight: usize,
    pub memory: usize,
    pub call_timeout: Duration,
    pub cpu_timeout: Duration,
    pub requests_per_call: u32,
    pub splits_per_call: u32,
    pub batch_events: u32,
    pub batch_bytes: u32,
    pub event_bytes: u32,
    pub output_bytes: u64,
    pub response_bytes: u64,
    pub state_bytes: u64,
    pub log_lines_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: 2000,
            in_flight: 32,
            memory: 64 << 20,
            call_timeout: Duration::from_secs(300),
            cpu_timeout: Duration::from_secs(5),
            requests_per_call: 10_000,
            splits_per_call: 10_000,
            batch_events: 1000,
            batch_bytes: 1 << 20,
            event_bytes: 32 << 20,
            output_bytes: 4 << 30,
            response_bytes: 512 << 20,
            state_bytes: 64 << 20,
            log_lines_per_second: 100,
        }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Limits {
    /// These limits with what the section at `path` sets; what is out of range is reported.
    #[must_use]
    pub fn with(&self, section: &LimitsSection, path: &Path, report: &Report<'_>) -> Self {
        let count = |key, value: Option<u32>, default: u32, most: u32| {
            in_range(report, &path.key(key), value, default, (1, most), |n| {
                n.to_string()
            })
        };
        let size = |key, value: Option<Size>, default: u64, least: u64, most: u64| {
            let value = value.map(|size| size.0);
            let print = |bytes| Size(bytes).to_string();
            in_range(report, &path.key(key), value, default, (least, most), print)
        };
        let period = |key, value: Option<Period>, default: Duration, least_ms, most_s| {
            let bounds = (Duration::from_millis(least_ms), Duration::from_secs(most_s));
            let value = value.map(|period| period.0);
            let print = |time| Period(time).to_string();
            in_range(report, &path.key(key), value, default, bounds, print)
        };
        // Each of these stays below 4 GiB, so nothing is cut off.
        let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let memory = size(
            "memory",
            section.memory,
            self.memory as u64,
            MIB,
            4 * GIB - 1,
        );
        let batch_bytes = u64::from(self.batch_bytes);
        let event_bytes = u64::from(self.event_bytes);
        Self {
            requests_per_minute: count(
                "requests_per_minute",
                section.requests_per_minute,
                self.requests_per_minute,
                10_000_000,
            ),
            in_flight: count(
                "in_flight",
                section.in_flight,
                small(self.in_flight as u64),
                1024,
            ) as usize,
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            call_timeout: period(
                "call_timeout",
                section.call_timeout,
                self.call_timeout,
                100,
                86_400,
            ),
            cpu_timeout: period(
                "cpu_timeout",
                section.cpu_timeout,
                self.cpu_timeout,
                10,
                3600,
            ),
            requests_per_call: count(
                "requests_per_call",
                section.requests_per_call,
                self.requests_per_call,
                10_000_000,
            ),
            splits_per_call: count(
                "splits_per_call",
                section.splits_per_call,
                self.splits_per_call,
                1_000_000,
            ),
            batch_events: count(
                "batch_events",
                section.batch_events,
                self.batch_events,
                100_000,
            ),
            batch_bytes: small(size(
                "batch_bytes",
                section.batch_bytes,
                batch_bytes,
                KIB,
                64 * MIB,
            )),
            event_bytes: small(size(
                "event_bytes",
                section.event_bytes,
                event_bytes,
                KIB,
                GIB,
            )),
            output_bytes: size(
                "output_bytes",
                section.output_bytes,
                self.output_bytes,
                KIB,
                u64::MAX,
            ),
            response_bytes: size(
                "response_bytes",
                section.response_bytes,
                self.response_bytes,
                KIB,
                64 * GIB,
            ),
            state_bytes: size(
                "state_bytes",
                section.state_bytes,
                self.state_bytes,
                KIB,
                GIB,
            ),
            log_lines_per_second: count(
                "log_lines_per_second",
                section.log_lines_per_second,
                self.log_lines_per_second,
                1_000_000,
            ),
        }
    }
}

/// The value, or the default where there is none or it is out of range, which is reported.
pub(super) fn in_range<T: PartialOrd + Copy>(
    report: &Report<'_>,
    path: &Path,
    value: Option<T>,
    default: T,
    (least, most): (T, T),
    print: impl Fn(T) -> String,
) -> T {
    match value {
        Some(value) if value < least || value > most => {
            let what = format!("`{}` is out of range", print(value));
            report.add(
                path,
                what,
                format!("from {} to {}", print(least), print(most)),
            );
            default
        }
        Some(value) => value,
        None => default,
    }
}
