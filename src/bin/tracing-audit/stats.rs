//! Counts, with bars.

use chrono_tz::Tz;
use clap::Args;
use tracing_audit::{Change, CountBy, Counted};

use crate::{
    Database, Failure,
    conditions::{Conditions, fields},
    show::{self, Cells, Format},
};

#[derive(Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    conditions: Conditions,
    /// `hour`, `day` (in UTC), `ledger`, a column, or `metadata.PATH`.
    #[arg(long, default_value = "action")]
    by: String,
    /// Compare with the period before, of the same length: what has grown most comes first.
    #[arg(long)]
    compare: bool,
    /// At most this many; 0 for all.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Default: a table on a terminal, JSON Lines elsewhere.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl Stats {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let by = by(&self.by)?;
        let table = match self.format {
            None => show::on_terminal(),
            Some(Format::Table) => true,
            Some(Format::Jsonl) => false,
            Some(Format::Csv) => return Err(Failure::Usage("counts are a table or jsonl".to_owned())),
        };
        let (reader, ledgers) = database.open().await?;
        self.conditions.ledgers(&ledgers)?;
        let limited = |query: tracing_audit::AuditQuery| match self.limit {
            0 => query,
            limit => query.limit(limit),
        };
        let query = limited(self.conditions.query()?);
        if self.compare {
            let before = self.conditions.period.range_before()?.add(self.conditions.timeless()?);
            let changes = reader.compare(query, before, by).await?;
            if !table {
                return changes.iter().try_for_each(show::json);
            }
            return show_changes(&self.by, &changes);
        }
        let counts = reader.count_by(query, by).await?;
        if !table {
            return counts.iter().try_for_each(show::json);
        }
        show_counts(&self.by, &counts, self.conditions.period.tz)
    }
}

fn by(text: &str) -> Result<CountBy, Failure> {
    Ok(match (text, text.strip_prefix("metadata.")) {
        ("hour", _) => CountBy::Hour,
        ("day", _) => CountBy::Day,
        ("ledger", _) => CountBy::Ledger,
        (_, Some(path)) => CountBy::Metadata(path.to_owned()),
        (column, None) => CountBy::Column(column.parse().map_err(|_| {
            let known = fields();
            Failure::Usage(format!("cannot count by {column:?}: {known}, hour, day and ledger"))
        })?),
    })
}

fn named(key: Option<&str>, name: Option<&str>) -> String {
    show::harmless(name.or(key).unwrap_or("(none)")).into_owned()
}

fn show_counts(by: &str, counts: &[Counted], tz: Tz) -> Result<(), Failure> {
    let whole_bar = if show::is_narrow() { 10 } else { 20 };
    let most = counts.iter().map(|counted| counted.entries).max().unwrap_or(1).max(1);
    let row = |counted: &Counted| {
        // A count that is not the greatest may be thousands of times less, and is still one.
        let bar = (u128::from(counted.entries) * whole_bar).div_ceil(most.into());
        vec![
            named(counted.key.as_deref(), counted.name.as_deref()),
            counted.entries.to_string(),
            "█".repeat(usize::try_from(bar).unwrap_or(0)),
            show::time(counted.first, tz),
            show::time(counted.last, tz),
        ]
    };
    let columns = [
        (by, Cells::Cut),
        ("entries", Cells::Whole),
        ("", Cells::Whole),
        ("first", Cells::Whole),
        ("last", Cells::Whole),
    ];
    show::table(&columns, &counts.iter().map(row).collect::<Vec<_>>())
}

fn show_changes(by: &str, changes: &[Change]) -> Result<(), Failure> {
    let row = |change: &Change| {
        let grown = i128::from(change.entries) - i128::from(change.entries_before);
        vec![
            named(change.key.as_deref(), change.name.as_deref()),
            change.entries_before.to_string(),
            change.entries.to_string(),
            format!("{grown:+}"),
        ]
    };
    let columns =
        [(by, Cells::Cut), ("before", Cells::Whole), ("now", Cells::Whole), ("change", Cells::Whole)];
    show::table(&columns, &changes.iter().map(row).collect::<Vec<_>>())
}
