//! Commits few rows at a time where the file system has little room, so that everything that is committed can still be moved
//! out of the write-ahead log. Otherwise the log would take the room that the database needs, and could not be emptied.

use std::path::Path;

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileLook, free_room};
use crate::store::{Append, AppendError, Fault};

/// With this much room nothing is counted: it is the size at which the log is moved, a full batch on top, and as much
/// again for the database.
const PLENTY: u64 = 64 * 1024 * 1024;

/// The bytes that a row adds to the log, until they are known: a page of the table and one of each index.
const ROW: u64 = 64 * 1024;
/// The least that a row is believed to add.
const ROW_LEAST: u64 = 1024;

/// The measure of how much a row adds to the write-ahead log. It is used if room is scarce.
pub(super) struct Room {
    row: u64,
    /// Size of the log before the batch, if it was looked at.
    before: Option<u64>,
}

impl Default for Room {
    fn default() -> Self {
        Self { row: ROW, before: None }
    }
}

impl Room {
    /// Empties the log, if it may be in the way of this batch. `log`: `None` if the database has none.
    ///
    /// # Errors
    /// If there is room for fewer rows only. A single row is always tried.
    pub(super) async fn make(
        &mut self,
        connection: &mut SqliteConnection,
        log: Option<&Path>,
        batch: &Append<'_>,
    ) -> Result<(), AppendError> {
        self.before = None;
        let Some(log) = log else { return Ok(()) };
        let room = || free_room(log).filter(|free| *free < PLENTY);
        let Some(mut free) = room() else { return Ok(()) };
        let added: u64 = batch.rows.iter().map(|row| self.row + size_of_texts(row)).sum();
        // The rows are written once to the log, and once to the database.
        let needed = added * 2;
        let mut length = length_of(log);
        if length > 0 && free < length + needed {
            // An error has left the log as it was.
            drop(move_log(connection).await);
            (free, length) = (room().unwrap_or(PLENTY), length_of(log));
        }
        if batch.rows.len() > 1 && free < length + needed {
            let message = format!(
                "no room for {} entries at once: {free} bytes are free on the file system of the audit database",
                batch.rows.len()
            );
            let error = AuditError::new(ErrorKind::Store, message).for_lack_of_room(true);
            return Err(AppendError { fault: Fault::Room { tried: false }, error });
        }
        self.before = Some(length);
        Ok(())
    }

    /// Learns from a batch that was committed what a row adds.
    pub(super) fn learn(&mut self, log: Option<&Path>, batch: &Append<'_>) {
        let (Some(before), Some(log)) = (self.before, log) else { return };
        // A log that was moved meanwhile is written again from its start, and does not grow.
        let added = length_of(log).saturating_sub(before);
        if let Some(row) = added.checked_div(batch.rows.len() as u64).filter(|row| *row > 0) {
            self.row = row.max(ROW_LEAST);
        }
    }
}

fn length_of(log: &Path) -> u64 {
    FileLook::at(log).map_or(0, |log| log.len)
}

fn size_of_texts(row: &Row) -> u64 {
    let optional = [&row.resource_id, &row.reason, &row.problems];
    let optional: usize = optional.into_iter().flatten().map(|text| text.len()).sum();
    let texts = [&row.action, &row.resource, &row.decision, &row.metadata];
    (texts.into_iter().map(|text| text.len()).sum::<usize>() + optional) as u64
}

/// Moves the log into the database and empties it, as far as nobody is in the way, and waits for nobody.
async fn move_log(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let patience: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
    let moved = sqlx::raw_sql("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)");
    let moved = moved.execute(&mut *connection).await;
    let restore = AssertSqlSafe(format!("PRAGMA busy_timeout = {patience}"));
    sqlx::raw_sql(restore).execute(connection).await?;
    moved.map(drop)
}
