//! Reading a log back: questions, pages, exports.

mod blocking;
mod export;
mod follow;
mod ocsf;
mod page;
mod quarantine;
mod query;
mod reads;
mod report;

use std::sync::Arc;

use futures_util::TryStreamExt;

pub use blocking::BlockingReader;
pub use export::{ExportChunk, ExportFormat};
pub use page::{Cursor, Page};
pub use quarantine::QuarantinedEntry;
pub use query::{AuditFilter, AuditQuery, Column};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use query::{Condition, Served, Step, after_prefix};
pub(crate) use query::{spelled_path, steps};
pub use reads::RecordedRead;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use report::spelled;
pub use report::{Change, CountBy, Counted, Ledger};

use crate::{
    AuditEntry, AuditError, SequencedEntry, Store,
    entry::from_micros,
    error::Kind,
    log::defaults,
    record::Row,
    store::{LedgerRow, Span},
};

/// Entries that one statement looks through: a second or two of either database.
const SCANNED: u64 = 1_000_000;

/// Values in one query. SQLite takes 32 766 parameters.
const MAX_VALUES: usize = 10_000;
/// Conditions in one query. SQLite takes expressions that are 1000 deep.
const MAX_CONDITIONS: usize = 200;

/// Reads a log. Cheap to clone. It never creates or migrates tables; where there are none it reads an empty
/// log.
///
/// Its futures need a Tokio runtime, as sqlx's pools do; [`blocking`](Self::blocking) gives the same calls to
/// code that has none.
#[derive(Clone, Debug)]
pub struct AuditReader {
    store: Store,
    /// Whose pages it gives unless asked for another's.
    ledger: String,
    /// Under which name its reads are recorded, if they are.
    recorded_as: Option<Arc<str>>,
}

impl AuditReader {
    /// A reader of a [`Store`] or an sqlx pool. Connects when it is first asked.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { store: store.into(), ledger: defaults::LEDGER.to_owned(), recorded_as: None }
    }

    /// The same, with this one as the ledger of its pages.
    pub(crate) fn of_ledger(self, ledger: String) -> Self {
        Self { ledger, ..self }
    }

    /// The query, if it can be asked.
    fn asked(query: impl Into<AuditQuery>) -> Result<AuditQuery, AuditError> {
        let query = query.into();
        let (values, conditions) = (query.values(), query.conditions.len());
        if values > MAX_VALUES || conditions > MAX_CONDITIONS {
            let message = format!(
                "the query has {conditions} conditions with {values} values: {MAX_CONDITIONS} and {MAX_VALUES} at most"
            );
            return Err(AuditError::new(Kind::Query, message));
        }
        Ok(query)
    }

    /// The entries that match, newest first: by `ts`, then by `seq`, both descending. All of them are held in
    /// memory; give a limit, or use [`page`](Self::page), where there may be many.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn query(&self, query: impl Into<AuditQuery>) -> Result<Vec<AuditEntry>, AuditError> {
        let query = Self::asked(query)?;
        let rows = self.store.backend().reads()?.rows(&query);
        let found: Vec<_> = rows.and_then(|row| std::future::ready(entry_of(&row))).try_collect().await?;
        self.reading("query", query.described()).gave(found.len() as u64).await?;
        Ok(found)
    }

    /// How many entries match, the query's limit left aside.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn count(&self, query: impl Into<AuditQuery>) -> Result<u64, AuditError> {
        let query = Self::asked(query)?;
        let count = self.store.backend().reads()?.count(&query).await?;
        self.reading("count", query.described()).gave(1).await?;
        Ok(count)
    }

    /// At most `size` entries (and at least one) that match, in the order of `seq`, and cursors to the pages after and before.
    /// Without a cursor, the first page of the query's direction.
    ///
    /// A page costs the same wherever it lies, and following `next` to its end meets every entry once, also
    /// while more are written.
    ///
    /// # Errors
    /// [`is_cursor`](AuditError::is_cursor) for a cursor of another query, or of another database,
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn page(
        &self,
        query: impl Into<AuditQuery>,
        cursor: Option<Cursor>,
        size: u32,
    ) -> Result<Page, AuditError> {
        let mut query = Self::asked(query)?;
        query.ledger.get_or_insert_with(|| self.ledger.clone());
        let position = page::Position::resolve(&query, cursor)?;
        let size = size.max(1);
        let rows = self.rows(&query, position.span, position.wanted(size)).await?;
        let entries = rows.into_iter().map(sequenced).collect::<Result<Vec<_>, _>>()?;
        let page = position.page(&query, entries, size)?;
        let mut asked = query.described();
        asked.insert("size".to_owned(), size.into());
        self.reading("page", asked).gave(page.entries.len() as u64).await?;
        Ok(page)
    }
}

impl AuditReader {
    /// At most `size` rows of one ledger that match, whatever the query's limit. What no index serves is looked for part by
    /// part: whoever gives up is heard between two.
    async fn rows(&self, query: &AuditQuery, span: Span, size: u32) -> Result<Vec<LedgerRow>, AuditError> {
        if query.scans() && !self.store.backend().reads()?.is_served(query).await? {
            return self.rows_by_parts(query, span, size, SCANNED).await;
        }
        self.store.backend().reads()?.page(query, span, size).await
    }

    async fn rows_by_parts(
        &self,
        query: &AuditQuery,
        span: Span,
        size: u32,
        part: u64,
    ) -> Result<Vec<LedgerRow>, AuditError> {
        let reads = self.store.backend().reads()?;
        let heads = reads.heads(query.ledger.as_deref()).await?;
        let head = heads.first().map_or(0, |head| head.next_seq);
        let (mut first, mut after) =
            (query.from_seq.unwrap_or(0), query.before_seq.unwrap_or(head).min(head));
        match span {
            Span::After(seq) => first = first.max(seq.map_or(0, |seq| seq.saturating_add(1))),
            Span::Before(seq) => after = after.min(seq.unwrap_or(after)),
        }
        let mut found = Vec::new();
        loop {
            let left = size.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            if first >= after || left == 0 {
                return Ok(found);
            }
            let (begin, end, span) = match span {
                Span::After(_) => (first, after.min(first.saturating_add(part)), Span::After(None)),
                Span::Before(_) => (first.max(after.saturating_sub(part)), after, Span::Before(None)),
            };
            let query = query.clone().from_seq(begin).before_seq(end);
            found.extend(reads.page(&query, span, left).await?);
            match span {
                Span::After(_) => first = end,
                Span::Before(_) => after = begin,
            }
        }
    }
}

fn entry_of(row: &Row) -> Result<AuditEntry, AuditError> {
    let metadata = serde_json::from_str(&row.metadata).map_err(|cause| {
        AuditError::new(Kind::Store, format!("the metadata of entry {} is not JSON", row.id)).because(cause)
    })?;
    Ok(AuditEntry {
        id: row.id,
        session_id: row.session_id,
        workspace_id: row.workspace_id,
        agent_id: row.agent_id,
        action: row.action.as_ref().to_owned(),
        resource: row.resource.as_ref().to_owned(),
        resource_id: row.resource_id.as_deref().map(str::to_owned),
        decision: row.decision.as_ref().to_owned(),
        reason: row.reason.as_deref().map(str::to_owned),
        risk_score: row.risk_score.unwrap_or(0.0),
        metadata,
        ts: from_micros(row.ts),
    })
}

pub(crate) fn sequenced(found: LedgerRow) -> Result<SequencedEntry, AuditError> {
    let problems =
        found.row.problems.as_deref().map_or_else(|| Ok(Vec::new()), serde_json::from_str).map_err(
            |cause| {
                AuditError::new(
                    Kind::Store,
                    format!("the problems of entry {} are not a JSON list", found.row.id),
                )
                .because(cause)
            },
        )?;
    Ok(SequencedEntry {
        ledger: found.ledger,
        seq: found.seq,
        committed_at: from_micros(found.committed_at),
        problems,
        entry: entry_of(&found.row)?,
    })
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::AuditLog;

    #[tokio::test]
    async fn what_is_looked_for_part_by_part_is_what_is_found_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::open(directory.path().join("audit.db")).await.unwrap();
        for n in 0..23 {
            let action = if n % 3 == 0 { "a" } else { "b" };
            log.writer().write(AuditEntry::new(uuid::Uuid::nil(), action, "r")).await.unwrap();
        }
        log.flush().await.unwrap();
        let reader = log.reader();
        let of = || AuditQuery::new().ledger("main").action("a");
        let spans = [None, Some(0), Some(7), Some(22), Some(99)];
        let spans = spans.into_iter().flat_map(|seq| [Span::After(seq), Span::Before(seq)]);
        for (span, query) in
            spans.flat_map(|span| [of(), of().from_seq(4).before_seq(20)].map(|query| (span, query)))
        {
            assert!(query.scans());
            for (part, size) in (1..30).flat_map(|part| [(part, 1), (part, 3), (part, 100)]) {
                let seqs = |rows: Vec<LedgerRow>| rows.into_iter().map(|row| row.seq).collect::<Vec<_>>();
                let at_once = reader.store.backend().reads().unwrap().page(&query, span, size).await.unwrap();
                let by_parts = reader.rows_by_parts(&query, span, size, part).await.unwrap();
                assert_eq!(seqs(by_parts), seqs(at_once), "{span:?} {part} {size}");
            }
        }
    }
}
