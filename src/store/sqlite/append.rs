//! Commits a batch: position, head, rows and quarantine in one transaction.

use futures_util::future::BoxFuture;
use sqlx::{Connection, Row as _, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{error::append_error, insert::add_rows, quarantine};
use crate::{
    AuditError,
    entry::Moment,
    platform::FileIdentity,
    store::appender::{Append, AppendError, Appender, Applied, Fault, Readmitted},
};

/// The connection that an append works with.
pub(super) enum Connected {
    Own {
        connection: SqliteConnection,
        file: Option<FileIdentity>,
    },
    /// The pool of a database in memory, which lives as long as a connection of the pool: a connection is borrowed for
    /// each batch.
    Borrowed(SqlitePool),
}

pub(super) struct SqliteAppender {
    connected: Connected,
}

impl SqliteAppender {
    pub(super) fn new(connected: Connected) -> Self {
        Self { connected }
    }
}

impl Appender for SqliteAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file } => {
                    if let Some(file) = file {
                        file.check().map_err(|error| AppendError { fault: Fault::Store, error })?;
                    }
                    append(connection, batch).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(append_error)?;
                    let outcome = append(&mut connection, batch).await;
                    // Return the connection here: dropping it would spawn a task, which this runtime may not live to run.
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let position =
                sqlx::query_scalar("SELECT position FROM tracing_audit_positions WHERE writer = ?");
            let position = position.bind(writer);
            let found: sqlx::Result<Option<i64>> = match &mut self.connected {
                Connected::Own { connection, .. } => position.fetch_optional(connection).await,
                Connected::Borrowed(pool) => position.fetch_optional(&*pool).await,
            };
            found.map(|found| found.map_or(0, i64::cast_unsigned)).map_err(|cause| append_error(cause).error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<Readmitted, AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file } => {
                    if let Some(file) = file {
                        file.check()?;
                    }
                    quarantine::readmit(connection).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let outcome = quarantine::readmit(&mut connection).await;
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Connected::Own { connection, .. } = self.connected {
                // Everything is committed; an error while the write-ahead log is tidied up does not matter.
                drop(connection.close().await);
            }
        })
    }
}

async fn append(connection: &mut SqliteConnection, batch: Append<'_>) -> Result<Applied, AppendError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(append_error)?;
    let head = sqlx::query(
        "SELECT next_seq, (SELECT position FROM tracing_audit_positions WHERE writer = ?) FROM tracing_audit_head",
    )
    .bind(batch.writer)
    .fetch_one(&mut *transaction)
    .await
    .map_err(append_error)?;
    let first_seq: i64 = head.try_get(0).map_err(append_error)?;
    let position = head.try_get::<Option<i64>, _>(1).map_err(append_error)?.map_or(0, i64::cast_unsigned);
    if let Some(error) = batch.impossible(position) {
        return Err(error);
    }
    if position > batch.from {
        return applied_before(&mut transaction, batch.writer, position).await.map_err(append_error);
    }
    let until = batch.until();
    add_rows(&mut transaction, first_seq, batch.rows, batch.writer, until).await?;
    let now = Moment::now().micros;
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        sqlx::query("INSERT INTO tracing_audit_quarantine VALUES (?, ?, ?, ?, ?, ?)")
            .bind(batch.writer)
            .bind(position.cast_signed())
            .bind(entry.id)
            .bind(&entry.error)
            .bind(&entry.record)
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(append_error)?;
    }
    sqlx::query("INSERT INTO tracing_audit_positions VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position")
        .bind(batch.writer)
        .bind(until.cast_signed())
        .execute(&mut *transaction)
        .await
        .map_err(append_error)?;
    transaction.commit().await.map_err(append_error)?;
    Ok(Applied {
        until,
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
    })
}

/// The effect of an earlier attempt that has reached this position, and whose answer was lost.
async fn applied_before(
    connection: &mut SqliteConnection,
    writer: Uuid,
    position: u64,
) -> sqlx::Result<Applied> {
    let found: Option<(i64, i64)> = sqlx::query_as(
        "SELECT first_seq, entries FROM tracing_audit_batches WHERE writer = ? AND position = ?",
    )
    .bind(writer)
    .bind(position.cast_signed())
    .fetch_optional(connection)
    .await?;
    Ok(Applied {
        until: position,
        rows: found.map_or(0, |(_, entries)| entries.cast_unsigned()),
        first_seq: found.map(|(first_seq, _)| first_seq.cast_unsigned()),
    })
}
