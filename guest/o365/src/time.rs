//! Times and durations as the API and the config write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Timelike, Utc};

use crate::world::Timestamp;

/// Milliseconds in a minute, the grain of every window border.
pub const MINUTE: i64 = 60_000;
/// Milliseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Milliseconds in a day.
pub const DAY: i64 = 24 * HOUR;

/// The last border of a grid at or before a time.
pub fn floor(time: Timestamp, grid: i64) -> Timestamp {
    time.div_euclid(grid) * grid
}

/// The first border of a grid at or behind a time.
pub fn ceil(time: Timestamp, grid: i64) -> Timestamp {
    floor(time.saturating_add(grid - 1), grid)
}

/// The form that the API documents: UTC, seconds, no zone.
pub fn query(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%S")
}

/// For people.
pub fn show(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

fn format(time: Timestamp, form: &str) -> String {
    DateTime::from_timestamp_millis(time).map_or_else(
        || format!("{time} ms"),
        |time| time.format(form).to_string(),
    )
}

/// Reads the times that the service writes: with or without zone, fraction or time of day; UTC
/// unless it says otherwise.
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let plain = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    for form in [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
    ] {
        if let Ok(time) = NaiveDateTime::parse_from_str(plain, form) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let day = NaiveDate::parse_from_str(plain, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// Reads a `Date` or `Retry-After` header.
pub fn parse_http(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc2822(text.trim())
        .ok()?
        .with_timezone(&Utc);
    (time.second() < 60).then(|| time.timestamp_millis())
}

/// Reads `90s`, `10m`, `24h`, `7d` or a sum such as `1h30m`, in milliseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut digits = String::new();
    let mut letters = text.trim().chars().peekable();
    letters.peek()?;
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            'm' if letters.next_if_eq(&'s').is_some() => 1,
            's' => 1000,
            'm' => MINUTE,
            'h' => HOUR,
            'd' => DAY,
            _ => return None,
        };
        let count: i64 = digits.parse().ok()?;
        digits.clear();
        total = total.checked_add(count.checked_mul(unit)?)?;
    }
    digits.is_empty().then_some(total)
}
