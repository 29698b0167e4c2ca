//! The reader's calls for code without an async runtime.

use std::{io::Write, ops::RangeBounds};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    audit_reader::AuditReader,
    counts::{Change, Counted, Ledger},
    page::{Cursor, Page},
    quarantine::QuarantinedEntry,
    recorded_reads::RecordedRead,
};
use crate::{AuditEntry, AuditError, AuditQuery, CountBy, Index, SequencedEntry, platform::on_own_runtime};

impl AuditReader {
    /// The same calls, each of which blocks the thread until it is done. They work on any thread, also within
    /// an async runtime, whose other tasks then wait.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let log = tracing_audit::AuditLog::open_blocking(directory.path().join("audit.db"))?;
    /// assert_eq!(log.reader().blocking().count(tracing_audit::AuditQuery::new())?, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn blocking(&self) -> BlockingReader<'_> {
        BlockingReader(self)
    }
}

/// See [`AuditReader::blocking`].
#[derive(Clone, Copy, Debug)]
pub struct BlockingReader<'a>(pub(crate) &'a AuditReader);

impl BlockingReader<'_> {
    /// [`AuditReader::query`].
    ///
    /// # Errors
    /// As there.
    pub fn query(&self, query: impl Into<AuditQuery>) -> Result<Vec<AuditEntry>, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.query(query))
    }

    /// [`AuditReader::count`].
    ///
    /// # Errors
    /// As there.
    pub fn count(&self, query: impl Into<AuditQuery>) -> Result<u64, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.count(query))
    }

    /// [`AuditReader::page`].
    ///
    /// # Errors
    /// As there.
    pub fn page(
        &self,
        query: impl Into<AuditQuery>,
        cursor: Option<Cursor>,
        size: u32,
    ) -> Result<Page, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.page(query, cursor, size))
    }

    /// [`AuditReader::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, id: Uuid) -> Result<Vec<SequencedEntry>, AuditError> {
        on_own_runtime(self.0.get(id))
    }

    /// [`AuditReader::count_by`].
    ///
    /// # Errors
    /// As there.
    pub fn count_by(&self, query: impl Into<AuditQuery>, by: CountBy) -> Result<Vec<Counted>, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.count_by(query, by))
    }

    /// [`AuditReader::compare`].
    ///
    /// # Errors
    /// As there.
    pub fn compare(
        &self,
        query: impl Into<AuditQuery>,
        before: impl Into<AuditQuery>,
        by: CountBy,
    ) -> Result<Vec<Change>, AuditError> {
        let (query, before) = (query.into(), before.into());
        on_own_runtime(self.0.compare(query, before, by))
    }

    /// [`AuditReader::ledgers`].
    ///
    /// # Errors
    /// As there.
    pub fn ledgers(&self) -> Result<Vec<Ledger>, AuditError> {
        on_own_runtime(self.0.ledgers())
    }

    /// [`AuditReader::indexes`].
    ///
    /// # Errors
    /// As there.
    pub fn indexes(&self) -> Result<Vec<Index>, AuditError> {
        on_own_runtime(self.0.indexes())
    }

    /// [`AuditReader::reads`].
    ///
    /// # Errors
    /// As there.
    pub fn reads(
        &self,
        during: impl RangeBounds<DateTime<Utc>>,
        limit: u32,
    ) -> Result<Vec<RecordedRead>, AuditError> {
        on_own_runtime(self.0.reads(during, limit))
    }

    /// [`AuditReader::quarantined`].
    ///
    /// # Errors
    /// As there.
    pub fn quarantined(&self) -> Result<Vec<QuarantinedEntry>, AuditError> {
        on_own_runtime(self.0.quarantined())
    }

    /// [`AuditReader::export_quarantined`].
    ///
    /// # Errors
    /// As there.
    pub fn export_quarantined(&self, out: impl Write) -> Result<u64, AuditError> {
        on_own_runtime(self.0.export_quarantined(out))
    }
}
