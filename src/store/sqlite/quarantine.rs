//! Reads the entries that the database refused, and retries them.

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::append_error,
    insert::add_rows,
    source::{Sqlite, turn},
};
use crate::entry::{EventDefaults, interpret};
use crate::error::AuditError;
use crate::platform::Turns;
use crate::store::{AppendError, Fault, QuarantineRetried, QuarantinedRow};

/// The quarantined entries, in the order in which they were quarantined.
pub(super) fn rows(sqlite: &Sqlite) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
    let rows = async move {
        if !sqlite.has_tables().await? {
            return Ok(futures_util::stream::empty().boxed());
        }
        let rows = sqlx::query(
            "SELECT writer, position, id, error, record, quarantined_at FROM tracing_audit_quarantine ORDER BY rowid",
        )
        .fetch(sqlite.readers())
        .and_then(async |row: SqliteRow| {
            Ok(QuarantinedRow {
                writer: row.try_get(0)?,
                position: row.try_get::<i64, _>(1)?.cast_unsigned(),
                id: row.try_get(2)?,
                error: row.try_get(3)?,
                record: row.try_get(4)?,
                quarantined_at: row.try_get(5)?,
            })
        });
        Ok::<_, AuditError>(rows.map_err(|cause| sqlite.store_error(cause)).boxed())
    };
    futures_util::stream::once(rows).try_flatten().boxed()
}

/// Retries each quarantined entry, in a transaction and a turn of its own.
pub(super) async fn readmit(
    connection: &mut SqliteConnection,
    turns: &mut Option<Turns>,
) -> Result<QuarantineRetried, AuditError> {
    let (mut readmitted, mut after) = (QuarantineRetried::default(), i64::MIN);
    loop {
        let _turn = turn(turns).await;
        let next = readmit_next(connection, after).await.map_err(|failed| failed.error)?;
        let Some((rowid, committed)) = next else { return Ok(readmitted) };
        after = rowid;
        if committed {
            readmitted.committed += 1;
        } else {
            readmitted.refused += 1;
        }
    }
}

/// Retries the entry that was quarantined next after this one. Returns its row number, and whether it is in the ledger
/// now; `None` if there is no such entry.
async fn readmit_next(
    connection: &mut SqliteConnection,
    after: i64,
) -> Result<Option<(i64, bool)>, AppendError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(append_error)?;
    let next: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT rowid, record, (SELECT next_seq FROM tracing_audit_head) FROM tracing_audit_quarantine \
         WHERE rowid > ? ORDER BY rowid LIMIT 1",
    )
    .bind(after)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(append_error)?;
    let Some((rowid, record, first_seq)) = next else { return Ok(None) };
    let Ok(row) = interpret(&record, &EventDefaults::default()) else { return Ok(Some((rowid, false))) };
    // Add it as the batch of a writer of its own: the positions of the writer that quarantined it stay as they are.
    match add_rows(&mut transaction, first_seq, &[&row], Uuid::new_v4(), 1).await {
        Ok(()) => {}
        Err(AppendError { fault: Fault::Store, error }) => {
            return Err(AppendError { fault: Fault::Store, error });
        }
        Err(_) => return Ok(Some((rowid, false))),
    }
    sqlx::query("DELETE FROM tracing_audit_quarantine WHERE rowid = ?")
        .bind(rowid)
        .execute(&mut *transaction)
        .await
        .map_err(append_error)?;
    transaction.commit().await.map_err(append_error)?;
    Ok(Some((rowid, true)))
}
