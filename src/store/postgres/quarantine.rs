//! Reads quarantined entries, and tries them again.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    borrowed::within,
    error::{append_error, store_error},
    guard::Guard,
    hold::HeldEnd,
    insert::Statements,
    source::Postgres,
    sql::has_table,
    tree::PostgresTree,
};
use crate::entry::{EventDefaults, interpret};
use crate::error::AuditError;
use crate::store::growth::Failed;
use crate::store::keeper::Keeper;
use crate::store::{Append, AppendError, Fault, QuarantineRetried, QuarantinedRow};

/// The entries in quarantine, in the order in which they were quarantined.
pub(super) fn rows(postgres: &Postgres) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
    let rows = async move {
        let (readers, found) = (postgres.readers().await?, postgres.found().await?);
        let exists = within(&found, async |connection| {
            has_table(&found, connection, "tracing_audit_quarantine").await.map_err(store_error)
        });
        if !exists.await? {
            return Ok(futures_util::stream::empty().boxed());
        }
        // It has no function and no operator, whose names the session's search_path would look up.
        let select = found.sql(
            "SELECT writer, position, id, error, record, quarantined_at FROM @tracing_audit_quarantine
             ORDER BY quarantined_at, writer, position",
        );
        let rows = sqlx::raw_sql(select).fetch(readers).and_then(async |row: PgRow| {
            Ok(QuarantinedRow {
                writer: row.try_get(0)?,
                position: row.try_get::<i64, _>(1)?.cast_unsigned(),
                id: row.try_get(2)?,
                error: row.try_get(3)?,
                record: row.try_get(4)?,
                quarantined_at: row.try_get::<DateTime<Utc>, _>(5)?.timestamp_micros(),
            })
        });
        Ok::<_, AuditError>(rows.map_err(store_error).boxed())
    };
    futures_util::stream::once(rows).try_flatten().boxed()
}

/// The place of an entry in the order of the quarantine.
type QuarantineKey = (DateTime<Utc>, Uuid, i64);

/// Tries each entry in quarantine again, in a transaction of its own.
pub(super) async fn readmit(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    keeper: &mut Keeper,
    ledger: &str,
) -> Result<QuarantineRetried, AuditError> {
    let mut readmitted = QuarantineRetried::default();
    let mut after: QuarantineKey = (DateTime::UNIX_EPOCH, Uuid::nil(), i64::MIN);
    loop {
        let (key, committed) =
            match readmit_next(connection, statements, guard, keeper, (ledger, after)).await {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(readmitted),
                Err(Failed::Append(failed)) => return Err(failed.error),
                Err(Failed::Tree(why)) => {
                    keeper.give_up(&why);
                    continue;
                }
            };
        after = key;
        if committed {
            readmitted.committed += 1;
        } else {
            readmitted.refused += 1;
        }
    }
}

/// Tries the first entry in quarantine after this key again. Returns its key, and whether the entry is in the ledger
/// now; `None` if there is no entry after this key.
async fn readmit_next(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    keeper: &mut Keeper,
    (ledger, (time, writer, position)): (&str, QuarantineKey),
) -> Result<Option<(QuarantineKey, bool)>, Failed> {
    let mut transaction = statements.begin(connection).await.map_err(append_error)?;
    let added_as = Uuid::new_v4();
    let (first_seq, held) = statements.hold.hold_for_one(&mut transaction, ledger, added_as).await?;
    let next: Option<(DateTime<Utc>, Uuid, i64, Vec<u8>)> = statements
        .next_quarantined
        .row()
        .bind(ledger)
        .bind(time)
        .bind(writer)
        .bind(position)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(append_error)?;
    let Some((time, writer, position, record)) = next else { return Ok(None) };
    let key = (time, writer, position);
    let Ok(row) = interpret(&record, &EventDefaults::default()) else { return Ok(Some((key, false))) };
    // The batch has a new writer: the position of the writer that quarantined the entry must not change.
    let mut tables = PostgresTree { connection: &mut transaction, statements: &statements.tree, ledger };
    let mut tree = keeper.begin(&mut tables, &held.tree, first_seq).await?;
    let end = HeldEnd { ledger, first_seq, now: held.now };
    match statements.add_rows(&mut transaction, end, &[&row], (added_as, 1), tree.as_mut(), guard).await {
        Ok(()) => {}
        Err(Failed::Append(AppendError { fault: Fault::Entry | Fault::Duplicate, .. })) => {
            return Ok(Some((key, false)));
        }
        Err(failed) => return Err(failed),
    }
    let mut readmitted = statements.readmitted.query().bind(ledger).bind(writer).bind(position);
    if statements.functions.is_some() {
        readmitted = readmitted.bind(first_seq);
    }
    readmitted.execute(&mut *transaction).await.map_err(append_error)?;
    guard.compare(&mut transaction, (ledger, first_seq), &[&row], None).await?;
    transaction.commit().await.map_err(append_error)?;
    keeper.committed(tree);
    Ok(Some((key, true)))
}

/// Adds the quarantined entries of a batch.
pub(super) async fn add(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    batch: &Append<'_>,
    guard: &mut Guard,
) -> Result<(), AppendError> {
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        let added = statements
            .quarantine
            .query()
            .bind(ledger)
            .bind(batch.writer)
            .bind(position.cast_signed())
            .bind(entry.id)
            // The error may quote the value that the database refuses.
            .bind(entry.error.replace('\0', "\u{2400}"))
            .bind(&entry.record)
            .bind(Utc::now())
            .execute(&mut *connection)
            .await
            .map_err(append_error)?;
        if added.rows_affected() != 1 {
            guard.look(&mut *connection).await?;
            return Err(guard.not_as_sent());
        }
    }
    Ok(())
}
