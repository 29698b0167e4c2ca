//! Who read the log: recording it, and reading that.

use std::ops::{Bound, RangeBounds};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{Stream, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{AuditQuery, AuditReader};
use crate::{
    AuditError,
    entry::{from_micros, replace_nul},
    error::Kind,
    store::ReadRow,
};

/// A read of the log that was recorded: see [`AuditReader::recorded_as`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedRead {
    /// Its own.
    pub id: Uuid,
    /// When it was answered, or began if its answer was a stream. By the reader's clock, or PostgreSQL's.
    pub at: DateTime<Utc>,
    /// Who said to read.
    pub reader: String,
    /// The role that PostgreSQL knows the reader as.
    pub role: Option<String>,
    /// What was called, as named in [`AuditReader`]: `query`, `export_csv`.
    pub action: String,
    /// What was asked for.
    pub query: Value,
    /// How many entries were given out, or how many counts. `None` while a stream runs, and where it was given up: then
    /// any number may have been.
    pub entries: Option<u64>,
}

impl AuditReader {
    /// The same reader, each of whose reads is recorded in the database beside the log: by whom, what was asked for, and
    /// how many entries were given out. What cannot be recorded is not answered.
    ///
    /// It takes the right to add to the table `tracing_audit_reads`, and no other: `migrations/postgres/roles.sql` has
    /// such a role. A SQLite file must be writable, and a read waits for its lock as a writer does. An answer that is a
    /// stream or an export is recorded when it begins, and again, with the number of its entries, when it ends; what is
    /// followed, when it begins. [`ledgers`](Self::ledgers), [`indexes`](Self::indexes) and [`reads`](Self::reads) show
    /// no entry and are not recorded.
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

    /// The reads that were recorded within a range of time, the latest first, at most so many.
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
            // Times are whole microseconds.
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
        rows.into_iter().map(RecordedRead::try_from).collect()
    }

    /// A read that is about to happen; to be told of, if this reader's are.
    pub(super) fn reading(&self, action: &'static str, query: Map<String, Value>) -> Reading {
        let to = self.recorded_as.as_ref().map(|reader| {
            let row = ReadRow {
                id: Uuid::new_v4(),
                ends: None,
                at: None,
                reader: reader.as_ref().to_owned(),
                role: None,
                action: action.to_owned(),
                query: Value::Object(query).to_string(),
                entries: None,
            };
            (self.clone(), row)
        });
        Reading(to)
    }
}

impl TryFrom<ReadRow> for RecordedRead {
    type Error = AuditError;

    fn try_from(row: ReadRow) -> Result<Self, AuditError> {
        let query = serde_json::from_str(&row.query).map_err(|cause| {
            AuditError::new(Kind::Store, format!("the query of the read {} is not JSON", row.id))
                .because(cause)
        })?;
        Ok(Self {
            id: row.id,
            at: from_micros(row.at.unwrap_or_default()),
            reader: row.reader,
            role: row.role,
            action: row.action,
            query,
            entries: row.entries,
        })
    }
}

/// A read, and whom to tell of it.
pub(super) struct Reading(Option<(AuditReader, ReadRow)>);

impl Reading {
    /// Records that it has begun.
    pub(super) async fn begun(&self) -> Result<(), AuditError> {
        self.record(|row| row).await
    }

    /// Records that it has ended, and how many entries it has given out.
    pub(super) async fn ended(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| ReadRow { id: Uuid::new_v4(), ends: Some(row.id), entries: Some(entries), ..row })
            .await
    }

    /// Records at once what was asked for and how many entries were given out.
    pub(super) async fn gave(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| ReadRow { entries: Some(entries), ..row }).await
    }

    async fn record(&self, told: impl FnOnce(ReadRow) -> ReadRow) -> Result<(), AuditError> {
        let Some((reader, row)) = &self.0 else { return Ok(()) };
        let row = told(row.clone());
        reader.store.backend().reads()?.record(&row).await
    }

    /// The stream, at whose end it is recorded how many items there were.
    pub(super) fn counting<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T, AuditError>> + Send + 'static,
    ) -> impl Stream<Item = Result<T, AuditError>> + Send + 'static {
        let state = (Box::pin(items), self, 0);
        stream::try_unfold(state, async |(mut items, reading, count)| match items.try_next().await? {
            Some(item) => Ok(Some((item, (items, reading, count + 1)))),
            None => reading.ended(count).await.map(|()| None),
        })
    }
}
