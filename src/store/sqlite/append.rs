//! Commits a batch: position, head, rows and quarantine in one transaction.

use futures_util::future::BoxFuture;
use sqlx::{Connection, Row as _, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{error::append_error, insert::add_rows, quarantine, source::turn};
use crate::entry::Moment;
use crate::error::AuditError;
use crate::platform::{FileIdentity, Turns};
use crate::store::{Append, AppendError, Appender, Applied, Fault, QuarantineRetried};

/// The connection that an append works with.
pub(super) enum Connected {
    Own {
        connection: SqliteConnection,
        file: Option<FileIdentity>,
        /// The turns of those who write this file. `None` if no turns can be taken there.
        turns: Option<Turns>,
    },
    /// The pool of a database in memory, which lives as long as a connection of the pool: a connection is borrowed for
    /// each batch.
    Borrowed(SqlitePool),
}

pub(super) struct SqliteAppender {
    connected: Connected,
    /// The defect of the SQLite library, if it can corrupt this database.
    defect: Option<AuditError>,
}

impl SqliteAppender {
    pub(super) fn new(connected: Connected, defect: Option<AuditError>) -> Self {
        Self { connected, defect }
    }
}

impl Appender for SqliteAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file, turns } => {
                    let _turn = turn(turns).await;
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

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file, turns } => {
                    if let Some(file) = file {
                        file.check()?;
                    }
                    quarantine::readmit(connection, turns).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let outcome = quarantine::readmit(&mut connection, &mut None).await;
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn defect(&self) -> Option<AuditError> {
        self.defect.clone()
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use crate::entry::AuditEntry;
    use crate::log::AuditLog;
    use crate::platform::Turns;
    use crate::store::Store;

    #[tokio::test]
    async fn a_turn_that_never_ends_delays_one_commit_and_prevents_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let store = Store::sqlite(&file).unwrap();
        let log =
            AuditLog::builder().store(store).commit_timeout(Duration::from_mins(3)).open().await.unwrap();
        let commit = async || {
            let start = Instant::now();
            log.writer().commit(AuditEntry::new(Uuid::nil(), "a", "r")).await.unwrap();
            start.elapsed()
        };
        commit().await;
        let held = Turns::beside(file.clone()).await.unwrap().wait(Duration::from_mins(1)).await.unwrap();
        let (first, second) = (commit().await, commit().await);
        assert!(first >= Duration::from_secs(2) && second < first, "{first:?} {second:?}");
        drop(held);
        commit().await;
    }

    #[tokio::test]
    async fn a_file_where_no_turns_can_be_taken_is_written_without() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("audit.db.turn")).unwrap();
        let log = AuditLog::open(directory.path().join("audit.db")).await.unwrap();
        log.writer().commit(AuditEntry::new(Uuid::nil(), "a", "r")).await.unwrap();
    }
}
