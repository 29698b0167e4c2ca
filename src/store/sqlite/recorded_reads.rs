//! The record of who read the log: adds to it, and reads it.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::source::Sqlite;
use crate::entry::Moment;
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{RecordedReadRow, migration::no_recorded_reads};

const READS: &str = "tracing_audit_reads";

/// Adds a row to the record of reads. A row is added once, even if its answer was lost and it is added again.
pub(super) async fn record(sqlite: &Sqlite, read: &RecordedReadRow) -> Result<(), AuditError> {
    if !sqlite.has_table(READS).await? {
        return Err(no_recorded_reads());
    }
    sqlite.keep_damaged_log().await?;
    sqlx::query("INSERT INTO tracing_audit_reads VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
        .bind(read.id)
        .bind(read.ends)
        .bind(Moment::now().micros)
        .bind(&read.reader)
        .bind(&read.action)
        .bind(&read.query)
        .bind(read.entries.map(u64::cast_signed))
        .execute(sqlite.recorders())
        .await
        .map(drop)
        .map_err(|cause| sqlite.store_error(cause))
}

/// The recorded reads that began within the query's time range, latest first, at most `limit` of them.
pub(super) async fn rows(
    sqlite: &Sqlite,
    query: &AuditQuery,
    limit: u32,
) -> Result<Vec<RecordedReadRow>, AuditError> {
    if !sqlite.has_table(READS).await? {
        return Ok(Vec::new());
    }
    let (least, greatest) = query.bounds();
    let rows = sqlx::query(
        "SELECT id, at, reader, action, query,
                ifnull(entries, (SELECT e.entries FROM tracing_audit_reads e WHERE e.ends = r.id ORDER BY e.rowid LIMIT 1))
         FROM tracing_audit_reads r WHERE ends IS NULL AND at BETWEEN ? AND ? ORDER BY at DESC, rowid DESC LIMIT ?",
    )
    .bind(least.unwrap_or(i64::MIN))
    .bind(greatest.unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(sqlite.readers())
    .await
    .map_err(|cause| sqlite.store_error(cause))?;
    let read = |row: &SqliteRow| {
        Ok(RecordedReadRow {
            id: row.try_get(0)?,
            ends: None,
            at: row.try_get(1)?,
            role: None,
            reader: row.try_get(2)?,
            action: row.try_get(3)?,
            query: row.try_get(4)?,
            entries: row.try_get::<Option<i64>, _>(5)?.map(i64::cast_unsigned),
        })
    };
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|cause| sqlite.store_error(cause))
}
