//! Commits a batch: position, head, rows and quarantine in one transaction.

use chrono::Utc;
use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    error::{append_error, in_time},
    insert::Statements,
    quarantine,
};
use crate::error::AuditError;
use crate::store::{Append, AppendError, Appender, Applied, Fault, QuarantineRetried};

pub(super) struct PostgresAppender {
    connection: PgConnection,
    statements: Statements,
    ledger: String,
}

impl PostgresAppender {
    pub(super) fn new(connection: PgConnection, statements: Statements, ledger: &str) -> Self {
        Self { connection, statements, ledger: ledger.to_owned() }
    }
}

impl Appender for PostgresAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            let answer = append(&mut self.connection, &self.statements, &self.ledger, batch);
            in_time(answer).await.unwrap_or_else(|late| Err(AppendError { fault: Fault::Store, error: late }))
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let answer = async {
                let mut transaction =
                    self.statements.begin(&mut self.connection).await.map_err(append_error)?;
                let position = position(&mut transaction, &self.statements, &self.ledger, writer).await?;
                transaction.commit().await.map_err(append_error)?;
                Ok::<_, AppendError>(position)
            };
            in_time(answer).await?.map_err(|cause| cause.error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(quarantine::readmit(&mut self.connection, &self.statements, &self.ledger))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Everything is committed; an error while closing the connection does not matter.
            drop(self.connection.close().await);
        })
    }
}

async fn position(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    writer: Uuid,
) -> Result<u64, AppendError> {
    let position = statements.position.scalar().bind(ledger).bind(writer);
    let position: Option<i64> = position.fetch_optional(connection).await.map_err(append_error)?;
    Ok(position.map_or(0, i64::cast_unsigned))
}

async fn append(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    batch: Append<'_>,
) -> Result<Applied, AppendError> {
    let mut transaction = statements.begin(connection).await.map_err(append_error)?;
    let first_seq = statements.hold(&mut transaction, ledger).await?;
    // The position has a statement of its own: only a statement that begins once the ledger is held sees the commit
    // of the ledger's last holder, which may be an earlier attempt of this writer.
    let position = position(&mut transaction, statements, ledger, batch.writer).await?;
    if let Some(error) = batch.impossible(position) {
        return Err(error);
    }
    if position > batch.from {
        let found = statements.batch.row().bind(ledger).bind(batch.writer);
        let found: Option<(i64, i64)> = found
            .bind(position.cast_signed())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(append_error)?;
        // Dropping the transaction would hold the ledger until the connection is used again.
        transaction.rollback().await.map_err(append_error)?;
        return Ok(Applied {
            until: position,
            rows: found.map_or(0, |(_, entries)| entries.cast_unsigned()),
            first_seq: found.map(|(first_seq, _)| first_seq.cast_unsigned()),
        });
    }
    let until = batch.until();
    statements.add_rows(&mut transaction, (ledger, first_seq), batch.rows, (batch.writer, until)).await?;
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        statements
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
            .execute(&mut *transaction)
            .await
            .map_err(append_error)?;
    }
    statements
        .reach
        .query()
        .bind(ledger)
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
