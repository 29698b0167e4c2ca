//! Times in words: `7d ago`, `yesterday 17:30`, `last week`.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};

use crate::zone::{Zone, now};

/// The moment that the words mean.
pub(super) fn moment(text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    moment_at(now(), text, zone)
}

/// The day that the words mean.
pub(super) fn day(text: &str, zone: Zone) -> Option<NaiveDate> {
    day_at(zone.at(now()).date_naive(), &text.trim().to_lowercase())
}

/// The first day of the month that the words mean.
pub(super) fn month(text: &str, zone: Zone) -> Option<NaiveDate> {
    let first = zone.at(now()).date_naive().with_day(1)?;
    match text.trim().to_lowercase().as_str() {
        "this" | "this month" => Some(first),
        "last" | "last month" => first.checked_sub_months(Months::new(1)),
        _ => None,
    }
}

fn moment_at(now: DateTime<Utc>, text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    let text = text.trim().to_lowercase();
    let today = zone.at(now).date_naive();
    if text == "now" {
        return Some(now);
    }
    if let Some(day) = day_at(today, &text).or_else(|| beginning(today, &text)) {
        return zone.midnight(day);
    }
    if let Some((day, time)) = text.rsplit_once(' ')
        && let Some(day) = day_at(today, day)
    {
        let time =
            NaiveTime::parse_from_str(time, "%H:%M:%S").or_else(|_| NaiveTime::parse_from_str(time, "%H:%M"));
        return zone.moment(day.and_time(time.ok()?));
    }
    ago(now, text.strip_suffix("ago").unwrap_or(&text), zone)
}

fn day_at(today: NaiveDate, text: &str) -> Option<NaiveDate> {
    match text {
        "today" => return Some(today),
        "yesterday" => return today.pred_opt(),
        "tomorrow" => return today.succ_opt(),
        _ => {}
    }
    // The latest such day; with `last`, not today.
    let (name, from) = match text.strip_prefix("last ") {
        Some(name) => (name, today.pred_opt()?),
        None => (text, today),
    };
    let weekday: Weekday = name.parse().ok()?;
    from.checked_sub_days(Days::new(from.weekday().days_since(weekday).into()))
}

/// The first day of `this week`, `last month` and so on.
fn beginning(today: NaiveDate, text: &str) -> Option<NaiveDate> {
    let (which, unit) = text.split_once(' ')?;
    let back = match which {
        "this" => 0,
        "last" => 1,
        _ => return None,
    };
    match unit {
        "week" => {
            let monday =
                today.checked_sub_days(Days::new(today.weekday().days_since(Weekday::Mon).into()))?;
            monday.checked_sub_days(Days::new(7 * u64::from(back)))
        }
        "month" => today.with_day(1)?.checked_sub_months(Months::new(back)),
        "year" => today.with_day(1)?.with_month(1)?.checked_sub_months(Months::new(12 * back)),
        _ => None,
    }
}

/// A sum of numbers with units, before now.
fn ago(now: DateTime<Utc>, text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    let (mut rest, mut seconds, mut months) = (text.trim(), 0_i64, 0_u32);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit())?)?;
        let number: u32 = number.parse().ok()?;
        let after = after.trim_start();
        let (unit, after) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        rest = after.trim_start();
        let of_seconds = match unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            "mo" | "month" | "months" | "y" | "year" | "years" => {
                let many = if unit.starts_with('y') { 12 } else { 1 };
                months = months.checked_add(number.checked_mul(many)?)?;
                continue;
            }
            _ => return None,
        };
        seconds = seconds.checked_add(i64::from(number).checked_mul(of_seconds)?)?;
    }
    let then = if months == 0 {
        now
    } else {
        zone.moment(zone.at(now).naive_local().checked_sub_months(Months::new(months))?)?
    };
    then.checked_sub_signed(TimeDelta::try_seconds(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_moments_of_the_zone() {
        // A Saturday, 00:30 of which is already Saturday in Berlin and still Friday in New York.
        let now: DateTime<Utc> = "2026-11-27T23:30:15Z".parse().unwrap();
        for (text, zone, expected) in [
            ("now", "UTC", "2026-11-27T23:30:15+00:00"),
            ("today", "UTC", "2026-11-27T00:00:00+00:00"),
            ("Today", "Europe/Berlin", "2026-11-27T23:00:00+00:00"),
            ("yesterday", "Europe/Berlin", "2026-11-26T23:00:00+00:00"),
            ("yesterday 17:30", "Europe/Berlin", "2026-11-27T16:30:00+00:00"),
            ("yesterday 17:30:59", "+01:00", "2026-11-27T16:30:59+00:00"),
            ("tomorrow", "UTC", "2026-11-28T00:00:00+00:00"),
            ("friday", "UTC", "2026-11-27T00:00:00+00:00"),
            ("fri", "America/New_York", "2026-11-27T05:00:00+00:00"),
            ("last friday", "UTC", "2026-11-20T00:00:00+00:00"),
            ("monday 09:00", "UTC", "2026-11-23T09:00:00+00:00"),
            ("this week", "UTC", "2026-11-23T00:00:00+00:00"),
            ("last week", "UTC", "2026-11-16T00:00:00+00:00"),
            ("last month", "Europe/Berlin", "2026-09-30T22:00:00+00:00"),
            ("this year", "UTC", "2026-01-01T00:00:00+00:00"),
            ("last year", "UTC", "2025-01-01T00:00:00+00:00"),
            ("7d", "UTC", "2026-11-20T23:30:15+00:00"),
            ("7d ago", "UTC", "2026-11-20T23:30:15+00:00"),
            ("7 days ago", "UTC", "2026-11-20T23:30:15+00:00"),
            ("1h30m", "UTC", "2026-11-27T22:00:15+00:00"),
            ("2 weeks 1 d", "UTC", "2026-11-12T23:30:15+00:00"),
            ("1 month ago", "UTC", "2026-10-27T23:30:15+00:00"),
            ("1y", "UTC", "2025-11-27T23:30:15+00:00"),
            ("0s", "UTC", "2026-11-27T23:30:15+00:00"),
        ] {
            let found = moment_at(now, text, Zone::parse(zone).unwrap()).map(|found| found.to_rfc3339());
            assert_eq!(found.as_deref(), Some(expected), "{text} in {zone}");
        }
        for text in [
            "",
            "ago",
            "7",
            "d",
            "7x",
            "7d8",
            "-7d",
            "7.5d",
            "last",
            "next week",
            "yesterday 25:00",
            "gestern",
            "99999999999d",
            "4000000000y",
            "\u{663}d",
            "7d \u{e9}",
        ] {
            assert_eq!(moment_at(now, text, Zone::Utc), None, "{text}");
        }
    }
}
