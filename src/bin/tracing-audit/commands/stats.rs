//! The command `stats`: counts entries, and compares two periods.

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use tracing_audit::{
    AuditQuery,
    query::CountBy,
    reader::{CountKey, CountedBy, Counts},
};

use super::covered::Covered;
use super::spans::{ByTime, Change, Unit};
use crate::{
    failure::Failure,
    input::{Conditions, Database, Log, counted_by, listed, sources},
    output::{self, Cells, Format},
    zone::Zone,
};

#[derive(Args)]
pub(crate) struct Stats {
    /// The field to count by: a column, `metadata.PATH`, `ledger`, `hour`, or `day`; or two of them: `action,decision`.
    ///
    /// Hours and days are those of the zone of --tz.
    #[arg(long, default_value = "action", value_name = "FIELD[,FIELD]")]
    by: String,
    /// Compare with the preceding period of the same length, and show the greatest growth first.
    ///
    /// The month before a month is longer or shorter than that month. Hours and days are compared with those that have the
    /// same place in their period.
    #[arg(long)]
    compare: bool,
    /// Show at most this many counts; 0 shows all [default: 20, or all hours or days].
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    conditions: Conditions,
}

impl Stats {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let zone = self.conditions.period.tz;
        let (names, units) = parts(&self.by)?;
        let time = units.first().and_then(|unit| unit.map(|unit| ByTime { unit, zone }));
        let by = names
            .iter()
            .zip(&units)
            .map(|(name, unit)| unit.map_or_else(|| counted_by(name), |unit| Ok(ByTime { unit, zone }.by())))
            .collect::<Result<Vec<_>, _>>()?;
        let shown = Shown { heads: heads(&names, &units, zone), time, zone, format: self.format };
        let logs = database.open_distinct().await?;
        sources(&logs, &self.conditions)?;
        let limit = match (self.limit, time) {
            (None, None) => 20,
            (None, Some(_)) | (Some(0), _) => u32::MAX,
            (Some(limit), _) => limit,
        };
        let query = self.conditions.query()?;
        for log in &logs {
            output::warn_if_it_scans(&query, &log.ledgers);
        }
        if self.compare {
            let before = self.conditions.period.range_before()?.add(self.conditions.timeless()?);
            let counts = (counts(&logs, &query, &by, time).await?, counts(&logs, &before, &by, time).await?);
            let (now, then) = (self.conditions.period.range()?, self.conditions.period.range_before()?);
            let mut changes = match time {
                Some(time) => time.in_step(counts, now.since, then.since),
                None => by_growth(counts.0, counts.1),
            };
            changes.truncate(limit as usize);
            shown.print_changes(&changes, &now.against(&then, zone))?;
            let mut covered = Covered::by(&logs, &query).await?;
            covered.and(Covered::by(&logs, &before).await?);
            return covered.tell(Format::is_table(self.format));
        }
        // Ask several databases for all their counts: what is frequent in all of them together may be rare in each.
        let limited = if logs.len() == 1 { query.clone().limit(limit) } else { query.clone() };
        let mut counts = counts(&logs, &limited, &by, time).await?;
        counts.counted.truncate(limit as usize);
        shown.print_counts(&counts)?;
        Covered::by(&logs, &query).await?.counts(counts.entries).tell(Format::is_table(self.format))
    }
}

/// The names of what is counted by, and which of them are units of time.
fn parts(text: &str) -> Result<(Vec<&str>, Vec<Option<Unit>>), Failure> {
    let names = listed(text);
    if names.len() > 2 || names.iter().any(|name| name.is_empty()) {
        return Err(Failure::Usage(format!(
            "cannot count by {text:?}: give one field, or two as action,decision"
        )));
    }
    let unit = |name: &&str| match *name {
        "hour" => Some(Unit::Hour),
        "day" => Some(Unit::Day),
        _ => None,
    };
    let units = names.iter().map(unit).collect();
    Ok((names, units))
}

fn heads(names: &[&str], units: &[Option<Unit>], zone: Zone) -> Vec<String> {
    let head = |(name, unit): (&&str, &Option<Unit>)| match unit {
        Some(Unit::Day) => format!("{name} ({zone})"),
        _ => output::harmless(name).into_owned(),
    };
    names.iter().zip(units).map(head).collect()
}

async fn counts(
    logs: &[Log],
    query: &AuditQuery,
    by: &[CountBy],
    time: Option<ByTime>,
) -> Result<Counts, Failure> {
    let mut found = Vec::new();
    for log in logs {
        found.push(log.reader.counts(query, by).await?);
    }
    let mut found = found.into_iter();
    // The command opens at least one database.
    let Some(mut all) = found.next() else { return Err(Failure::Usage("which database?".to_owned())) };
    if found.len() == 0 {
        return Ok(all);
    }
    all.counted = merged(std::iter::once(std::mem::take(&mut all.counted)).chain(found.map(|one| {
        all.entries += one.entries;
        one.counted
    })));
    all.distinct = all.counted.len() as u64;
    let nothing = |one: &CountedBy| one.keys.iter().map(|key| key.key.is_none()).collect::<Vec<_>>();
    let keys = |one: &CountedBy| one.keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>();
    all.counted.sort_by_cached_key(|one| {
        let first = time.map(|_| one.keys.first().and_then(|key| key.key.clone()));
        (first, std::cmp::Reverse(one.entries), nothing(one), keys(one))
    });
    Ok(all)
}

/// Merges the results of several databases into one item for each combination of keys.
fn merged(results: impl Iterator<Item = Vec<CountedBy>>) -> Vec<CountedBy> {
    let (mut sums, mut places) = (Vec::<CountedBy>::new(), HashMap::new());
    for one in results.flatten() {
        match places.entry(values(&one.keys)) {
            Entry::Vacant(place) => {
                place.insert(sums.len());
                sums.push(one);
            }
            Entry::Occupied(place) => {
                if let Some(sum) = sums.get_mut(*place.get()) {
                    for (key, other) in sum.keys.iter_mut().zip(one.keys) {
                        key.name = key.name.take().or(other.name);
                    }
                    sum.entries += one.entries;
                    sum.first = sum.first.min(one.first);
                    sum.last = sum.last.max(one.last);
                }
            }
        }
    }
    sums
}

fn values(keys: &[CountKey]) -> Vec<Option<String>> {
    keys.iter().map(|key| key.key.clone()).collect()
}

fn by_growth(now: Counts, then: Counts) -> Vec<Change> {
    let mut earlier: HashMap<_, _> = then.counted.into_iter().map(|one| (values(&one.keys), one)).collect();
    let mut changes = Vec::new();
    for CountedBy { keys, entries, .. } in now.counted {
        let entries_before = earlier.remove(&values(&keys)).map_or(0, |one| one.entries);
        changes.push(Change { keys, before: None, entries, entries_before });
    }
    changes.extend(earlier.into_values().map(|CountedBy { keys, entries, .. }| Change {
        keys,
        before: None,
        entries: 0,
        entries_before: entries,
    }));
    let shrunk = |change: &Change| i128::from(change.entries_before) - i128::from(change.entries);
    changes.sort_by_cached_key(|change| (shrunk(change), values(&change.keys)));
    changes
}

/// The keys of a count, as JSON: of one field as they always were, of two as a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Keys {
    One { key: Option<String>, name: Option<String> },
    Several { keys: Vec<CountKey> },
}

#[derive(Serialize)]
struct CountLine {
    #[serde(flatten)]
    keys: Keys,
    entries: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

#[derive(Serialize)]
struct ChangeLine {
    #[serde(flatten)]
    keys: Keys,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_before: Option<String>,
    entries: u64,
    entries_before: u64,
}

/// The form in which counts are shown.
struct Shown {
    heads: Vec<String>,
    /// The unit of time of the first key, if it is one.
    time: Option<ByTime>,
    zone: Zone,
    format: Option<Format>,
}

impl Shown {
    /// The name of a key in a table.
    fn cell(&self, index: usize, key: &CountKey) -> String {
        let time = self.time.filter(|_| index == 0);
        match (&key.key, time) {
            (None, _) => "(none)".to_owned(),
            (Some(key), Some(time)) => time.cell(key),
            (Some(value), None) => {
                let shown = output::harmless(key.name.as_ref().unwrap_or(value)).into_owned();
                // A value that could be taken for none is in quotation marks.
                if shown.is_empty() || shown == "(none)" { format!("{shown:?}") } else { shown }
            }
        }
    }

    fn keys(&self, keys: &[CountKey]) -> Keys {
        let whole = |(index, key): (usize, &CountKey)| {
            let mut key = key.clone();
            if let (0, Some(time)) = (index, self.time) {
                key.key = key.key.map(|key| time.json(&key));
            }
            key
        };
        let mut keys: Vec<_> = keys.iter().enumerate().map(whole).collect();
        match keys.as_mut_slice() {
            [only] => Keys::One { key: only.key.take(), name: only.name.take() },
            _ => Keys::Several { keys },
        }
    }

    fn columns<'a>(&'a self, rest: &[(&'a str, Cells)]) -> Vec<(&'a str, Cells)> {
        let cells = |index| if index == 0 && self.time.is_some() { Cells::Whole } else { Cells::Cut };
        let keys = self.heads.iter().enumerate().map(|(index, head)| (head.as_str(), cells(index)));
        keys.chain(rest.iter().copied()).collect()
    }

    fn cells(&self, keys: &[CountKey]) -> Vec<String> {
        keys.iter().enumerate().map(|(index, key)| self.cell(index, key)).collect()
    }

    fn print_counts(&self, counts: &Counts) -> Result<(), Failure> {
        if !Format::is_table(self.format) {
            counts.counted.iter().try_for_each(|one| {
                let (entries, first, last) = (one.entries, one.first, one.last);
                output::print_json(&CountLine { keys: self.keys(&one.keys), entries, first, last })
            })?;
            if (counts.counted.len() as u64) < counts.distinct {
                output::remark(&summary(counts));
            }
            return Ok(());
        }
        if let (Some(time), [_]) = (self.time, self.heads.as_slice()) {
            time.print_chart(&counts.counted)?;
        }
        let zone = self.zone;
        let most = counts.counted.iter().map(|one| one.entries).max().unwrap_or(1).max(1);
        let row = |one: &CountedBy| {
            // Round up, so that a count that is thousands of times smaller than the greatest still has a bar.
            let bar = (u128::from(one.entries) * 20).div_ceil(most.into());
            let mut row = self.cells(&one.keys);
            row.extend([
                one.entries.to_string(),
                percent(one.entries, counts.entries),
                "█".repeat(usize::try_from(bar).unwrap_or(0)),
                output::shown_time(one.first, zone),
                output::shown_time(one.last, zone),
            ]);
            row
        };
        let columns = self.columns(&[
            ("entries", Cells::Whole),
            ("%", Cells::Whole),
            ("", Cells::Spare),
            ("first", Cells::Whole),
            ("last", Cells::Whole),
        ]);
        output::print_table_as(self.format, &columns, &counts.counted.iter().map(row).collect::<Vec<_>>())?;
        if counts.counted.is_empty() {
            return Ok(());
        }
        output::print_line("")?;
        output::print_wrapped(&summary(counts))
    }

    fn print_changes(&self, changes: &[Change], periods: &str) -> Result<(), Failure> {
        if !Format::is_table(self.format) {
            changes.iter().try_for_each(|change| {
                let before = change.before.as_ref().map(|key| match self.keys(std::slice::from_ref(key)) {
                    Keys::One { key, .. } => key,
                    Keys::Several { .. } => None,
                });
                let (entries, entries_before) = (change.entries, change.entries_before);
                let (keys, key_before) = (self.keys(&change.keys), before.flatten());
                output::print_json(&ChangeLine { keys, key_before, entries, entries_before })
            })?;
            output::remark(periods);
            return Ok(());
        }
        output::print_wrapped(periods)?;
        let row = |change: &Change| {
            let grown = i128::from(change.entries) - i128::from(change.entries_before);
            let mut row = self.cells(&change.keys);
            row.extend([
                change.before.as_ref().map(|key| self.cell(0, key)).unwrap_or_default(),
                change.entries_before.to_string(),
                change.entries.to_string(),
                format!("{grown:+}"),
            ]);
            row
        };
        let columns = self.columns(&[
            ("compared with", Cells::Whole),
            ("before", Cells::Whole),
            ("now", Cells::Whole),
            ("change", Cells::Whole),
        ]);
        output::print_table_as(self.format, &columns, &changes.iter().map(row).collect::<Vec<_>>())
    }
}

fn percent(part: u64, all: u64) -> String {
    let tenths = (u128::from(part) * 1000 + u128::from(all) / 2).checked_div(u128::from(all)).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The part of the counts that is shown.
fn summary(counts: &Counts) -> String {
    let shown: u64 = counts.counted.iter().map(|one| one.entries).sum();
    let (number, distinct, entries) = (counts.counted.len() as u64, counts.distinct, counts.entries);
    if number == distinct {
        let (s, ies) = (if number == 1 { "" } else { "s" }, if entries == 1 { "y" } else { "ies" });
        return format!("{distinct} count{s}, {entries} entr{ies}");
    }
    let part = percent(shown, entries);
    format!("{number} of {distinct} counts, {shown} of {entries} entries ({part} %); --limit 0 shows all")
}
