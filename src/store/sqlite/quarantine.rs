//! Reads the entries that the database refused, and retries them.

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::append_error,
    guard::Guard,
    hold::hold,
    insert::add_rows,
    source::{Sqlite, turn},
    tree::SqliteTree,
};
use crate::entry::{EventDefaults, Moment, interpret};
use crate::error::{AuditError, ErrorKind};
use crate::platform::Turns;
use crate::store::growth::Failed;
use crate::store::keeper::Keeper;
use crate::store::{Append, AppendError, Fault, QuarantineRetried, QuarantinedRow};

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
            let (writer, id) = (row.try_get::<Uuid, _>(0), row.try_get::<Option<Uuid>, _>(2));
            let mut error = row.try_get(3).unwrap_or_else(|_| "the error of this row is no text".to_owned());
            if writer.is_err() || id.is_err() {
                error.push_str("; the id or the writer of this row is none: somebody has changed it");
            }
            Ok(QuarantinedRow {
                writer: writer.unwrap_or_default(),
                position: row.try_get::<i64, _>(1)?.cast_unsigned(),
                id: id.unwrap_or_default(),
                error,
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
    guard: &mut Guard,
    keeper: &mut Keeper,
) -> Result<QuarantineRetried, AuditError> {
    let (mut readmitted, mut after) = (QuarantineRetried::default(), i64::MIN);
    loop {
        let _turn = turn(turns).await;
        let next = match readmit_next(connection, guard, keeper, after).await {
            Ok(next) => next,
            Err(Failed::Append(failed)) => return Err(failed.error),
            Err(Failed::Tree(why)) => {
                keeper.give_up(&why);
                continue;
            }
        };
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
    guard: &mut Guard,
    keeper: &mut Keeper,
    after: i64,
) -> Result<Option<(i64, bool)>, Failed> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(append_error)?;
    let next: Option<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT rowid, record FROM tracing_audit_quarantine WHERE rowid > ? ORDER BY rowid LIMIT 1",
    )
    .bind(after)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(append_error)?;
    let Some((rowid, record)) = next else { return Ok(None) };
    let Ok(row) = interpret(&record, &EventDefaults::default()) else { return Ok(Some((rowid, false))) };
    // Add it as the batch of a writer of its own: the positions of the writer that quarantined it stay as they are.
    let writer = Uuid::new_v4();
    let held = hold(&mut transaction, writer, None).await.map_err(append_error)?;
    guard.look(&mut transaction, held.schema).await.map_err(append_error)?;
    let first_seq = held.next_seq.map_err(|_| altered())?;
    let mut tree = keeper.begin(&mut SqliteTree(&mut transaction), &held.tree, first_seq).await?;
    match add_rows(&mut transaction, first_seq, &[&row], (writer, 1), tree.as_mut(), guard).await {
        Ok(()) => {}
        Err(Failed::Append(AppendError { fault: Fault::Entry | Fault::Duplicate, .. })) => {
            return Ok(Some((rowid, false)));
        }
        Err(failed) => return Err(failed),
    }
    sqlx::query("DELETE FROM tracing_audit_quarantine WHERE rowid = ?")
        .bind(rowid)
        .execute(&mut *transaction)
        .await
        .map_err(append_error)?;
    guard.compare(&mut transaction, first_seq, &[&row], None).await?;
    transaction.commit().await.map_err(append_error)?;
    keeper.committed(tree);
    Ok(Some((rowid, true)))
}

/// The error of a ledger whose end is not as its last writer left it.
fn altered() -> AppendError {
    let message =
        "the end of the ledger is not as it was left: write an entry first, with which that is told";
    AppendError { fault: Fault::Store, error: AuditError::new(ErrorKind::Store, message) }
}

/// Adds the quarantined entries of a batch.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    batch: &Append<'_>,
    guard: &Guard,
) -> Result<(), AppendError> {
    let now = Moment::now().micros;
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        let added = sqlx::query("INSERT INTO tracing_audit_quarantine VALUES (?, ?, ?, ?, ?, ?)")
            .bind(batch.writer)
            .bind(position.cast_signed())
            .bind(entry.id)
            .bind(&entry.error)
            .bind(&entry.record)
            .bind(now)
            .execute(&mut *connection)
            .await
            .map_err(append_error)?;
        if added.rows_affected() != 1 {
            return Err(guard.not_as_sent());
        }
    }
    Ok(())
}
