//! Commits a batch: position, head, rows and quarantine in one transaction.

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{
    error::append_error,
    guard::Guard,
    hold::{applied_before, backed, hold, position, reach},
    insert::add_rows,
    quarantine,
    source::turn,
};
use crate::error::AuditError;
use crate::platform::{FileIdentity, Turns};
use crate::store::appender::moved;
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
    guard: Guard,
}

impl SqliteAppender {
    pub(super) fn new(connected: Connected, defect: Option<AuditError>, guard: Guard) -> Self {
        Self { connected, defect, guard }
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
                    append(connection, &mut self.guard, batch).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(append_error)?;
                    // Each connection of a pool has a schema of its own for what is temporary.
                    self.guard.forget();
                    let outcome = append(&mut connection, &mut self.guard, batch).await;
                    // Return the connection here: dropping it would spawn a task, which this runtime may not live to run.
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let found = match &mut self.connected {
                Connected::Own { connection, .. } => position(connection, writer).await,
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let found = position(&mut connection, writer).await;
                    connection.return_to_pool().await;
                    found
                }
            };
            let (named, backed) = found.map_err(|cause| append_error(cause).error)?;
            if named != backed {
                self.guard.noticed = Some(moved(writer, named, backed));
            }
            Ok(backed)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file, turns } => {
                    if let Some(file) = file {
                        file.check()?;
                    }
                    quarantine::readmit(connection, turns, &mut self.guard).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let outcome = quarantine::readmit(&mut connection, &mut None, &mut self.guard).await;
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn defect(&self) -> Option<AuditError> {
        self.defect.clone()
    }

    fn noticed(&mut self) -> Option<AuditError> {
        self.guard.noticed.take()
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

async fn append(
    connection: &mut SqliteConnection,
    guard: &mut Guard,
    batch: Append<'_>,
) -> Result<Applied, AppendError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(append_error)?;
    let mut held = hold(&mut transaction, batch.writer, batch.left).await.map_err(append_error)?;
    guard.look(&mut transaction, held.schema).await.map_err(append_error)?;
    if held.position != batch.reached {
        let backed = backed(&mut transaction, batch.writer).await.map_err(append_error)?;
        if backed != held.position {
            guard.noticed = Some(moved(batch.writer, held.position, backed));
            held.position = backed;
        }
    }
    if let Some(error) = batch.impossible(held.position) {
        return Err(error);
    }
    if held.position > batch.from {
        return applied_before(&mut transaction, batch.writer, held.position).await.map_err(append_error);
    }
    let (mut first_seq, mut told) = (held.next_seq, false);
    if let Err(found) = first_seq {
        let row = batch.tells_of(found)?;
        let at = found.until.cast_signed();
        add_rows(&mut transaction, at, &[row], (Uuid::new_v4(), 1), guard).await?;
        guard.compare(&mut transaction, at, &[row], None).await?;
        (first_seq, told) = (Ok(at + 1), true);
    }
    let first_seq = first_seq.unwrap_or_default();
    let until = batch.until();
    add_rows(&mut transaction, first_seq, batch.rows, (batch.writer, until), guard).await?;
    quarantine::add(&mut transaction, &batch, guard).await?;
    reach(&mut transaction, &batch, first_seq).await.map_err(append_error)?;
    guard.compare(&mut transaction, first_seq, batch.rows, Some(&batch)).await?;
    transaction.commit().await.map_err(append_error)?;
    Ok(Applied {
        until,
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
        told,
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
