//! The command `reads`: shows the record of who read the log.

use std::cmp::Reverse;

use clap::Args;
use serde_json::Value;
use tracing_audit::reader::RecordedRead;

use crate::{
    failure::Failure,
    input::{Database, Period},
    output::{self, Cells, Format, FromDatabase, harmless, print_table_as, shown_time},
    zone::Zone,
};

#[derive(Args)]
pub(crate) struct Reads {
    /// Show at most this many reads of each database, the latest; 0 shows all of them.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    period: Period,
}

impl Reads {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_exported()?;
        let (range, logs, mut reads) = (self.period.range()?, database.open().await?, Vec::new());
        let limit = if self.limit == 0 { u32::MAX } else { self.limit };
        for log in &logs {
            let found = log.reader.reads(range, limit).await?;
            reads.extend(found.into_iter().map(|read| (log.db(&logs), read)));
        }
        reads.sort_by_key(|(_, read)| Reverse(read.at));
        print_reads(&reads, self.format, self.period.tz)
    }
}

fn print_reads(
    reads: &[(Option<&str>, RecordedRead)],
    format: Option<Format>,
    tz: Zone,
) -> Result<(), Failure> {
    if !Format::is_table(format) {
        return reads.iter().try_for_each(|(db, found)| output::print_json(&FromDatabase { db: *db, found }));
    }
    if reads.is_empty() {
        output::tell_person(
            "no read is recorded here; reads are recorded of readers that give a name by --as",
        );
    }
    let row = |(db, read): &(Option<&str>, RecordedRead)| {
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            shown_time(read.at, tz),
            harmless(&read.reader).into_owned(),
            harmless(read.role.as_deref().unwrap_or_default()).into_owned(),
            harmless(&read.action).into_owned(),
            read.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            harmless(&query_text(&read.query)).into_owned(),
        ]
    };
    let columns = [
        ("database", Cells::Cut),
        ("time", Cells::Whole),
        ("reader", Cells::Cut),
        ("role", Cells::Cut),
        ("read", Cells::Whole),
        ("entries", Cells::Whole),
        ("what", Cells::Text),
    ];
    print_table_as(format, &columns, &reads.iter().map(row).collect::<Vec<_>>())
}

/// The recorded query as one line, of which the table may leave out the end.
fn query_text(query: &Value) -> String {
    let Value::Object(parts) = query else { return query.to_string() };
    let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(", ")
}
