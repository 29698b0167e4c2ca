//! Counts by hours and days of a zone: their names, their chart, and the hours or days of two periods side by side.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use tracing_audit::{
    query::CountBy,
    reader::{CountKey, CountedBy, Counts},
};

use crate::{failure::Failure, output, zone::Zone};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Hour,
    Day,
}

/// Counts by a unit of time, in a zone.
#[derive(Clone, Copy)]
pub(super) struct ByTime {
    pub(super) unit: Unit,
    pub(super) zone: Zone,
}

/// A count in two periods.
pub(super) struct Change {
    pub(super) keys: Vec<CountKey>,
    /// The first key in the earlier period, if that is another one.
    pub(super) before: Option<CountKey>,
    pub(super) entries: u64,
    pub(super) entries_before: u64,
}

impl ByTime {
    pub(super) fn by(self) -> CountBy {
        match (self.unit, self.zone) {
            (Unit::Hour, Zone::Utc) => CountBy::Hour,
            (Unit::Hour, zone) => CountBy::HourIn(zone.offsets()),
            // A date is the key of a zone's day, also if the zone is UTC.
            (Unit::Day, zone) => CountBy::DayIn(zone.offsets()),
        }
    }

    /// The name of the key in a table.
    pub(super) fn cell(self, key: &str) -> String {
        match DateTime::parse_from_rfc3339(key) {
            Ok(begin) => self.zone.shown(begin.to_utc()),
            Err(_) => key.to_owned(),
        }
    }

    /// The key in JSON: when the hour or the day begins, by the zone's clock.
    pub(super) fn json(self, key: &str) -> String {
        let begin = match DateTime::parse_from_rfc3339(key) {
            Ok(begin) => Some(begin.to_utc()),
            Err(_) => key.parse().ok().and_then(|day| self.zone.midnight(day)),
        };
        let spelled = |begin| self.zone.at(begin).to_rfc3339_opts(SecondsFormat::Secs, true);
        begin.map_or_else(|| key.to_owned(), spelled)
    }

    /// The number of the hour or the day since 1970.
    fn number(self, key: &str) -> Option<i64> {
        match self.unit {
            Unit::Hour => Some(DateTime::parse_from_rfc3339(key).ok()?.timestamp().div_euclid(3600)),
            Unit::Day => {
                Some(key.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days())
            }
        }
    }

    fn number_at(self, time: DateTime<Utc>) -> i64 {
        match self.unit {
            Unit::Hour => time.timestamp().div_euclid(3600),
            Unit::Day => {
                self.zone.at(time).date_naive().signed_duration_since(NaiveDate::default()).num_days()
            }
        }
    }

    /// The key of the hour or the day that comes this many after that of `time`.
    fn key_after(self, time: DateTime<Utc>, steps: i64) -> Option<String> {
        match self.unit {
            Unit::Hour => {
                let begin = DateTime::from_timestamp(time.timestamp().div_euclid(3600) * 3600, 0)?;
                let key = begin.checked_add_signed(TimeDelta::try_hours(steps)?)?;
                Some(key.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Unit::Day => {
                let day = self.zone.at(time).date_naive().checked_add_signed(TimeDelta::try_days(steps)?)?;
                Some(day.format("%Y-%m-%d").to_string())
            }
        }
    }

    /// Prints a chart of the hours or days, also of those without entries.
    pub(super) fn print_chart(self, counted: &[CountedBy]) -> Result<(), Failure> {
        let key = |one: &CountedBy| one.keys.first().and_then(|key| key.key.clone());
        let of_steps: BTreeMap<i64, (String, u64)> = counted
            .iter()
            .filter_map(|one| key(one).and_then(|key| Some((self.number(&key)?, (key, one.entries)))))
            .collect();
        let counts: Vec<_> = of_steps.iter().map(|(number, (_, entries))| (*number, *entries)).collect();
        let Some(steps) = output::steps(&counts) else { return Ok(()) };
        let name = |number| of_steps.get(&number).map(|(key, _)| self.cell(key)).unwrap_or_default();
        let unit = if self.unit == Unit::Hour { "hours" } else { "days" };
        output::print_chart(&steps, &counts, [&name(steps.first), &name(steps.last)], unit)
    }

    /// The counts of two periods, those side by side that have the same place in their period.
    pub(super) fn in_step(
        self,
        (now, then): (Counts, Counts),
        since: Option<DateTime<Utc>>,
        since_before: Option<DateTime<Utc>>,
    ) -> Vec<Change> {
        let (Some(since), Some(since_before)) = (since, since_before) else { return Vec::new() };
        let mut changes: BTreeMap<(i64, Vec<Option<String>>), Change> = BTreeMap::new();
        for (counts, begin, is_now) in [(now, since, true), (then, since_before, false)] {
            for mut one in counts.counted {
                let number = one.keys.first().and_then(|key| self.number(key.key.as_deref()?));
                let step = number.unwrap_or(0) - self.number_at(begin);
                let rest = one.keys.iter().skip(1).map(|key| key.key.clone()).collect();
                let change = changes.entry((step, rest)).or_insert_with(|| {
                    // A step that is empty in one of the periods has a name in both.
                    let mut before: Option<CountKey> = one.keys.first().cloned();
                    if let (Some(key), Some(before)) = (one.keys.first_mut(), before.as_mut()) {
                        before.key = self.key_after(since_before, step);
                        key.key = self.key_after(since, step);
                    }
                    Change { keys: one.keys, before, entries: 0, entries_before: 0 }
                });
                *(if is_now { &mut change.entries } else { &mut change.entries_before }) += one.entries;
            }
        }
        changes.into_values().collect()
    }
}
