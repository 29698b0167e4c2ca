//! The calls of the builder, the log and the writer for code without an async runtime.

use std::time::Duration;

use super::{
    archived::Archived,
    audit_log::{AuditLog, ShutdownReport},
    builder::AuditLogBuilder,
    writer::AuditWriter,
};
use crate::entry::AuditEntry;
use crate::error::AuditError;
use crate::evidence::Sealed;
use crate::ledger::Checkpoint;
#[cfg(feature = "signing")]
use crate::ledger::VerifierKey;
use crate::platform::{block_on, on_own_runtime};
use crate::store::QuarantineRetried;

impl AuditLogBuilder {
    /// The same call to open the log, but it blocks the thread until the log is open. It works on any thread, also on one
    /// of an async runtime, whose other tasks wait meanwhile.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// # use tracing_audit::{AuditLog, Store};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("audit.db");
    /// let log = AuditLog::builder().store(Store::sqlite(path)?).blocking().open()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    pub fn blocking(self) -> BlockingBuilder {
        BlockingBuilder(self)
    }
}

impl AuditLog {
    /// The same calls, but each blocks the thread until it is done. They work on any thread, also on one of an async
    /// runtime, whose other tasks wait meanwhile.
    #[must_use]
    pub fn blocking(&self) -> BlockingLog<'_> {
        BlockingLog(self)
    }
}

impl AuditWriter {
    /// The same calls, but each blocks the thread until it is done. They work on any thread, also on one of an async
    /// runtime, whose other tasks wait meanwhile.
    #[must_use]
    pub fn blocking(&self) -> BlockingWriter<'_> {
        BlockingWriter(self)
    }
}

/// The builder's call to open a log, for code without an async runtime: see [`AuditLogBuilder::blocking`].
///
/// The call is the same, but it blocks the thread until the log is open. It works on any thread, also on one of an async
/// runtime, whose other tasks wait meanwhile.
#[derive(Debug)]
#[must_use = "it opens nothing by itself"]
pub struct BlockingBuilder(AuditLogBuilder);

impl BlockingBuilder {
    /// Calls [`AuditLogBuilder::open`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn open(self) -> Result<AuditLog, AuditError> {
        block_on(self.0.open())
    }
}

/// The log's calls for code without an async runtime: see [`AuditLog::blocking`].
///
/// The calls are the same, but each blocks the thread until it is done. They work on any thread, also on one of an async
/// runtime, whose other tasks wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct BlockingLog<'a>(&'a AuditLog);

impl BlockingLog<'_> {
    /// Calls [`AuditLog::flush`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn flush(&self) -> Result<(), AuditError> {
        block_on(self.0.flush())
    }

    /// Calls [`AuditLog::recovered`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn recovered(&self, timeout: Duration) -> Result<(), AuditError> {
        block_on(self.0.recovered(timeout))
    }

    /// Calls [`AuditLog::committed`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        block_on(self.0.committed(emit))
    }

    /// Calls [`AuditLog::checkpoint`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn checkpoint(&self) -> Result<Checkpoint, AuditError> {
        on_own_runtime(self.0.checkpoint())
    }

    /// Calls [`AuditLog::seal`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn seal(&self) -> Result<Sealed, AuditError> {
        on_own_runtime(self.0.seal())
    }

    /// Calls [`AuditLog::shutdown`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, AuditError> {
        block_on(self.0.shutdown(deadline))
    }
}

/// The writer's calls for code without an async runtime: see [`AuditWriter::blocking`].
///
/// The calls are the same, but each blocks the thread until it is done. They work on any thread, also on one of an async
/// runtime, whose other tasks wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct BlockingWriter<'a>(&'a AuditWriter);

impl BlockingWriter<'_> {
    /// Calls [`AuditWriter::write`]. It blocks only while the queue is full.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn write(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let record = self.0.encode(entry)?;
        self.0.engine().accept_blocking(&record).map(drop)
    }

    /// Calls [`AuditWriter::commit`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn commit(&self, entry: AuditEntry) -> Result<u64, AuditError> {
        block_on(self.0.commit(entry))
    }

    /// Calls [`AuditWriter::declare_key`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    #[cfg(feature = "signing")]
    pub fn declare_key(&self, before: &VerifierKey, now: &VerifierKey) -> Result<u64, AuditError> {
        block_on(self.0.declare_key(before, now))
    }

    /// Calls [`AuditWriter::declare_restore`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn declare_restore(
        &self,
        lost: &Checkpoint,
        kept: u64,
        by: &str,
        reason: &str,
    ) -> Result<u64, AuditError> {
        block_on(self.0.declare_restore(lost, kept, by, reason))
    }

    /// Calls [`AuditWriter::declare_archive`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn declare_archive(&self, archived: &Archived) -> Result<u64, AuditError> {
        block_on(self.0.declare_archive(archived))
    }

    /// Calls [`AuditWriter::flush`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn flush(&self) -> Result<(), AuditError> {
        block_on(self.0.flush())
    }

    /// Calls [`AuditWriter::retry_quarantined`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn retry_quarantined(&self) -> Result<QuarantineRetried, AuditError> {
        block_on(self.0.retry_quarantined())
    }
}
