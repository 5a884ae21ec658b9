//! Instants as milliseconds since 1970 UTC, and the texts in which the service writes and reads
//! them.
//!
//! There is no clock here: every instant is passed in.

/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;
/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// The parts of an instant, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub millisecond: i64,
    weekday: usize,
}

/// Splits an instant (Howard Hinnant's `civil_from_days`).
pub(crate) fn parts(ms: i64) -> Parts {
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    Parts {
        year: yoe + era * 400 + i64::from(month <= 2),
        month,
        day: doy - (153 * mp + 2) / 5 + 1,
        hour: rest / HOUR_MS,
        minute: rest / 60_000 % 60,
        second: rest / 1_000 % 60,
        millisecond: rest % 1_000,
        weekday: usize::try_from((days + 4).rem_euclid(7)).expect("a weekday is below 7"),
    }
}

/// `2026-01-10T08:41:07`, as records carry it.
pub(crate) fn seconds(ms: i64) -> String {
    let p = parts(ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        p.year, p.month, p.day, p.hour, p.minute, p.second
    )
}

/// `2026-01-10T09:04:41.009Z`, as listings carry it.
pub(crate) fn millis(ms: i64) -> String {
    format!("{}.{:03}Z", seconds(ms), ms.rem_euclid(1_000))
}

/// `2026-01-10T09:00:00.0000000Z`, as page URLs carry it.
pub(crate) fn ticks(ms: i64) -> String {
    format!("{}.{:03}0000Z", seconds(ms), ms.rem_euclid(1_000))
}

/// `20260110090312518`, as content ids carry it.
pub(crate) fn digits(ms: i64) -> String {
    let p = parts(ms);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}{:03}",
        p.year, p.month, p.day, p.hour, p.minute, p.second, p.millisecond
    )
}

/// `2026-01-01 00:00:00Z`, as token errors carry it.
pub(crate) fn spaced(ms: i64) -> String {
    format!("{}Z", seconds(ms).replace('T', " "))
}

/// `Sat, 10 Jan 2026 09:04:41 GMT`, as HTTP headers carry it.
pub(crate) fn http_date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let p = parts(ms);
    let month = usize::try_from(p.month - 1).expect("a month is 1 to 12");
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[p.weekday], p.day, MONTHS[month], p.year, p.hour, p.minute, p.second
    )
}

/// Reads every form of time that the service has been seen to accept in a window.
///
/// `YYYY-MM-DD`, `THH:MM`, `:SS`, a fraction of one to nine digits, `Z` or `+00:00`.
/// Sub-millisecond digits are cut off, since content has no finer time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))
        .unwrap_or(text);
    let (date, clock) = text
        .split_once('T')
        .map_or((text, None), |(d, c)| (d, Some(c)));
    let mut ms = parse_date(date)?;
    if let Some(clock) = clock {
        let (whole, fraction) = clock
            .split_once('.')
            .map_or((clock, None), |(w, f)| (w, Some(f)));
        let mut fields = whole.split(':');
        let hour = number(fields.next()?, 2, 0..=23)?;
        let minute = number(fields.next()?, 2, 0..=59)?;
        let second = fields.next().map_or(Some(0), |s| number(s, 2, 0..=59))?;
        if fields.next().is_some() || (fraction.is_some() && whole.len() < 8) {
            return None;
        }
        ms += (hour * 3_600 + minute * 60 + second) * 1_000;
        ms += fraction.map_or(Some(0), parse_fraction)?;
    }
    Some(ms)
}

/// Reads what [`digits`] wrote.
pub(crate) fn from_digits(text: &str) -> Option<i64> {
    if text.len() != 17 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (date, clock) = text.split_at(8);
    let (y, m, d) = (&date[..4], &date[4..6], &date[6..]);
    parse(&format!(
        "{y}-{m}-{d}T{}:{}:{}.{}",
        &clock[..2],
        &clock[2..4],
        &clock[4..6],
        &clock[6..]
    ))
}

fn parse_date(text: &str) -> Option<i64> {
    let mut fields = text.split('-');
    let year = number(fields.next()?, 4, 1..=9_999)?;
    let month = number(fields.next()?, 2, 1..=12)?;
    let day = number(fields.next()?, 2, 1..=31)?;
    if fields.next().is_some() {
        return None;
    }
    let ms = days_from_civil(year, month, day) * DAY_MS;
    // 30 February would come back as another day.
    let back = parts(ms);
    ((back.month, back.day) == (month, day)).then_some(ms)
}

fn parse_fraction(text: &str) -> Option<i64> {
    if !(1..=9).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{text:0<3}")[..3].parse().ok()
}

fn number(text: &str, width: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    if text.len() != width || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| range.contains(n))
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_768_046_681_009; // 2026-01-10T12:04:41.009Z

    #[test]
    fn instants_are_written_in_every_form() {
        assert_eq!(seconds(NOON), "2026-01-10T12:04:41");
        assert_eq!(millis(NOON), "2026-01-10T12:04:41.009Z");
        assert_eq!(ticks(NOON), "2026-01-10T12:04:41.0090000Z");
        assert_eq!(digits(NOON), "20260110120441009");
        assert_eq!(from_digits("20260110120441009"), Some(NOON));
        assert_eq!(from_digits("2026011012044100x"), None);
        assert_eq!(spaced(NOON), "2026-01-10 12:04:41Z");
        assert_eq!(http_date(NOON), "Sat, 10 Jan 2026 12:04:41 GMT");
        assert_eq!(seconds(951_782_400_000), "2000-02-29T00:00:00");
        assert_eq!(seconds(-1), "1969-12-31T23:59:59");
    }

    #[test]
    fn window_times_are_read_in_every_accepted_form() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse(text), expected, "{text}");
        let day = NOON - NOON % DAY_MS;
        check("2026-01-10", Some(day));
        check("2026-01-10T12:04", Some(day + 12 * HOUR_MS + 4 * 60_000));
        check("2026-01-10T12:04:41", Some(NOON - 9));
        check("2026-01-10T12:04:41Z", Some(NOON - 9));
        check("2026-01-10T12:04:41.009", Some(NOON));
        check("2026-01-10T12:04:41.009123Z", Some(NOON));
        check("2026-01-10T12:04:41.0090000Z", Some(NOON));
        check("2026-01-10T12:04:41.009999999", Some(NOON));
        check("2026-01-10T12:04:41+00:00", Some(NOON - 9));
        check("2026-01-10T12:04:41.0Z", Some(NOON - 9));
        for bad in [
            "",
            "2026",
            "2026-02-30",
            "2026-01-10T",
            "2026-01-10T24:00",
            "2026-1-10",
            "2026-01-10T12:04.5",
            "2026-01-10T12:04:41.",
            "2026-01-10T12:04:41.1234567890",
            "2026-01-10T12:04:41+02:00",
            "2026-01-10 12:04:41",
        ] {
            check(bad, None);
        }
    }
}
