//! Compares what is stored with what was sent, where triggers and the like may have changed it.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    error::append_error,
    rows::{ROW, decode},
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::store::appender::{not_as_sent, suspicious};
use crate::store::{Append, AppendError};

/// The tables that an append writes.
const WRITTEN: &str = "('tracing_audit_entries', 'tracing_audit_batches', 'tracing_audit_head', \
                        'tracing_audit_positions', 'tracing_audit_writers', 'tracing_audit_quarantine', \
                        'tracing_audit_leaves', 'tracing_audit_nodes')";

/// The triggers, views and virtual tables between a statement of ours and our tables.
#[derive(Default)]
pub(super) struct Guard {
    /// The version of the schema at the last look.
    schema: Option<i64>,
    /// The objects that may change rows, each with the remedy.
    suspects: Vec<String>,
    /// The finding that the next notice reports.
    pub(super) noticed: Option<AuditError>,
}

impl Guard {
    /// Looks for triggers, and for views and virtual tables in the place of tables, unless the schema is still the one of
    /// the last look. The transaction keeps others from changing it.
    pub(super) async fn look(&mut self, connection: &mut SqliteConnection, schema: i64) -> sqlx::Result<()> {
        if self.schema == Some(schema) {
            return Ok(());
        }
        let found = AssertSqlSafe(format!(
            "SELECT 'the trigger ' || name || ' on ' || tbl_name || ' (DROP TRIGGER ' || name || ')' FROM sqlite_schema
             WHERE type = 'trigger' AND lower(tbl_name) IN {WRITTEN}
             UNION ALL
             SELECT iif(type = 'view', 'the view ', 'the virtual table ') || name || ' in the place of the audit table'
             FROM sqlite_schema WHERE lower(name) IN {WRITTEN} AND (type <> 'table' OR sql LIKE 'CREATE VIRTUAL%')
             ORDER BY 1"
        ));
        let suspects: Vec<String> = sqlx::query_scalar(found).persistent(false).fetch_all(connection).await?;
        if suspects != self.suspects {
            self.noticed = suspicious(&suspects).or(self.noticed.take());
            self.suspects = suspects;
        }
        self.schema = Some(schema);
        Ok(())
    }

    /// Looks when the database is opened.
    pub(super) async fn at_open(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let schema = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection).await?;
        let mut guard = Self::default();
        guard.look(connection, schema).await?;
        // No transaction has kept others from changing the schema in between.
        guard.forget();
        Ok(guard)
    }

    /// The schema may be another one: the next append has to look.
    pub(super) fn forget(&mut self) {
        self.schema = None;
    }

    /// The error of a statement that has stored another number of rows than it was given.
    pub(super) fn not_as_sent(&self) -> AppendError {
        not_as_sent(&self.suspects)
    }

    /// Compares the rows, and what was written with them, with what is stored. Only where something may have changed
    /// them; without that, the numbers of rows that SQLite reports are proof enough.
    pub(super) async fn compare(
        &self,
        connection: &mut SqliteConnection,
        first_seq: i64,
        rows: &[&Row],
        batch: Option<&Append<'_>>,
    ) -> Result<(), AppendError> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        let as_sent = self.rows_are(connection, first_seq, rows).await?
            && self.books_are(connection, first_seq, rows.len(), batch).await.map_err(append_error)?;
        if as_sent { Ok(()) } else { Err(self.not_as_sent()) }
    }

    async fn rows_are(
        &self,
        connection: &mut SqliteConnection,
        first_seq: i64,
        rows: &[&Row],
    ) -> Result<bool, AppendError> {
        let stored = AssertSqlSafe(format!(
            "{ROW} FROM tracing_audit_entries e WHERE e.seq >= ? ORDER BY e.seq LIMIT {}",
            rows.len() + 1
        ));
        let mut stored = sqlx::query(stored).bind(first_seq).persistent(false).fetch(connection);
        let mut rows = (first_seq..).zip(rows);
        while let Some(found) = stored.try_next().await.map_err(append_error)? {
            let seq: i64 = sqlx::Row::try_get(&found, 0).map_err(append_error)?;
            let found = decode(&found);
            if !rows.next().is_some_and(|(sent, row)| sent == seq && **row == found) {
                return Ok(false);
            }
        }
        Ok(rows.next().is_none())
    }

    /// Whether the head, the batch, the position and the quarantine are as they were written.
    async fn books_are(
        &self,
        connection: &mut SqliteConnection,
        first_seq: i64,
        count: usize,
        batch: Option<&Append<'_>>,
    ) -> sqlx::Result<bool> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let found: (bool, bool) = sqlx::query_as(
            "SELECT (SELECT next_seq FROM tracing_audit_head) = ?,
                    ? = 0 OR EXISTS (SELECT 1 FROM tracing_audit_batches WHERE first_seq = ? AND entries = ?)",
        )
        .bind(first_seq.saturating_add(count))
        .bind(count)
        .bind(first_seq)
        .bind(count)
        .fetch_one(&mut *connection)
        .await?;
        let Some(batch) = batch else { return Ok(found == (true, true)) };
        let position: Option<i64> =
            sqlx::query_scalar("SELECT position FROM tracing_audit_positions WHERE writer = ?")
                .bind(batch.writer)
                .fetch_optional(&mut *connection)
                .await?;
        let quarantined: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT record FROM tracing_audit_quarantine WHERE writer = ? AND position > ? ORDER BY position",
        )
        .bind(batch.writer)
        .bind(batch.from.cast_signed())
        .fetch_all(connection)
        .await?;
        let quarantined = quarantined.iter().eq(batch.quarantined.iter().map(|entry| &entry.record));
        Ok(found == (true, true) && position == Some(batch.until().cast_signed()) && quarantined)
    }
}
