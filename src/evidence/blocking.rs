//! The same calls without an async runtime.

use std::{io::Write, ops::RangeBounds};

use futures_util::stream;
use uuid::Uuid;

use super::{
    bundle::{Bundled, Bundling},
    seal::Sealed,
    status::LedgerStatus,
    verification::Verification,
    verified::Verified,
};
use crate::error::AuditError;
use crate::ledger::{Checkpoint, ConsistencyProof, NotedCheckpoint, Proof};
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

    /// Calls [`AuditReader::prove`](crate::AuditReader::prove) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn prove(&self, seq: u64, checkpoint: Option<&NotedCheckpoint>) -> Result<Proof, AuditError> {
        on_own_runtime(self.0.prove(seq, checkpoint))
    }

    /// Calls [`AuditReader::consistency`](crate::AuditReader::consistency) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn consistency(&self, from: u64, to: u64) -> Result<ConsistencyProof, AuditError> {
        on_own_runtime(self.0.consistency(from, to))
    }

    /// Calls [`AuditReader::bundle`](crate::AuditReader::bundle) with these entries, and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn bundle(
        &self,
        entries: impl IntoIterator<Item = u64>,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        on_own_runtime(self.0.bundle(stream::iter(entries.into_iter().map(Ok)), bundling, out))
    }

    /// Calls [`AuditReader::sealed`](crate::AuditReader::sealed) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn sealed(&self) -> Result<Option<Sealed>, AuditError> {
        on_own_runtime(self.0.sealed())
    }

    /// Calls [`AuditReader::bundle_part`](crate::AuditReader::bundle_part) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn bundle_part(
        &self,
        workspace: Uuid,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        on_own_runtime(self.0.bundle_part(workspace, bundling, out))
    }

    /// Calls [`AuditReader::bundle_range`](crate::AuditReader::bundle_range) and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn bundle_range(
        &self,
        range: impl RangeBounds<u64>,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        on_own_runtime(self.0.bundle_range(range, bundling, out))
    }
}
