//! Reads the matches of one ledger piece by piece, each from the place where the last one ended.

use super::audit_reader::{AuditReader, LEAST_PART};
use crate::entry::LedgerRow;
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{Found, Span};

/// The most entries of a piece.
pub(super) const PAGE: u32 = 500;

/// A query of one ledger, and how far its matches have been read. To read all of them costs what reading the ledger once
/// costs, whatever the query is.
pub(super) struct Pieces {
    reader: AuditReader,
    query: AuditQuery,
    /// The part that is still to be read; `None` at the end.
    span: Option<Span>,
    /// Whether each statement looks through a part of the ledger only. `None` before the first one.
    by_parts: Option<bool>,
    /// The entries of the next part.
    part: u64,
    /// The most entries of the next piece. Less than [`PAGE`] where entries are long.
    size: u32,
}

impl Pieces {
    pub(super) fn new(reader: AuditReader, query: AuditQuery, span: Span) -> Self {
        Self { reader, query, span: Some(span), by_parts: None, part: LEAST_PART, size: PAGE }
    }

    pub(super) fn is_done(&self) -> bool {
        self.span.is_none()
    }

    /// The next matches, at most `most` of them. Without any, all were read.
    pub(super) async fn next(&mut self, most: u32) -> Result<Vec<LedgerRow>, AuditError> {
        let Some(span) = self.span else { return Ok(Vec::new()) };
        let reads = self.reader.store.backend().reads()?;
        if matches!(span, Span::After(_)) {
            // Nothing of ours has a number below 0.
            self.query.from_seq.get_or_insert(0);
        }
        if self.query.has_times() && !self.query.pruned {
            // The bounds are found once for all pieces: the commit batches may be as many as the entries.
            let Some((first, end)) = reads.seqs_in_time(&self.query).await? else {
                self.span = None;
                return Ok(Vec::new());
            };
            (self.query.from_seq, self.query.before_seq, self.query.pruned) = (Some(first), Some(end), true);
        }
        let by_parts = match self.by_parts {
            Some(known) => known,
            None => self.query.may_be_sorted() || self.reader.is_unserved(&self.query).await?,
        };
        self.by_parts = Some(by_parts);
        let size = self.size.min(most);
        let found = if by_parts {
            self.reader.rows_by_parts(&self.query, span, size, &mut self.part).await?
        } else {
            reads.page(&self.query, span, size).await?
        };
        self.size = found.room(PAGE);
        let Found { mut rows, cut, .. } = found;
        let found = rows.len();
        rows.retain(|row| i64::try_from(row.seq).is_ok());
        let is_last = !cut && found < size as usize || rows.len() < found;
        self.span = rows.last().filter(|_| !is_last).map(|last| match span {
            Span::After(_) => Span::After(Some(last.seq)),
            Span::Before(_) => Span::Before(Some(last.seq)),
        });
        Ok(rows)
    }
}
