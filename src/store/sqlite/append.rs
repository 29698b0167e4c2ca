//! Commits a batch: position, head, rows and quarantine in one transaction.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use super::{
    error::append_error,
    files::Files,
    guard::Guard,
    hold::{applied_before, backed, hold, holds, position, reach},
    insert::add_rows,
    kept::Kept,
    quarantine,
    room::Room,
    source::turn,
    tidy::{TAKEN_BACK, close_idle, move_log},
    tree::SqliteTree,
    writers::writers,
};
use crate::error::AuditError;
use crate::platform::{FileLook, Turns};
use crate::store::appender::moved;
use crate::store::growth::{Failed, Integrity, doubted};
use crate::store::keeper::Keeper;
use crate::store::{
    Append, AppendError, Appender, Applied, Fault, KnownWriter, OfWriters, QuarantineRetried,
};

/// The connection that an append works with.
pub(super) enum Connected {
    Own(Box<Own>),
    /// The pool of a database in memory, which lives as long as a connection of the pool: a connection is borrowed for
    /// each batch.
    Borrowed(SqlitePool),
}

/// A writer's own connection to a file.
pub(super) struct Own {
    pub(super) connection: SqliteConnection,
    pub(super) options: SqliteConnectOptions,
    pub(super) files: Option<Files>,
    /// The turns of those who write this file. `None` if no turns can be taken there.
    pub(super) turns: Option<Turns>,
    /// The pools of the log's readers, whose connections would outlast this one.
    pub(super) pools: Vec<Arc<OnceLock<SqlitePool>>>,
    /// The place for a connection that must not be closed.
    pub(super) kept: Arc<Kept>,
}

impl Own {
    /// Checks that what is committed now, or was committed a moment ago, is in the files that others find.
    pub(super) async fn check(&mut self) -> Result<(), AuditError> {
        match &mut self.files {
            Some(files) => files.check(&mut self.connection).await,
            None => Ok(()),
        }
    }

    /// Moves what can be moved into the one file, and closes the connection. If the files were changed so that closing
    /// would do harm, keeps it instead.
    async fn close(mut self: Box<Self>) {
        close_idle(&self.pools, TAKEN_BACK).await;
        // The findings are part of the files' own state, which decides what closing does.
        drop(self.check().await);
        let Some(files) = self.files.take() else {
            return drop(self.connection.close().await);
        };
        if files.must_stay() {
            self.files = Some(files);
            let kept = Arc::clone(&self.kept);
            kept.put(self);
        } else {
            files.close(self.connection).await;
        }
    }
}

pub(super) struct SqliteAppender {
    connected: Connected,
    /// The defect of the SQLite library, if it can corrupt this database.
    defect: Option<AuditError>,
    /// Findings of the opening of the database that no notice has reported yet.
    concerns: Vec<AuditError>,
    guard: Guard,
    keeper: Keeper,
    room: Room,
}

impl SqliteAppender {
    pub(super) fn plain(connected: Connected, integrity: Integrity) -> Self {
        Self {
            connected,
            defect: None,
            concerns: Vec::new(),
            guard: Guard::default(),
            keeper: Keeper::new(integrity),
            room: Room::default(),
        }
    }

    /// Adds findings for a notice: a defect of the library, and concerns. They prevent no commit.
    pub(super) fn concerned(
        self,
        defect: Option<AuditError>,
        guard: Guard,
        concerns: Vec<AuditError>,
    ) -> Self {
        Self { defect, concerns, guard, ..self }
    }
}

impl Appender for SqliteAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own(own) => {
                    let store_fault = |error| AppendError { fault: Fault::Store, error };
                    let _turn = turn(&mut own.turns).await;
                    own.check().await.map_err(store_fault)?;
                    let log = own.files.as_ref().and_then(Files::log);
                    self.room.make(&mut own.connection, log.as_deref(), &batch).await?;
                    let applied =
                        append(&mut own.connection, &mut self.guard, &mut self.keeper, batch).await?;
                    self.room.learn(log.as_deref(), &batch);
                    // Confirm nothing that was committed into files which nobody will find.
                    own.check().await.map_err(store_fault)?;
                    Ok(applied)
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(append_error)?;
                    // Each connection of a pool has a temporary schema of its own.
                    self.guard.forget();
                    let outcome = append(&mut connection, &mut self.guard, &mut self.keeper, batch).await;
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
                Connected::Own(own) => position(&mut own.connection, writer).await,
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

    fn holds(&mut self, id: Uuid, at: Option<(Uuid, u64)>) -> BoxFuture<'_, Result<bool, AuditError>> {
        Box::pin(async move {
            let held = match &mut self.connected {
                Connected::Own(own) => {
                    own.check().await?;
                    holds(&mut own.connection, id, at).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let held = holds(&mut connection, id, at).await;
                    connection.return_to_pool().await;
                    held
                }
            };
            held.map_err(|cause| append_error(cause).error)
        })
    }

    fn writers<'a>(&'a mut self, call: OfWriters<'a>) -> BoxFuture<'a, Result<Vec<KnownWriter>, AuditError>> {
        Box::pin(async move {
            let found = match &mut self.connected {
                Connected::Own(own) => {
                    let writes = matches!(call, OfWriters::Goes(..) | OfWriters::Ended(_));
                    let _turn = if writes { turn(&mut own.turns).await } else { None };
                    own.check().await?;
                    writers(&mut own.connection, call).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let found = writers(&mut connection, call).await;
                    connection.return_to_pool().await;
                    found
                }
            };
            found.map_err(|cause| append_error(cause).error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own(own) => {
                    own.check().await?;
                    let Own { connection, turns, .. } = &mut **own;
                    let readmitted =
                        quarantine::readmit(connection, turns, &mut self.guard, &mut self.keeper).await?;
                    own.check().await?;
                    Ok(readmitted)
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let outcome =
                        quarantine::readmit(&mut connection, &mut None, &mut self.guard, &mut self.keeper)
                            .await;
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
        self.concerns.pop().or_else(|| self.guard.noticed.take()).or_else(|| self.keeper.noticed())
    }

    fn is_behind(&self) -> bool {
        self.keeper.is_behind()
    }

    fn catch_up(&mut self) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own(own) => {
                    own.check().await?;
                    let Own { connection, turns, .. } = &mut **own;
                    catch_up(connection, turns, &mut self.keeper).await?;
                    own.check().await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| append_error(cause).error)?;
                    let outcome = catch_up(&mut connection, &mut None, &mut self.keeper).await;
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn tidy(&mut self) -> BoxFuture<'_, Result<Option<BoxFuture<'static, bool>>, AuditError>> {
        Box::pin(async move {
            let Connected::Own(own) = &mut self.connected else { return Ok(None) };
            own.check().await?;
            let Some(log) = own.files.as_ref().and_then(Files::log) else { return Ok(None) };
            if FileLook::at(&log).is_none_or(|log| log.len == 0) {
                return Ok(None);
            }
            let work: BoxFuture<'static, bool> = Box::pin(move_log(own.options.clone()));
            Ok(Some(work))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Connected::Own(own) = self.connected {
                own.close().await;
            }
        })
    }
}

/// Appends the batch with its leaves; without them, if the tree cannot be added to.
async fn append(
    connection: &mut SqliteConnection,
    guard: &mut Guard,
    keeper: &mut Keeper,
    batch: Append<'_>,
) -> Result<Applied, AppendError> {
    let mut has_given_up = false;
    loop {
        match try_append(connection, guard, keeper, batch).await {
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
    connection: &mut SqliteConnection,
    guard: &mut Guard,
    keeper: &mut Keeper,
    batch: Append<'_>,
) -> Result<Applied, Failed> {
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
        return Err(error.into());
    }
    if held.position > batch.from {
        let before = applied_before(&mut transaction, batch.writer, batch.from, held.position).await;
        return Ok(before.map_err(append_error)?);
    }
    let told = held.next_seq.err().map(|found| batch.tells_of(found)).transpose()?;
    let mut first_seq = held.next_seq.unwrap_or_else(|found| found.until.cast_signed());
    let mut tree = None;
    if batch.grows() {
        tree = keeper.begin(&mut SqliteTree(&mut transaction), &held.tree, first_seq).await?;
    }
    if let Some(row) = told {
        let writer = (Uuid::new_v4(), 1);
        add_rows(&mut transaction, first_seq, &[row], writer, tree.as_mut(), guard).await?;
        guard.compare(&mut transaction, first_seq, &[row], None).await?;
        first_seq += 1;
    }
    let until = batch.until();
    add_rows(&mut transaction, first_seq, batch.rows, (batch.writer, until), tree.as_mut(), guard).await?;
    if let Some(row) = batch.doubted {
        let after = first_seq.saturating_add(i64::try_from(batch.rows.len()).unwrap_or(i64::MAX));
        let tried = add_rows(&mut transaction, after, &[row], (batch.writer, until + 1), None, guard).await;
        // Dropping the transaction rolls it back.
        return Err(doubted(tried));
    }
    quarantine::add(&mut transaction, &batch, guard).await?;
    reach(&mut transaction, &batch, first_seq).await.map_err(append_error)?;
    guard.compare(&mut transaction, first_seq, batch.rows, Some(&batch)).await?;
    transaction.commit().await.map_err(append_error)?;
    if batch.grows() {
        keeper.committed(tree);
    }
    Ok(Applied {
        until,
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
        again: false,
        told: told.is_some(),
        before: held.committed_at,
    })
}

/// Adds the next entries that have no leaf to the tree.
async fn catch_up(
    connection: &mut SqliteConnection,
    turns: &mut Option<Turns>,
    keeper: &mut Keeper,
) -> Result<(), AuditError> {
    match try_catch_up(connection, turns, keeper).await {
        Ok(()) => Ok(()),
        Err(Failed::Append(failed)) => Err(failed.error),
        Err(Failed::Tree(why)) => {
            keeper.give_up(&why);
            Ok(())
        }
    }
}

async fn try_catch_up(
    connection: &mut SqliteConnection,
    turns: &mut Option<Turns>,
    keeper: &mut Keeper,
) -> Result<(), Failed> {
    // Other writers may write while this reads: committed rows do not change.
    let mut tables = SqliteTree(&mut *connection);
    let head = tables.head().await?;
    let Some(mut step) = keeper.prepare(&mut tables, head).await? else { return Ok(()) };
    let _turn = turn(turns).await;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(append_error)?;
    let mut tables = SqliteTree(&mut transaction);
    let head = tables.head().await?;
    if step.take(&mut tables, head).await? {
        transaction.commit().await.map_err(append_error)?;
        step.done(keeper);
    }
    Ok(())
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
