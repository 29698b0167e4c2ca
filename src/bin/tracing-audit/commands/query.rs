//! The command `query`: shows matching entries.

use std::cmp::Reverse;

use clap::{Args, ValueEnum};
use futures_util::TryStreamExt;
use tracing_audit::{AuditQuery, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Source, sources},
    output::{self, Entries, Format, Stdout},
};

#[derive(Args)]
pub(crate) struct Query {
    /// Show the oldest entries first.
    #[arg(long)]
    oldest_first: bool,
    /// Show at most this many entries; 0 shows all of them.
    ///
    /// The entries of several ledgers are merged by time; with 0 they are shown one ledger after the other.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(long, value_enum)]
    format: Option<QueryFormat>,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Clone, Copy, ValueEnum)]
enum QueryFormat {
    /// A table for people.
    Table,
    /// JSON Lines: one object in each line.
    Jsonl,
    /// CSV, ordered by time, latest first.
    Csv,
}

impl Query {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let logs = database.open().await?;
        let sources = sources(&logs, &self.conditions)?;
        let mut query = self.conditions.query()?;
        for log in &logs {
            output::warn_if_it_scans(&query, &log.ledgers);
        }
        if self.limit > 0 {
            query = query.limit(self.limit);
        }
        let format = match self.format {
            None => None,
            Some(QueryFormat::Table) => Some(Format::Table),
            Some(QueryFormat::Jsonl) => Some(Format::Jsonl),
            Some(QueryFormat::Csv) => return self.print_csv(database, &sources, query).await,
        };
        if !self.oldest_first {
            query = query.newest_first();
        }
        let mut shown = Entries::new(format, self.conditions.period.tz);
        // Entries of several ledgers, which are merged by time before they are shown.
        let mut merged = Vec::new();
        for source in &sources {
            let mut entries = std::pin::pin!(source.reader.stream(query.clone().ledger(&source.ledger)));
            while let Some(entry) = entries.try_next().await? {
                if sources.len() > 1 && self.limit > 0 {
                    merged.push((entry, source));
                } else {
                    shown.add(&entry, source.db, &source.label)?;
                }
            }
        }
        self.sort_by_time(&mut merged);
        let mut merged = merged.iter().take(self.limit as usize);
        merged.try_for_each(|(entry, source)| shown.add(entry, source.db, &source.label))?;
        shown.end()
    }

    async fn print_csv(
        &self,
        database: &Database,
        sources: &[Source<'_>],
        query: AuditQuery,
    ) -> Result<(), Failure> {
        if self.oldest_first {
            return Err(Failure::Usage(
                "CSV is the latest first: leave out --oldest-first, or choose another --format".to_owned(),
            ));
        }
        database.one()?;
        output::refuse_terminal()?;
        if let Some(source) = sources.first() {
            source.reader.export_csv(query, Stdout::default()).await?;
        }
        Ok(())
    }

    fn sort_by_time(&self, merged: &mut [(SequencedEntry, &Source<'_>)]) {
        if self.oldest_first {
            merged.sort_by_key(|(found, _)| found.entry.ts);
        } else {
            merged.sort_by_key(|(found, _)| Reverse(found.entry.ts));
        }
    }
}
