//! The reader's calls for code without an async runtime.

use std::{io::Write, ops::RangeBounds};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    audit_reader::AuditReader,
    check::{Checked, Finding},
    counts::{Change, Counted, Counts, Ledger},
    coverage::Coverage,
    page::{Cursor, Page},
    quarantine::QuarantinedEntry,
    recorded_reads::RecordedRead,
};
use crate::entry::{AuditEntry, SequencedEntry};
use crate::error::AuditError;
use crate::platform::on_own_runtime;
use crate::query::{AuditQuery, CountBy};

impl AuditReader {
    /// The same calls, but each blocks the thread until its answer is complete. They work on any thread, also on one
    /// of an async runtime, whose other tasks wait meanwhile.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// # use tracing_audit::{AuditLog, AuditQuery, Store};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("audit.db");
    /// let log = AuditLog::builder().store(Store::sqlite(path)?).blocking().open()?;
    /// assert_eq!(log.reader().blocking().count(AuditQuery::new())?, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn blocking(&self) -> BlockingReader<'_> {
        BlockingReader(self)
    }
}

/// The reader's calls for code without an async runtime: see [`AuditReader::blocking`].
///
/// The calls are the same, but each blocks the thread until its answer is complete. They work on any thread, also on one
/// of an async runtime, whose other tasks wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct BlockingReader<'a>(pub(crate) &'a AuditReader);

impl BlockingReader<'_> {
    /// Calls [`AuditReader::query`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn query(&self, query: impl Into<AuditQuery>) -> Result<Vec<AuditEntry>, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.query(query))
    }

    /// Calls [`AuditReader::count`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn count(&self, query: impl Into<AuditQuery>) -> Result<u64, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.count(query))
    }

    /// Calls [`AuditReader::page`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn page(
        &self,
        query: impl Into<AuditQuery>,
        cursor: Option<Cursor>,
        size: u32,
    ) -> Result<Page, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.page(query, cursor, size))
    }

    /// Calls [`AuditReader::get`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn get(&self, id: Uuid) -> Result<Vec<SequencedEntry>, AuditError> {
        on_own_runtime(self.0.get(id))
    }

    /// Calls [`AuditReader::count_by`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn count_by(&self, query: impl Into<AuditQuery>, by: CountBy) -> Result<Vec<Counted>, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.count_by(query, by))
    }

    /// Calls [`AuditReader::counts`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn counts(&self, query: impl Into<AuditQuery>, by: &[CountBy]) -> Result<Counts, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.counts(query, by))
    }

    /// Calls [`AuditReader::get_by_prefix`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn get_by_prefix(&self, prefix: &str, most: u32) -> Result<Vec<SequencedEntry>, AuditError> {
        on_own_runtime(self.0.get_by_prefix(prefix, most))
    }

    /// Calls [`AuditReader::compare`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn compare(
        &self,
        query: impl Into<AuditQuery>,
        before: impl Into<AuditQuery>,
        by: CountBy,
    ) -> Result<Vec<Change>, AuditError> {
        let (query, before) = (query.into(), before.into());
        on_own_runtime(self.0.compare(query, before, by))
    }

    /// Calls [`AuditReader::ledgers`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn ledgers(&self) -> Result<Vec<Ledger>, AuditError> {
        on_own_runtime(self.0.ledgers())
    }

    /// Calls [`AuditReader::coverage`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn coverage(&self, query: impl Into<AuditQuery>, at_most: u64) -> Result<Coverage, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.coverage(query, at_most))
    }

    /// Calls [`AuditReader::coverage_with`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn coverage_with(
        &self,
        query: impl Into<AuditQuery>,
        at_most: u64,
        beside: u64,
    ) -> Result<Coverage, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.coverage_with(query, at_most, beside))
    }

    /// Calls [`AuditReader::page_coverage`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn page_coverage(&self, query: impl Into<AuditQuery>, page: &Page) -> Result<Coverage, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.page_coverage(query, page))
    }

    /// Calls [`AuditReader::check`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn check(&self, found: impl FnMut(Finding) + Send) -> Result<Checked, AuditError> {
        on_own_runtime(self.0.check(found))
    }

    /// Calls [`AuditReader::check_tables`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn check_tables(&self) -> Result<Vec<String>, AuditError> {
        on_own_runtime(self.0.check_tables())
    }

    /// Calls [`AuditReader::reads`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn reads(
        &self,
        during: impl RangeBounds<DateTime<Utc>>,
        limit: u32,
    ) -> Result<Vec<RecordedRead>, AuditError> {
        on_own_runtime(self.0.reads(during, limit))
    }

    /// Calls [`AuditReader::quarantined`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn quarantined(&self) -> Result<Vec<QuarantinedEntry>, AuditError> {
        on_own_runtime(self.0.quarantined())
    }

    /// Calls [`AuditReader::export_quarantined`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn export_quarantined(&self, out: impl Write) -> Result<u64, AuditError> {
        on_own_runtime(self.0.export_quarantined(out))
    }
}
