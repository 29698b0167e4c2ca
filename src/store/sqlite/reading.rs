//! Decides how readers open a database, so that none of them plays a write-ahead log over a file to which it does not
//! belong, or moves it there.
//!
//! SQLite plays a log that it finds beside a database, and the last connection that is closed moves it into the database and
//! deletes it, also one that only reads. So the log is judged before it is played, and it is left where it is: a reader
//! beside a log that holds something opens the file read-only, and such a connection moves nothing. If the log is
//! empty, a reader opens the file as a writer does, because only such a connection removes the files that SQLite makes
//! for it.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

use super::{
    belongs::check_left_log,
    broken_log::{damage_beside, in_words, keep_if_damaged},
    rollback::check_left_journal,
    sealed::{How, sealed},
    source::{Source, Sqlite, for_reading},
    sql::INSTEAD,
    tidy::{TAKEN_BACK, close_idle},
    wal::beside,
};
use crate::error::AuditError;
use crate::platform::{FileLook, Thread, lock, on_own_runtime};
use crate::store::migration::veiled;

impl Sqlite {
    /// Whether a log has created its tables in the database.
    pub(super) async fn has_tables(&self) -> Result<bool, AuditError> {
        self.has_table("tracing_audit_entries").await
    }

    /// Whether there is this table. An error if a view or the like stands in the place of any of ours: it can be anything, also
    /// one whose rows never end, so that nothing is read through it.
    pub(super) async fn has_table(&self, name: &str) -> Result<bool, AuditError> {
        self.look_again().await?;
        if self.is_empty_file() {
            return Ok(false);
        }
        let statement = format!(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?), (SELECT * FROM ({INSTEAD}) LIMIT 1)"
        );
        let found = sqlx::query_as::<_, (bool, Option<String>)>(sqlx::AssertSqlSafe(statement)).bind(name);
        let (exists, instead) =
            found.fetch_one(self.readers()).await.map_err(|cause| self.store_error(cause))?;
        match instead {
            Some(instead) => Err(veiled(&instead)),
            None => Ok(exists),
        }
    }

    /// Whether the file is empty. It has no table, and SQLite deletes the log of an empty file, whoever opens it, also of one that
    /// is being used.
    pub(super) fn is_empty_file(&self) -> bool {
        let Source::File { options, .. } = &self.source else { return false };
        FileLook::at(options.get_filename()).is_some_and(|file| file.len == 0)
    }

    /// Decides again how the file is read: a writer may have come or gone since the last read, and files may have been
    /// replaced.
    ///
    /// # Errors
    /// If a log lies beside the file that does not belong to it, or that cannot be read where it is. Damage is no error.
    pub(super) async fn look_again(&self) -> Result<(), AuditError> {
        let Source::File { options, readers, how, .. } = &self.source else { return Ok(()) };
        let before = *lock(how);
        let is_past = self.opened.is_written_past() && !self.is_watched();
        if is_past {
            // First: it is found once, and the files may be such that the answer is an error.
            self.opened.distrust();
        }
        let now = self.how(options, before, is_past).await?;
        if std::mem::replace(&mut *lock(how), now) == now && !is_past {
            return Ok(());
        }
        if let Some(pool) = readers.get() {
            pool.set_connect_options(for_reading(options.as_ref().clone(), now));
            // The connections that are in use are closed before they are used again.
            self.opened.distrust();
            while let Some(connection) = pool.try_acquire() {
                drop(connection.close().await);
            }
        }
        Ok(())
    }

    async fn how(
        &self,
        options: &SqliteConnectOptions,
        before: How,
        is_past: bool,
    ) -> Result<How, AuditError> {
        let path = options.get_filename();
        if let Some(look) = sealed(path)? {
            return Ok(How::Sealed(look));
        }
        // This holds together with a writer of this process too: SQLite plays a journal whenever a connection is
        // opened.
        check_left_journal(path).await?;
        let is_empty = FileLook::at(path).is_none_or(|file| file.len == 0);
        let is_watched = self.is_watched();
        if is_watched && !is_empty {
            return Ok(How::Plain);
        }
        let (files, checked) = (self.opened.now(), self.opened.last_checked());
        let now = if holds_log(path) { How::BesideLog } else { How::Plain };
        // Open connections keep the log from being replaced but by hand.
        let is_open = !is_empty && self.pools().any(|pool| pool.size() > 0);
        let is_known = checked == Some(files) && self.opened.is_damage_known();
        if is_open && !is_past && is_known && (now == before || now == How::Plain) {
            return Ok(now);
        }
        let is_other_log =
            checked.is_some_and(|(file, log)| file == files.0 && log.is_some() && log != files.1);
        let found = check_left_log(options, !is_watched).await;
        if !is_watched && (is_other_log || found.is_err()) {
            self.abandon_idle();
        }
        found?;
        let damage = damage_beside(path).await.map(|damage| in_words(damage, path));
        self.opened.checked(files, damage);
        Ok(now)
    }

    /// Damage to the log beside the file, in words, by the last look at the files: what was committed last and cannot be read.
    /// The writer of this process tells its own.
    pub(super) fn log_damage(&self) -> Option<String> {
        if self.is_watched() { None } else { self.opened.damage() }
    }

    /// Keeps a copy of a damaged log before it is written over, and tells it. To be called after a look at the files.
    pub(super) async fn keep_damaged_log(&self) -> Result<(), AuditError> {
        let Source::File { options, .. } = &self.source else { return Ok(()) };
        if self.log_damage().is_none() {
            return Ok(());
        }
        if let Some(told) = keep_if_damaged(options).await? {
            tracing::warn!(target: "tracing_audit", "{told}");
            self.opened.kept(told);
        }
        Ok(())
    }

    /// Whether a writer of this process has the file open, and its path still names it: the writer watches the log. Each
    /// writer shares in `kept` as long as it has a connection.
    fn is_watched(&self) -> bool {
        Arc::strong_count(&self.kept) > 1 && self.file.get().is_some_and(|file| file.check().is_ok())
    }

    /// The pools that were made for readers, as far as they are in use.
    fn pools(&self) -> impl Iterator<Item = &SqlitePool> {
        let (readers, recorders) = match &self.source {
            Source::File { readers, recorders, .. } => (readers.get(), recorders.get()),
            Source::Pool { .. } => (None, None),
        };
        readers.into_iter().chain(recorders)
    }

    /// Never closes the connections that nobody uses: that might move a log into a file to which it does not belong.
    fn abandon_idle(&self) {
        self.pools().for_each(abandon_idle);
    }
}

impl Drop for Sqlite {
    /// Closes the connections of readers, here where that takes little time, and not on threads for which nobody waits. Closing
    /// moves a log that has come since the last read, so it is judged once more.
    fn drop(&mut self) {
        let Source::File { options, readers, how, recorders, .. } = &self.source else { return };
        let thread = Thread::current();
        // A pool takes a connection back in a task, for which a thread of a runtime must not wait.
        let patience = if thread == Thread::Own { TAKEN_BACK } else { Duration::ZERO };
        let is_closed = |pool: &SqlitePool| pool.size() == 0 || patience.is_zero() && pool.num_idle() == 0;
        if self.pools().all(is_closed) {
            return;
        }
        let may_move = recorders.get().is_some() || readers.get().is_some() && *lock(how) == How::Plain;
        let must_judge = may_move && holds_log(options.get_filename()) && !self.is_watched();
        let (options, pools) = (options.clone(), self.own_pools());
        match thread {
            Thread::Own if must_judge => close_if_judged(&options, &pools, patience),
            // Judging takes time that grows with the log, and a runtime has others to serve. If no thread can be started, or the
            // process ends first, the connections are never closed.
            Thread::OfRuntime if must_judge => {
                let closing = std::thread::Builder::new().name("tracing-audit-closing".to_owned());
                if closing.spawn(move || close_if_judged(&options, &pools, TAKEN_BACK)).is_err() {
                    self.abandon_idle();
                }
            }
            Thread::Ending if must_judge => self.abandon_idle(),
            // The pools close them.
            Thread::Ending => {}
            Thread::Own | Thread::OfRuntime => close(&pools, patience),
        }
    }
}

/// Closes the connections of these pools that nobody uses, if the log beside the database belongs to it and is not damaged.
/// Else never closes them.
fn close_if_judged(options: &SqliteConnectOptions, pools: &[Arc<OnceLock<SqlitePool>>], patience: Duration) {
    let judged = on_own_runtime(async {
        check_left_log(options, false).await?;
        Ok(damage_beside(options.get_filename()).await)
    });
    if matches!(judged, Ok(None)) {
        close(pools, patience);
    } else {
        pools.iter().filter_map(|pool| pool.get()).for_each(abandon_idle);
    }
}

fn close(pools: &[Arc<OnceLock<SqlitePool>>], patience: Duration) {
    let closed = async {
        // A disk that hangs holds up nobody: then they are closed once it answers.
        drop(tokio::time::timeout(TAKEN_BACK, close_idle(pools, patience)).await);
        Ok(())
    };
    // Without a thread for this, the pools close them.
    drop(on_own_runtime(closed));
}

/// Never closes the connections of this pool that nobody uses. The end of the process leaves the file and its log as they are.
fn abandon_idle(pool: &SqlitePool) {
    while let Some(connection) = pool.try_acquire() {
        std::mem::forget(connection.detach());
    }
}

/// Whether something is in the log beside this file.
fn holds_log(path: &Path) -> bool {
    // SQLite follows a link before it names the log.
    let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    FileLook::at(&beside(&file, "-wal")).is_some_and(|log| log.len > 0)
}
