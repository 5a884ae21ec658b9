//! Dates: ISO 8601 in, one form out.
//!
//! Own code and not a date library: the accepted forms are few and fixed, and this runs for every
//! event.

use bumpalo::Bump;

use crate::event::{Event, Failure, Step, fail};
use crate::print::print;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::Value;

/// `@timestamp` from `CreationTime`.
pub(crate) fn timestamp(event: &mut Event<'_>) -> Step {
    let Some(value) = event.set(Known::CreationTime) else {
        // `newer` takes the time of arrival without a word.
        return if event.newer {
            Ok(())
        } else {
            fail("`CreationTime` is missing")
        };
    };
    let text = print(event.arena, value).decode(event.arena);
    let epoch = || event.robust.then(|| parse_epoch(text)).flatten();
    let time = parse(text)
        .or_else(epoch)
        .ok_or_else(|| no_date(text, Known::CreationTime.name()))?;
    event.time_ms = Some(time);
    let text = Text::plain(format(event.arena, time));
    event.document.set(Field::Timestamp, Value::Text(text));
    Ok(())
}

/// The six members that `newer` rewrites in place.
pub(crate) fn members(event: &mut Event<'_>) -> Step {
    const MEMBERS: [Known; 5] = [
        Known::EndTimeUtc,
        Known::LastUpdateTimeUtc,
        Known::StartTimeUtc,
        Known::StartTime,
        Known::FilteringDate,
    ];
    for known in MEMBERS {
        let Some(value) = event.set(known) else {
            continue;
        };
        if let Some(text) = rewrite(event, value, known.name(), parse)? {
            event.record.put(known, text);
        }
    }
    let Some(rescan) = event.object(Known::RescanResult)? else {
        return Ok(());
    };
    let Some(value) = rescan.set_member("Timestamp") else {
        return Ok(());
    };
    if let Some(text) = rewrite(event, value, "RescanResult.Timestamp", parse)? {
        let rescan = rescan.with(event.arena, "Timestamp", text);
        event.record.put(Known::RescanResult, rescan);
    }
    Ok(())
}

/// The date in the form of `@timestamp`. In robust mode nothing for `""`, and a line for what is no
/// date.
pub(crate) fn rewrite<'a>(
    event: &mut Event<'a>,
    value: Value<'a>,
    name: &str,
    parse: fn(&[u8]) -> Option<i64>,
) -> Result<Option<Value<'a>>, Failure> {
    if event.robust && value.is_blank() {
        return Ok(None);
    }
    let text = print(event.arena, value).decode(event.arena);
    if let Some(time) = parse(text) {
        return Ok(Some(Value::Text(Text::plain(format(event.arena, time)))));
    }
    let failure = no_date(text, name);
    if !event.robust {
        return Err(failure);
    }
    event.note(&failure.0);
    Ok(None)
}

fn no_date(text: &[u8], name: &str) -> Failure {
    let text: String = String::from_utf8_lossy(text).chars().take(80).collect();
    Failure(format!("`{name}` is no date: `{text}`"))
}

/// Seconds since 1970 in nine or ten digits, milliseconds in twelve or thirteen.
fn parse_epoch(text: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    match text.len() {
        9 | 10 => Some(number * 1000),
        12 | 13 => Some(number),
        _ => None,
    }
    .filter(|_| text.iter().all(u8::is_ascii_digit))
}

/// Milliseconds since 1970 of an ISO 8601 date, with UTC where no zone is given.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let mut reader = Reader { text };
    let year = reader.digits(4)?;
    let mut date = [year, 1, 1];
    for part in &mut date[1..] {
        if reader.text.is_empty() {
            break;
        }
        reader.skip(b'-')?;
        *part = reader.digits(2)?;
    }
    let mut time = [0; 3];
    let mut milliseconds = 0;
    let mut offset = 0;
    if reader.skip(b'T').is_some() {
        if text.len() < 13 || text[7] != b'-' {
            return None;
        }
        time[0] = reader.digits(2)?;
        for part in &mut time[1..] {
            if reader.skip(b':').is_none() {
                break;
            }
            *part = reader.digits(2)?;
        }
        if text.len() >= 19 && text[16] == b':' {
            milliseconds = reader.fraction()?;
        }
        offset = reader.zone()?;
    }
    let in_range = reader.text.is_empty() && time[0] < 24 && time[1] < 60 && time[2] < 60;
    let seconds = (time[0] * 60 + time[1]) * 60 + time[2] - offset;
    let time = (days(date)? * 86_400 + seconds) * 1000 + milliseconds;
    in_range
        .then_some(time)
        .filter(|time| (YEAR_0..YEAR_10000).contains(time))
}

/// The other form that members of `Data` have: `2024-03-05 12:00:00Z`.
pub(crate) fn parse_spaced(text: &[u8]) -> Option<i64> {
    if text.len() != 20 || text[10] != b' ' || text[19] != b'Z' {
        return parse(text);
    }
    let mut iso = [0; 20];
    iso.copy_from_slice(text);
    iso[10] = b'T';
    parse(&iso)
}

const YEAR_0: i64 = -62_167_219_200_000;
const YEAR_10000: i64 = 253_402_300_800_000;

struct Reader<'a> {
    text: &'a [u8],
}

impl Reader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.text.split_at_checked(count)?;
        self.text = rest;
        digits.iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.text = self.text.strip_prefix(&[byte])?;
        Some(())
    }

    /// Up to nine digits behind a point or comma, cut to milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        if self.skip(b'.').is_none() && self.skip(b',').is_none() {
            return Some(0);
        }
        let count = self
            .text
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(1..=9).contains(&count) {
            return None;
        }
        let kept = count.min(3);
        let milliseconds = self.digits(kept)? * [100, 10, 1][kept - 1];
        self.digits(count - kept)?;
        Some(milliseconds)
    }

    /// Seconds east of Greenwich.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.text {
            [] => return Some(0),
            [b'Z'] => {
                self.text = &[];
                return Some(0);
            }
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.text = &self.text[1..];
        let hours = self.digits(2)?;
        let minutes = if self.text.is_empty() {
            0
        } else {
            let _ = self.skip(b':');
            self.digits(2)?
        };
        (hours <= 18 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days([year, month, day]: [i64; 3]) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // March is the first month, so that the leap day is the last of the year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// `2024-03-05T10:11:12.345Z`.
pub(crate) fn format(arena: &Bump, time: i64) -> &[u8] {
    // Within four digits of a year, 32 bits hold the days; they are divided for less than 64 are.
    let time = time.clamp(YEAR_0, YEAR_10000 - 1);
    let of_day = u32::try_from(time.rem_euclid(86_400_000)).unwrap_or(0);
    let day = i32::try_from(time.div_euclid(86_400_000)).unwrap_or(0);
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i32::from(month <= 2);
    let text = arena.alloc_slice_copy(b"0000-00-00T00:00:00.000Z");
    let mut write = |at: usize, count: usize, mut number: u32| {
        for digit in text[at..at + count].iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
    };
    write(0, 4, year.cast_unsigned());
    write(5, 2, month.cast_unsigned());
    write(8, 2, day.cast_unsigned());
    write(11, 2, of_day / 3_600_000);
    write(14, 2, of_day / 60_000 % 60);
    write(17, 2, of_day / 1000 % 60);
    write(20, 3, of_day % 1000);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let arena = Bump::new();
        let time = parse(text.as_bytes()).map(|time| str::from_utf8(format(&arena, time)).unwrap());
        assert_eq!(time, expected, "{text}");
    }

    #[test]
    fn accepted_forms() {
        check("2020-02-07T16:43:53", Some("2020-02-07T16:43:53.000Z"));
        check(
            "2020-02-07T16:43:53.1234567Z",
            Some("2020-02-07T16:43:53.123Z"),
        );
        check(
            "2020-02-07T18:43:53+02:00",
            Some("2020-02-07T16:43:53.000Z"),
        );
        check(
            "2020-02-07T18:43:53,5-0130",
            Some("2020-02-07T20:13:53.500Z"),
        );
        check("2020-02-29", Some("2020-02-29T00:00:00.000Z"));
        check("2020-02", Some("2020-02-01T00:00:00.000Z"));
        check("2024", Some("2024-01-01T00:00:00.000Z"));
        check("2024-01-01T10", Some("2024-01-01T10:00:00.000Z"));
        check("2024-01-01T10+01", Some("2024-01-01T09:00:00.000Z"));
        check("2024-01-01T10:30Z", Some("2024-01-01T10:30:00.000Z"));
        check("0001-01-01T00:00:00", Some("0001-01-01T00:00:00.000Z"));
        check("9999-12-31T23:59:59.999Z", Some("9999-12-31T23:59:59.999Z"));
        check("1969-12-31T23:59:59.9Z", Some("1969-12-31T23:59:59.900Z"));
        check("0000-01-01", Some("0000-01-01T00:00:00.000Z"));
        let arena = Bump::new();
        assert_eq!(format(&arena, i64::MIN), b"0000-01-01T00:00:00.000Z");
        assert_eq!(format(&arena, i64::MAX), b"9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn refused_forms() {
        for text in [
            "",
            "20",
            "2020-",
            "2020-1-1",
            "2020-02-30",
            "2021-02-29",
            "2020-13-01",
            "true",
            "2020-02-07 16:43:53",
            "2020-02-07T",
            "2020T10",
            "2020-02T10",
            " 2020",
            "2020Z",
            "2020-02-07T24:00:00",
            "2020-02-07T23:59:60",
            "2020-02-07T16:43:53.",
            "1580000000",
            "2020-02-07T16:43:53.1234567890",
            "2020-02-07T16:43.5",
            "2020-02-07T16:43:53 Z",
            "/Date(1580000000000)/",
            "2020-02-07T16:43:53+2",
            "2020-02-07Z",
            "9999-12-31T23:59:59-01",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        let arena = Bump::new();
        for day in (-200_000..400_000).step_by(37) {
            let time = day * 86_400_000 + 1;
            assert_eq!(parse(format(&arena, time)), Some(time));
        }
    }

    #[test]
    fn epochs() {
        assert_eq!(parse_epoch(b"1772600767"), Some(1_772_600_767_000));
        assert_eq!(parse_epoch(b"1772600767123"), Some(1_772_600_767_123));
        for text in [
            "",
            "2024",
            "-177260076",
            "177260076.",
            "17726007671234567890",
        ] {
            assert_eq!(parse_epoch(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn spaced() {
        assert_eq!(
            parse_spaced(b"2024-03-05 12:00:00Z"),
            parse(b"2024-03-05T12:00:00Z")
        );
        assert_eq!(parse_spaced(b"2024-03-05 12:00:00+"), None);
    }
}
