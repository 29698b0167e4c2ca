//! The record of reads.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    Sqlite,
    read::{failed, has_table},
};
use crate::{
    AuditError, AuditQuery,
    entry::Moment,
    store::{RecordedReadRow, migration::no_recorded_reads},
};

const READS: &str = "tracing_audit_reads";

/// Once, also if an answer was lost and it is told again.
pub(super) async fn record(sqlite: &Sqlite, read: &RecordedReadRow) -> Result<(), AuditError> {
    if !has_table(sqlite, READS).await? {
        return Err(no_recorded_reads());
    }
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
        .map_err(|cause| failed(sqlite, cause))
}

pub(super) async fn rows(
    sqlite: &Sqlite,
    query: &AuditQuery,
    limit: u32,
) -> Result<Vec<RecordedReadRow>, AuditError> {
    if !has_table(sqlite, READS).await? {
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
    .map_err(|cause| failed(sqlite, cause))?;
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
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|cause| failed(sqlite, cause))
}
