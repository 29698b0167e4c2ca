//! The command `query`: shows matching entries.

use std::cmp::Reverse;

use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tracing_audit::{AuditError, AuditQuery, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Source, sources},
    output::{self, Entries, Field, Format, Stdout},
};

#[derive(Args)]
pub(crate) struct Query {
    /// Show the earliest entries first, by their own time.
    #[arg(long)]
    oldest_first: bool,
    /// Show at most this many entries, the latest by their own time; 0 shows all of them.
    ///
    /// The entries of several ledgers and databases are merged by time.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<QueryFormat>,
    /// Show these columns, such as `seq,time,agent,metadata.client.ip`; in JSON Lines, these fields.
    ///
    /// There are all fields of an entry, any `metadata.PATH`, and `agent`, `session` and `workspace`: the names that the ids
    /// were made from.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', value_parser = Field::parse)]
    columns: Vec<Field>,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Clone, Copy, ValueEnum)]
enum QueryFormat {
    /// A table for people.
    Table,
    /// A table with more columns, in which nothing is cut: its lines may be longer than the terminal's.
    Wide,
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
            Some(QueryFormat::Wide) => Some(Format::Wide),
            Some(QueryFormat::Jsonl) => Some(Format::Jsonl),
            Some(QueryFormat::Csv) => return self.print_csv(database, &sources, query).await,
        };
        if !self.oldest_first {
            query = query.newest_first();
        }
        let zone = self.conditions.period.tz;
        let mut shown = if self.columns.is_empty() {
            Entries::new(format, zone)
        } else {
            Entries::with_columns(format, zone, self.columns.clone())
        };
        let mut found = Vec::new();
        for log in &logs {
            let of_log = |source: &&Source<'_>| std::ptr::eq(source.reader, &raw const log.reader);
            let ledgers: Vec<&Source<'_>> = sources.iter().filter(of_log).collect();
            if !ledgers.is_empty() {
                found.push(OfLog::new(ledgers, log.reader.stream_by_time(&query)).await?);
            }
        }
        let mut left = if self.limit > 0 { u64::from(self.limit) } else { u64::MAX };
        while left > 0
            && let Some(next) = self.next(&mut found)
        {
            let Some(entry) = next.take().await? else { break };
            let source = next.ledgers.iter().find(|source| source.ledger == entry.ledger);
            let (db, label) = source.map_or((None, ""), |source| (source.db, &source.label));
            shown.add(&entry, db, label)?;
            left -= 1;
        }
        shown.end()?;
        output::tell_order(self.oldest_first);
        Ok(())
    }

    /// The database whose next entry comes first; the first one of them if several are at the same time.
    fn next<'a, 'b>(&self, found: &'a mut [OfLog<'b>]) -> Option<&'a mut OfLog<'b>> {
        let with_next = found.iter_mut().filter_map(|one| Some((one.next.as_ref()?.entry.ts, one)));
        let first = if self.oldest_first {
            with_next.min_by_key(|(ts, _)| *ts)
        } else {
            with_next.min_by_key(|(ts, _)| Reverse(*ts))
        };
        first.map(|(_, one)| one)
    }

    async fn print_csv(
        &self,
        database: &Database,
        sources: &[Source<'_>],
        query: AuditQuery,
    ) -> Result<(), Failure> {
        if !self.columns.is_empty() {
            return Err(Failure::Usage(
                "CSV has all columns: leave out --columns, or choose another --format".to_owned(),
            ));
        }
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
}

/// The entries of one database in the order of time, and the next one of them.
struct OfLog<'a> {
    ledgers: Vec<&'a Source<'a>>,
    entries: BoxStream<'a, Result<SequencedEntry, AuditError>>,
    next: Option<SequencedEntry>,
}

impl<'a> OfLog<'a> {
    async fn new(
        ledgers: Vec<&'a Source<'a>>,
        entries: impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'a,
    ) -> Result<Self, AuditError> {
        let mut entries = entries.boxed();
        let next = entries.try_next().await?;
        Ok(Self { ledgers, entries, next })
    }

    /// The next entry.
    async fn take(&mut self) -> Result<Option<SequencedEntry>, AuditError> {
        let following = self.entries.try_next().await?;
        Ok(std::mem::replace(&mut self.next, following))
    }
}
