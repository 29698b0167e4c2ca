//! Compares the entries, the batches and the head of a ledger with each other, piece by piece.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    borrowed::within,
    conditions::time_bounds,
    error::store_error,
    look,
    rows::{micros, micros_or_none},
    schema,
    source::Postgres,
    sql::{ENTRIES, has_table},
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    BatchRow, COUNTED, Ends, Piece, SilentRow, Surveys, TreeLook, Veils, WritersKnown,
    survey::{Sides, Unaccounted},
};

const QUARANTINE: &str = "tracing_audit_quarantine";
const WRITERS: &str = "tracing_audit_writers";

const ENDS: &str = "SELECT h.next_seq,
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_entries
                               WHERE ledger = $1 AND seq >= greatest(h.next_seq, 0) LIMIT $2) beyond),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_entries WHERE ledger = $1 AND seq < 0 LIMIT $2) below),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_batches
                               WHERE ledger = $1 AND first_seq >= greatest(h.next_seq, 0) LIMIT $2) batches),
        (SELECT committed_at FROM @tracing_audit_batches WHERE ledger = $1 ORDER BY first_seq DESC LIMIT 1),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < 0 LIMIT $2) before)
     FROM @tracing_audit_heads h WHERE h.ledger = $1";

const QUARANTINED: &str =
    "SELECT count(*) FROM (SELECT FROM @tracing_audit_quarantine WHERE ledger = $1 LIMIT $2) quarantined";

// The distances fit into int4, whose sum is not a numeric.
const COUNTS: &str = "SELECT count(*), coalesce(sum((seq - $2)::int4), 0)::int8,
        (SELECT min(seq) FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $3),
        (SELECT min(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq >= $3)
     FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $2 AND seq < $3";

const BATCHES: &str = "SELECT first_seq, entries, committed_at, least_ts FROM @tracing_audit_batches
     WHERE ledger = $1 AND first_seq < $3 AND first_seq >= coalesce(
        (SELECT max(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2), $2)
     ORDER BY first_seq";

const SEQS: &str =
    "SELECT seq FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";

const BETWEEN: &str = "SELECT
     (SELECT first_seq + entries FROM @tracing_audit_batches WHERE ledger = $1 AND greatest_ts < $2
      ORDER BY greatest_ts DESC, first_seq DESC LIMIT 1),
     (SELECT first_seq FROM @tracing_audit_batches WHERE ledger = $1 AND greatest_ts > $3
      ORDER BY greatest_ts, first_seq LIMIT 1)";

const SILENT: &str = "SELECT writer, host, started_at, said_at FROM @tracing_audit_writers
     WHERE ledger = $1 AND ended_at IS NULL AND started_at IS NOT NULL AND coalesce(next_seq, 0) <= $2
     ORDER BY started_at LIMIT $3";

const UNTIMELY: &str = "SELECT e.seq FROM @tracing_audit_batches b JOIN @tracing_audit_entries e
     ON e.ledger = b.ledger AND e.seq >= b.first_seq AND e.seq < b.first_seq + b.entries
     WHERE b.ledger = $1 AND b.first_seq >= $2 AND b.first_seq < $3 AND e.seq >= $2
       AND (e.ts < b.least_ts OR e.ts > b.greatest_ts) LIMIT $4";

// The names, each found by the one before it: a search in the index for each, however many entries they have.
const HEADLESS: &str = "WITH RECURSIVE of_entries AS (
        (SELECT ledger FROM @tracing_audit_entries ORDER BY ledger LIMIT 1)
        UNION ALL
        SELECT (SELECT e.ledger FROM @tracing_audit_entries e WHERE e.ledger > o.ledger ORDER BY e.ledger LIMIT 1)
        FROM of_entries o WHERE o.ledger IS NOT NULL
     ), of_batches AS (
        (SELECT ledger FROM @tracing_audit_batches ORDER BY ledger LIMIT 1)
        UNION ALL
        SELECT (SELECT b.ledger FROM @tracing_audit_batches b WHERE b.ledger > o.ledger ORDER BY b.ledger LIMIT 1)
        FROM of_batches o WHERE o.ledger IS NOT NULL
     )
     SELECT ledger FROM (SELECT ledger FROM of_entries UNION SELECT ledger FROM of_batches) l
     WHERE ledger IS NOT NULL AND NOT EXISTS (SELECT FROM @tracing_audit_heads h WHERE h.ledger = l.ledger) ORDER BY 1";

impl Postgres {
    /// Whether there is such a table, and this role may read it.
    pub(super) async fn may_read(&self, connection: &mut PgConnection, table: &str) -> sqlx::Result<bool> {
        let may = self.statement("SELECT coalesce(has_table_privilege(to_regclass($1), 'SELECT'), false)");
        may.scalar().bind(self.table(table)).fetch_one(connection).await
    }

    /// Reads something in a transaction. Whoever asks knows by the ends of a ledger that there are tables.
    pub(super) async fn surveyed<T>(
        &self,
        read: impl AsyncFnOnce(&Self, &mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, AuditError> {
        let found = self.found().await?;
        within(&found, async |connection| read(&found, connection).await.map_err(store_error)).await
    }
}

impl Surveys for Postgres {
    fn ends<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<Ends>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let ends = found.statement(ENDS).query().bind(ledger.to_owned()).bind(COUNTED);
            let quarantined = found.statement(QUARANTINED).scalar().bind(ledger.to_owned()).bind(COUNTED);
            if !has_table(found, &mut *connection, ENTRIES).await? {
                return Ok(None);
            }
            let row = ends.fetch_optional(&mut *connection).await?;
            let may = found.may_read(&mut *connection, QUARANTINE).await?;
            let quarantined = if may { Some(quarantined.fetch_one(connection).await?) } else { None };
            let read = |row: &PgRow| {
                Ok(Ends {
                    next_seq: row.try_get(0)?,
                    beyond: row.try_get(1)?,
                    below: row.try_get(2)?,
                    batches_beyond: row.try_get(3)?,
                    last_committed_at: micros_or_none(row, 4)?,
                    batches_below: row.try_get(5)?,
                    quarantined,
                })
            };
            row.as_ref().map(read).transpose()
        }))
    }

    fn piece<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Piece, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let of = |sql: &str| found.statement(sql).query().bind(ledger.to_owned()).bind(from).bind(before);
            let (counts, batches) = (of(COUNTS), of(BATCHES));
            let row = counts.fetch_one(&mut *connection).await?;
            let batches = batches.fetch_all(connection).await?;
            let batch = |row: &PgRow| {
                Ok(BatchRow {
                    first_seq: row.try_get(0)?,
                    entries: row.try_get(1)?,
                    committed_at: micros(row, 2)?,
                    least_ts: micros(row, 3)?,
                })
            };
            Ok(Piece {
                count: row.try_get(0)?,
                sum: row.try_get(1)?,
                next_entry: row.try_get(2)?,
                next_batch: row.try_get(3)?,
                batches: batches.iter().map(batch).collect::<sqlx::Result<_>>()?,
            })
        }))
    }

    fn seqs<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let seqs = found.statement(SEQS).scalar().bind(ledger.to_owned()).bind(from).bind(before);
            seqs.fetch_all(connection).await
        }))
    }

    fn between<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Sides, AuditError>> {
        let (least, greatest) = time_bounds(query);
        Box::pin(self.surveyed(async move |found, connection| {
            let between =
                found.statement(BETWEEN).row().bind(query.ledger.clone()).bind(least).bind(greatest);
            between.fetch_one(connection).await
        }))
    }

    fn writers<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Option<WritersKnown>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let silent =
                found.statement(SILENT).query().bind(ledger.to_owned()).bind(from).bind(i64::from(most));
            let was = "SELECT given FROM @tracing_audit_heads WHERE ledger = $1 AND given > next_seq";
            let was = found.statement(was).scalar().bind(ledger.to_owned());
            if !found.may_read(&mut *connection, WRITERS).await? {
                return Ok(None);
            }
            let rows = silent.fetch_all(&mut *connection).await?;
            let read = |row: &PgRow| {
                Ok::<_, sqlx::Error>(SilentRow {
                    writer: row.try_get(0)?,
                    host: row.try_get(1)?,
                    started_at: micros_or_none(row, 2)?,
                    said_at: micros_or_none(row, 3)?,
                })
            };
            let silent = rows.iter().map(read).collect::<sqlx::Result<_>>()?;
            Ok(Some(WritersKnown { silent, head_was: was.fetch_optional(connection).await? }))
        }))
    }

    fn began<'a>(
        &'a self,
        ledger: &'a str,
        writers: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<(Uuid, i64)>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let began = found.statement(
                "SELECT writer, started_at FROM @tracing_audit_writers
                 WHERE ledger = $1 AND writer = ANY ($2) AND started_at IS NOT NULL",
            );
            let began = began.query().bind(ledger.to_owned()).bind(writers.to_vec());
            if !found.may_read(&mut *connection, WRITERS).await? {
                return Ok(Vec::new());
            }
            let rows = began.fetch_all(connection).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, micros(row, 1)?))).collect()
        }))
    }

    fn untimely<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let untimely = found.statement(UNTIMELY).scalar().bind(ledger.to_owned()).bind(from).bind(before);
            untimely.bind(i64::from(most)).fetch_all(connection).await
        }))
    }

    fn veils(&self) -> BoxFuture<'_, Result<Veils, AuditError>> {
        Box::pin(async move { schema::veils(&self.found().await?).await })
    }

    fn tree<'a>(&'a self, ledger: &'a str, most: u32) -> BoxFuture<'a, Result<Option<TreeLook>, AuditError>> {
        Box::pin(look::tree(self, ledger, most))
    }

    fn reached<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<i64>, AuditError>> {
        Box::pin(look::reached(self, ledger))
    }

    fn unaccounted<'a>(
        &'a self,
        ledger: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<Unaccounted>, AuditError>> {
        Box::pin(look::unaccounted(self, ledger, most))
    }

    fn schema(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(async move { schema::differences(&self.found().await?).await })
    }

    fn structure(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        // A server checks its files with tools of its own, which a role of ours may not run.
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn headless(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            if has_table(found, &mut *connection, ENTRIES).await? {
                let headless = found.statement(HEADLESS).scalar();
                headless.fetch_all(connection).await
            } else {
                Ok(Vec::new())
            }
        }))
    }
}
