//! A range of time on the command line, and how it reaches a plugin.
//!
//! Plugins that know the config keys `since` and `until` list that range only. Their borders are whole minutes, so the
//! range is widened to those.

use std::str::FromStr;
use std::time::Duration;

use crate::capability::Grants;
use crate::clock::millis;
use crate::config::Config;
use crate::config::unit::Period;
use crate::engine::rfc3339;
use crate::error::{Error, Kind};
use crate::pipeline::{Runtime, read_plugin};
use crate::plugin::Plugin;

const MINUTE_MS: i64 = 60_000;

/// Services such as Microsoft's keep content for seven days.
const KEPT_MS: i64 = 7 * 24 * 60 * MINUTE_MS;

/// Whoever says `7d` means all there is; the last minutes of that can be gone before they are asked for.
const EDGE_MS: i64 = 10 * MINUTE_MS;

/// A point in time as people write it: `2026-05-02T10:00:00Z`, `2026-05-02`, or `3d` for three days ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    At(i64),
    Ago(Duration),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(period) = Period::parse(text) {
            return Ok(Self::Ago(period.0));
        }
        if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.timestamp_millis()));
        }
        let date = text.parse::<chrono::NaiveDate>();
        let midnight = date.ok().and_then(|date| date.and_hms_opt(0, 0, 0));
        midnight.map(|time| Self::At(time.and_utc().timestamp_millis())).ok_or_else(|| {
            "a time is `2026-05-02T10:00:00Z`, `2026-05-02` (UTC) or a span back from now such as `3d`"
                .into()
        })
    }
}

impl Point {
    pub(super) fn ms(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(span) => now_ms.saturating_sub(millis(span)),
        }
    }
}

/// From the first instant to before the last, both on whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeRange {
    pub since_ms: i64,
    pub until_ms: i64,
}

impl TimeRange {
    /// The range from `since` to `until`, or to now.
    pub fn new(since: Point, until: Option<Point>, now_ms: i64) -> Result<Self, Error> {
        let floor = |ms: i64| ms.div_euclid(MINUTE_MS).saturating_mul(MINUTE_MS);
        let until_ms = until.map_or(now_ms, |until| until.ms(now_ms));
        let since_ms = floor(since.ms(now_ms));
        let oldest_ms = floor(now_ms.saturating_sub(KEPT_MS));
        let range = Self {
            since_ms: if (oldest_ms..oldest_ms + EDGE_MS).contains(&since_ms) {
                oldest_ms + EDGE_MS
            } else {
                since_ms
            },
            until_ms: floor(until_ms.saturating_add(MINUTE_MS - 1)),
        };
        if range.since_ms < range.until_ms {
            return Ok(range);
        }
        let (since, until) = (rfc3339(range.since_ms), rfc3339(range.until_ms));
        let what = format!("the range ends ({until}) before it begins ({since})");
        Err(Error::new(Kind::Usage, what)
            .help("`--since` is the earlier, `--until` the later time"))
    }

    /// The part of it that can still be listed.
    pub fn kept(self, now_ms: i64) -> Result<Self, Error> {
        let oldest_ms = (now_ms - KEPT_MS).div_euclid(MINUTE_MS) * MINUTE_MS + EDGE_MS;
        if oldest_ms < self.until_ms {
            return Ok(Self {
                since_ms: self.since_ms.max(oldest_ms),
                ..self
            });
        }
        let what = format!("nothing from before {} is kept", rfc3339(self.until_ms));
        Err(Error::new(Kind::Usage, what).help("the service keeps content for seven days"))
    }

    /// Whether a time lies within.
    pub fn contains(self, ms: i64) -> bool {
        (self.since_ms..self.until_ms).contains(&ms)
    }

    /// Both borders, as they are written into configs and shown.
    pub fn borders(self) -> (String, String) {
        (rfc3339(self.since_ms), rfc3339(self.until_ms))
    }

    /// Has every tenant's plugin list this range and nothing else.
    pub fn narrow(self, config: &mut Config) {
        let (since, until) = self.borders();
        for tenant in &mut config.source.tenants {
            if let Some(config) = tenant.config.as_object_mut() {
                config.insert("since".into(), since.as_str().into());
                config.insert("until".into(), until.as_str().into());
            }
        }
    }
}

/// Whether a pipeline's plugin knows `since` and `until`: its config schema says so.
pub(super) async fn is_known(config: &Config, runtime: &Runtime) -> Result<bool, Error> {
    let (name, bytes) = read_plugin(&config.source.plugin)?;
    // Asking it what it is needs an instance; `describe` runs without network, state or output.
    let all = Grants {
        http: true,
        wasi: true,
    };
    let plugin = Plugin::load(&runtime.sandbox, &name, &bytes, all).await?;
    let schema = plugin.describe().await?.config_schema;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap_or_default();
    let has = |key: &str| schema.pointer(&format!("/properties/{key}")).is_some();
    Ok(has("since") && has("until"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-05-02T10:30:20Z.
    const NOW_MS: i64 = 1_777_717_820_000;

    #[track_caller]
    fn check(since: &str, until: Option<&str>, expected: (&str, &str)) {
        let point = |text: &str| text.parse::<Point>().unwrap();
        let range = TimeRange::new(point(since), until.map(point), NOW_MS).unwrap();
        let (since, until) = range.borders();
        assert_eq!((&*since, &*until), expected);
    }

    #[test]
    fn times_spans_and_days_become_whole_minutes() {
        check("7d", None, ("2026-04-25T10:40:00Z", "2026-05-02T10:31:00Z"));
        check("8d", None, ("2026-04-24T10:30:00Z", "2026-05-02T10:31:00Z"));
        check("2h", None, ("2026-05-02T08:30:00Z", "2026-05-02T10:31:00Z"));
        check(
            "2026-05-01",
            Some("2026-05-02"),
            ("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"),
        );
        check(
            "2026-05-01T10:00:30+02:00",
            Some("1d"),
            ("2026-05-01T08:00:00Z", "2026-05-01T10:31:00Z"),
        );
    }

    #[test]
    fn nothing_else_is_a_time_and_a_range_goes_forward() {
        for text in [
            "",
            "3",
            "yesterday",
            "2026-05-02 10:00",
            "3d ago",
            "2026-13-01",
        ] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
        let ago = |hours| Point::Ago(Duration::from_hours(hours));
        let error = TimeRange::new(ago(1), Some(ago(2)), NOW_MS).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        let old = TimeRange::new(ago(300), Some(ago(200)), NOW_MS).unwrap();
        assert_eq!(old.kept(NOW_MS).unwrap_err().kind, Kind::Usage);
        let week = TimeRange::new(ago(7 * 24), None, NOW_MS).unwrap();
        let all = TimeRange::new(ago(300), None, NOW_MS).unwrap();
        assert_eq!(all.kept(NOW_MS).unwrap(), week);
        assert_eq!(week.kept(NOW_MS).unwrap(), week);
    }
}
