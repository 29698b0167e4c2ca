//! Reads times in the forms in which the types of time of `std`, `chrono`, `time` and `jiff` write themselves.

use chrono::{DateTime, NaiveDate};

use super::debug_text::wrapped;

/// A time that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    /// Microseconds since 1970.
    pub(super) micros: i128,
    /// Whether it was written as the 60th second of a minute. It is then read as the second that follows.
    pub(super) leap: bool,
}

/// Reads a time: a date, a time of day and an offset from UTC in any of the usual orders and spellings; seconds,
/// milliseconds, microseconds or nanoseconds since 1970, distinguished by their size; or the `Debug` of a `SystemTime`.
pub(super) fn read(text: &str) -> Option<Time> {
    let mut text = text.trim();
    for _ in 0..8 {
        if let Some(micros) = structure(text) {
            return Some(Time { micros, leap: false });
        }
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        match quoted.or_else(|| wrapped(text).map(|(_, inner)| inner)) {
            Some(inner) => text = inner.trim(),
            None => break,
        }
    }
    let whole = |micros| Time { micros, leap: false };
    since_1970(text).map(whole).or_else(|| civil(text)).or_else(|| {
        let time = DateTime::parse_from_rfc2822(text).ok()?;
        Some(whole(i128::from(time.timestamp()) * MICROS))
    })
}

const MICROS: i128 = 1_000_000;

/// A structure of seconds and nanoseconds since 1970, such as the `Debug` of a `SystemTime` on Unix.
fn structure(text: &str) -> Option<i128> {
    let (name, fields) = text.strip_suffix('}')?.split_once('{')?;
    if name.trim() == "Instant" {
        return None;
    }
    let (mut seconds, mut nanos) = (None, 0);
    for field in fields.split(',').filter(|field| !field.trim().is_empty()) {
        let (name, value) = field.split_once(':')?;
        let value: i128 = value.trim().parse().ok()?;
        match name.trim() {
            "tv_sec" | "seconds" | "secs" | "sec" => seconds = Some(value),
            "tv_nsec" | "nanos" | "nanoseconds" | "nsec" => nanos = value,
            // Windows counts tenths of a microsecond since 1601.
            "intervals" => return Some(value.div_euclid(10) - 11_644_473_600 * MICROS),
            _ => return None,
        }
    }
    Some(seconds? * MICROS + nanos.div_euclid(1000))
}

/// A number of seconds since 1970, or of a smaller unit if it would be later than the year 5138 otherwise.
fn since_1970(text: &str) -> Option<i128> {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || fraction.len() > 18 || !digits(whole) || !digits(fraction) {
        return None;
    }
    // A date without separators.
    if matches!(whole.len(), 8 | 12 | 14) && (whole.starts_with("19") || whole.starts_with("20")) {
        return None;
    }
    let count: i128 = whole.parse().ok()?;
    let nanos_in_one: i128 = match count {
        0..=99_999_999_999 => 1_000_000_000,
        100_000_000_000..=99_999_999_999_999 => 1_000_000,
        100_000_000_000_000..=99_999_999_999_999_999 => 1000,
        _ => 1,
    };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let power = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nanos = count * nanos_in_one + part * nanos_in_one / power;
    Some((sign * nanos).div_euclid(1000))
}

/// A date, a time of day and an offset from UTC.
fn civil(text: &str) -> Option<Time> {
    // Go adds a reading of its monotonic clock.
    let text = text.split_once(" m=").map_or(text, |(text, _)| text);
    // A zone or a calendar in brackets repeats what the offset says.
    let (text, brackets) = text.split_once('[').unwrap_or((text, ""));
    let at = text.get(1..)?.find(['T', 't', ' ', '_'])? + 1;
    let (date, rest) = text.split_at_checked(at)?;
    let rest = rest.get(1..)?.trim_start();
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ',')).unwrap_or(rest.len());
    let (time, zone) = rest.split_at_checked(end)?;
    let zone = match zone.trim() {
        "" if is_utc(brackets.split(']').next()?) => "Z",
        zone => zone,
    };
    let ((hours, minutes, seconds), micros) = time_of_day(time)?;
    let leap = seconds == 60;
    let time = self::date(date)?.and_hms_opt(hours, minutes, seconds - u32::from(leap))?;
    let seconds = time.and_utc().timestamp() + i64::from(leap) - offset(zone)?;
    Some(Time { micros: i128::from(seconds) * MICROS + i128::from(micros), leap })
}

fn date(text: &str) -> Option<NaiveDate> {
    let (sign, date) = match text.strip_prefix('-') {
        Some(date) => (-1, date),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (year, month, day) = match *date.split('-').collect::<Vec<_>>() {
        [year, month, day] if year.len() >= 4 => (year, month, day),
        [all] if all.len() == 8 => (all.get(..4)?, all.get(4..6)?, all.get(6..)?),
        _ => return None,
    };
    let year: i32 = year.parse().ok()?;
    NaiveDate::from_ymd_opt(sign * year, two_digits(month)?, two_digits(day)?)
}

/// Hours, minutes and seconds, and the microseconds after them.
fn time_of_day(text: &str) -> Option<((u32, u32, u32), u32)> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0, |micros, digit| micros * 10 + u32::from(digit - b'0'));
    let whole = match *whole.split(':').collect::<Vec<_>>() {
        [hours, minutes] => (two_digits(hours)?, two_digits(minutes)?, 0),
        [hours, minutes, seconds] => (two_digits(hours)?, two_digits(minutes)?, two_digits(seconds)?),
        [all] if all.len() == 6 => {
            (two_digits(all.get(..2)?)?, two_digits(all.get(2..4)?)?, two_digits(all.get(4..)?)?)
        }
        _ => return None,
    };
    Some((whole, micros))
}

/// The seconds by which a zone is ahead of UTC. A name alone is none, but for those of UTC: `CST` is three zones.
fn offset(zone: &str) -> Option<i64> {
    if is_utc(zone) {
        return Some(0);
    }
    let mut chars = zone.chars();
    let sign = match chars.next()? {
        '+' => 1,
        '-' | '\u{2212}' => -1,
        _ => return None,
    };
    let rest = chars.as_str();
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | ':')).unwrap_or(rest.len());
    let (digits, name) = rest.split_at_checked(end)?;
    if !name.trim().bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let (hours, minutes, seconds) = match *digits.split(':').collect::<Vec<_>>() {
        [all] if all.len() == 4 => (all.get(..2)?, all.get(2..)?, "0"),
        [hours] => (hours, "0", "0"),
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let (hours, minutes, seconds) = (two_digits(hours)?, two_digits(minutes)?, two_digits(seconds)?);
    let valid = hours < 24 && minutes < 60 && seconds < 60;
    valid.then(|| sign * i64::from(hours * 3600 + minutes * 60 + seconds))
}

fn is_utc(zone: &str) -> bool {
    ["Z", "UTC", "GMT", "Etc/UTC"].iter().any(|name| name.eq_ignore_ascii_case(zone))
}

/// A number of one or two digits.
fn two_digits(text: &str) -> Option<u32> {
    let valid = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use chrono::{FixedOffset, Utc};
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-02 03:04:05.123 UTC
    const MILLIS: i64 = 1_767_323_045_123;

    #[test]
    fn one_time_in_every_form_is_one_time() {
        let debug = format!("{:?}", Some(UNIX_EPOCH + Duration::from_millis(MILLIS.unsigned_abs())));
        for text in [
            // RFC 3339 and ISO 8601.
            "2026-01-02T03:04:05.123Z",
            "2026-01-02t03:04:05.123z",
            "2026-01-02 04:04:05.123+01:00",
            "2026-01-02T03:04:05,123Z",
            "20260102T030405.123Z",
            "20260102T040405.123+0100",
            "+2026-01-02T03:04:05.123Z",
            // chrono, jiff, time, and Go.
            "2026-01-02 03:04:05.123 UTC",
            "2026-01-02 04:04:05.123 +01:00",
            "2026-01-01 18:04:05.123 \u{2212}09:00",
            "2026-01-02T03:04:05.123+00:00[UTC]",
            "2026-01-02T04:04:05.123+01:00[Europe/Berlin][u-ca=gregory]",
            "2026-01-02 3:04:05.123 +00:00:00",
            "2026-01-02 3:04:05.123 +00",
            "2026-01-02 3:57:33.123 +00:53:28",
            "2026-01-02 03:04:05.123 +0000 UTC",
            "2026-01-02 03:04:05.123 +0000 UTC m=+0.000012",
            "DateTime(2026-01-02 3:04:05.123 +00:00:00)",
            "Some(\"2026-01-02T03:04:05.123Z\")",
            // Since 1970.
            "1767323045.123",
            "1767323045123",
            "1767323045123000",
            "1767323045123000999",
            &debug,
            "SystemTime { intervals: 134117966451230000 }",
            "Timestamp { seconds: 1767323045, nanos: 123000000 }",
        ] {
            assert_eq!(read(text), Some(Time { micros: i128::from(MILLIS) * 1000, leap: false }), "{text}");
        }
        assert_eq!(
            read("Fri, 02 Jan 2026 03:04:05 GMT").map(|time| time.micros),
            Some(1_767_323_045_000_000)
        );
        assert_eq!(read("-0.5").map(|time| time.micros), Some(-500_000));
        assert_eq!(read("0").map(|time| time.micros), Some(0));
    }

    #[test]
    fn a_leap_second_is_told() {
        for text in ["2016-12-31T23:59:60Z", "2017-01-01 00:59:60 +01:00"] {
            assert_eq!(read(text), Some(Time { micros: 1_483_228_800_000_000, leap: true }), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_not_read() {
        for text in [
            "",
            "noon",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05 CST",
            "2026-02-30T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04:61Z",
            "2026-01-02T03:04:05+24:00",
            "26-01-02T03:04:05Z",
            "20260102",
            "20260102030405",
            "Instant { tv_sec: 1, tv_nsec: 2 }",
            "1e9",
            "NaN",
            "true",
            "5 s",
            "T",
            "é",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05é",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_chrono_writes_is_read(seconds in -62_000_000_000_i64..253_000_000_000, nanos in 0..1_000_000_000_u32, east in -86_399..86_400_i32) {
            let utc = DateTime::<Utc>::from_timestamp(seconds, nanos).unwrap();
            let there = utc.with_timezone(&FixedOffset::east_opt(east).unwrap());
            let expected = Some(i128::from(utc.timestamp_micros()));
            for text in [utc.to_string(), format!("{utc:?}"), there.to_string(), format!("{there:?}"), format!("Some({utc:?})")] {
                prop_assert_eq!(read(&text).map(|time| time.micros), expected, "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), number in "[-+0-9.: TZ]{0,40}") {
            read(&text);
            read(&number);
        }
    }
}
