//! Compares the entries, the batches and the head with each other, piece by piece.

use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    cancel::{Cancellable, fetch_all},
    cover::{self, UNTIMELY},
    look, schema,
    source::Sqlite,
    sql::Statement,
    unindexed,
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    Asked, Cover, Piece, Surveys, TreeLook, Veils,
    survey::{Unaccounted, WRONG_CLOCK},
};

const SEQS: &str = "SELECT seq FROM tracing_audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq";

const MISDATED: &str = "SELECT first_seq FROM (
        SELECT first_seq, committed_at, writer, lag(committed_at) OVER (ORDER BY first_seq) AS earlier
        FROM tracing_audit_batches
        WHERE first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq < ?1), ?1)
          AND first_seq < ?2
     ) b
     WHERE first_seq >= ?1 AND (committed_at < earlier - ?3 OR committed_at > 1000000 * strftime('%s', 'now') + 60 * ?3";

const BEFORE_ITS_WRITER: &str =
    " OR committed_at < (SELECT started_at FROM tracing_audit_writers w WHERE w.writer = b.writer) - ?3";

impl Surveys for Sqlite {
    fn cover<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Result<Cover, AuditError>> {
        Box::pin(async move {
            let mut cover = cover::cover(self, asked).await?;
            cover.over.extend(self.log_damage());
            Ok(cover)
        })
    }

    fn piece<'a>(
        &'a self,
        _ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Piece, AuditError>> {
        let read = async move || cover::piece(&mut Cancellable::of(self).await?, (from, before)).await;
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

    fn misdated<'a>(
        &'a self,
        _ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(async move {
            let has_writers = self.has_table("tracing_audit_writers").await?;
            let begun = if has_writers { BEFORE_ITS_WRITER } else { "" };
            let misdated = format!("{MISDATED}{begun}) ORDER BY first_seq LIMIT ?4");
            let misdated = sqlx::query(AssertSqlSafe(misdated)).bind(from).bind(before).bind(WRONG_CLOCK);
            self.numbers(misdated.bind(i64::from(most))).await
        })
    }

    fn unindexed<'a>(
        &'a self,
        query: &'a AuditQuery,
        entries: (i64, i64),
        batches: (i64, i64),
    ) -> BoxFuture<'a, Result<Vec<String>, AuditError>> {
        Box::pin(unindexed::found(self, query, entries, batches))
    }

    fn veils(&self) -> BoxFuture<'_, Result<Veils, AuditError>> {
        Box::pin(async move {
            let mut veils = schema::veils(self).await?;
            veils.over.extend(self.log_damage());
            Ok(veils)
        })
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

    fn structure(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, AuditError>> {
        Box::pin(async move {
            if schema::evaluates(self).await? {
                return Ok(None);
            }
            let rows = fetch_all(self, sqlx::query("PRAGMA integrity_check(100)")).await;
            let text = |row: &SqliteRow| row.try_get::<String, _>(0);
            let texts = rows.and_then(|rows| rows.iter().map(text).collect::<sqlx::Result<Vec<_>>>());
            let texts = texts.map_err(|cause| self.store_error(cause))?;
            let damage = texts.into_iter().filter(|text| text != "ok");
            Ok(Some(self.log_damage().into_iter().chain(damage).collect()))
        })
    }

    fn damage(&self) -> Option<String> {
        self.log_damage()
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
