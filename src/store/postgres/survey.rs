//! Compares the entries, the batches and the head of a ledger with each other, piece by piece.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    borrowed::within,
    cover::{self, PIECE, UNTIMELY, piece_of},
    error::store_error,
    look,
    rows::micros,
    schema,
    source::Postgres,
    sql::{ENTRIES, has_table},
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    Asked, Cover, Piece, Surveys, TreeLook, Veils,
    survey::{Unaccounted, WRONG_CLOCK},
};

const WRITERS: &str = "tracing_audit_writers";

const SEQS: &str =
    "SELECT seq FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";

// A time so late that nothing can be added to it is wrong too.
const MISDATED: &str = "SELECT first_seq FROM (
        SELECT first_seq, committed_at, writer, lag(committed_at) OVER (ORDER BY first_seq) AS earlier
        FROM @tracing_audit_batches
        WHERE ledger = $1 AND first_seq < $3 AND first_seq >= coalesce(
            (SELECT max(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2), $2)
     ) b
     WHERE first_seq >= $2 AND CASE WHEN committed_at > now() + interval '1 hour' THEN true
                                    ELSE committed_at + $4 * interval '1 microsecond' < earlier";

const BEFORE_ITS_WRITER: &str = " OR committed_at + $4 * interval '1 microsecond' < (
        SELECT started_at FROM @tracing_audit_writers w WHERE w.ledger = $1 AND w.writer = b.writer)";

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

    /// Reads something in a transaction. The caller knows by the ends of a ledger that the tables exist.
    pub(super) async fn surveyed<T>(
        &self,
        read: impl AsyncFnOnce(&Self, &mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, AuditError> {
        let found = self.found().await?;
        within(&found, async |connection| read(&found, connection).await.map_err(store_error)).await
    }
}

impl Surveys for Postgres {
    fn cover<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Result<Cover, AuditError>> {
        Box::pin(async move { cover::cover(&self.found().await?, asked).await })
    }

    fn piece<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Piece, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let piece = found.statement(PIECE).query().bind(ledger.to_owned()).bind(from).bind(before);
            Ok(piece_of(&piece.fetch_all(connection).await?)?.0)
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

    fn misdated<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(self.surveyed(async move |found, connection| {
            let has_writers = found.may_read(&mut *connection, WRITERS).await?;
            let begun = if has_writers { BEFORE_ITS_WRITER } else { "" };
            let misdated = found.statement(&format!("{MISDATED}{begun} END ORDER BY first_seq LIMIT $5"));
            let misdated = misdated.scalar().bind(ledger.to_owned()).bind(from).bind(before);
            misdated.bind(WRONG_CLOCK).bind(i64::from(most)).fetch_all(connection).await
        }))
    }

    fn unindexed<'a>(
        &'a self,
        _query: &'a AuditQuery,
        _entries: (i64, i64),
        _batches: (i64, i64),
    ) -> BoxFuture<'a, Result<Vec<String>, AuditError>> {
        // A server checks its indexes with tools of its own, which a role of ours may not run.
        Box::pin(std::future::ready(Ok(Vec::new())))
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

    fn structure(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, AuditError>> {
        // A server checks its files with tools of its own, which a role of ours may not run.
        Box::pin(std::future::ready(Ok(Some(Vec::new()))))
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
