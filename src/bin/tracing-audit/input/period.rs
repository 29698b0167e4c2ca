//! Makes a range of time of `--on`, `--month`, `--since` and `--before`, in the zone of `--tz`.

use std::ops::{Bound, RangeBounds};

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde::{Deserialize, Serialize};
use tracing_audit::AuditQuery;

use crate::failure::Failure;

#[derive(Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct Period {
    /// Only this day, such as 2026-11-24.
    #[arg(long, value_name = "DATE", conflicts_with_all = ["month", "since", "before"])]
    on: Option<String>,
    /// Only this month, such as 2026-11.
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["since", "before"])]
    month: Option<String>,
    /// From this time on: 30m, 2h, 7d or 4w (that long ago), a date, a date and time, or RFC 3339.
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
    /// The time zone in which dates and times are given and shown, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    pub(crate) tz: Tz,
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
        let range = |since, before| Range { since, before, committed_since, committed_before };
        let beyond = || Failure::Usage("this time is outside of the supported range".to_owned());
        if let Some(text) = &self.on {
            let day: NaiveDate =
                text.parse().map_err(|_| not_valid(text, "a date; give one as 2026-11-24"))?;
            let first = day.checked_sub_days(Days::new(back.into())).ok_or_else(beyond)?;
            let end = first.checked_add_days(Days::new(1)).ok_or_else(beyond)?;
            return Ok(range(Some(self.midnight(first)?), Some(self.midnight(end)?)));
        }
        if let Some(text) = &self.month {
            let day = NaiveDate::parse_from_str(&[text, "-01"].concat(), "%Y-%m-%d");
            let first = day.map_err(|_| not_valid(text, "a month; give one as 2026-11"))?;
            let first = first.checked_sub_months(Months::new(back)).ok_or_else(beyond)?;
            let end = first.checked_add_months(Months::new(1)).ok_or_else(beyond)?;
            return Ok(range(Some(self.midnight(first)?), Some(self.midnight(end)?)));
        }
        let (since, before) = (moment(&self.since)?, moment(&self.before)?);
        ordered(since, before, "--since must be earlier than --before")?;
        if back == 0 {
            return Ok(range(since, before));
        }
        let Some(since) = since else {
            return Err(Failure::Usage("--compare needs a period: give --on, --month or --since".to_owned()));
        };
        let length = before.unwrap_or_else(Utc::now) - since;
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

    fn midnight(&self, day: NaiveDate) -> Result<DateTime<Utc>, Failure> {
        self.local(day.into())
    }

    /// The moment of a local time. A time that the clock skips when it is set forward means the moment of that change;
    /// one that occurs twice, when the clock is set back, means its first occurrence.
    fn local(&self, time: NaiveDateTime) -> Result<DateTime<Utc>, Failure> {
        // The longest time that a zone has ever skipped is a day.
        let steps = (0..=24).filter_map(|hours| time.checked_add_signed(TimeDelta::hours(hours)));
        let found = steps.into_iter().find_map(|time| self.tz.from_local_datetime(&time).earliest());
        let found =
            found.ok_or_else(|| Failure::Usage(format!("the time {time} does not exist in {}", self.tz)))?;
        Ok(found.with_timezone(&Utc))
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
        let seconds = text.char_indices().next_back().and_then(|(at, unit)| {
            let unit = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return None,
            };
            text.get(..at)?.parse::<u32>().ok().map(|count| i64::from(count) * unit)
        });
        seconds.and_then(|seconds| Utc::now().checked_sub_signed(TimeDelta::seconds(seconds))).ok_or_else(
            || not_valid(text, "a time; give one as 2h, 7d, 2026-11-24, \"2026-11-24 17:30\" or in RFC 3339"),
        )
    }
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

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "no time zone has this name; give one as Europe/Berlin".to_owned())
}

fn not_valid(text: &str, expected: &str) -> Failure {
    Failure::Usage(format!("{text:?} is not {expected}"))
}
