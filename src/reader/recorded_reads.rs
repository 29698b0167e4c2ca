//! The record of reads: who read the log, what they asked for, and how much they got.

use std::ops::{Bound, RangeBounds};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::audit_reader::AuditReader;
use crate::entry::{from_micros, replace_nul};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::RecordedReadRow;

/// A recorded read of the log: see [`AuditReader::recorded_as`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedRead {
    /// The id of the read itself.
    pub id: Uuid,
    /// The time of the answer, or of the start if the answer was a stream. PostgreSQL's clock; for SQLite, the
    /// reader's.
    pub at: DateTime<Utc>,
    /// The name that was given to [`recorded_as`](AuditReader::recorded_as).
    pub reader: String,
    /// The role under which the reader was connected to PostgreSQL. `None` on SQLite.
    pub role: Option<String>,
    /// The call, as named in [`AuditReader`]: `query`, `count`, and so on. A [`stream_by_time`](AuditReader::stream_by_time)
    /// is a `stream` whose query has the `order` `ts`. For an export it also names the format:
    /// `export_csv`, `export_csv_unescaped`, `export_json_lines`, `export_ocsf`.
    pub action: String,
    /// The question: the conditions of the query, as a JSON object. A string if somebody has changed it to something that
    /// is not JSON.
    pub query: Value,
    /// The number of entries that were returned, or of counts. `None` while a stream runs, and for a stream that was
    /// dropped before its end: it may have returned any number.
    pub entries: Option<u64>,
}

impl AuditReader {
    /// The same reader, but each of its reads is recorded in the log's database: who read, what they asked for, and
    /// how many entries they got. A read that cannot be recorded is not answered.
    ///
    /// In PostgreSQL, the reader's role needs the right to insert into the table `tracing_audit_reads`, or to call the
    /// function `tracing_audit_record_read`, and no other right to write: `migrations/postgres/roles.sql` has such a role.
    /// A SQLite file must be writable, and a read waits for the file's lock as a writer does.
    ///
    /// A stream or an export is recorded when it starts, and again, with the number of its entries, when it ends. A
    /// follower is recorded when it starts. [`ledgers`](Self::ledgers) and [`reads`](Self::reads) return no entries and are
    /// not recorded.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::AuditQuery;
    ///
    /// let reader = log.reader().recorded_as("auditor@example.com");
    /// reader.query(AuditQuery::new().action("document.read")).await?;
    /// let last = reader.reads(.., 1).await?.remove(0);
    /// assert_eq!((&*last.reader, &*last.action, last.entries), ("auditor@example.com", "query", Some(0)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recorded_as(self, reader: impl Into<String>) -> Self {
        let mut reader = reader.into();
        replace_nul(&mut reader);
        Self { recorded_as: Some(reader.into()), ..self }
    }

    /// The recorded reads in this time range, latest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn reads(
        &self,
        during: impl RangeBounds<DateTime<Utc>>,
        limit: u32,
    ) -> Result<Vec<RecordedRead>, AuditError> {
        let query = match during.start_bound() {
            Bound::Included(since) => AuditQuery::new().since(*since),
            // Recorded times have whole microseconds, so the first one after the bound is a microsecond later.
            Bound::Excluded(after) => {
                let next = after.checked_add_signed(TimeDelta::microseconds(1));
                AuditQuery::new().since(next.unwrap_or(DateTime::<Utc>::MAX_UTC))
            }
            Bound::Unbounded => AuditQuery::new(),
        };
        let query = match during.end_bound() {
            Bound::Included(until) => query.until(*until),
            Bound::Excluded(before) => query.before(*before),
            Bound::Unbounded => query,
        };
        let rows = self.store.backend().reads()?.recorded(&query, limit).await?;
        Ok(rows.into_iter().map(RecordedRead::from).collect())
    }
}

impl From<RecordedReadRow> for RecordedRead {
    fn from(row: RecordedReadRow) -> Self {
        Self {
            id: row.id,
            at: from_micros(row.at.unwrap_or_default()),
            reader: row.reader,
            role: row.role,
            action: row.action,
            query: serde_json::from_str(&row.query).unwrap_or(Value::String(row.query)),
            entries: row.entries,
        }
    }
}
