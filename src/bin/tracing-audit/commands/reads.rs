//! The record of who read the log.

use std::cmp::Reverse;

use chrono_tz::Tz;
use clap::Args;
use serde_json::Value;
use tracing_audit::RecordedRead;

use crate::{
    failure::Failure,
    input::{Database, Period},
    output::{self, Cells, Of, harmless, time, without_first_if_empty},
};

#[derive(Args)]
pub(crate) struct Reads {
    #[command(flatten)]
    period: Period,
    /// At most this many of each database.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

impl Reads {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (range, logs, mut reads) = (self.period.range()?, database.open().await?, Vec::new());
        for log in &logs {
            let of = log.reader.reads(range, self.limit).await?;
            reads.extend(of.into_iter().map(|read| (log.db(&logs), read)));
        }
        reads.sort_by_key(|(_, read)| Reverse(read.at));
        show(&reads, self.period.tz)
    }
}

fn show(reads: &[(Option<&str>, RecordedRead)], tz: Tz) -> Result<(), Failure> {
    if !output::on_terminal() {
        return reads.iter().try_for_each(|(db, found)| output::json(&Of { db: *db, found }));
    }
    let row = |(db, read): &(Option<&str>, RecordedRead)| {
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            time(read.at, tz),
            harmless(&read.reader).into_owned(),
            harmless(read.role.as_deref().unwrap_or_default()).into_owned(),
            harmless(&read.action).into_owned(),
            read.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            harmless(&asked(&read.query)).into_owned(),
        ]
    };
    let columns = [
        ("", Cells::Cut),
        ("time", Cells::Whole),
        ("reader", Cells::Cut),
        ("role", Cells::Cut),
        ("read", Cells::Whole),
        ("entries", Cells::Whole),
        ("what", Cells::Cut),
    ];
    without_first_if_empty(&columns, &reads.iter().map(row).collect::<Vec<_>>())
}

/// What was asked for, as far as it fits from its beginning on.
fn asked(query: &Value) -> String {
    let Value::Object(parts) = query else { return query.to_string() };
    let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(", ")
}
