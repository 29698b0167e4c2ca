//! Lists and exports the entries in quarantine: those that the database refused for good.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use serde::{Serialize, Serializer};
use serde_json::Map;
use uuid::Uuid;

use super::audit_reader::AuditReader;
use crate::entry::entry_of;
use crate::entry::{AuditEntry, EventDefaults, from_micros, interpret};
use crate::error::{AuditError, ErrorKind};
use crate::store::QuarantinedRow;

/// An accepted entry that the database refused for good. It is kept whole, in a table of its own, and does not hold up
/// other entries. [`AuditWriter::retry_quarantined`](crate::AuditWriter::retry_quarantined) tries it again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuarantinedEntry {
    /// The writer whose queue the entry came from: one per opened log. Together with `position` it identifies the
    /// entry.
    pub writer: Uuid,
    /// The entry's position in that queue; the first is 1.
    pub position: u64,
    /// The `id` of the entry, if it can be read.
    pub id: Option<Uuid>,
    /// The database's reason for refusing the entry.
    pub error: String,
    /// The time of the quarantine, by the writer's clock.
    pub quarantined_at: DateTime<Utc>,
    /// The entry, if it can be read.
    pub entry: Option<AuditEntry>,
    /// The bytes of an entry that cannot be read, otherwise empty; in JSON as hexadecimal digits.
    #[serde(serialize_with = "hex")]
    pub record: Vec<u8>,
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}", Hex(bytes)))
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<QuarantinedRow> for QuarantinedEntry {
    fn from(found: QuarantinedRow) -> Self {
        let row = interpret(&found.record, &EventDefaults::default()).ok();
        let entry = row.map(|row| entry_of(&row));
        Self {
            writer: found.writer,
            position: found.position,
            id: found.id,
            error: found.error,
            quarantined_at: from_micros(found.quarantined_at),
            record: if entry.is_some() { Vec::new() } else { found.record },
            entry,
        }
    }
}

impl AuditReader {
    /// The entries in quarantine, read as they are taken.
    fn quarantine(&self) -> Result<BoxStream<'_, Result<QuarantinedEntry, AuditError>>, AuditError> {
        Ok(self.store.backend().reads()?.quarantined().map_ok(QuarantinedEntry::from).boxed())
    }

    /// The entries in quarantine, in the order in which they were quarantined. All of them are held in memory: if
    /// there may be many, use [`export_quarantined`](Self::export_quarantined), which takes constant memory.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn quarantined(&self) -> Result<Vec<QuarantinedEntry>, AuditError> {
        let found: Vec<_> = self.quarantine()?.try_collect().await?;
        self.recording("quarantined", Map::new()).record_answer(found.len() as u64).await?;
        Ok(found)
    }

    /// Writes the entries in quarantine as JSON Lines, each line a [`QuarantinedEntry`], and returns their number.
    ///
    /// # Errors
    /// [`is_output`](AuditError::is_output) if `out` fails, [`is_store`](AuditError::is_store) if the database
    /// cannot be read. The lines before the error stay written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export_quarantined(&self, mut out: impl Write) -> Result<u64, AuditError> {
        let recording = self.recording("export_quarantined", Map::new());
        recording.record_start().await?;
        let (mut entries, mut count) = (self.quarantine()?, 0);
        while let Some(entry) = entries.try_next().await? {
            serde_json::to_writer(&mut out, &entry).map_err(|cause| output_error(cause.into()))?;
            out.write_all(b"\n").map_err(output_error)?;
            count += 1;
        }
        out.flush().map_err(output_error)?;
        recording.record_end(count).await?;
        Ok(count)
    }
}

/// The error of an export that cannot be written to its destination.
pub(crate) fn output_error(cause: io::Error) -> AuditError {
    AuditError::new(ErrorKind::Output, "the export cannot be written").because(cause)
}
