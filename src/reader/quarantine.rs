//! Reading what the database refused.

use std::io::Write;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use serde::{Serialize, Serializer};
use serde_json::Map;
use uuid::Uuid;

use super::{AuditReader, entry_of};
use crate::{
    AuditEntry, AuditError,
    entry::from_micros,
    error::Kind,
    interpret::{Defaults, interpret},
    store::QuarantinedRow,
};

/// An accepted entry that the database refused for good: whole, aside, and in nobody's way.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuarantinedEntry {
    /// The queue that it came from, one per opened log; with `position` it names the entry.
    pub writer: Uuid,
    /// Its place in that queue, from 1.
    pub position: u64,
    /// The `id` of the entry, if it could be read.
    pub id: Option<Uuid>,
    /// Why it was refused.
    pub error: String,
    /// When, by the writer's clock.
    pub quarantined_at: DateTime<Utc>,
    /// The entry, if it could be read.
    pub entry: Option<AuditEntry>,
    /// The bytes of an entry that could not be read; in JSON as hexadecimal digits.
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
        let row = interpret(&found.record, &Defaults::default()).ok();
        let entry = row.and_then(|row| entry_of(&row).ok());
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
    fn quarantine(&self) -> Result<BoxStream<'_, Result<QuarantinedEntry, AuditError>>, AuditError> {
        Ok(self.store.backend().reads()?.quarantined().map_ok(QuarantinedEntry::from).boxed())
    }

    /// The entries in quarantine, in the order in which they came there. All of them are held in memory; where
    /// there may be many, [`export_quarantined`](Self::export_quarantined) takes constant memory.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn quarantined(&self) -> Result<Vec<QuarantinedEntry>, AuditError> {
        let found: Vec<_> = self.quarantine()?.try_collect().await?;
        self.reading("quarantined", Map::new()).gave(found.len() as u64).await?;
        Ok(found)
    }

    /// Writes the entries in quarantine as JSON Lines, each a [`QuarantinedEntry`], and returns how many.
    ///
    /// # Errors
    /// [`is_output`](AuditError::is_output) if `out` fails, [`is_store`](AuditError::is_store) if the database
    /// cannot be read. What was written before stays written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export_quarantined(&self, mut out: impl Write) -> Result<u64, AuditError> {
        let failed = |cause: std::io::Error| {
            AuditError::new(Kind::Output, "the export cannot be written").because(cause)
        };
        let reading = self.reading("export_quarantined", Map::new());
        reading.begun().await?;
        let (mut entries, mut count) = (self.quarantine()?, 0);
        while let Some(entry) = entries.try_next().await? {
            serde_json::to_writer(&mut out, &entry).map_err(|cause| failed(cause.into()))?;
            out.write_all(b"\n").map_err(failed)?;
            count += 1;
        }
        out.flush().map_err(failed)?;
        reading.ended(count).await?;
        Ok(count)
    }
}
