//! The command `stats`: counts entries, and compares two periods.

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, TimeDelta};
use chrono_tz::Tz;
use clap::Args;
use tracing_audit::{
    AuditQuery,
    query::CountBy,
    reader::{Change, Counted},
};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Log, fields, sources},
    output::{self, Cells, Format},
};

#[derive(Args)]
pub(crate) struct Stats {
    /// The field to count by: a column, `metadata.PATH`, `ledger`, `hour`, or `day` (in UTC).
    #[arg(long, default_value = "action", value_name = "FIELD")]
    by: String,
    /// Compare with the preceding period of the same length, and show the greatest growth first.
    #[arg(long)]
    compare: bool,
    /// Show at most this many counts; 0 shows all [default: 20, or all hours or days].
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    conditions: Conditions,
}

impl Stats {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let by = by(&self.by)?;
        let table = self.format.map_or_else(output::is_terminal, |format| format == Format::Table);
        let logs = database.open().await?;
        sources(&logs, &self.conditions)?;
        // Ask several databases for all their counts: what is frequent in all of them together may be rare in each.
        let limit = match (self.limit, step(&by)) {
            (None, None) => 20,
            (None, Some(_)) | (Some(0), _) => u32::MAX,
            (Some(limit), _) => limit,
        };
        let limited = |query: AuditQuery| if logs.len() == 1 { query.limit(limit) } else { query };
        let query = limited(self.conditions.query()?);
        for log in &logs {
            output::warn_if_it_scans(&query, &log.ledgers);
        }
        if self.compare {
            let before = self.conditions.period.range_before()?.add(self.conditions.timeless()?);
            let mut changes = changes(&logs, &query, &before, &by).await?;
            changes.truncate(limit as usize);
            if !table {
                return changes.iter().try_for_each(output::print_json);
            }
            return print_changes(&self.by, &changes);
        }
        let mut counts = counts(&logs, &query, &by).await?;
        counts.truncate(limit as usize);
        if !table {
            return counts.iter().try_for_each(output::print_json);
        }
        if let Some(step) = step(&by) {
            print_over_time(&counts, step, self.conditions.period.tz)?;
        }
        print_counts(&self.by, &counts, self.conditions.period.tz)
    }
}

async fn changes(
    logs: &[Log],
    query: &AuditQuery,
    before: &AuditQuery,
    by: &CountBy,
) -> Result<Vec<Change>, Failure> {
    let mut found = Vec::new();
    for log in logs {
        found.push(log.reader.compare(query, before, by.clone()).await?);
    }
    let mut changes = merged(
        found,
        |change| change.key.clone(),
        |sum: &mut Change, one| {
            sum.name = sum.name.take().or(one.name);
            sum.entries += one.entries;
            sum.entries_before += one.entries_before;
        },
    );
    let shrunk = |change: &Change| i128::from(change.entries_before) - i128::from(change.entries);
    changes.sort_by(|a, b| shrunk(a).cmp(&shrunk(b)).then_with(|| a.key.cmp(&b.key)));
    Ok(changes)
}

async fn counts(logs: &[Log], query: &AuditQuery, by: &CountBy) -> Result<Vec<Counted>, Failure> {
    let mut found = Vec::new();
    for log in logs {
        found.push(log.reader.count_by(query, by.clone()).await?);
    }
    let mut counts = merged(
        found,
        |counted| counted.key.clone(),
        |sum: &mut Counted, one| {
            sum.name = sum.name.take().or(one.name);
            sum.entries += one.entries;
            sum.first = sum.first.min(one.first);
            sum.last = sum.last.max(one.last);
        },
    );
    match step(by) {
        Some(_) => counts.sort_by(|a, b| a.key.cmp(&b.key)),
        None => counts.sort_by(|a, b| {
            let nothing = |one: &Counted| one.key.is_none();
            let by_key = || (nothing(a), &a.key).cmp(&(nothing(b), &b.key));
            b.entries.cmp(&a.entries).then_with(by_key)
        }),
    }
    Ok(counts)
}

/// The time from one count to the next, if the entries are counted by hour or day.
fn step(by: &CountBy) -> Option<TimeDelta> {
    match by {
        CountBy::Hour => Some(TimeDelta::hours(1)),
        CountBy::Day => Some(TimeDelta::days(1)),
        _ => None,
    }
}

/// Merges the results of several databases into one item for each key, in the order in which the keys first occur.
fn merged<T>(results: Vec<Vec<T>>, key: impl Fn(&T) -> Option<String>, add: impl Fn(&mut T, T)) -> Vec<T> {
    let (mut sums, mut places) = (Vec::new(), HashMap::new());
    for one in results.into_iter().flatten() {
        match places.entry(key(&one)) {
            Entry::Vacant(place) => {
                place.insert(sums.len());
                sums.push(one);
            }
            Entry::Occupied(place) => {
                if let Some(sum) = sums.get_mut(*place.get()) {
                    add(sum, one);
                }
            }
        }
    }
    sums
}

/// Prints a chart of the hours or days, also of those without entries. If there are more than fit, each column is the
/// sum of several.
fn print_over_time(counts: &[Counted], step: TimeDelta, tz: Tz) -> Result<(), Failure> {
    let begin = |counted: &Counted| DateTime::parse_from_rfc3339(counted.key.as_deref()?).ok();
    let (Some(first), Some(last)) = (counts.first().and_then(begin), counts.last().and_then(begin)) else {
        return Ok(());
    };
    let step = step.num_seconds().max(1);
    let place = |time: DateTime<_>| usize::try_from((time - first).num_seconds() / step).unwrap_or(0);
    let steps = place(last) + 1;
    let steps_per_column = steps.div_ceil(output::chart_width());
    let mut columns = vec![0; steps.div_ceil(steps_per_column)];
    for counted in counts {
        if let Some(column) = begin(counted).and_then(|time| columns.get_mut(place(time) / steps_per_column))
        {
            *column += counted.entries;
        }
    }
    // Days are counted in UTC, whatever the zone: show them by their date.
    let shown = |time: DateTime<chrono::FixedOffset>| match step {
        86_400 => time.format("%Y-%m-%d").to_string(),
        _ => output::shown_time(time.to_utc(), tz),
    };
    output::print_chart(&columns, &shown(first), &shown(last))
}

fn by(text: &str) -> Result<CountBy, Failure> {
    Ok(match (text, text.strip_prefix("metadata.")) {
        ("hour", _) => CountBy::Hour,
        ("day", _) => CountBy::Day,
        ("ledger", _) => CountBy::Ledger,
        (_, Some(path)) => CountBy::Metadata(path.to_owned()),
        (column, None) => CountBy::Column(column.parse().map_err(|_| {
            Failure::Usage(format!("cannot count by {column:?}: there are hour, day, ledger, {}", fields()))
        })?),
    })
}

fn shown_key(key: Option<&str>, name: Option<&str>) -> String {
    output::harmless(name.or(key).unwrap_or("(none)")).into_owned()
}

fn print_counts(by: &str, counts: &[Counted], tz: Tz) -> Result<(), Failure> {
    let whole_bar = if output::is_narrow() { 10 } else { 20 };
    let most = counts.iter().map(|counted| counted.entries).max().unwrap_or(1).max(1);
    let row = |counted: &Counted| {
        // Round up, so that a count that is thousands of times smaller than the greatest still has a bar.
        let bar = (u128::from(counted.entries) * whole_bar).div_ceil(most.into());
        vec![
            shown_key(counted.key.as_deref(), counted.name.as_deref()),
            counted.entries.to_string(),
            "█".repeat(usize::try_from(bar).unwrap_or(0)),
            output::shown_time(counted.first, tz),
            output::shown_time(counted.last, tz),
        ]
    };
    let columns = [
        (by, Cells::Cut),
        ("entries", Cells::Whole),
        ("", Cells::Whole),
        ("first", Cells::Whole),
        ("last", Cells::Whole),
    ];
    output::print_table(&columns, &counts.iter().map(row).collect::<Vec<_>>())
}

fn print_changes(by: &str, changes: &[Change]) -> Result<(), Failure> {
    let row = |change: &Change| {
        let grown = i128::from(change.entries) - i128::from(change.entries_before);
        vec![
            shown_key(change.key.as_deref(), change.name.as_deref()),
            change.entries_before.to_string(),
            change.entries.to_string(),
            format!("{grown:+}"),
        ]
    };
    let columns =
        [(by, Cells::Cut), ("before", Cells::Whole), ("now", Cells::Whole), ("change", Cells::Whole)];
    output::print_table(&columns, &changes.iter().map(row).collect::<Vec<_>>())
}
