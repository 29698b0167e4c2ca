//! Commits a batch: position, head, rows and quarantine in one transaction.

use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    error::{append_error, in_time},
    functions::Adding,
    guard::Guard,
    hold::HeldEnd,
    insert::Statements,
    quarantine,
    tree::PostgresTree,
};
use crate::error::AuditError;
use crate::store::appender::moved;
use crate::store::growth::{Failed, Growing, doubted};
use crate::store::keeper::Keeper;
use crate::store::{
    Append, AppendError, Appender, Applied, Fault, KnownWriter, OfWriters, QuarantineRetried,
};

pub(super) struct PostgresAppender {
    connection: PgConnection,
    statements: Statements,
    guard: Guard,
    keeper: Keeper,
    ledger: String,
}

impl PostgresAppender {
    pub(super) fn new(
        connection: PgConnection,
        statements: Statements,
        guard: Guard,
        keeper: Keeper,
        ledger: &str,
    ) -> Self {
        Self { connection, statements, guard, keeper, ledger: ledger.to_owned() }
    }
}

impl Appender for PostgresAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            let Self { connection, statements, guard, keeper, ledger } = self;
            let answer = append(connection, statements, guard, keeper, (ledger, batch));
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
                self.guard.look(&mut transaction).await?;
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

    fn holds(&mut self, id: Uuid, at: Option<(Uuid, u64)>) -> BoxFuture<'_, Result<bool, AuditError>> {
        Box::pin(async move {
            let answer = async {
                let mut transaction =
                    self.statements.begin(&mut self.connection).await.map_err(append_error)?;
                let held = self.statements.hold.holds(&mut transaction, &self.ledger, id, at).await;
                let held = held.map_err(append_error)?;
                self.guard.look(&mut transaction).await?;
                transaction.commit().await.map_err(append_error)?;
                Ok::<_, AppendError>(held)
            };
            in_time(answer).await?.map_err(|cause| cause.error)
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
                self.guard.look(&mut transaction).await?;
                transaction.commit().await.map_err(append_error)?;
                Ok::<_, AppendError>(found)
            };
            in_time(answer).await?.map_err(|cause| cause.error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        let Self { connection, statements, guard, keeper, ledger } = self;
        Box::pin(quarantine::readmit(connection, statements, guard, keeper, ledger))
    }

    fn noticed(&mut self) -> Option<AuditError> {
        self.guard.noticed.take().or_else(|| self.keeper.noticed())
    }

    fn is_behind(&self) -> bool {
        // It takes the right to read the entries.
        self.statements.functions.is_none() && self.keeper.is_behind()
    }

    fn catch_up(&mut self) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(async move {
            let Self { connection, statements, guard, keeper, ledger } = self;
            match in_time(catch_up(connection, statements, guard, keeper, ledger)).await? {
                Ok(()) => Ok(()),
                Err(Failed::Append(failed)) => Err(failed.error),
                Err(Failed::Tree(why)) => {
                    keeper.give_up(&why);
                    Ok(())
                }
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Everything is committed; an error while closing the connection does not matter.
            drop(self.connection.close().await);
        })
    }
}

/// Appends the batch with its leaves; without them, if the tree cannot be added to.
async fn append(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    keeper: &mut Keeper,
    (ledger, batch): (&str, Append<'_>),
) -> Result<Applied, AppendError> {
    let mut has_given_up = false;
    loop {
        match try_append(connection, statements, guard, keeper, (ledger, batch)).await {
            Ok(applied) => return Ok(applied),
            Err(Failed::Append(failed)) => {
                if has_given_up {
                    keeper.is_not_at_fault();
                }
                return Err(failed);
            }
            // Without the tree nothing fails because of it.
            Err(Failed::Tree(why)) => {
                keeper.give_up(&why);
                has_given_up = true;
            }
        }
    }
}

async fn try_append(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    keeper: &mut Keeper,
    (ledger, batch): (&str, Append<'_>),
) -> Result<Applied, Failed> {
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
        return Err(error.into());
    }
    if found.position > batch.from {
        let reached = (batch.from, found.position);
        let before = hold.applied_before(&mut transaction, ledger, batch.writer, reached).await;
        let before = before.map_err(append_error)?;
        guard.look(&mut transaction).await?;
        // Dropping the transaction would hold the ledger until the connection is used again.
        transaction.rollback().await.map_err(append_error)?;
        return Ok(before);
    }
    let now = found.now;
    let told = found.next_seq.err().map(|altered| batch.tells_of(altered)).transpose()?;
    let mut first_seq = found.next_seq.unwrap_or_else(|altered| altered.until.cast_signed());
    let mut tree = None;
    if batch.grows() {
        let connection = &mut *transaction;
        let mut tables = PostgresTree { connection, statements: &statements.tree, ledger };
        tree = keeper.begin(&mut tables, &found.tree, first_seq).await?;
    }
    if let Some(row) = told {
        let (end, writer) = (HeldEnd { ledger, first_seq, now }, (Uuid::new_v4(), 1));
        statements.add_rows(&mut transaction, end, &[row], writer, tree.as_mut(), guard).await?;
        guard.compare(&mut transaction, (ledger, first_seq), &[row], None).await?;
        first_seq += 1;
    }
    let (at, end) = ((ledger, first_seq), HeldEnd { ledger, first_seq, now });
    add(&mut transaction, statements, end, &batch, tree.as_mut(), guard).await?;
    if let Some(row) = batch.doubted {
        let rows = i64::try_from(batch.rows.len()).unwrap_or(i64::MAX);
        let after = HeldEnd { first_seq: first_seq.saturating_add(rows), ..end };
        let writer = (Uuid::new_v4(), 1);
        let tried = statements.add_rows(&mut transaction, after, &[row], writer, None, guard).await;
        // Dropping the transaction would hold the ledger until the connection is used again.
        transaction.rollback().await.map_err(append_error)?;
        return Err(doubted(tried));
    }
    if statements.functions.is_none() {
        quarantine::add(&mut transaction, statements, ledger, &batch, guard).await?;
        hold.reach(&mut transaction, ledger, &batch, first_seq).await.map_err(append_error)?;
    }
    guard.compare(&mut transaction, at, batch.rows, Some(&batch)).await?;
    transaction.commit().await.map_err(append_error)?;
    if batch.grows() {
        keeper.committed(tree);
    }
    Ok(Applied {
        until: batch.until(),
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
        again: false,
        told: told.is_some(),
        before: found.committed_at,
    })
}

/// Adds the rows of a batch. By the functions, one call adds all that it has.
async fn add(
    connection: &mut PgConnection,
    statements: &Statements,
    end: HeldEnd<'_>,
    batch: &Append<'_>,
    tree: Option<&mut Growing>,
    guard: &mut Guard,
) -> Result<(), Failed> {
    let writer = (batch.writer, batch.until());
    match &statements.functions {
        Some(functions) => {
            let adding = Adding { end, rows: batch.rows, writer, batch: Some(batch) };
            functions.append(connection, adding, tree, guard).await
        }
        None => statements.add_rows(connection, end, batch.rows, writer, tree, guard).await,
    }
}

/// Adds the next entries that have no leaf to the tree.
async fn catch_up(
    connection: &mut PgConnection,
    statements: &Statements,
    guard: &mut Guard,
    keeper: &mut Keeper,
    ledger: &str,
) -> Result<(), Failed> {
    let mut transaction = statements.begin(connection).await.map_err(append_error)?;
    let connection = &mut *transaction;
    let mut tables = PostgresTree { connection, statements: &statements.tree, ledger };
    // Other writers may write while this reads: committed rows do not change.
    let head = tables.head(false).await?;
    let mut step = keeper.prepare(&mut tables, head).await?;
    let mut is_taken = false;
    if let Some(step) = &mut step {
        let head = tables.head(true).await?;
        is_taken = step.take(&mut tables, head).await?;
    }
    if is_taken {
        guard.look(&mut transaction).await?;
    }
    // Dropping the transaction would hold the ledger until the connection is used again.
    let ended = if is_taken { transaction.commit().await } else { transaction.rollback().await };
    ended.map_err(append_error)?;
    if let Some(step) = step.filter(|_| is_taken) {
        step.done(keeper);
    }
    Ok(())
}
