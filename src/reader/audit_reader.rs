//! `AuditReader`: query, count, page.

use std::sync::Arc;

use futures_util::TryStreamExt;
use serde_json::{Map, Value};

use super::{
    page::{Cursor, Page, Position},
    recording::RecordingRead,
};
use crate::defaults;
use crate::entry::AuditEntry;
use crate::entry::{entry_of, sequenced};
use crate::error::{AuditError, ErrorKind};
use crate::query::AuditQuery;
use crate::store::{Found, Span, Store};

/// The entries that one statement looks through: a second or two of work for either database.
const SCANNED: u64 = 1_000_000;

/// The fewest entries that one statement looks through, if it is one of many for the same page.
pub(super) const LEAST_PART: u64 = 2000;

/// The most values in one query. SQLite accepts 32 766 parameters.
const MAX_VALUES: usize = 10_000;
/// The most conditions in one query. SQLite accepts expressions that are 1000 levels deep.
const MAX_CONDITIONS: usize = 200;

/// Reads a log. Cheap to clone. A reader never creates or migrates tables; tables that do not exist read as an empty
/// log.
///
/// The futures need a Tokio runtime, as sqlx's pools do. For code without a runtime, [`blocking`](Self::blocking) has
/// the same calls.
#[derive(Clone, Debug)]
pub struct AuditReader {
    pub(crate) store: Store,
    /// The ledger of pages, streams and followers whose query names none.
    pub(crate) ledger: String,
    /// The name under which the reads are recorded, if they are.
    pub(super) recorded_as: Option<Arc<str>>,
}

impl AuditReader {
    /// A reader of a [`Store`] or an sqlx pool. It connects at the first read.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { store: store.into(), ledger: defaults::LEDGER.to_owned(), recorded_as: None }
    }

    /// The same reader, with this ledger for pages, streams and followers whose query names none, and for
    /// [`verify`](Self::verify) and [`checkpoint`](Self::checkpoint). Default: that of the log, else `main`.
    #[must_use]
    pub fn of_ledger(self, ledger: impl Into<String>) -> Self {
        Self { ledger: ledger.into(), ..self }
    }

    /// A read that is about to happen. It is recorded if this reader's reads are.
    pub(crate) fn recording(&self, action: &'static str, query: Map<String, Value>) -> RecordingRead {
        RecordingRead::new(&self.store, self.recorded_as.as_deref(), action, query)
    }

    /// The query, or an error if it is too large to be asked, or nothing that can be.
    pub(crate) fn asked(query: impl Into<AuditQuery>) -> Result<AuditQuery, AuditError> {
        let query = query.into();
        if let Some(fault) = query.fault() {
            return Err(AuditError::new(ErrorKind::Query, fault));
        }
        let (conditions, values) = query.size();
        if values > MAX_VALUES || conditions > MAX_CONDITIONS {
            let message = format!(
                "the query has {conditions} conditions with {values} values: \
                 at most {MAX_CONDITIONS} and {MAX_VALUES} are possible"
            );
            return Err(AuditError::new(ErrorKind::Query, message));
        }
        Ok(query)
    }

    /// The entries that match, newest first: by `ts`, then by `seq`, both descending. All of them are held in memory:
    /// if there may be many, give a limit or use [`page`](Self::page).
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
        let found: Vec<_> = rows.map_ok(|row| entry_of(&row)).try_collect().await?;
        self.recording("query", query.described()).record_answer(found.len() as u64).await?;
        Ok(found)
    }

    /// The number of entries that match. The query's limit is ignored.
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
        self.recording("count", query.described()).record_answer(1).await?;
        Ok(count)
    }

    /// One page: at most `size` entries that match, in the order of `seq`, and cursors to the pages before and after.
    /// A `size` of 0 counts as 1. Without a cursor, it is the first page in the query's direction.
    ///
    /// A page ends early, with a `next`, once its entries have 4 MiB of text. It has one entry at least.
    ///
    /// A page costs the same wherever it is in the ledger. Following `next` to the end meets every entry once, even
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
        let position = Position::resolve(&query, cursor)?;
        let size = size.max(1);
        let Found { rows, cut, .. } = self.rows(&query, position.span, position.wanted(size)).await?;
        let entries = rows.into_iter().map(sequenced).collect();
        let page = position.page(&query, (entries, cut), size)?;
        let mut asked = query.described();
        asked.insert("size".to_owned(), size.into());
        self.recording("page", asked).record_answer(page.entries.len() as u64).await?;
        Ok(page)
    }
}

impl AuditReader {
    /// At most `size` rows of one ledger that match, without regard to the query's limit. A query that no index
    /// serves is answered in parts of the ledger: a caller that drops the future ends it between two parts.
    async fn rows(&self, query: &AuditQuery, span: Span, size: u32) -> Result<Found, AuditError> {
        if self.is_unserved(query).await? {
            return self.rows_by_parts(query, span, size, &mut { SCANNED }).await;
        }
        self.store.backend().reads()?.page(query, span, size).await
    }

    /// Whether the query looks at every entry, because no index serves it.
    pub(super) async fn is_unserved(&self, query: &AuditQuery) -> Result<bool, AuditError> {
        Ok(query.needs_full_scan() && !self.store.backend().reads()?.is_served(query).await?)
    }

    /// At most `size` rows of one ledger that match. Each statement looks through `part` entries at most. If few of
    /// them match, the parts become larger; if so many match that a part has more than were asked for, smaller.
    pub(super) async fn rows_by_parts(
        &self,
        query: &AuditQuery,
        span: Span,
        size: u32,
        part: &mut u64,
    ) -> Result<Found, AuditError> {
        let reads = self.store.backend().reads()?;
        let heads = reads.heads(query.ledger.as_deref()).await?;
        let head = heads.first().map_or(0, |head| head.next_seq);
        let (mut first, mut after) =
            (query.from_seq.unwrap_or(0), query.before_seq.unwrap_or(head).min(head));
        match span {
            Span::After(seq) => first = first.max(seq.map_or(0, |seq| seq.saturating_add(1))),
            Span::Before(seq) => after = after.min(seq.unwrap_or(after)),
        }
        let mut found = Found::default();
        loop {
            let left = size.saturating_sub(u32::try_from(found.rows.len()).unwrap_or(u32::MAX));
            if first >= after || left == 0 || found.cut {
                return Ok(found);
            }
            let (begin, end, span) = match span {
                Span::After(_) => (first, after.min(first.saturating_add(*part)), Span::After(None)),
                Span::Before(_) => (first.max(after.saturating_sub(*part)), after, Span::Before(None)),
            };
            let query = query.clone().from_seq(begin).before_seq(end);
            let next = reads.page(&query, span, left).await?;
            *part = match next.rows.last() {
                Some(last) if next.cut || next.rows.len() == left as usize => {
                    // The entries among which these were found, and as many again.
                    let passed = match span {
                        Span::After(_) => last.seq.saturating_sub(begin),
                        Span::Before(_) => end.saturating_sub(last.seq),
                    };
                    passed.saturating_mul(2).clamp(LEAST_PART, SCANNED)
                }
                _ => part.saturating_mul(4).min(SCANNED),
            };
            let found_none = next.rows.is_empty();
            found.append(next);
            match span {
                Span::After(_) => first = end,
                Span::Before(_) => after = begin,
            }
            if found_none && first < after {
                // The next entry that exists: a head or an entry that somebody has changed may lie any number of parts
                // further on, with nothing in between.
                let rest = AuditQuery { ledger: query.ledger.clone(), ..AuditQuery::new() };
                let nearest = reads.page(&rest.from_seq(first).before_seq(after), span, 1).await?;
                match (span, nearest.rows.first()) {
                    (_, None) => return Ok(found),
                    (Span::After(_), Some(nearest)) => first = nearest.seq,
                    (Span::Before(_), Some(nearest)) => after = nearest.seq.saturating_add(1),
                }
            }
        }
    }
}

#[cfg(all(test, feature = "_sqlite"))]
mod tests {
    use super::*;
    use crate::log::AuditLog;

    #[tokio::test]
    async fn rows_read_in_parts_are_those_of_a_single_statement() {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::open(directory.path().join("audit.db")).await.unwrap();
        for n in 0..23 {
            let action = if n % 3 == 0 { "a" } else { "b" };
            log.writer().write(AuditEntry::new(uuid::Uuid::nil(), action, "r")).await.unwrap();
        }
        log.flush().await.unwrap();
        let reader = log.reader();
        let query_of_a = || AuditQuery::new().ledger("main").action("a");
        let spans = [None, Some(0), Some(7), Some(22), Some(99)];
        let spans = spans.into_iter().flat_map(|seq| [Span::After(seq), Span::Before(seq)]);
        for (span, query) in spans.flat_map(|span| {
            [query_of_a(), query_of_a().from_seq(4).before_seq(20)].map(|query| (span, query))
        }) {
            assert!(query.needs_full_scan());
            for (mut part, size) in (1..30).flat_map(|part| [(part, 1), (part, 3), (part, 100)]) {
                let seqs = |found: Found| found.rows.into_iter().map(|row| row.seq).collect::<Vec<_>>();
                let at_once = reader.store.backend().reads().unwrap().page(&query, span, size).await.unwrap();
                let by_parts = reader.rows_by_parts(&query, span, size, &mut part).await.unwrap();
                assert_eq!(seqs(by_parts), seqs(at_once), "{span:?} {part} {size}");
            }
        }
    }
}
