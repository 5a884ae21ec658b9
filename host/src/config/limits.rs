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
    /// Most requests in any sliding minute. The service's own limit is 2,000 per tenant; the host
    /// slows down below it by itself when the service throttles.
    #[schemars(extend("default" = 2000))]
    pub requests_per_minute: Option<u32>,
    /// Most requests under way at once.
    #[schemars(extend("default" = 32))]
    pub in_flight: Option<u32>,
    /// Most memory of one call of the plugin. A call that needs more ends, and the next one starts
    /// clean.
    #[schemars(extend("default" = "192MiB"))]
    pub memory: Option<Size>,
    /// Longest time one call may take, waiting for the network included, waiting for the sinks not.
    #[schemars(extend("default" = "300s"))]
    pub call_timeout: Option<Period>,
    /// Longest time a call may compute without handing events over.
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
            memory: 192 << 20,
            call_timeout: Duration::from_mins(5),
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
const SECOND: u64 = 1_000;

impl Limits {
    /// These limits with what the section at `path` sets; what is out of range is reported.
    #[must_use]
    pub fn with(&self, section: &LimitsSection, path: &Path, report: &Report<'_>) -> Self {
        let checked = Checked { report, path };
        macro_rules! check {
            ($kind:ident, $field:ident, $least:expr, $most:expr) => {
                checked.$kind(
                    stringify!($field),
                    section.$field,
                    self.$field,
                    ($least, $most),
                )
            };
        }
        Self {
            requests_per_minute: check!(count, requests_per_minute, 1, 10_000_000),
            // More connections than this to one host help nobody.
            in_flight: check!(count, in_flight, 1, 1024),
            // A component's memory is addressed with 32 bits.
            memory: check!(size, memory, MIB, 4095 * MIB),
            call_timeout: check!(period, call_timeout, SECOND / 10, 86_400 * SECOND),
            cpu_timeout: check!(period, cpu_timeout, 20, 3_600 * SECOND),
            requests_per_call: check!(count, requests_per_call, 1, 10_000_000),
            splits_per_call: check!(count, splits_per_call, 1, 1_000_000),
            batch_events: check!(count, batch_events, 1, 100_000),
            batch_bytes: check!(size, batch_bytes, KIB, 64 * MIB),
            event_bytes: check!(size, event_bytes, KIB, GIB),
            output_bytes: check!(size, output_bytes, KIB, 1024 * GIB),
            response_bytes: check!(size, response_bytes, KIB, 64 * GIB),
            state_bytes: check!(size, state_bytes, KIB, GIB),
            log_lines_per_second: check!(count, log_lines_per_second, 1, 1_000_000),
        }
    }
}

/// What a limit can be kept in.
trait Number: Copy + TryInto<u64> + TryFrom<u64> {}

impl<T: Copy + TryInto<u64> + TryFrom<u64>> Number for T {}

/// Values of a section on their way to what they are checked for.
struct Checked<'a, 'n> {
    report: &'a Report<'n>,
    path: &'a Path,
}

impl Checked<'_, '_> {
    fn count<T: Number>(&self, key: &str, value: Option<u32>, default: T, bounds: (u64, u64)) -> T {
        self.number(key, value.map(u64::from), default, bounds, |number| {
            number.to_string()
        })
    }

    fn size<T: Number>(&self, key: &str, value: Option<Size>, default: T, bounds: (u64, u64)) -> T {
        let value = value.map(|size| size.0);
        self.number(key, value, default, bounds, |bytes| Size(bytes).to_string())
    }

    fn number<T: Number>(
        &self,
        key: &str,
        value: Option<u64>,
        default: T,
        bounds: (u64, u64),
        print: impl Fn(u64) -> String,
    ) -> T {
        let wide = default.try_into().unwrap_or(u64::MAX);
        let number = in_range(self.report, &self.path.key(key), value, wide, bounds, print);
        // The bounds fit the type of every field on every machine that runs this.
        T::try_from(number).unwrap_or(default)
    }

    fn period(
        &self,
        key: &str,
        value: Option<Period>,
        default: Duration,
        (least_ms, most_ms): (u64, u64),
    ) -> Duration {
        let bounds = (
            Duration::from_millis(least_ms),
            Duration::from_millis(most_ms),
        );
        let value = value.map(|period| period.0);
        let print = |time| Period(time).to_string();
        in_range(
            self.report,
            &self.path.key(key),
            value,
            default,
            bounds,
            print,
        )
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
