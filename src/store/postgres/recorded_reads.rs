//! The record of who read the log.

use chrono::{DateTime, Utc};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    borrowed::within, conditions::time_bounds, error::store_error, functions::stands_in, source::Postgres,
    sql::has_table,
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{RecordedReadRow, migration::no_recorded_reads};

const READS: &str = "tracing_audit_reads";

/// Adds a row to the record of reads. It is added once, even if an answer is lost and the row is sent again.
pub(super) async fn record(postgres: &Postgres, read: &RecordedReadRow) -> Result<(), AuditError> {
    within(postgres, async |connection| {
        if !has_table(postgres, &mut *connection, READS).await.map_err(store_error)? {
            return Ok(None);
        }
        // A role that has no right on the table calls the function of its owner.
        let by_function =
            stands_in(postgres, &mut *connection, (READS, "INSERT"), "tracing_audit_record_read").await?;
        let insert = postgres.statement(if by_function {
            "SELECT @tracing_audit_record_read($1, $2, $3, $4, $5, $6)"
        } else {
            "INSERT INTO @tracing_audit_reads (id, ends, reader, action, query, entries)
             VALUES ($1, $2, $3, $4, $5::text::json, $6) ON CONFLICT (id) DO NOTHING"
        });
        let insert = insert.query().bind(read.id).bind(read.ends).bind(read.reader.clone());
        let insert = insert.bind(read.action.clone()).bind(read.query.clone());
        let insert = insert.bind(read.entries.map(u64::cast_signed));
        insert.execute(connection).await.map(Some).map_err(store_error)
    })
    .await?
    .map(drop)
    .ok_or_else(no_recorded_reads)
}

/// The recorded reads that began within the query's time range, latest first, at most `limit` of them.
pub(super) async fn rows(
    postgres: &Postgres,
    query: &AuditQuery,
    limit: u32,
) -> Result<Vec<RecordedReadRow>, AuditError> {
    let (least, greatest) = time_bounds(query);
    // The end of a read counts only if the role that began the read recorded it.
    let select = postgres.statement(
        "SELECT id, at, reader, role, action, query::text,
                coalesce(entries, (SELECT e.entries FROM @tracing_audit_reads e WHERE e.ends = r.id AND e.role = r.role
                                   ORDER BY e.at LIMIT 1))
         FROM @tracing_audit_reads r
         WHERE ends IS NULL AND ($1::timestamptz IS NULL OR at >= $1) AND ($2::timestamptz IS NULL OR at <= $2)
         ORDER BY at DESC, id LIMIT $3",
    );
    let select = select.query().bind(least).bind(greatest).bind(i64::from(limit));
    let rows = within(postgres, async |connection| {
        if !has_table(postgres, &mut *connection, READS).await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        select.fetch_all(connection).await.map_err(store_error)
    })
    .await?;
    let read = |row: &PgRow| {
        Ok(RecordedReadRow {
            id: row.try_get(0)?,
            ends: None,
            at: Some(row.try_get::<DateTime<Utc>, _>(1)?.timestamp_micros()),
            reader: row.try_get(2)?,
            role: row.try_get(3)?,
            action: row.try_get(4)?,
            query: row.try_get(5)?,
            entries: row.try_get::<Option<i64>, _>(6)?.map(i64::cast_unsigned),
        })
    };
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(store_error)
}
