//! Entries that match.

use std::cmp::Reverse;

use clap::Args;
use futures_util::TryStreamExt;
use tracing_audit::{AuditQuery, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Source, sources},
    output::{self, Entries, Format, Out},
};

#[derive(Args)]
pub(crate) struct Query {
    #[command(flatten)]
    conditions: Conditions,
    /// The earliest first.
    #[arg(long)]
    oldest_first: bool,
    /// At most this many; 0 for all, which come ledger by ledger.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Default: a table on a terminal, JSON Lines elsewhere.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl Query {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let logs = database.open().await?;
        let sources = sources(&logs, &self.conditions)?;
        let mut query = self.conditions.query()?;
        for log in &logs {
            output::tell_if_it_scans(&query, &log.ledgers);
        }
        if self.limit > 0 {
            query = query.limit(self.limit);
        }
        if self.format == Some(Format::Csv) {
            return self.csv(database, &sources, query).await;
        }
        if !self.oldest_first {
            query = query.descending();
        }
        let mut shown = Entries::new(self.format, self.conditions.period.tz);
        let mut together = Vec::new();
        for source in &sources {
            let mut entries = std::pin::pin!(source.reader.stream(query.clone().ledger(&source.ledger)));
            while let Some(entry) = entries.try_next().await? {
                if sources.len() > 1 && self.limit > 0 {
                    together.push((entry, source));
                } else {
                    shown.add(&entry, source.db, &source.label)?;
                }
            }
        }
        self.sort(&mut together);
        let mut together = together.iter().take(self.limit as usize);
        together.try_for_each(|(entry, source)| shown.add(entry, source.db, &source.label))?;
        shown.end()
    }

    async fn csv(
        &self,
        database: &Database,
        sources: &[Source<'_>],
        query: AuditQuery,
    ) -> Result<(), Failure> {
        if self.oldest_first {
            return Err(Failure::Usage("CSV is the latest first".to_owned()));
        }
        database.one()?;
        output::not_to_a_terminal()?;
        for source in sources.iter().take(1) {
            source.reader.export_csv(query.clone(), Out::default()).await?;
        }
        Ok(())
    }

    /// Of several ledgers, in the order of time.
    fn sort(&self, together: &mut [(SequencedEntry, &Source<'_>)]) {
        if self.oldest_first {
            together.sort_by_key(|(found, _)| found.entry.ts);
        } else {
            together.sort_by_key(|(found, _)| Reverse(found.entry.ts));
        }
    }
}
