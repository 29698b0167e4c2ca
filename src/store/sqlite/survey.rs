//! Compares the entries, the batches and the head with each other, piece by piece.

use futures_util::future::BoxFuture;
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{cancel::fetch_all, look, schema, source::Sqlite, sql::Statement};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    BatchRow, COUNTED, Ends, Piece, SilentRow, Surveys, TreeLook, Veils, WritersKnown,
    survey::{Sides, Unaccounted},
};

const ENDS: &str = "SELECT h.next_seq,
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_entries WHERE seq >= max(h.next_seq, 0) LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_entries WHERE seq < 0 LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_batches WHERE first_seq >= max(h.next_seq, 0) LIMIT ?2)),
        (SELECT committed_at FROM tracing_audit_batches ORDER BY first_seq DESC LIMIT 1),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_quarantine LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_batches WHERE first_seq < 0 LIMIT ?2))
     FROM tracing_audit_head h WHERE h.ledger = ?1";

const COUNTS: &str = "SELECT count(*), ifnull(sum(seq - ?1), 0),
        (SELECT min(seq) FROM tracing_audit_entries WHERE seq >= ?2),
        (SELECT min(first_seq) FROM tracing_audit_batches WHERE first_seq >= ?2)
     FROM tracing_audit_entries WHERE seq >= ?1 AND seq < ?2";

const BATCHES: &str = "SELECT first_seq, entries, committed_at, least_ts FROM tracing_audit_batches
     WHERE first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq < ?1), ?1)
     AND first_seq < ?2 ORDER BY first_seq";

const SEQS: &str = "SELECT seq FROM tracing_audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq";

const BETWEEN: &str = "SELECT
     (SELECT first_seq + entries FROM tracing_audit_batches WHERE greatest_ts < ?1
      ORDER BY greatest_ts DESC, first_seq DESC LIMIT 1),
     (SELECT first_seq FROM tracing_audit_batches WHERE greatest_ts > ?2 ORDER BY greatest_ts, first_seq LIMIT 1)";

const SILENT: &str = "SELECT writer, host, started_at, said_at FROM tracing_audit_writers
     WHERE ended_at IS NULL AND started_at IS NOT NULL AND ifnull(next_seq, 0) <= ? ORDER BY started_at LIMIT ?";

// From each batch to its entries: the other way round would look for a batch at each entry.
const UNTIMELY: &str = "SELECT e.seq FROM tracing_audit_batches b CROSS JOIN tracing_audit_entries e
     ON e.seq >= b.first_seq AND e.seq < b.first_seq + b.entries
     WHERE b.first_seq >= ? AND b.first_seq < ? AND (e.ts < b.least_ts OR e.ts > b.greatest_ts) LIMIT ?";

impl Surveys for Sqlite {
    fn ends<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<Ends>, AuditError>> {
        Box::pin(async move {
            if !self.has_tables().await? {
                return Ok(None);
            }
            let ends = sqlx::query(ENDS).bind(ledger.to_owned()).bind(COUNTED);
            let rows = fetch_all(self, ends).await.map_err(|cause| self.store_error(cause))?;
            let read = |row: &SqliteRow| {
                Ok(Ends {
                    next_seq: row.try_get(0)?,
                    beyond: row.try_get(1)?,
                    below: row.try_get(2)?,
                    batches_beyond: row.try_get(3)?,
                    last_committed_at: row.try_get(4)?,
                    quarantined: Some(row.try_get(5)?),
                    batches_below: row.try_get(6)?,
                })
            };
            rows.first().map(read).transpose().map_err(|cause| self.store_error(cause))
        })
    }

    fn piece<'a>(
        &'a self,
        _ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Piece, AuditError>> {
        let read = async move || {
            let counts = fetch_all(self, sqlx::query(COUNTS).bind(from).bind(before)).await?;
            let batches = fetch_all(self, sqlx::query(BATCHES).bind(from).bind(before)).await?;
            let batch = |row: &SqliteRow| {
                Ok(BatchRow {
                    first_seq: row.try_get(0)?,
                    entries: row.try_get(1)?,
                    committed_at: row.try_get(2)?,
                    least_ts: row.try_get(3)?,
                })
            };
            let batches = batches.iter().map(batch).collect::<sqlx::Result<_>>()?;
            let Some(row) = counts.first() else { return Ok(Piece { batches, ..Piece::default() }) };
            Ok(Piece {
                count: row.try_get(0)?,
                sum: row.try_get(1)?,
                next_entry: row.try_get(2)?,
                next_batch: row.try_get(3)?,
                batches,
            })
        };
        Box::pin(async move { read().await.map_err(|cause| self.store_error(cause)) })
    }

    fn seqs<'a>(
        &'a self,
        _ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(self.numbers(sqlx::query(SEQS).bind(from).bind(before)))
    }

    fn between<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Sides, AuditError>> {
        Box::pin(async move {
            let (least, greatest) = query.bounds();
            let rows = fetch_all(self, sqlx::query(BETWEEN).bind(least).bind(greatest)).await;
            let rows = rows.map_err(|cause| self.store_error(cause))?;
            let read = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
            rows.first().map_or(Ok((None, None)), read).map_err(|cause| self.store_error(cause))
        })
    }

    fn writers<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Option<WritersKnown>, AuditError>> {
        let read = async move || {
            let silent = |row: &SqliteRow| {
                Ok::<_, sqlx::Error>(SilentRow {
                    writer: row.try_get(0)?,
                    host: row.try_get(1)?,
                    started_at: row.try_get(2)?,
                    said_at: row.try_get(3)?,
                })
            };
            let rows = fetch_all(self, sqlx::query(SILENT).bind(from).bind(i64::from(most))).await?;
            let silent = rows.iter().map(silent).collect::<sqlx::Result<_>>()?;
            let was = "SELECT given FROM tracing_audit_head WHERE ledger = ? AND given > next_seq";
            let was = fetch_all(self, sqlx::query(was).bind(ledger.to_owned())).await?;
            let head_was = was.first().map(|row| row.try_get(0)).transpose()?;
            Ok(Some(WritersKnown { silent, head_was }))
        };
        Box::pin(async move {
            if !self.has_table("tracing_audit_writers").await? {
                return Ok(None);
            }
            read().await.map_err(|cause| self.store_error(cause))
        })
    }

    fn began<'a>(
        &'a self,
        _ledger: &'a str,
        writers: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<(Uuid, i64)>, AuditError>> {
        Box::pin(async move {
            if writers.is_empty() || !self.has_table("tracing_audit_writers").await? {
                return Ok(Vec::new());
            }
            let mut began = Statement::new(
                "SELECT writer, started_at FROM tracing_audit_writers WHERE started_at IS NOT NULL AND writer IN (",
            );
            for (index, writer) in writers.iter().enumerate() {
                began.push(if index == 0 { "?" } else { ", ?" }).bind(*writer);
            }
            began.push(")");
            let read = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
            let rows = fetch_all(self, began.into_query().map_err(|cause| self.store_error(cause))?).await;
            let rows = rows.and_then(|rows| rows.iter().map(read).collect::<sqlx::Result<_>>());
            rows.map_err(|cause| self.store_error(cause))
        })
    }

    fn untimely<'a>(
        &'a self,
        _ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(self.numbers(sqlx::query(UNTIMELY).bind(from).bind(before).bind(i64::from(most))))
    }

    fn veils(&self) -> BoxFuture<'_, Result<Veils, AuditError>> {
        Box::pin(schema::veils(self))
    }

    fn tree<'a>(&'a self, ledger: &'a str, most: u32) -> BoxFuture<'a, Result<Option<TreeLook>, AuditError>> {
        Box::pin(look::tree(self, ledger, most))
    }

    fn reached<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<i64>, AuditError>> {
        Box::pin(look::reached(self, ledger))
    }

    fn unaccounted<'a>(
        &'a self,
        _ledger: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<Unaccounted>, AuditError>> {
        Box::pin(look::unaccounted(self, most))
    }

    fn schema(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(schema::differences(self))
    }

    fn structure(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(async move {
            self.look_again().await?;
            let rows = fetch_all(self, sqlx::query("PRAGMA integrity_check(100)")).await;
            let text = |row: &SqliteRow| row.try_get::<String, _>(0);
            let texts = rows.and_then(|rows| rows.iter().map(text).collect::<sqlx::Result<Vec<_>>>());
            let texts = texts.map_err(|cause| self.store_error(cause))?;
            Ok(texts.into_iter().filter(|text| text != "ok").collect())
        })
    }

    fn headless(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        // A file has one ledger: whatever is in it belongs to the head that it has.
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

impl Sqlite {
    async fn numbers(
        &self,
        statement: sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<i64>, AuditError> {
        self.look_again().await?;
        let rows = fetch_all(self, statement).await;
        let read = |rows: Vec<SqliteRow>| rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>();
        rows.and_then(read).map_err(|cause| self.store_error(cause))
    }
}
