//! Commits a batch: position, head, rows and quarantine in one transaction.

use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    error::{append_error, in_time},
    guard::Guard,
    insert::Statements,
    quarantine,
};
use crate::error::AuditError;
use crate::store::appender::{doubted, moved};
use crate::store::{
    Append, AppendError, Appender, Applied, Fault, KnownWriter, OfWriters, QuarantineRetried,
};

pub(super) struct PostgresAppender {
    connection: PgConnection,
    statements: Statements,
    guard: Guard,
    ledger: String,
}

impl PostgresAppender {
    pub(super) fn new(connection: PgConnection, statements: Statements, guard: Guard, ledger: &str) -> Self {
        Self { connection, statements, guard, ledger: ledger.to_owned() }
    }
}

impl Appender for PostgresAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            let answer = append(&mut self.connection, &self.statements, &mut self.guard, &self.ledger, batch);
            in_time(answer).await.unwrap_or_else(|late| Err(AppendError { fault: Fault::Store, error: late }))
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let answer = async {
                let mut transaction =
                    self.statements.begin(&mut self.connection).await.map_err(append_error)?;
                let position = self.statements.hold.position(&mut transaction, &self.ledger, writer).await;
                let position = position.map_err(append_error)?;
                transaction.commit().await.map_err(append_error)?;
                Ok::<_, AppendError>(position)
            };
            let (named, backed) = in_time(answer).await?.map_err(|cause| cause.error)?;
            if named != backed {
                self.guard.noticed = Some(moved(writer, named, backed));
            }
            Ok(backed)
        })
    }

    fn writers<'a>(&'a mut self, call: OfWriters<'a>) -> BoxFuture<'a, Result<Vec<KnownWriter>, AuditError>> {
        Box::pin(async move {
            let answer = async {
                let mut transaction =
                    self.statements.begin(&mut self.connection).await.map_err(append_error)?;
                let writers = &self.statements.hold.writers;
                let found = writers.writers(&mut transaction, &self.ledger, call).await;
                let found = found.map_err(append_error)?;
                transaction.commit().await.map_err(append_error)?;
                Ok::<_, AppendError>(found)
            };
            in_time(answer).await?.map_err(|cause| cause.error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(quarantine::readmit(&mut self.connection, &self.statements, &mut self.guard, &self.ledger))
    }

    fn noticed(&mut self) -> Option<AuditError> {
        self.guard.noticed.take()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Everything is committed; an error while closing the connection does not matter.
            drop(self.connection.close().await);
        })
    }
}

async fn append(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    ledger: &str,
    batch: Append<'_>,
) -> Result<Applied, AppendError> {
    let hold = &statements.hold;
    let mut transaction = statements.begin(connection).await.map_err(append_error)?;
    let mut found = hold.hold(&mut transaction, ledger, batch.writer, batch.left).await?;
    if found.position != batch.reached {
        let backed = hold.backed(&mut transaction, ledger, batch.writer).await.map_err(append_error)?;
        if backed != found.position {
            guard.noticed = Some(moved(batch.writer, found.position, backed));
            found.position = backed;
        }
    }
    if let Some(error) = batch.impossible(found.position) {
        return Err(error);
    }
    if found.position > batch.from {
        let before = hold.applied_before(&mut transaction, ledger, batch.writer, found.position).await;
        let before = before.map_err(append_error)?;
        // Dropping the transaction would hold the ledger until the connection is used again.
        transaction.rollback().await.map_err(append_error)?;
        return Ok(before);
    }
    let (mut first_seq, mut told) = (found.next_seq, false);
    if let Err(altered) = first_seq {
        let row = batch.tells_of(altered)?;
        let at = (ledger, altered.until.cast_signed());
        statements.add_rows(&mut transaction, at, &[row], (Uuid::new_v4(), 1), guard).await?;
        guard.compare(&mut transaction, at, &[row], None).await?;
        (first_seq, told) = (Ok(at.1 + 1), true);
    }
    let first_seq = first_seq.unwrap_or_default();
    let at = (ledger, first_seq);
    let until = batch.until();
    statements.add_rows(&mut transaction, at, batch.rows, (batch.writer, until), guard).await?;
    if let Some(row) = batch.doubted {
        let after = (ledger, first_seq.saturating_add(i64::try_from(batch.rows.len()).unwrap_or(i64::MAX)));
        let tried =
            statements.add_rows(&mut transaction, after, &[row], (batch.writer, until + 1), guard).await;
        // Dropping the transaction would hold the ledger until the connection is used again.
        transaction.rollback().await.map_err(append_error)?;
        return Err(doubted(tried));
    }
    quarantine::add(&mut transaction, statements, ledger, &batch, guard).await?;
    hold.reach(&mut transaction, ledger, &batch, first_seq).await.map_err(append_error)?;
    guard.compare(&mut transaction, at, batch.rows, Some(&batch)).await?;
    transaction.commit().await.map_err(append_error)?;
    Ok(Applied {
        until,
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
        again: false,
        told,
        before: found.committed_at,
    })
}
