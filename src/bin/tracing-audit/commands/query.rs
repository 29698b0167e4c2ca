//! The command `query`: shows matching entries.

use std::cmp::Reverse;

use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use tracing_audit::{AuditError, AuditQuery, SequencedEntry, export::Csv};

use super::{
    covered::{Covered, matching},
    nothing::why_nothing,
};
use crate::{
    failure::Failure,
    input::{Conditions, Cursor, Database, Log, Source, columns, sources},
    output::{self, Entries, Format, Stdout},
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
    /// Begin after the entries of an earlier answer, which has shown this as its next one.
    ///
    /// The conditions and the order must be the same. Entries that were committed since are shown where their time is.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<Cursor>,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<QueryFormat>,
    /// Show these columns, such as `seq,time,agent,metadata.client.ip`; in JSON Lines, these fields.
    ///
    /// There are all fields of an entry, any `metadata.PATH`, and `agent`, `session` and `workspace`: the names that the ids
    /// were made from.
    #[arg(long, value_name = "COLUMN")]
    columns: Vec<String>,
    /// End with exit code 1 if there is no entry to show, for scripts.
    #[arg(long)]
    fail_if_none: bool,
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
    /// CSV with the columns of an export, ordered by time, latest first.
    Csv,
}

impl Query {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let columns = columns(&self.columns)?;
        if let Some(cursor) = self.cursor {
            cursor.check_order(self.oldest_first)?;
        }
        let logs = database.open_distinct().await?;
        let sources = sources(&logs, &self.conditions)?;
        let mut query = self.conditions.query()?;
        for log in &logs {
            output::warn_if_it_scans(&query, &log.ledgers);
        }
        let asked = query.clone();
        let passed = self.cursor.map_or(0, Cursor::shown);
        if let Some(cursor) = self.cursor {
            query = cursor.add(query);
        }
        if self.limit > 0 {
            query = query.limit(self.limit.saturating_add(passed));
        }
        let format = match self.format {
            None => None,
            Some(QueryFormat::Table) => Some(Format::Table),
            Some(QueryFormat::Wide) => Some(Format::Wide),
            Some(QueryFormat::Jsonl) => Some(Format::Jsonl),
            Some(QueryFormat::Csv) => return self.print_csv(&logs, &sources, query).await,
        };
        if !self.oldest_first {
            query = query.newest_first();
        }
        let zone = self.conditions.period.tz;
        let mut shown = if columns.is_empty() {
            Entries::new(format, zone)
        } else {
            Entries::with_columns(format, zone, columns)
        };
        let mut found = Vec::new();
        for log in &logs {
            let of_log = |source: &&Source<'_>| std::ptr::eq(source.reader, &raw const log.reader);
            let ledgers: Vec<&Source<'_>> = sources.iter().filter(of_log).collect();
            if !ledgers.is_empty() {
                found.push(OfLog::new(ledgers, log.reader.stream_by_time(&query)).await?);
            }
        }
        self.pass(&mut found).await?;
        let (mut at, mut count) = (self.cursor, 0);
        let mut left = if self.limit > 0 { u64::from(self.limit) } else { u64::MAX };
        while left > 0
            && !output::is_closed()
            && let Some(next) = self.next(&mut found)
        {
            let Some(entry) = next.take().await? else { break };
            let source = next.ledgers.iter().find(|source| source.ledger == entry.ledger);
            let (db, label) = source.map_or((None, ""), |source| (source.db, &source.label));
            shown.add(&entry, db, label)?;
            at = Some(Cursor::after(at, &entry, self.oldest_first));
            (count, left) = (count + 1, left - 1);
        }
        shown.end()?;
        if count > 0 {
            output::tell_order(self.oldest_first);
        }
        drop(found);
        if output::is_closed() {
            // The reader of a pipe has seen enough and closed it. Entries that the answer may lack count for the exit
            // code all the same.
            return Covered::by(&logs, &asked).await?.verdict();
        }
        let covered = self.covered(&logs, &asked, at.filter(|_| left == 0), count).await?;
        self.tell(&logs, covered, count, Format::is_table(format)).await
    }

    /// Passes over what was shown before the cursor.
    async fn pass(&self, found: &mut [OfLog<'_>]) -> Result<(), Failure> {
        let Some(cursor) = self.cursor else { return Ok(()) };
        let mut last = None;
        for _ in 0..cursor.shown() {
            last = match self.next(found) {
                Some(next) => next.take().await?,
                None => None,
            };
            // However many the cursor counts, they are all of one time.
            if last.as_ref().is_none_or(|last| !cursor.is_of_time(last)) {
                break;
            }
        }
        cursor.check(last.as_ref())
    }

    /// Reports what an answer of this many entries covers, and why there are none.
    async fn tell(&self, logs: &[Log], covered: Covered, count: u64, table: bool) -> Result<(), Failure> {
        // Behind a cursor there is nothing because all was shown.
        let is_asked = count == 0 && self.cursor.is_none();
        let nothing = if is_asked { why_nothing(logs, &self.conditions).await? } else { None };
        covered.because(nothing).tell(table)?;
        if count == 0 && self.fail_if_none {
            return Err(Failure::NotFound("there is no such entry".to_owned()));
        }
        Ok(())
    }

    /// The coverage of an answer that has shown this many entries, and has ended here for its limit.
    async fn covered(
        &self,
        logs: &[Log],
        asked: &AuditQuery,
        end: Option<Cursor>,
        count: u64,
    ) -> Result<Covered, Failure> {
        let mut narrow = if self.oldest_first { asked.clone() } else { asked.clone().newest_first() };
        if let Some(cursor) = self.cursor {
            narrow = cursor.add(narrow);
        }
        let following = match end {
            Some(end) => self.following(logs, &narrow, end).await?,
            None => 0,
        };
        let Some(end) = end.filter(|end| following > u64::from(end.shown())) else {
            let covered = if self.limit > 0 {
                Covered::by_page(logs, &narrow).await?
            } else {
                Covered::by(logs, &narrow).await?
            };
            return Ok(if self.cursor.is_some() { covered.shows(count) } else { covered.shows_all(count) });
        };
        let covered = Covered::by_page(logs, &end.up_to(narrow)).await?;
        let matching = matching(logs, asked).await?;
        Ok(covered.shows(count).of_more(matching, Some(format!("--cursor {end}"))))
    }

    /// The number of entries from the time of this place on, up to one more than were shown.
    async fn following(&self, logs: &[Log], narrow: &AuditQuery, end: Cursor) -> Result<u64, Failure> {
        let mut following = 0;
        for log in logs {
            let rest = end.add(narrow.clone()).limit(end.shown().saturating_add(1));
            // It is no read of its own: the record of reads has the query.
            let reader = log.unrecorded();
            let rest = reader.stream_by_time(rest).try_fold(0_u64, |sum, _| std::future::ready(Ok(sum + 1)));
            following += rest.await?;
        }
        Ok(following)
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
        logs: &[Log],
        sources: &[Source<'_>],
        query: AuditQuery,
    ) -> Result<(), Failure> {
        if !self.columns.is_empty() {
            return Err(Failure::Usage(
                "query gives the usual columns of a CSV file: leave out --columns, or use export --format csv, which takes it"
                    .to_owned(),
            ));
        }
        if self.oldest_first {
            return Err(Failure::Usage(
                "CSV is the latest first: leave out --oldest-first, or choose another --format".to_owned(),
            ));
        }
        if logs.iter().any(|log| log.db(logs).is_some()) {
            return Err(Failure::Usage("this command takes one --db at a time".to_owned()));
        }
        if sources
            .iter()
            .zip(sources.iter().skip(1))
            .any(|(one, next)| !std::ptr::eq(one.reader, next.reader))
        {
            return Err(Failure::Usage(
                "CSV has the entries of one ledger of an exported file: choose it with --ledger".to_owned(),
            ));
        }
        if self.cursor.is_some() {
            let message = "CSV begins with the latest entry: leave out --cursor, or choose another --format";
            return Err(Failure::Usage(message.to_owned()));
        }
        output::refuse_terminal()?;
        let Some(source) = sources.first() else { return Ok(()) };
        let rows = source.reader.export(&query, Csv::new(), Stdout::default()).await?;
        let covered = Covered::by(logs, &query).await?;
        if output::is_closed() {
            return covered.verdict();
        }
        let more = self.limit > 0 && rows >= u64::from(self.limit);
        if !more {
            return self.tell(logs, covered.shows_all(rows), rows, false).await;
        }
        let matching = matching(logs, &query).await?;
        let covered = covered.shows(rows);
        match matching {
            Some(matching) if matching <= rows => covered,
            matching => covered.of_more(matching, None),
        }
        .tell(false)
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
