//! The same calls without an async runtime.

use super::{status::LedgerStatus, verification::Verification, verified::Verified};
use crate::error::AuditError;
use crate::ledger::Checkpoint;
use crate::platform::on_own_runtime;
use crate::reader::blocking::BlockingReader;

impl BlockingReader<'_> {
    /// Calls [`AuditReader::verify`](crate::AuditReader::verify) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn verify(&self, verification: Verification) -> Result<Verified, AuditError> {
        on_own_runtime(self.0.verify(verification))
    }

    /// Calls [`AuditReader::checkpoint`](crate::AuditReader::checkpoint) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn checkpoint(&self) -> Result<Checkpoint, AuditError> {
        on_own_runtime(self.0.checkpoint())
    }

    /// Calls [`AuditReader::ledger_status`](crate::AuditReader::ledger_status) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn ledger_status(&self) -> Result<LedgerStatus, AuditError> {
        on_own_runtime(self.0.ledger_status())
    }
}
