//! The entry that records that a ledger was archived.

use super::writer::{AuditWriter, own_event};
use crate::error::AuditError;
use crate::ledger::Checkpoint;

/// A ledger whose entries are kept in a file in place of a database: what
/// [`declare_archive`](AuditWriter::declare_archive) commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The ledger.
    pub ledger: String,
    /// The number of its entries that the file has.
    pub entries: u64,
    /// The name of the file.
    pub file: String,
    /// The SHA-256 of the file, as hexadecimal digits.
    pub sha256: String,
    /// The SHA-256 of its lines, without compression.
    pub lines_sha256: String,
    /// The SHA-256 of the file that has the record of who read the ledger. `None`: nobody was recorded.
    pub reads_sha256: Option<String>,
    /// The last checkpoint of the ledger.
    pub checkpoint: Option<Checkpoint>,
}

impl AuditWriter {
    /// Declares in this log's ledger that another one is kept in a file from now on: commits an entry with the action
    /// `audit.archived`, whose metadata have the members of `archived`. Returns its `seq`. Call it before the database goes:
    /// [`UnusedFile`](crate::archive).
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw the entry.
    pub async fn declare_archive(&self, archived: &Archived) -> Result<u64, AuditError> {
        let reason = "a ledger is kept in a file in place of its database";
        let record = own_event("audit.archived", reason, |fields| {
            fields.str("resource_id", &archived.ledger);
            fields.str("ledger", &archived.ledger);
            fields.u64("entries", archived.entries);
            fields.str("file", &archived.file);
            fields.str("sha256", &archived.sha256);
            fields.str("lines_sha256", &archived.lines_sha256);
            if let Some(reads_sha256) = &archived.reads_sha256 {
                fields.str("reads_sha256", reads_sha256);
            }
            if let Some(checkpoint) = &archived.checkpoint {
                fields.str("checkpoint", &checkpoint.to_string());
            }
        });
        self.engine().commit(&record).await
    }
}
