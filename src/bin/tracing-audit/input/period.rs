//! Makes a range of time of `--on`, `--month`, `--since` and `--before`, in the zone of `--tz`.

use std::ops::{Bound, RangeBounds};

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};
use tracing_audit::AuditQuery;

use super::words;
use crate::{
    failure::Failure,
    zone::{Zone, now},
};

#[derive(Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct Period {
    /// Only this day: 2026-11-24, today, yesterday, monday.
    #[arg(long, value_name = "DATE", conflicts_with_all = ["month", "since", "before"])]
    on: Option<String>,
    /// Only this month: 2026-11, 'this month', 'last month'.
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["since", "before"])]
    month: Option<String>,
    /// From this time on: 30m, '7d ago', yesterday, 'last week', a date, a date and time, or RFC 3339.
    ///
    /// Units are s, m, h, d, w, months and years. Words for a day, a week, a month or a year mean its beginning: `last week`
    /// is the Monday of the week before this one, at midnight. `yesterday 17:30` is possible too.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, but not including it.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Only entries that were committed from this time on, whatever their own time says.
    #[arg(long, value_name = "TIME")]
    committed_since: Option<String>,
    /// Only entries that were committed before this time.
    #[arg(long, value_name = "TIME")]
    committed_before: Option<String>,
    /// The time zone in which dates and times are given and shown: Europe/Berlin, +02:00, local or UTC.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = Zone::parse, allow_hyphen_values = true)]
    pub(crate) tz: Zone,
}

/// A range of time that includes `since` and excludes `before`, and such a range of the time of commit.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) before: Option<DateTime<Utc>>,
    #[serde(default)]
    committed_since: Option<DateTime<Utc>>,
    #[serde(default)]
    committed_before: Option<DateTime<Utc>>,
}

impl RangeBounds<DateTime<Utc>> for Range {
    fn start_bound(&self) -> Bound<&DateTime<Utc>> {
        self.since.as_ref().map_or(Bound::Unbounded, Bound::Included)
    }

    fn end_bound(&self) -> Bound<&DateTime<Utc>> {
        self.before.as_ref().map_or(Bound::Unbounded, Bound::Excluded)
    }
}

impl Range {
    pub(crate) fn add(self, mut query: AuditQuery) -> AuditQuery {
        if let Some(since) = self.since {
            query = query.since(since);
        }
        if let Some(before) = self.before {
            query = query.before(before);
        }
        if let Some(since) = self.committed_since {
            query = query.committed_since(since);
        }
        if let Some(before) = self.committed_before {
            query = query.committed_before(before);
        }
        query
    }
}

impl Range {
    /// The range of the entries' own time alone.
    pub(crate) fn of_entries(self) -> Self {
        Self { committed_since: None, committed_before: None, ..self }
    }

    /// The range of the time of commit alone.
    pub(crate) fn of_commits(self) -> Self {
        Self { since: None, before: None, ..self }
    }

    pub(crate) fn is_bounded(&self) -> bool {
        let bounds = [self.since, self.before, self.committed_since, self.committed_before];
        bounds.iter().any(Option::is_some)
    }

    /// The two periods that are compared, in words; the earlier one ends where the later one begins.
    pub(crate) fn against(&self, before: &Self, zone: Zone) -> String {
        let (Some(since), Some(earlier)) = (self.since, before.since) else { return String::new() };
        let until = self.before.unwrap_or_else(now);
        let length = |since: DateTime<Utc>, until: DateTime<Utc>| match (until - since).num_hours() {
            hours if hours < 48 => format!("{hours} h"),
            hours => format!("{} days", (hours + 12) / 24),
        };
        let so_far = if (since..until).contains(&now()) && self.before.is_some() {
            format!(", {} so far", length(since, now()))
        } else {
            String::new()
        };
        format!(
            "now: {} to {} ({}{so_far}); before: from {} ({})",
            zone.shown(since),
            zone.shown(until),
            length(since, until),
            zone.shown(earlier),
            length(earlier, since),
        )
    }
}

impl Period {
    pub(crate) fn range(&self) -> Result<Range, Failure> {
        self.range_at(0)
    }

    /// The preceding period of the same length.
    pub(crate) fn range_before(&self) -> Result<Range, Failure> {
        self.range_at(1)
    }

    /// The range that lies `back` periods before the one that is given.
    fn range_at(&self, back: u32) -> Result<Range, Failure> {
        let moment = |text: &Option<String>| text.as_ref().map(|text| self.moment(text)).transpose();
        let (committed_since, committed_before) =
            (moment(&self.committed_since)?, moment(&self.committed_before)?);
        ordered(
            committed_since,
            committed_before,
            "--committed-since must be earlier than --committed-before",
        )?;
        let committed_before = committed_before.map(rounded_up);
        let range = |since, before| Range { since, before, committed_since, committed_before };
        if let Some(text) = &self.on {
            let (first, end) = self.day(text, back)?;
            return Ok(range(Some(self.midnight(first)?), Some(self.midnight(end)?)));
        }
        if let Some(text) = &self.month {
            let (first, end) = self.months(text, back)?;
            return Ok(range(Some(self.midnight(first)?), Some(self.midnight(end)?)));
        }
        let (since, before) = (moment(&self.since)?, moment(&self.before)?);
        ordered(since, before, "--since must be earlier than --before")?;
        if back == 0 {
            return Ok(range(since, before.map(rounded_up)));
        }
        let Some(since) = since else {
            return Err(Failure::Usage("--compare needs a period: give --on, --month or --since".to_owned()));
        };
        let length = before.unwrap_or_else(now) - since;
        let earlier = since.checked_sub_signed(length).ok_or_else(beyond)?;
        Ok(range(Some(earlier), Some(since)))
    }

    /// The options as they were given, each with its value.
    pub(crate) fn given(&self) -> Vec<String> {
        let options = [
            ("--on", &self.on),
            ("--month", &self.month),
            ("--since", &self.since),
            ("--before", &self.before),
            ("--committed-since", &self.committed_since),
            ("--committed-before", &self.committed_before),
        ];
        let given =
            options.into_iter().filter_map(|(name, value)| Some([name, " ", value.as_deref()?].concat()));
        let mut given: Vec<_> = given.collect();
        if !given.is_empty() {
            given.push(format!("--tz {}", self.tz));
        }
        given
    }

    /// The day that is meant, or the one that many days before it, and the day after.
    fn day(&self, text: &str, back: u32) -> Result<(NaiveDate, NaiveDate), Failure> {
        let day = text.parse().ok().or_else(|| words::day(text, self.tz));
        let day = day.ok_or_else(|| not_valid(text, "a date; give one as 2026-11-24, today or yesterday"))?;
        let first = day.checked_sub_days(Days::new(back.into())).ok_or_else(beyond)?;
        Ok((first, first.checked_add_days(Days::new(1)).ok_or_else(beyond)?))
    }

    /// The first day of the month that is meant, or of that many months before it, and of the month after.
    fn months(&self, text: &str, back: u32) -> Result<(NaiveDate, NaiveDate), Failure> {
        let day = NaiveDate::parse_from_str(&[text, "-01"].concat(), "%Y-%m-%d").ok();
        let day = day.or_else(|| words::month(text, self.tz));
        let day =
            day.ok_or_else(|| not_valid(text, "a month; give one as 2026-11, this month or last month"))?;
        let first = day.checked_sub_months(Months::new(back)).ok_or_else(beyond)?;
        Ok((first, first.checked_add_months(Months::new(1)).ok_or_else(beyond)?))
    }

    fn midnight(&self, day: NaiveDate) -> Result<DateTime<Utc>, Failure> {
        self.local(day.into())
    }

    fn local(&self, time: NaiveDateTime) -> Result<DateTime<Utc>, Failure> {
        let found = self.tz.moment(time);
        found.ok_or_else(|| Failure::Usage(format!("the time {time} does not exist in {}", self.tz)))
    }

    fn moment(&self, text: &str) -> Result<DateTime<Utc>, Failure> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(time.with_timezone(&Utc));
        }
        for format in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"] {
            if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
                return self.local(time);
            }
        }
        if let Ok(day) = text.parse() {
            return self.midnight(day);
        }
        words::moment(text, self.tz).ok_or_else(|| {
            not_valid(
                text,
                "a time; give one as 2h, 7d, yesterday, 2026-11-24, \"2026-11-24 17:30\" or in RFC 3339",
            )
        })
    }
}

/// The time in whole microseconds, rounded up. Stored times have no more, and one that is before the given time is before this.
fn rounded_up(time: DateTime<Utc>) -> DateTime<Utc> {
    match time.timestamp_subsec_nanos() % 1000 {
        0 => time,
        rest => time.checked_add_signed(TimeDelta::nanoseconds(i64::from(1000 - rest))).unwrap_or(time),
    }
}

fn beyond() -> Failure {
    Failure::Usage("this time is outside of the supported range".to_owned())
}

fn ordered(
    since: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
    message: &str,
) -> Result<(), Failure> {
    match (since, before) {
        (Some(since), Some(before)) if since >= before => Err(Failure::Usage(message.to_owned())),
        _ => Ok(()),
    }
}

fn not_valid(text: &str, expected: &str) -> Failure {
    Failure::Usage(format!("{text:?} is not {expected}"))
}
