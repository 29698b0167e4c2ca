//! Entries that the database refused: reading them, and trying them again.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Postgres,
    append::{Statements, failed as append_failed},
    open::failed,
    read::has_table,
};
use crate::{
    AuditError,
    interpret::{Defaults, interpret},
    store::{AppendError, Fault, QuarantinedRow, Readmitted},
};

pub(super) fn rows(postgres: &Postgres) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
    let rows = async move {
        if !has_table(postgres, "tracing_audit_quarantine").await? {
            return Ok(futures_util::stream::empty().boxed());
        }
        let select = postgres.sql(
            "SELECT writer, position, id, error, record, quarantined_at FROM @tracing_audit_quarantine
             ORDER BY quarantined_at, writer, position",
        );
        let rows = sqlx::raw_sql(select).fetch(postgres.readers().await?).and_then(async |row: PgRow| {
            Ok(QuarantinedRow {
                writer: row.try_get(0)?,
                position: row.try_get::<i64, _>(1)?.cast_unsigned(),
                id: row.try_get(2)?,
                error: row.try_get(3)?,
                record: row.try_get(4)?,
                quarantined_at: row.try_get::<DateTime<Utc>, _>(5)?.timestamp_micros(),
            })
        });
        Ok::<_, AuditError>(rows.map_err(failed).boxed())
    };
    futures_util::stream::once(rows).try_flatten().boxed()
}

/// Where an entry is in quarantine.
type Place = (DateTime<Utc>, Uuid, i64);

pub(super) async fn readmit(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
) -> Result<Readmitted, AuditError> {
    let mut readmitted = Readmitted::default();
    let mut after: Place = (DateTime::UNIX_EPOCH, Uuid::nil(), i64::MIN);
    while let Some((place, committed)) =
        readmit_next(connection, statements, ledger, after).await.map_err(|failed| failed.error)?
    {
        after = place;
        if committed {
            readmitted.committed += 1;
        } else {
            readmitted.refused += 1;
        }
    }
    Ok(readmitted)
}

/// The entry that came to quarantine after this one: where it was, and whether it is in the ledger now.
async fn readmit_next(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    (time, writer, position): Place,
) -> Result<Option<(Place, bool)>, AppendError> {
    let mut transaction = statements.begin(connection).await.map_err(append_failed)?;
    let first_seq = statements.hold(&mut transaction, ledger).await?;
    let next: Option<(DateTime<Utc>, Uuid, i64, Vec<u8>)> = statements
        .next_quarantined
        .row()
        .bind(ledger)
        .bind(time)
        .bind(writer)
        .bind(position)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(append_failed)?;
    let Some((time, writer, position, record)) = next else { return Ok(None) };
    let place = (time, writer, position);
    let Ok(row) = interpret(&record, &Defaults::default()) else { return Ok(Some((place, false))) };
    // A batch of a writer of its own: the positions of the one that gave it up are not touched.
    match statements.add(&mut transaction, (ledger, first_seq), &[&row], (Uuid::new_v4(), 1)).await {
        Ok(()) => {}
        Err(AppendError { fault: Fault::Store, error }) => {
            return Err(AppendError { fault: Fault::Store, error });
        }
        Err(_) => return Ok(Some((place, false))),
    }
    statements
        .readmitted
        .query()
        .bind(ledger)
        .bind(writer)
        .bind(position)
        .execute(&mut *transaction)
        .await
        .map_err(append_failed)?;
    transaction.commit().await.map_err(append_failed)?;
    Ok(Some((place, true)))
}
